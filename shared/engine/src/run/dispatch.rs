//! From a step of the plan to what is sent for it.

use std::collections::BTreeMap;

use cdflow_pipeline::plan::{Action, Deploy, Stage, Step, Verb};
use cdflow_protocol::{
    AggregateKind, UnixMillis, ids, trace,
    v1::{
        self, AcquireLock, ApprovalSignal, Arm, BeginPhase, CancelTask, Effect, EndVerification, Instance, LockHolder,
        LockSignal, Members, Nothing, Observation, OnCrash, Release, ReleaseLock, RequestApproval, ScriptTask,
        SendSignal, Signal, Task, VerbTask, VerificationSignal, WithdrawApproval, approval_signal, effect, lock_signal,
        task::Work, verification_signal,
    },
};
use prost::Message;

use super::{
    scope::LazyScope,
    state::{Acquisition, Run, Running, Started, StepRef},
};

/// The kind of worker that does verbs and scripts.
const EXECUTOR: &str = "executor";
/// Version of the payloads of signals sent from here.
const SIGNAL_VERSION: u32 = 1;

/// One attempt of one step: everything that what is sent for it is made of.
pub(super) struct Attempt<'a> {
    pub(super) run: &'a Run,
    pub(super) started: &'a Started,
    pub(super) id: &'a str,
    pub(super) at: StepRef,
    pub(super) number: u32,
}

/// What the step waits for, and what asks for it.
pub(super) struct Request {
    /// Id of the task, lock, approval or verification; empty for a plain wait.
    pub(super) waits_for: String,
    pub(super) task: Option<Task>,
    /// Sent to another aggregate. Sent again, under the same id, until it is answered.
    pub(super) signal: Option<Effect>,
}

impl Request {
    fn task(task: Task) -> Self {
        Self { waits_for: task.id.clone(), task: Some(task), signal: None }
    }

    fn signal(waits_for: String, signal: Effect) -> Self {
        Self { waits_for, task: None, signal: Some(signal) }
    }
}

