//! The world around a run. Locks are the real ones; executors, people and the verifier answer as a test says.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use cdflow_engine::{Lock, Run, run};
use cdflow_journal::{Aggregate, Input};
use cdflow_pipeline::plan::Plan;
use cdflow_protocol::{
    ids,
    v1::{
        AcquireLock, Actor, ApprovalAnswer, ApprovalSignal, CancelRun, CancelTask, Effect, ErrorClass, LockHolder,
        LockSignal, Outcome, Refusal, ReleaseLock, RollBackRun, RunCommand, RunEvent, RunSignal, SendSignal, StartRun,
        StepStarted, Task, TaskResult, Verb, Verdict, VerdictKind, VerificationAnswer, VerificationSignal,
        approval_signal, effect, lock_answer, lock_signal, run_command, run_event::Kind, run_signal, task::Work,
        verification_signal,
    },
};
use prost::Message as _;

use crate::target::Target;

pub const RUN: &str = "0192d0c0-7f3a-7c11-8f00-0242ac120002";

/// How the world answers a task, an approval or a verification.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Ok,
    /// For a script: with this output.
    Output(&'static str, &'static str),
    Fail(ErrorClass),
    /// The worker vanishes, after or before it has done the work.
    Lost {
        done: bool,
    },
    /// Nothing, until it is told to stop.
    Silent,
    /// Nothing, ever.
    Deaf,
    Expired,
    /// The same answer twice.
    Twice(Box<Reply>),
}

/// Something under way.
#[derive(Debug, Clone)]
pub enum Message {
    ToRun(RunSignal),
    ToLock(String, LockSignal),
    Task(Task, u64),
    Cancel(CancelTask),
    Approval(String, ApprovalSignal),
    Verification(String, VerificationSignal),
    Lost(String),
}

/// Where a world takes its decisions from: always the first and never by chance, unless it is random.
pub trait Chance {
    fn below(&mut self, _n: usize) -> usize {
        0
    }
    fn percent(&mut self, _percent: usize) -> bool {
        false
    }
}

/// Everything in order.
pub struct Orderly;
impl Chance for Orderly {}

pub struct World {
    pub now: i64,
    pub run: Run,
    pub locks: BTreeMap<String, Lock>,
    pub targets: BTreeMap<String, Target>,
    pub history: Vec<RunEvent>,
    pub sent: Vec<Effect>,
    pub under_way: VecDeque<Message>,
    /// By `stage/step`: the replies to its attempts, the last one for all further ones. `Ok` unless said.
    pub replies: BTreeMap<String, Vec<Reply>>,
    /// By `stage/step`: what is put under way when it starts.
    pub when_started: BTreeMap<String, Vec<Message>>,
    pub refusals: Vec<Refusal>,
    pub chance: Box<dyn Chance>,
    pub log: String,
    stopped: BTreeSet<String>,
    silent: BTreeMap<String, Task>,
    fence: u64,
    begun: BTreeSet<String>,
    had_v1: BTreeSet<String>,
}

impl World {
    pub fn new(plan: &Plan) -> Self {
        let start = StartRun {
            number: 12,
            plan: run::encode_plan(plan),
            initiator: Some(Actor { kind: "ci".into(), name: "forge".into() }),
            cause: "CI event 4711".into(),
            traceparent: String::new(),
        };
        let mut world = Self {
            now: 1_000_000,
            run: Run::default(),
            locks: BTreeMap::new(),
            targets: BTreeMap::new(),
            history: Vec::new(),
            sent: Vec::new(),
            under_way: VecDeque::new(),
            replies: BTreeMap::new(),
            when_started: BTreeMap::new(),
            refusals: Vec::new(),
            chance: Box::new(Orderly),
            log: String::new(),
            stopped: BTreeSet::new(),
            silent: BTreeMap::new(),
            fence: 0,
            begun: BTreeSet::new(),
            had_v1: BTreeSet::new(),
        };
        world.under_way.push_back(Message::ToRun(RunSignal { kind: Some(run_signal::Kind::Start(start)) }));
        world
    }

    pub fn live(mut self, infrastructure: &str, version: &str) -> Self {
        self.targets.insert(ids::lock_id("storefront", infrastructure), Target::with(version));
        self.had_v1.insert(infrastructure.into());
        self
    }

    pub fn reply(mut self, step: &str, replies: &[Reply]) -> Self {
        self.replies.insert(step.into(), replies.to_vec());
        self
    }

