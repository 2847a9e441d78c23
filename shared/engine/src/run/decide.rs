//! Where it is decided what runs next.
//!
//! A decision works on a copy of the run: every event it makes is folded into the copy at once, so that what follows
//! sees it, and so that folding the stored events later gives the same state. After a signal has been dealt with,
//! [`Deciding::advance`] goes through the stages until nothing more follows.

use cdflow_journal::Decision;
use cdflow_pipeline::{
    expression::Status,
    plan::{Action, Verb},
};
use cdflow_protocol::{
    UnixMillis,
    v1::{
        Effect, ErrorClass, Outcome, RunEvent, RunFinished, StageFinished, StagePromoted, StageStarted, StepFinished,
        StepStarted, effect, run_event::Kind,
    },
};

use super::{
    dispatch::{Attempt, end_verification, release_lock},
    scope::LazyScope,
    standing::Standing,
    state::{LockState, Run, StagePhase, Started, StepPhase, StepRef},
    timing,
};

/// A decision in the making.
pub(super) struct Deciding<'a> {
    pub(super) run: Run,
    pub(super) id: &'a str,
    pub(super) now: UnixMillis,
    pub(super) decision: Decision<RunEvent>,
}

impl<'a> Deciding<'a> {
    pub(super) fn new(run: &Run, id: &'a str, now: UnixMillis) -> Self {
        Self { run: run.clone(), id, now, decision: Decision::nothing() }
    }

    pub(super) fn emit(&mut self, kind: Kind) {
        let event = RunEvent { kind: Some(kind) };
        self.run.fold(&event);
        self.decision.events.push(event);
    }

    pub(super) fn send(&mut self, effect: impl Into<Option<Effect>>) {
        self.decision.effects.extend(effect.into());
    }

    pub(super) fn finish(&mut self, event: StepFinished) {
        self.emit(Kind::StepFinished(event));
    }

    /// The end of a step, to be completed by the caller.
    pub(super) fn end_of(&self, at: StepRef, outcome: Outcome, message: impl Into<String>) -> StepFinished {
        let (stage_id, step_id) = self.names(at);
        let state = self.run.step_state(at);
        // A step that was never started lasts no time.
        let started_ms = state.running().map_or(self.now, |running| running.event.time_ms);
        StepFinished {
            stage_id,
            step_id,
            attempt: state.attempt,
            started_ms,
            outcome: outcome.into(),
            message: message.into(),
            time_ms: self.now,
            ..StepFinished::default()
        }
    }

    pub(super) fn names(&self, at: StepRef) -> (String, String) {
        self.run.started.as_ref().map_or_else(Default::default, |started| {
            (started.plan.stages[at.stage].id.clone(), started.step(at).id.clone())
        })
    }

    /// Starts and ends whatever can be started and ended now.
    pub(super) fn advance(&mut self) {
        let Some(started) = self.run.started.clone() else { return };
        if self.run.finished.is_some() {
            return;
        }
        loop {
            let before = self.decision.events.len();
            for stage in 0..self.run.stages.len() {
                match self.run.stages[stage].phase {
                    StagePhase::Pending => self.consider_stage(&started, stage),
                    StagePhase::Running | StagePhase::RollingBack => while self.advance_steps(&started, stage) {},
                    StagePhase::Ended => {}
                }
            }
            if self.decision.events.len() == before {
                break;
            }
        }
        if self.run.stages.iter().all(|stage| stage.phase == StagePhase::Ended) {
            self.finish_run(&started);
        }
    }

    /// Starts or skips a stage once everything it needs is promoted or has ended.
    fn consider_stage(&mut self, started: &Started, stage: usize) {
        if !started.needs[stage].iter().all(|&need| self.run.is_settled(need)) {
            return;
        }
        let standing = self.run.standing(started, stage);
        let plan = &started.plan.stages[stage];
        let goes_on = if self.run.cancelled.as_ref().is_some_and(|cancelled| cancelled.times > 1) {
            Ok(false)
        } else {
            LazyScope::new(&self.run, started, self.id, stage).holds(plan.condition.as_deref(), standing.status())
        };
        let (outcome, reason) = match goes_on {
            Ok(true) => {
                return self.emit(Kind::StageStarted(StageStarted { stage_id: plan.id.clone(), time_ms: self.now }));
            }
            Ok(false) => (Outcome::Skipped, standing.sentence().to_owned()),
            Err(reason) => (Outcome::Failed, reason),
        };
        self.emit(Kind::StageFinished(StageFinished {
            stage_id: plan.id.clone(),
            outcome: outcome.into(),
            reason,
            time_ms: self.now,
            started_ms: self.now,
        }));
    }

