//! A run told event by event.

use std::collections::BTreeMap;

use cdflow_pipeline::plan::{Action, Plan, Verb};
use cdflow_protocol::{
    AggregateKind,
    ids::approval_id,
    v1::{
        Actor, ApprovalDecided, ApprovalEnded, ApprovalEvent, ApprovalRequested, Basis, Decide, ErrorClass, Figure,
        Members, Observation, Outcome, Release, RequestApproval, RunEvent, RunFinished, RunStarted, StageFinished,
        StagePromoted, StageRollingBack, StageStarted, StepFinished, StepStarted, StepWaiting, Verdict, VerdictKind,
        approval_event, run_event::Kind,
    },
};

use crate::support::{Journal, T0};

pub const RUN_ID: &str = "01930000-0000-7000-8000-000000000001";

/// As it was compiled once from `project.yaml`: pages must not change when the compiler learns something.
fn plan(version: &str) -> Plan {
    let mut plan: Plan = serde_json::from_str(include_str!("plan.json")).unwrap();
    plan.artifact.as_mut().unwrap().version = version.to_owned();
    plan
}

/// Tells what happens to one run, a second for every event.
pub struct Story<'j> {
    journal: &'j mut Journal,
    pub id: String,
    number: u64,
    pub plan: Plan,
    now: i64,
}

impl<'j> Story<'j> {
    /// Run 1, of version v1.1.0, started by CI.
    pub async fn begin(journal: &'j mut Journal) -> Self {
        Self::begin_as(journal, RUN_ID, 1, "v1.1.0", T0).await
    }