    pub fn when(mut self, step: &str, message: Message) -> Self {
        self.when_started.entry(step.into()).or_default().push(message);
        self
    }

    /// Until the run has ended and nothing is under way.
    pub fn finish(mut self) -> Self {
        for _ in 0..20_000 {
            if !self.turn() {
                self.assert_sound();
                return self;
            }
        }
        panic!("the run does not end:\n{}", self.log);
    }

    /// One message, or time; `false` when nothing is left.
    pub fn turn(&mut self) -> bool {
        if self.under_way.is_empty() {
            let Some(deadline) = self.run.deadline() else {
                assert!(self.run.is_finished(), "waits for nothing and has not ended:\n{}", self.log);
                return false;
            };
            self.now = self.now.max(deadline);
            self.input(Input::Tick);
            return true;
        }
        if self.chance.percent(2)
            && let Some(deadline) = self.run.deadline()
        {
            self.now = self.now.max(deadline);
            self.input(Input::Tick);
            return true;
        }
        let index = self.chance.below(self.under_way.len());
        let Some(message) = self.under_way.remove(index) else { return true };
        if self.chance.percent(5) {
            self.under_way.push_back(message.clone());
        }
        self.now += 10;
        match message {
            Message::ToRun(signal) => self.input(Input::Signal(signal)),
            Message::Lost(task) => self.input(Input::TaskLost(task)),
            Message::ToLock(id, signal) => self.lock(&id, signal),
            Message::Task(task, fence) => self.work(&task, fence),
            Message::Cancel(cancel) => self.cancel(&cancel),
            Message::Approval(id, signal) => self.decide_approval(&id, &signal),
            Message::Verification(id, signal) => self.verify(&id, &signal),
        }
        true
    }

    pub fn input(&mut self, input: Input<RunSignal>) {
        match self.run.decide(RUN, input.clone(), self.now) {
            Ok(decision) => {
                if input == Input::Tick {
                    assert!(
                        !decision.events.is_empty(),
                        "a tick that changes nothing would come for ever:\n{}",
                        self.log
                    );
                }
                for event in decision.events {
                    // What is stored is bytes.
                    let event = RunEvent::decode(event.encode_to_vec().as_slice()).unwrap();
                    self.run.apply(&event);
                    self.note(&event);
                    self.history.push(event);
                }
                for effect in decision.effects {
                    self.dispatch(effect);
                }
            }
            Err(refusal) => {
                let _ = writeln!(self.log, "{:>9} refused {}: {}", self.clock(), refusal.code, refusal.message);
                self.refusals.push(refusal);
            }
        }
    }

    fn dispatch(&mut self, effect: Effect) {
        self.sent.push(effect.clone());
        match effect.kind.unwrap() {
            effect::Kind::Task(task) => {
                self.fence += 1;
                if let Some(Work::Verb(verb)) = &task.work {
                    self.assert_locked(&task, verb);
                    let _ = writeln!(self.log, "            -> {}", verb_line(verb));
                }
                self.under_way.push_back(Message::Task(task, self.fence));
            }
            effect::Kind::CancelTask(cancel) => {
                let _ = writeln!(self.log, "            -> cancel {}: {}", tail(&cancel.id), cancel.reason);
                self.under_way.push_back(Message::Cancel(cancel));
            }
            effect::Kind::Signal(SendSignal { aggregate, signal: Some(signal) }) => {
                let what = signal.id.rsplit('.').next().unwrap_or_default().to_owned();
                let _ = writeln!(self.log, "            -> {aggregate} {what}");
                let payload = signal.payload.as_slice();
                self.under_way.push_back(match aggregate.as_str() {
                    "lock" => Message::ToLock(signal.aggregate_id, LockSignal::decode(payload).unwrap()),
                    "approval" => Message::Approval(signal.aggregate_id, ApprovalSignal::decode(payload).unwrap()),
                    "verification" => {
                        Message::Verification(signal.aggregate_id, VerificationSignal::decode(payload).unwrap())
                    }
                    other => panic!("a signal to {other}"),
                });
            }
            other => panic!("{other:?}"),
        }
    }