    /// One move in a stage: whether there was one.
    fn advance_steps(&mut self, started: &Started, stage: usize) -> bool {
        if matches!(self.run.stages[stage].phase, StagePhase::Pending | StagePhase::Ended) {
            return false;
        }
        if self.must_undo(started, stage) {
            self.begin_rollback(started, stage);
            return true;
        }
        let Some(at) = self.run.current(stage) else {
            self.finish_stage(started, stage);
            return true;
        };
        match &self.run.step_state(at).phase {
            StepPhase::Running(_) | StepPhase::Ended(_) => false,
            StepPhase::Resting { stopped: true, last, .. } => {
                let message = format!("not tried again, since it was stopped; before that: {}", last.message);
                let end = self.end_of(at, Outcome::Cancelled, message);
                self.finish(end);
                true
            }
            StepPhase::Resting { until_ms, .. } if self.now < *until_ms => false,
            StepPhase::Resting { .. } => {
                self.start(started, at);
                true
            }
            StepPhase::Pending if self.is_superseded_in_peace(stage) => {
                self.finish_stage(started, stage);
                true
            }
            StepPhase::Pending => {
                self.consider_step(started, at);
                true
            }
        }
    }

    /// A newer release has taken over and nothing had gone wrong: what is left of the stage is not needed.
    fn is_superseded_in_peace(&self, stage: usize) -> bool {
        self.run.stages[stage].superseded.is_some() && self.run.stages[stage].trouble.is_none()
    }

    /// Starts or skips the step that a stage has come to.
    fn consider_step(&mut self, started: &Started, at: StepRef) {
        let step = started.step(at);
        if !at.rollback && self.has_lost_its_base(started, at.stage) {
            let end = self.end_of(at, Outcome::Cancelled, Standing::RolledBack.sentence());
            return self.finish(end);
        }
        let skip = if at.rollback { self.not_needed_to_undo(started, at) } else { self.not_after_trouble(started, at) };
        if let Some(reason) = skip {
            return self.skip(at, reason);
        }
        // Undoing goes well until a step of it fails, and then none follows.
        let status = if at.rollback { Status::Success } else { self.status(at.stage) };
        match LazyScope::new(&self.run, started, self.id, at.stage).holds(step.condition.as_deref(), status) {
            Ok(true) => self.start(started, at),
            Ok(false) if step.condition.is_some() => self.skip(at, "its condition does not hold"),
            Ok(false) => self.skip(at, "an earlier step of the stage did not end well"),
            Err(message) => self.misconfigured(at, message),
        }
    }

    /// A deploy stage that has changed nothing yet, and would not be started now: what it needs was rolled back while it
    /// waited for people or for the lock.
    fn has_lost_its_base(&self, started: &Started, stage: usize) -> bool {
        let (plan, state) = (&started.plan.stages[stage], &self.run.stages[stage]);
        plan.deploy.is_some()
            && !state.changed
            && state.trouble.is_none()
            && self.run.standing(started, stage) == Standing::RolledBack
            && LazyScope::new(&self.run, started, self.id, stage)
                .holds(plan.condition.as_deref(), Standing::RolledBack.status())
                .is_ok_and(|goes_on| !goes_on)
    }

    /// What is true of a stage for the conditions of its steps.
    fn status(&self, stage: usize) -> Status {
        let state = &self.run.stages[stage];
        match (&state.trouble, &state.rolling_back) {
            (None, _) => Status::Success,
            (Some(_), Some(rolling)) if rolling.failed.is_none() => Status::RolledBack,
            (Some(trouble), _) if trouble.outcome == Outcome::Cancelled => Status::Cancelled,
            (Some(_), _) => Status::Failure,
        }
    }