    pub async fn begin_as(journal: &'j mut Journal, id: &str, number: u64, version: &str, now: i64) -> Self {
        let plan = plan(version);
        let mut story = Self { journal, id: id.into(), number, plan, now };
        let started = RunStarted {
            number,
            plan: serde_json::to_vec(&story.plan).unwrap(),
            initiator: Some(Actor { kind: "ci".into(), name: "https://ci.example.com/shop".into() }),
            cause: "CI event artifact.published 4711".into(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            time_ms: story.now,
        };
        story.tell(Kind::RunStarted(started)).await;
        story
    }

    pub async fn tell(&mut self, kind: Kind) -> u64 {
        let event = RunEvent { kind: Some(kind) };
        let sequence = self.journal.events(AggregateKind::Run, &self.id, self.now, &[event]).await;
        self.now += 1_000;
        sequence
    }

    pub async fn stage_started(&mut self, stage: &str) {
        self.tell(Kind::StageStarted(StageStarted { stage_id: stage.into(), time_ms: self.now })).await;
    }

    pub async fn started(&mut self, stage: &str, step: &str, attempt: u32) {
        let started = StepStarted {
            stage_id: stage.into(),
            step_id: step.into(),
            attempt,
            time_ms: self.now,
            ..StepStarted::default()
        };
        self.tell(Kind::StepStarted(started)).await;
    }

    pub async fn waits(&mut self, stage: &str, step: &str, message: &str) {
        let waiting =
            StepWaiting { stage_id: stage.into(), step_id: step.into(), message: message.into(), time_ms: self.now };
        self.tell(Kind::StepWaiting(waiting)).await;
    }

    pub async fn finished(&mut self, stage: &str, step: &str, more: StepFinished) {
        let outcome = if more.outcome == 0 { Outcome::Succeeded.into() } else { more.outcome };
        let finished = StepFinished {
            stage_id: stage.into(),
            step_id: step.into(),
            attempt: more.attempt.max(1),
            outcome,
            time_ms: self.now,
            ..more
        };
        self.tell(Kind::StepFinished(finished)).await;
    }

    /// A step from beginning to end, with what its action brings.
    pub async fn does(&mut self, stage: &str, step: &str) {
        self.started(stage, step, 1).await;
        let action = self.action(stage, step);
        let port = if stage == "prod" { 18_080 } else { 18_082 };
        let observed = |live: &str| Observation {
            live: Some(Release { version: live.into(), ..Release::default() }),
            url: format!("http://127.0.0.1:{port}"),
            ..Observation::default()
        };
        let more = match action {
            Action::Verb { verb: Verb::Observe, .. } => {
                StepFinished { observation: Some(observed("v1.0.0")), ..StepFinished::default() }
            }
            Action::Verify { weight, .. } => StepFinished { verdict: Some(pass(weight)), ..StepFinished::default() },
            Action::Run { .. } => StepFinished {
                outputs: BTreeMap::from([("pages".to_owned(), "3".to_owned())]),
                message: "exit status 0".into(),
                ..StepFinished::default()
            },
            _ => StepFinished::default(),
        };
        self.finished(stage, step, more).await;
        if matches!(self.action(stage, step), Action::Promoted) {
            let promoted = StagePromoted { stage_id: stage.into(), time_ms: self.now };
            self.tell(Kind::StagePromoted(promoted)).await;
        }
    }

    fn action(&self, stage: &str, step: &str) -> Action {
        let stage = self.plan.stages.iter().find(|candidate| candidate.id == stage).unwrap();
        let steps = stage.steps.iter().chain(&stage.rollback);
        steps.into_iter().find(|candidate| candidate.id == step).unwrap().action.clone()
    }

    /// Steps of a stage, from the first up to and without `until`.
    pub async fn does_until(&mut self, stage: &str, until: &str) {
        let steps = &self.plan.stages.iter().find(|candidate| candidate.id == stage).unwrap().steps;
        let ids: Vec<String> = steps.iter().map(|step| step.id.clone()).take_while(|id| id != until).collect();
        for id in ids {
            self.does(stage, &id).await;
        }
    }

    pub async fn stage_ends(&mut self, stage: &str, outcome: Outcome, reason: &str) {
        let finished = StageFinished {
            stage_id: stage.into(),
            outcome: outcome.into(),
            reason: reason.into(),
            time_ms: self.now,
            ..Default::default()
        };
        self.tell(Kind::StageFinished(finished)).await;
    }

    pub async fn stage(&mut self, stage: &str) {
        self.stage_started(stage).await;
        self.does_until(stage, "").await;
        self.stage_ends(stage, Outcome::Succeeded, "").await;
    }

    pub async fn rolls_back(&mut self, stage: &str, reason: &str) {
        let back = StageRollingBack { stage_id: stage.into(), reason: reason.into(), time_ms: self.now };
        self.tell(Kind::StageRollingBack(back)).await;
        let rollback = &self.plan.stages.iter().find(|candidate| candidate.id == stage).unwrap().rollback;
        let ids: Vec<String> = rollback.iter().map(|step| step.id.clone()).collect();
        for id in ids {
            self.does(stage, &id).await;
        }
        self.stage_ends(stage, Outcome::RolledBack, reason).await;
    }

    pub async fn ends(&mut self, outcome: Outcome, reason: &str) {
        let finished =
            RunFinished { outcome: outcome.into(), reason: reason.into(), time_ms: self.now, ..Default::default() };
        self.tell(Kind::RunFinished(finished)).await;
    }

    /// Stage and step that ask for approval, and the id of the request.
    pub fn approval(&self) -> (String, String, String) {
        let stage = self
            .plan
            .stages
            .iter()
            .find(|stage| stage.steps.iter().any(|step| matches!(step.action, Action::Approve { .. })));
        let stage = stage.unwrap();
        let step = stage.steps.iter().find(|step| matches!(step.action, Action::Approve { .. })).unwrap();
        (stage.id.clone(), step.id.clone(), approval_id(&self.id, &stage.id, &step.id))
    }

    /// Qa is done, and people are asked.
    pub async fn asks(&mut self, initiator: &str) {
        self.stage("qa").await;
        let (stage, step, id) = self.approval();
        self.stage_started(&stage).await;
        self.started(&stage, &step, 1).await;
        let request = RequestApproval {
            run_id: self.id.clone(),
            run_number: self.number,
            stage_id: stage,
            step_id: step,
            by: BTreeMap::from([("release-managers".to_owned(), 1)]),
            groups: BTreeMap::from([(
                "release-managers".to_owned(),
                Members { names: vec!["ana".into(), "bo".into()] },
            )]),
            initiator: Some(Actor { kind: "person".into(), name: initiator.into() }),
            expires_ms: self.now + 24 * 3_600_000,
            message: "Release shop v1.1.0 to prod?".into(),
            traceparent: String::new(),
        };
        let requested = ApprovalRequested { request: Some(request), time_ms: self.now };
        self.approval_tells(&id, approval_event::Kind::Requested(requested)).await;
    }

    pub async fn approval_tells(&mut self, id: &str, kind: approval_event::Kind) {
        let event = ApprovalEvent { kind: Some(kind) };
        self.journal.events(AggregateKind::Approval, id, self.now, &[event]).await;
        self.now += 1_000;
    }

    /// Ana approves, and the run goes on.
    pub async fn is_approved(&mut self) {
        let (stage, step, id) = self.approval();
        let decision = Decide {
            person: "ana".into(),
            groups: vec!["release-managers".into()],
            config_revision: 1,
            approve: true,
            comment: "looks good <b>to me</b>".into(),
            channel: "cli".into(),
        };
        let decided = ApprovalDecided { decision: Some(decision), time_ms: self.now };
        self.approval_tells(&id, approval_event::Kind::Decided(decided)).await;
        let ended =
            ApprovalEnded { outcome: Outcome::Succeeded.into(), reason: "approved by ana".into(), time_ms: self.now };
        self.approval_tells(&id, approval_event::Kind::Ended(ended)).await;
        let more = StepFinished { message: "ana: looks good <b>to me</b>".into(), ..StepFinished::default() };
        self.finished(&stage, &step, more).await;
        self.stage_ends(&stage, Outcome::Succeeded, "").await;
    }

    /// The canary fails at 5 %, and the run rolls back.
    pub async fn fails_in_prod(&mut self) {
        self.stage_started("prod").await;
        let verify = self.first_verify("prod");
        self.does_until("prod", &verify).await;
        self.started("prod", &verify, 1).await;
        let more = StepFinished {
            outcome: Outcome::Failed.into(),
            error_class: ErrorClass::Verification.into(),
            message: "the new release is worse".into(),
            verdict: Some(fail()),
            ..StepFinished::default()
        };
        self.finished("prod", &verify, more).await;
        let reason = "at 5 % of the traffic v1.1.0 fails 3.4 % of requests, v1.0.0 0.2 %";
        self.rolls_back("prod", reason).await;
        self.ends(Outcome::RolledBack, reason).await;
    }

    pub fn first_verify(&self, stage: &str) -> String {
        let stage = self.plan.stages.iter().find(|candidate| candidate.id == stage).unwrap();
        stage.steps.iter().find(|step| matches!(step.action, Action::Verify { .. })).unwrap().id.clone()
    }
}

fn figure(name: &str, value: &str) -> Figure {
    Figure { name: name.into(), value: value.into() }
}

fn pass(weight: u32) -> Verdict {
    Verdict {
        kind: VerdictKind::Pass.into(),
        basis: Basis::Control.into(),
        sentence: format!("at {weight} % of the traffic v1.1.0 fails no more often than v1.0.0"),
        figures: vec![
            figure("errors, canary", "2 of 1,204 (0.2 %)"),
            figure("errors, control", "31 of 18,411 (0.2 %)"),
        ],
    }
}

fn fail() -> Verdict {
    Verdict {
        kind: VerdictKind::Fail.into(),
        basis: Basis::Control.into(),
        sentence: "at 5 % of the traffic v1.1.0 fails 3.4 % of requests, v1.0.0 0.2 %".into(),
        figures: vec![
            figure("errors, canary", "41 of 1,204 (3.4 %)"),
            figure("errors, control", "37 of 18,411 (0.2 %)"),
            figure("evidence", "1 : 4,100 for worse"),
        ],
    }
}