    fn assert_locked(&self, task: &Task, verb: &cdflow_protocol::v1::VerbTask) {
        if verb.verb() == Verb::Observe {
            return;
        }
        let target: cdflow_pipeline::plan::Target = serde_json::from_slice(&verb.target).unwrap();
        let lock = &self.locks[&ids::lock_id(&target.service, &target.infrastructure)];
        let holder = lock.held_by().unwrap_or_else(|| panic!("{} without the lock:\n{}", task.id, self.log));
        assert_eq!((holder.run_id.as_str(), &holder.stage_id), (RUN, &task.stage_id), "{}", self.log);
    }

    fn reply_to(&self, stage: &str, step: &str, attempt: u32) -> Reply {
        let Some(replies) = self.replies.get(&format!("{stage}/{step}")) else { return Reply::Ok };
        let index = (attempt.max(1) as usize - 1).min(replies.len() - 1);
        replies[index].clone()
    }

    fn work(&mut self, task: &Task, fence: u64) {
        if matches!(task.work, Some(Work::Script(_))) && !self.begun.insert(task.id.clone()) {
            return; // A worker starts a script once for each task.
        }
        let reply = self.reply_to(&task.stage_id, &task.step_id, task.attempt);
        self.work_as(task, fence, reply);
    }

    fn work_as(&mut self, task: &Task, fence: u64, reply: Reply) {
        if self.stopped.contains(&task.id) && reply != Reply::Deaf {
            return self.result(task, Outcome::Cancelled, ErrorClass::Unspecified, BTreeMap::new());
        }
        let does = matches!(reply, Reply::Ok | Reply::Output(..) | Reply::Lost { done: true } | Reply::Twice(_));
        if does
            && let Some(Work::Verb(verb)) = &task.work
            && !self.change(verb, fence)
        {
            return self.result(task, Outcome::Failed, ErrorClass::Fenced, BTreeMap::new());
        }
        match reply {
            Reply::Ok => self.result(task, Outcome::Succeeded, ErrorClass::Unspecified, BTreeMap::new()),
            Reply::Output(name, value) => {
                let outputs = BTreeMap::from([(name.into(), value.into())]);
                self.result(task, Outcome::Succeeded, ErrorClass::Unspecified, outputs);
            }
            Reply::Fail(class) => self.result(task, Outcome::Failed, class, BTreeMap::new()),
            Reply::Lost { done } => {
                self.under_way.push_back(Message::Lost(task.id.clone()));
                // Its result was on the way after all.
                if done && self.chance.percent(30) {
                    self.result(task, Outcome::Succeeded, ErrorClass::Unspecified, BTreeMap::new());
                }
            }
            Reply::Silent | Reply::Deaf | Reply::Expired => {
                self.silent.insert(task.id.clone(), task.clone());
            }
            Reply::Twice(reply) => {
                self.work_as(task, fence, *reply);
                let last = self.under_way.back().cloned();
                self.under_way.extend(last);
            }
        }
    }

    fn change(&mut self, verb: &cdflow_protocol::v1::VerbTask, fence: u64) -> bool {
        let target: cdflow_pipeline::plan::Target = serde_json::from_slice(&verb.target).unwrap();
        let id = ids::lock_id(&target.service, &target.infrastructure);
        self.targets.entry(id).or_default().take(verb, fence)
    }

    fn result(&mut self, task: &Task, outcome: Outcome, class: ErrorClass, outputs: BTreeMap<String, String>) {
        let observation = match &task.work {
            Some(Work::Verb(verb)) if outcome == Outcome::Succeeded => {
                let target: cdflow_pipeline::plan::Target = serde_json::from_slice(&verb.target).unwrap();
                let id = ids::lock_id(&target.service, &target.infrastructure);
                Some(self.targets.entry(id).or_default().observe())
            }
            _ => None,
        };
        let message = if outcome == Outcome::Failed { "it did not work".to_owned() } else { String::new() };
        let result = TaskResult {
            task_id: task.id.clone(),
            outcome: outcome.into(),
            error_class: class.into(),
            message,
            outputs,
            observation,
            ..TaskResult::default()
        };
        self.under_way.push_back(Message::ToRun(RunSignal { kind: Some(run_signal::Kind::TaskResult(result)) }));
    }

    fn cancel(&mut self, cancel: &CancelTask) {
        self.stopped.insert(cancel.id.clone());
        if let Some(task) = self.silent.get(&cancel.id).cloned()
            && self.reply_to(&task.stage_id, &task.step_id, task.attempt) != Reply::Deaf
        {
            self.silent.remove(&cancel.id);
            self.result(&task, Outcome::Cancelled, ErrorClass::Unspecified, BTreeMap::new());
        }
    }