    /// After trouble only what does not touch the target may still run.
    fn not_after_trouble(&self, started: &Started, at: StepRef) -> Option<&'static str> {
        self.run.stages[at.stage].trouble.as_ref()?;
        if self.run.cancelled.as_ref().is_some_and(|cancelled| cancelled.times > 1) {
            return Some("the run was cancelled twice");
        }
        match started.step(at).action {
            Action::Run { .. }
            | Action::Nothing { .. }
            | Action::Wait { .. }
            | Action::Approve { .. }
            | Action::Unlock { .. } => None,
            Action::Lock { .. }
            | Action::Verb { .. }
            | Action::Promoted
            | Action::Verify { .. }
            | Action::Watch { .. } => Some("an earlier step of the stage did not end well"),
        }
    }

    pub(super) fn skip(&mut self, at: StepRef, reason: &str) {
        let end = self.end_of(at, Outcome::Skipped, reason);
        self.finish(end);
    }

    pub(super) fn misconfigured(&mut self, at: StepRef, message: String) {
        let mut end = self.end_of(at, Outcome::Failed, message);
        end.error_class = ErrorClass::Configuration.into();
        self.finish(end);
    }

    /// Starts the next attempt of a step.
    fn start(&mut self, started: &Started, at: StepRef) {
        let step = started.step(at);
        let number = self.run.step_state(at).attempt.saturating_add(1);
        // Not the whole state: while somebody else holds it, folding an event copies every step of the stage.
        let lock = self.run.stages[at.stage].lock.clone();
        match &step.action {
            Action::Lock { .. } if matches!(lock, LockState::Held(_)) => {
                return self.skip(at, "the stage holds the lock already");
            }
            Action::Lock { .. } => {
                // From here on this request is the one that counts: the one before it no longer watches.
                if let LockState::Watching(before) = &lock {
                    let effect = release_lock(started, self.id, at.stage, before, false);
                    self.send(effect);
                }
            }
            Action::Unlock { watching } => {
                let Some(acquisition) = lock.acquisition() else {
                    return self.skip(at, "the stage does not hold the lock");
                };
                self.send(release_lock(started, self.id, at.stage, acquisition, *watching));
                return self.done_at_once(at, number);
            }
            Action::Promoted => {
                self.done_at_once(at, number);
                let stage_id = started.plan.stages[at.stage].id.clone();
                return self.emit(Kind::StagePromoted(StagePromoted { stage_id, time_ms: self.now }));
            }
            Action::Verb { verb, .. } if *verb != Verb::Observe && self.run.stages[at.stage].base.is_none() => {
                let message = "no step before it has observed what is live, so there would be nothing to go back to; \
                               put an `observe` before the first change";
                return self.misconfigured(at, message.to_owned());
            }
            _ => {}
        }
        let attempt = Attempt { run: &self.run, started, id: self.id, at, number };
        let request = match attempt.request(self.now) {
            Ok(request) => request,
            Err(message) => return self.misconfigured(at, message),
        };
        let (stage_id, step_id) = self.names(at);
        self.emit(Kind::StepStarted(StepStarted {
            stage_id,
            step_id,
            attempt: number,
            time_ms: self.now,
            deadline_ms: timing::attempt_deadline(step, self.now),
            waits_for: request.waits_for,
            task: request.task.clone(),
        }));
        self.send(request.task.map(|task| Effect { kind: Some(effect::Kind::Task(task)) }));
        self.send(request.signal);
    }

    fn done_at_once(&mut self, at: StepRef, number: u32) {
        let mut end = self.end_of(at, Outcome::Succeeded, "");
        end.attempt = number;
        self.finish(end);
    }

    /// Ends a stage, and with it everything that others still hold for it.
    fn finish_stage(&mut self, started: &Started, stage: usize) {
        let state = self.run.stages[stage].clone();
        let (outcome, reason) = self.stage_ending(started, stage);
        if let Some(acquisition) = state.lock.acquisition() {
            self.send(release_lock(started, self.id, stage, acquisition, false));
        }
        let plan = &started.plan.stages[stage];
        let verified = plan.steps.iter().zip(&state.steps).any(|(step, state)| {
            state.attempt > 0 && matches!(step.action, Action::Verify { .. } | Action::Watch { .. })
        });
        if verified {
            self.send(end_verification(started, self.id, stage, "the stage has ended"));
        }
        self.emit(Kind::StageFinished(StageFinished {
            stage_id: plan.id.clone(),
            outcome: outcome.into(),
            reason,
            time_ms: self.now,
            started_ms: self.run.stages[stage].started_ms,
        }));
    }

    /// The first that is true of the run decides how it ends: a rollback that failed, a cancellation, a stage that
    /// was rolled back, failed, was rejected, expired. A run of nothing but skipped stages has succeeded.
    fn finish_run(&mut self, started: &Started) {
        let ending = |wanted: &dyn Fn(usize) -> bool| {
            (0..self.run.stages.len()).find(|&stage| wanted(stage)).map(|stage| {
                let reason = self.run.stages[stage].finished.as_ref().map_or("", |event| event.reason.as_str());
                format!("{}: {reason}", started.plan.stages[stage].id)
            })
        };
        let with = |outcome: Outcome| ending(&|stage| self.run.stages[stage].outcome() == Some(outcome));
        let broken = ending(&|stage| {
            let state = &self.run.stages[stage];
            state.superseded.is_none() && state.rolling_back.as_ref().is_some_and(|rolling| rolling.failed.is_some())
        });
        let (outcome, reason) = if let Some(reason) = broken {
            (Outcome::Failed, reason)
        } else if let Some(cancelled) = &self.run.cancelled {
            (Outcome::Cancelled, cancelled.reason.clone())
        } else {
            [Outcome::RolledBack, Outcome::Failed, Outcome::Rejected, Outcome::Expired, Outcome::Cancelled]
                .into_iter()
                .find_map(|outcome| Some((outcome, with(outcome)?)))
                .unwrap_or((Outcome::Succeeded, String::new()))
        };
        let started_ms = started.event.time_ms;
        self.emit(Kind::RunFinished(RunFinished { outcome: outcome.into(), reason, time_ms: self.now, started_ms }));
    }
}