impl Attempt<'_> {
    fn stage(&self) -> &Stage {
        &self.started.plan.stages[self.at.stage]
    }

    fn step(&self) -> &Step {
        self.started.step(self.at)
    }

    fn scope(&self) -> LazyScope<'_> {
        LazyScope::new(self.run, self.started, self.id, self.at.stage)
    }

    fn deploy(&self) -> Result<&Deploy, String> {
        self.stage()
            .deploy
            .as_ref()
            .ok_or_else(|| format!("stage `{}` deploys nothing, so there is no target for this step", self.stage().id))
    }

    fn observed(&self) -> Option<&Observation> {
        self.run.stages[self.at.stage].latest.as_deref()
    }

    fn traceparent(&self) -> String {
        let trace = trace::trace_id(self.id, &self.started.event.traceparent);
        trace::traceparent(&trace, &trace::step_span(self.id, &self.stage().id, &self.step().id, self.number))
    }

    fn signal<M: Message>(&self, to: AggregateKind, aggregate_id: &str, what: &str, payload: &M) -> Effect {
        let signal_id = format!("{}.{}.{}.{}.{what}", self.id, self.stage().id, self.step().id, self.number);
        send(to, aggregate_id, signal_id, payload, self.traceparent())
    }

    /// What is sent to start this attempt, or to ask again. `since` is when the attempt started.
    ///
    /// # Errors
    /// A sentence, when the plan or the values of its templates do not allow it.
    pub(super) fn request(&self, since: UnixMillis) -> Result<Request, String> {
        Ok(match &self.step().action {
            Action::Lock { only_if_latest } => {
                let lock_id = lock_of(self.deploy()?);
                let acquisition = Acquisition { step: self.step().id.clone(), attempt: self.number };
                let acquire = AcquireLock {
                    holder: Some(holder(self.started, self.id, self.at.stage, &acquisition)),
                    only_if_latest: *only_if_latest,
                };
                let signal = LockSignal { kind: Some(lock_signal::Kind::Acquire(acquire)) };
                let effect = self.signal(AggregateKind::Lock, &lock_id, "acquire", &signal);
                Request::signal(lock_id, effect)
            }
            Action::Verb { verb, percent } => Request::task(self.verb(*verb, *percent)?),
            Action::Run { script, env, pool, repeat_on_crash } => {
                let work = Work::Script(ScriptTask {
                    script: self.scope().text("the script", script)?,
                    environment: self.script_environment(env)?,
                    on_crash: (if *repeat_on_crash { OnCrash::Repeat } else { OnCrash::Fail }).into(),
                    directory: String::new(),
                });
                Request::task(self.task(pool, work))
            }
            Action::Nothing { pool } => Request::task(self.task(pool, Work::Nothing(Nothing {}))),
            Action::Approve { by, groups, expires_ms, message } => {
                let approval = ids::approval_id(self.id, &self.stage().id, &self.step().id);
                let request = RequestApproval {
                    run_id: self.id.to_owned(),
                    run_number: self.started.event.number,
                    stage_id: self.stage().id.clone(),
                    step_id: self.step().id.clone(),
                    by: by.clone(),
                    groups: groups.iter().map(|(g, names)| (g.clone(), Members { names: names.clone() })).collect(),
                    initiator: self.started.event.initiator.clone(),
                    expires_ms: if *expires_ms > 0 { since.saturating_add(*expires_ms) } else { 0 },
                    message: self.scope().text("the message of the approval", message)?,
                    traceparent: self.traceparent(),
                };
                let signal = ApprovalSignal { kind: Some(approval_signal::Kind::Request(request)) };
                let effect = self.signal(AggregateKind::Approval, &approval, "request", &signal);
                Request::signal(approval, effect)
            }
            Action::Verify { weight, within_ms } => self.verification(*weight, *within_ms, false)?,
            Action::Watch { duration_ms } => self.verification(100, *duration_ms, true)?,
            Action::Wait { .. } | Action::Promoted | Action::Unlock { .. } => {
                Request { waits_for: String::new(), task: None, signal: None }
            }
        })
    }

    fn task(&self, pool: &str, work: Work) -> Task {
        let (stage, step) = (self.stage(), self.step());
        Task {
            id: ids::task_id(self.id, &stage.id, &step.id, self.number),
            worker: EXECUTOR.to_owned(),
            pool: pool.to_owned(),
            reply_aggregate: AggregateKind::Run.as_str().to_owned(),
            reply_id: self.id.to_owned(),
            run_id: self.id.to_owned(),
            stage_id: stage.id.clone(),
            step_id: step.id.clone(),
            attempt: self.number,
            fence: None,
            resent: false,
            step_key: self.step_key(),
            timeout_ms: step.timeout_ms,
            traceparent: self.traceparent(),
            work: Some(work),
        }
    }

    fn step_key(&self) -> String {
        format!("{}.{}.{}", self.id, self.stage().id, self.step().id)
    }

    fn verb(&self, verb: Verb, percent: u32) -> Result<Task, String> {
        let deploy = self.deploy()?;
        let new = self.new_release(deploy)?;
        let before = self.run.stages[self.at.stage].base.as_ref().and_then(|base| base.live.clone());
        let (release, previous) = match verb {
            Verb::Observe => (None, None),
            _ if self.at.rollback => (before, Some(new)),
            _ => (Some(new), before),
        };
        let work = Work::Verb(VerbTask {
            verb: wire_verb(verb).into(),
            target: self.started.targets[self.at.stage].clone(),
            release,
            previous,
            percent,
            rollback: self.at.rollback,
        });
        Ok(self.task(&deploy.target.pool, work))
    }

    fn new_release(&self, deploy: &Deploy) -> Result<Release, String> {
        let artifact = self.started.plan.artifact.as_ref().ok_or("the run has no artifact to deploy")?;
        let mut scope = self.scope();
        let environment = deploy
            .target
            .variables
            .iter()
            .map(|(name, value)| Ok((name.clone(), scope.text(&format!("the variable `{name}`"), value)?)))
            .collect::<Result<_, String>>()?;
        Ok(Release {
            version: artifact.version.clone(),
            artifact: artifact.location.clone(),
            digest: artifact.digest.clone(),
            environment,
        })
    }

    fn script_environment(&self, env: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
        let mut scope = self.scope();
        let mut all = BTreeMap::from([
            ("CDFLOW_RUN".to_owned(), self.id.to_owned()),
            ("CDFLOW_RUN_NUMBER".to_owned(), self.started.event.number.to_string()),
            ("CDFLOW_STAGE".to_owned(), self.stage().id.clone()),
            ("CDFLOW_STEP".to_owned(), self.step().id.clone()),
            ("CDFLOW_STEP_KEY".to_owned(), self.step_key()),
        ]);
        if let Some(artifact) = &self.started.plan.artifact {
            all.insert("CDFLOW_VERSION".to_owned(), artifact.version.clone());
        }
        if let Some(seen) = self.observed() {
            for (name, url) in [("CDFLOW_URL", &seen.url), ("CDFLOW_PREVIEW_URL", &seen.preview_url)] {
                if !url.is_empty() {
                    all.insert(name.to_owned(), url.clone());
                }
            }
        }
        for (name, value) in env {
            all.insert(name.clone(), scope.text(&format!("the environment variable `{name}`"), value)?);
        }
        Ok(all)
    }

    fn verification(&self, weight: u32, within_ms: i64, watch: bool) -> Result<Request, String> {
        let deploy = self.deploy()?;
        let stage = self.stage();
        let profile = deploy
            .profile
            .as_ref()
            .ok_or_else(|| format!("stage `{}` has no health profile, so nothing says what healthy means", stage.id))?;
        let version = self.started.plan.artifact.as_ref().map_or("", |artifact| artifact.version.as_str());
        let seen = self.observed().ok_or("no step has yet reported which instances there are")?;
        let verification = ids::verification_id(self.id, &stage.id);
        let begin = BeginPhase {
            run_id: self.id.to_owned(),
            stage_id: stage.id.clone(),
            step_id: self.step().id.clone(),
            attempt: self.number,
            profile: serde_json::to_vec(profile).map_err(|e| format!("the health profile is not JSON: {e}"))?,
            arms: arms(seen, version),
            weight,
            within_ms,
            watch,
            pool: deploy.target.pool.clone(),
            traceparent: self.traceparent(),
        };
        let signal = VerificationSignal { kind: Some(verification_signal::Kind::Begin(begin)) };
        let effect = self.signal(AggregateKind::Verification, &verification, "begin", &signal);
        Ok(Request::signal(verification, effect))
    }
}