    fn lock(&mut self, id: &str, signal: LockSignal) {
        let lock = self.locks.entry(id.into()).or_default();
        let decision = lock.decide(id, Input::Signal(signal), self.now).unwrap();
        for event in &decision.events {
            lock.apply(event);
        }
        for effect in decision.effects {
            let Some(effect::Kind::Signal(SendSignal { signal: Some(signal), .. })) = effect.kind else { panic!() };
            let answer = RunSignal::decode(signal.payload.as_slice()).unwrap();
            if signal.aggregate_id == RUN {
                self.under_way.push_back(Message::ToRun(answer));
            } else if let Some(run_signal::Kind::Lock(answer)) = answer.kind
                && answer.kind() == lock_answer::Kind::Granted
            {
                let back = release_of(&signal.aggregate_id, false);
                self.under_way.push_back(Message::ToLock(id.into(), back));
            }
        }
    }

    fn decide_approval(&mut self, id: &str, signal: &ApprovalSignal) {
        let Some(approval_signal::Kind::Request(request)) = &signal.kind else { return };
        let (outcome, said) = match self.reply_to(&request.stage_id, &request.step_id, 1) {
            Reply::Ok => (Outcome::Succeeded, "ana: looks good"),
            Reply::Fail(_) => (Outcome::Rejected, "ana: not on a Friday"),
            Reply::Expired => (Outcome::Expired, ""),
            _ => return,
        };
        let answer = ApprovalAnswer {
            approval_id: id.into(),
            stage_id: request.stage_id.clone(),
            step_id: request.step_id.clone(),
            outcome: outcome.into(),
            decisions: if said.is_empty() { vec![] } else { vec![said.into()] },
        };
        self.under_way.push_back(Message::ToRun(RunSignal { kind: Some(run_signal::Kind::Approval(answer)) }));
    }

    fn verify(&mut self, id: &str, signal: &VerificationSignal) {
        let Some(verification_signal::Kind::Begin(begin)) = &signal.kind else { return };
        assert!(begin.arms.iter().any(|arm| arm.canary && !arm.instances.is_empty()), "nothing to verify");
        let (kind, sentence) = match self.reply_to(&begin.stage_id, &begin.step_id, begin.attempt) {
            Reply::Ok => (VerdictKind::Pass, "no sign of harm"),
            Reply::Fail(ErrorClass::Unknown) => (VerdictKind::Inconclusive, "too little traffic to tell"),
            Reply::Fail(_) => (VerdictKind::Fail, "3.4 % of requests fail, 0.2 % on v1"),
            _ => return,
        };
        let verdict = Verdict { kind: kind.into(), sentence: sentence.into(), ..Verdict::default() };
        let answer = VerificationAnswer {
            verification_id: id.into(),
            stage_id: begin.stage_id.clone(),
            step_id: begin.step_id.clone(),
            attempt: begin.attempt,
            verdict: Some(verdict),
        };
        self.under_way.push_back(Message::ToRun(RunSignal { kind: Some(run_signal::Kind::Verification(answer)) }));
    }

    fn note(&mut self, event: &RunEvent) {
        let line = event_line(event);
        let _ = writeln!(self.log, "{:>9} {line}", self.clock());
        if let Some(Kind::StepStarted(StepStarted { stage_id, step_id, attempt: 1, .. })) = &event.kind {
            let messages = self.when_started.get(&format!("{stage_id}/{step_id}")).cloned().unwrap_or_default();
            for message in messages.into_iter().rev() {
                self.under_way.push_front(message);
            }
        }
    }

    fn clock(&self) -> String {
        format!("{}.{:02}", (self.now - 1_000_000) / 1_000, (self.now - 1_000_000) % 1_000 / 10)
    }

    /// What must be true of every run that has ended, whatever happened to it.
    pub fn assert_sound(&self) {
        let log = &self.log;
        let plan = self.run.plan().unwrap();
        assert!(self.run.is_finished() && self.run.outstanding_tasks().is_empty() && self.run.deadline().is_none());
        let mut folded = Run::default();
        let mut stages: BTreeMap<&str, (bool, Option<Outcome>)> = BTreeMap::new();
        let mut running: BTreeMap<&str, &str> = BTreeMap::new();
        let mut attempts = BTreeSet::new();
        let mut changed: BTreeSet<&str> = BTreeSet::new();
        for event in &self.history {
            assert!(folded.outcome().is_none(), "something happened after the end:\n{log}");
            folded.apply(event);
            match event.kind.as_ref().unwrap() {
                Kind::StageStarted(start) => {
                    let stage = plan.stages.iter().find(|stage| stage.id == start.stage_id).unwrap();
                    for need in &stage.needs {
                        let (promoted, ended) = stages.get(need.as_str()).copied().unwrap_or_default();
                        assert!(promoted || ended.is_some(), "{} started before {need}:\n{log}", stage.id);
                    }
                }
                Kind::StagePromoted(event) => stages.entry(&event.stage_id).or_default().0 = true,
                Kind::StageRollingBack(event) => stages.entry(&event.stage_id).or_default().0 = false,
                Kind::StageFinished(event) => {
                    stages.entry(&event.stage_id).or_default().1 = Some(event.outcome());
                    assert_eq!(running.get(event.stage_id.as_str()), None, "ended while a step runs:\n{log}");
                }
                Kind::StepStarted(event) => {
                    assert!(
                        attempts.insert((&event.stage_id, &event.step_id, event.attempt)),
                        "{}/{} was started twice in one attempt:\n{log}",
                        event.stage_id,
                        event.step_id
                    );
                    let before = running.insert(&event.stage_id, &event.step_id);
                    assert_eq!(before, None, "two steps of {} at once:\n{log}", event.stage_id);
                    if let Some(Work::Verb(verb)) = event.task.as_ref().and_then(|task| task.work.as_ref())
                        && verb.verb() != Verb::Observe
                    {
                        changed.insert(&event.stage_id);
                    }
                }
                Kind::StepFinished(event) if running.get(event.stage_id.as_str()) == Some(&event.step_id.as_str()) => {
                    running.remove(event.stage_id.as_str());
                }
                _ => {}
            }
        }
        assert_eq!(folded, self.run, "folding gives another state:\n{log}");
        assert_eq!(Run::restore(&self.run.checkpoint()).unwrap(), self.run);
        for lock in self.locks.values() {
            assert!(lock.is_finished(), "a lock is left over: {lock:?}\n{log}");
            assert_eq!(&Lock::restore(&lock.checkpoint()).unwrap(), lock);
        }
        let ends = self.history.iter().rev().filter_map(|event| match &event.kind {
            Some(Kind::StageFinished(end)) => Some(end),
            _ => None,
        });
        for stage in &plan.stages {
            let end = ends.clone().find(|end| end.stage_id == stage.id).unwrap();
            let Some(deploy) = &stage.deploy else { continue };
            let Some(target) = self.targets.get(&ids::lock_id(&deploy.target.service, &deploy.target.infrastructure))
            else {
                continue;
            };
            let before = if self.had_v1.contains(&deploy.target.infrastructure) {
                Target::with("v1")
            } else {
                Target::default()
            };
            match end.outcome() {
                Outcome::Succeeded => {
                    let released = plan.artifact.as_ref().map(|artifact| &artifact.version);
                    assert_eq!(target.live.as_ref().map(|live| &live.version), released, "{log}");
                }
                Outcome::RolledBack => assert_eq!(target.serves(), before.serves(), "{}:\n{log}", stage.id),
                _ if !changed.contains(stage.id.as_str()) => {
                    assert_eq!(target.serves(), before.serves(), "{}:\n{log}", stage.id);
                }
                _ => {
                    let told = end.reason.contains("a person has to look") || end.reason.contains("superseded");
                    assert!(told, "{} is left as it is, and nobody is told:\n{log}", stage.id);
                }
            }
        }
    }

    pub fn outcome(&self) -> Outcome {
        self.run.outcome().unwrap()
    }

    /// How stages ended, in the order in which they did.
    pub fn stages(&self) -> String {
        let ends = self.history.iter().filter_map(|event| match &event.kind {
            Some(Kind::StageFinished(end)) => Some(format!("{}={}", end.stage_id, end.outcome().word())),
            _ => None,
        });
        ends.collect::<Vec<_>>().join(" ")
    }

    /// Until this step is started for the first time.
    pub fn until(mut self, step: &str) -> Self {
        while self.attempts(step) == 0 {
            assert!(self.turn(), "{step} never starts:\n{}", self.log);
        }
        self
    }

    /// The task of an attempt of a step.
    pub fn task(&self, step: &str, attempt: u32) -> Option<Task> {
        self.sent.iter().find_map(|effect| match &effect.kind {
            Some(effect::Kind::Task(task)) if task.step_id == step && task.attempt == attempt => Some(task.clone()),
            _ => None,
        })
    }