/// The new release against what else serves users. The second arm is empty for a first release.
fn arms(seen: &Observation, version: &str) -> Vec<Arm> {
    let pick = |canary: bool| Arm {
        canary,
        instances: seen
            .instances
            .iter()
            .filter(|instance| if canary { instance.version == version } else { serves(instance, version) })
            .cloned()
            .collect(),
    };
    vec![pick(true), pick(false)]
}

fn serves(instance: &Instance, new: &str) -> bool {
    instance.version != new && instance.ready && instance.weight > 0.0
}

fn wire_verb(verb: Verb) -> v1::Verb {
    match verb {
        Verb::Observe => v1::Verb::Observe,
        Verb::Stage => v1::Verb::Stage,
        Verb::Shift => v1::Verb::Shift,
        Verb::Promote => v1::Verb::Promote,
        Verb::Retire => v1::Verb::Retire,
    }
}

pub(super) fn lock_of(deploy: &Deploy) -> String {
    ids::lock_id(&deploy.target.service, &deploy.target.infrastructure)
}

fn holder(started: &Started, id: &str, stage: usize, acquisition: &Acquisition) -> LockHolder {
    LockHolder {
        run_id: id.to_owned(),
        run_number: started.event.number,
        stage_id: started.plan.stages[stage].id.clone(),
        step_id: acquisition.step.clone(),
        attempt: acquisition.attempt,
    }
}

/// Gives a lock back, leaves its queue or ends the watch: whatever that request had come to.
pub(super) fn release_lock(
    started: &Started,
    id: &str,
    stage: usize,
    acquisition: &Acquisition,
    watching: bool,
) -> Option<Effect> {
    let plan = &started.plan.stages[stage];
    let lock_id = lock_of(plan.deploy.as_ref()?);
    let release = ReleaseLock { holder: Some(holder(started, id, stage, acquisition)), watching };
    let signal = LockSignal { kind: Some(lock_signal::Kind::Release(release)) };
    let what = if watching { "watch" } else { "release" };
    let signal_id = format!("{id}.{}.{}.{}.{what}", plan.id, acquisition.step, acquisition.attempt);
    Some(send(AggregateKind::Lock, &lock_id, signal_id, &signal, stage_traceparent(started, id, stage)))
}

/// Nobody has to decide any more.
pub(super) fn withdraw_approval(started: &Started, id: &str, at: StepRef, reason: &str) -> Effect {
    let approval = ids::approval_id(id, &started.plan.stages[at.stage].id, &started.step(at).id);
    let withdraw = WithdrawApproval { reason: reason.to_owned() };
    let signal = ApprovalSignal { kind: Some(approval_signal::Kind::Withdraw(withdraw)) };
    let signal_id = format!("{approval}.withdraw");
    send(AggregateKind::Approval, &approval, signal_id, &signal, stage_traceparent(started, id, at.stage))
}

/// Nobody waits for a verdict of this stage any more.
pub(super) fn end_verification(started: &Started, id: &str, stage: usize, reason: &str) -> Effect {
    let verification = ids::verification_id(id, &started.plan.stages[stage].id);
    let end = EndVerification { reason: reason.to_owned() };
    let signal = VerificationSignal { kind: Some(verification_signal::Kind::End(end)) };
    let signal_id = format!("{verification}.end");
    send(AggregateKind::Verification, &verification, signal_id, &signal, stage_traceparent(started, id, stage))
}

/// Asks the worker to stop; it answers with a result.
pub(super) fn cancel_task(running: &Running, reason: &str) -> Option<Effect> {
    let task = running.event.task.as_ref()?;
    let cancel = CancelTask {
        id: task.id.clone(),
        worker: task.worker.clone(),
        pool: task.pool.clone(),
        reason: reason.to_owned(),
    };
    Some(Effect { kind: Some(effect::Kind::CancelTask(cancel)) })
}

fn stage_traceparent(started: &Started, id: &str, stage: usize) -> String {
    let trace = trace::trace_id(id, &started.event.traceparent);
    trace::traceparent(&trace, &trace::stage_span(id, &started.plan.stages[stage].id))
}

pub(crate) fn send<M: Message>(
    to: AggregateKind,
    aggregate_id: &str,
    signal_id: String,
    payload: &M,
    traceparent: String,
) -> Effect {
    let signal = Signal {
        id: signal_id,
        aggregate_id: aggregate_id.to_owned(),
        payload: payload.encode_to_vec(),
        traceparent,
        version: SIGNAL_VERSION,
    };
    Effect { kind: Some(effect::Kind::Signal(SendSignal { aggregate: to.as_str().to_owned(), signal: Some(signal) })) }
}