    /// How a step ended, and why.
    pub fn step(&self, stage: &str, step: &str) -> Option<(Outcome, String)> {
        self.history.iter().rev().find_map(|event| match &event.kind {
            Some(Kind::StepFinished(end)) if end.stage_id == stage && end.step_id == step && end.retry_at_ms == 0 => {
                Some((end.outcome(), end.message.clone()))
            }
            _ => None,
        })
    }

    /// How often a step was started.
    pub fn attempts(&self, step: &str) -> usize {
        let started = |event: &&RunEvent| matches!(&event.kind, Some(Kind::StepStarted(e)) if e.step_id == step);
        self.history.iter().filter(started).count()
    }
}

pub fn command(kind: run_command::Kind) -> Message {
    let actor = Some(Actor { kind: "person".into(), name: "ana".into() });
    let command = RunCommand { actor, reason: "wrong version".into(), kind: Some(kind) };
    Message::ToRun(RunSignal { kind: Some(run_signal::Kind::Command(command)) })
}

pub fn cancel() -> Message {
    command(run_command::Kind::Cancel(CancelRun {}))
}

pub fn roll_back(stage: &str) -> Message {
    command(run_command::Kind::RollBack(RollBackRun { stage_id: stage.into() }))
}

pub fn rival(run: &str) -> LockHolder {
    LockHolder { run_id: run.into(), run_number: 13, stage_id: "prod".into(), step_id: "lock".into(), attempt: 1 }
}

pub fn acquire_of(run: &str) -> LockSignal {
    let acquire = AcquireLock { holder: Some(rival(run)), only_if_latest: false };
    LockSignal { kind: Some(lock_signal::Kind::Acquire(acquire)) }
}

pub fn release_of(run: &str, watching: bool) -> LockSignal {
    LockSignal { kind: Some(lock_signal::Kind::Release(ReleaseLock { holder: Some(rival(run)), watching })) }
}

fn tail(task_id: &str) -> &str {
    task_id.strip_prefix(RUN).unwrap_or(task_id).trim_start_matches('-')
}

fn verb_line(verb: &cdflow_protocol::v1::VerbTask) -> String {
    let version = |release: &Option<cdflow_protocol::v1::Release>| {
        release.as_ref().map_or("nothing".to_owned(), |release| release.version.clone())
    };
    let name = verb.verb().as_str_name().trim_start_matches("VERB_").to_lowercase();
    if verb.verb() == Verb::Observe {
        return name;
    }
    let percent = if verb.percent > 0 { format!(" {} %", verb.percent) } else { String::new() };
    let undo = if verb.rollback { ", undoing" } else { "" };
    format!("{name} {}{percent}, before: {}{undo}", version(&verb.release), version(&verb.previous))
}

fn event_line(event: &RunEvent) -> String {
    let reason = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match event.kind.as_ref().unwrap() {
        Kind::RunStarted(e) => format!("run {} started: {}", e.number, e.cause),
        Kind::StageStarted(e) => format!("{} started", e.stage_id),
        Kind::StepStarted(e) => format!("{}/{} started, attempt {}", e.stage_id, e.step_id, e.attempt),
        Kind::StepWaiting(e) => format!("{}/{} waits{}", e.stage_id, e.step_id, reason(&e.message)),
        Kind::StepFinished(e) => {
            let again = if e.retry_at_ms > 0 { ", will be tried again" } else { "" };
            let class = match e.error_class() {
                ErrorClass::Unspecified => String::new(),
                class => format!(" ({})", class.as_str_name().trim_start_matches("ERROR_CLASS_").to_lowercase()),
            };
            let word = e.outcome().word();
            format!("{}/{} {word}{class}{}{again}", e.stage_id, e.step_id, reason(&e.message))
        }
        Kind::StagePromoted(e) => format!("{} promoted", e.stage_id),
        Kind::StageRollingBack(e) => format!("{} rolling back{}", e.stage_id, reason(&e.reason)),
        Kind::StageFinished(e) => {
            format!("{} {}{}", e.stage_id, e.outcome().word(), reason(&e.reason))
        }
        Kind::RunCommanded(_) => "commanded".to_owned(),
        Kind::RunFinished(e) => format!("run {}{}", e.outcome().word(), reason(&e.reason)),
    }
}
