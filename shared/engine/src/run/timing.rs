//! When something is due: attempts that take too long, stages that take too long, and what has to be asked again.

use cdflow_pipeline::plan::{Action, Step};
use cdflow_protocol::{
    UnixMillis,
    v1::{ErrorClass, Outcome, StepWaiting, run_event::Kind},
};

use super::{
    decide::Deciding,
    dispatch::{Attempt, cancel_task, end_verification, release_lock, withdraw_approval},
    state::{LockState, Run, Running, StagePhase, Started, StepPhase, StepRef, waits_for_others},
};

/// Another aggregate is asked again after this long, twice as long the next time, and so on.
const ASK_AGAIN_MS: i64 = 5_000;
/// At the latest after this long.
const ASK_AGAIN_AT_MOST_MS: i64 = 600_000;
/// A worker is asked to stop again after this long.
const STOP_AGAIN_MS: i64 = 2_000;
/// A worker that was asked to stop and says nothing is not waited for any longer. Its fence is old by then, so
/// whatever it still tries to change is refused at the target.
const STOP_GIVE_UP_MS: i64 = 60_000;
/// How much longer than it was told the verifier may take. Long, because ending a watch for want of an answer would
/// roll back a release that may be fine.
const VERIFIER_GRACE_MS: i64 = 600_000;
/// How much longer than it was told the approval may take to say that it expired.
pub(super) const APPROVAL_GRACE_MS: i64 = 60_000;

/// When an attempt that starts now is given up, or a wait is over; 0 is never.
pub(super) fn attempt_deadline(step: &Step, now: UnixMillis) -> UnixMillis {
    let limit = if step.timeout_ms > 0 { now.saturating_add(step.timeout_ms) } else { i64::MAX };
    let own = match step.action {
        Action::Wait { duration_ms } => return now.saturating_add(duration_ms.max(0)).max(1),
        Action::Approve { expires_ms, .. } if expires_ms > 0 => {
            now.saturating_add(expires_ms).saturating_add(APPROVAL_GRACE_MS)
        }
        Action::Verify { within_ms, .. } => now.saturating_add(within_ms).saturating_add(VERIFIER_GRACE_MS),
        Action::Watch { duration_ms } => now.saturating_add(duration_ms).saturating_add(VERIFIER_GRACE_MS),
        _ => i64::MAX,
    };
    match own.min(limit) {
        i64::MAX => 0,
        deadline => deadline,
    }
}

fn next_ask(running: &Running) -> Option<UnixMillis> {
    let doublings = running.asks.checked_sub(1)?.min(20);
    Some(running.asked_ms.saturating_add((ASK_AGAIN_MS << doublings).min(ASK_AGAIN_AT_MOST_MS)))
}

fn ask_to_stop_at(running: &Running) -> UnixMillis {
    running.asked_ms.saturating_add(STOP_AGAIN_MS)
}

fn stop_waiting_at(since: UnixMillis) -> UnixMillis {
    since.saturating_add(STOP_GIVE_UP_MS)
}

impl Run {
    /// When the stage has taken too long; `None` while that time does not run.
    fn stage_deadline(&self, started: &Started, stage: usize) -> Option<UnixMillis> {
        let (plan, state) = (&started.plan.stages[stage], &self.stages[stage]);
        if plan.timeout_ms <= 0 || state.phase != StagePhase::Running || state.trouble.is_some() {
            return None;
        }
        let at = self.current(stage)?;
        let waits = self.step_state(at).running().is_some() && waits_for_others(&started.step(at).action);
        (!waits).then_some(state.started_ms.saturating_add(plan.timeout_ms).saturating_add(state.waited_ms))
    }

    /// The earliest moment at which time alone changes something.
    pub(super) fn next_deadline(&self) -> Option<UnixMillis> {
        let started = self.started.as_ref()?;
        if self.finished.is_some() {
            return None;
        }
        let of_stage = |stage: usize| {
            let step = self.current(stage).and_then(|at| match &self.step_state(at).phase {
                StepPhase::Running(running) => match running.stopping_ms {
                    Some(since) => Some(ask_to_stop_at(running).min(stop_waiting_at(since))),
                    None => {
                        let own = Some(running.event.deadline_ms).filter(|&deadline| deadline > 0);
                        own.into_iter().chain(next_ask(running)).min()
                    }
                },
                StepPhase::Resting { until_ms, .. } => Some(*until_ms),
                StepPhase::Pending | StepPhase::Ended(_) => None,
            });
            step.into_iter().chain(self.stage_deadline(started, stage)).min()
        };
        (0..self.stages.len()).filter_map(of_stage).min()
    }
}

impl Deciding<'_> {
    /// Does what is due.
    pub(super) fn tick(&mut self) {
        let Some(started) = self.run.started.clone() else { return };
        for stage in 0..self.run.stages.len() {
            let Some(at) = self.run.current(stage) else { continue };
            let late = self.run.stage_deadline(&started, stage).is_some_and(|deadline| deadline <= self.now);
            match self.run.step_state(at).phase.clone() {
                StepPhase::Running(running) => self.tick_running(&started, at, &running, late),
                StepPhase::Resting { .. } if late => {
                    let mut end = self.end_of(at, Outcome::Failed, stage_too_long(&started, stage));
                    end.error_class = ErrorClass::Timeout.into();
                    self.finish(end);
                }
                StepPhase::Resting { .. } | StepPhase::Pending | StepPhase::Ended(_) => {}
            }
        }
    }

    fn tick_running(&mut self, started: &Started, at: StepRef, running: &Running, stage_is_late: bool) {
        let deadline = running.event.deadline_ms;
        if let Some(since) = running.stopping_ms {
            if self.now >= stop_waiting_at(since) {
                let message = "asked to stop, it did not answer for a minute; it may still be running";
                let end = self.end_of(at, Outcome::Cancelled, message);
                self.finish(end);
            } else if self.now >= ask_to_stop_at(running) {
                self.ask_to_stop(at, running);
            }
        } else if deadline > 0 && self.now >= deadline {
            let message = self.too_long(started, at, running);
            self.give_up(started, at, running, message, false);
        } else if stage_is_late {
            self.give_up(started, at, running, stage_too_long(started, at.stage), true);
        } else if next_ask(running).is_some_and(|due| due <= self.now) {
            self.ask_again(started, at, running);
        }
    }

    fn too_long(&self, started: &Started, at: StepRef, running: &Running) -> String {
        let step = started.step(at);
        let took = duration(self.now.saturating_sub(running.event.time_ms));
        match &step.action {
            Action::Lock { .. } => {
                let holder = if running.message.is_empty() { "nobody answered" } else { &running.message };
                format!("the lock {} was not granted within {took}: {holder}", running.event.waits_for)
            }
            Action::Verify { .. } | Action::Watch { .. } => {
                format!("the verifier gave no verdict within {took}; no verdict is never a pass")
            }
            Action::Approve { .. } => format!("nobody decided within {took}"),
            _ => format!("no result within {took}"),
        }
    }

    /// Ends an attempt that has taken too long.
    fn give_up(&mut self, started: &Started, at: StepRef, running: &Running, message: String, for_good: bool) {
        let mut outcome = Outcome::Failed;
        match &started.step(at).action {
            Action::Wait { .. } if !for_good => {
                let end = self.end_of(at, Outcome::Succeeded, "");
                return self.finish(end);
            }
            Action::Approve { .. } => {
                outcome = Outcome::Expired;
                self.send(withdraw_approval(started, self.id, at, &message));
            }
            Action::Verify { .. } | Action::Watch { .. } => {
                self.send(end_verification(started, self.id, at.stage, &message));
            }
            Action::Lock { .. } => self.take_back(started, at),
            _ => self.send(cancel_task(running, &message)),
        }
        let mut end = self.end_of(at, outcome, message);
        end.error_class = ErrorClass::Timeout.into();
        if !for_good {
            end.retry_at_ms = self.retry_at(started, at, ErrorClass::Timeout);
        }
        self.finish(end);
    }

    /// Takes back the request for a lock that a step waits for.
    pub(super) fn take_back(&mut self, started: &Started, at: StepRef) {
        if let LockState::Asked(acquisition) = &self.run.stages[at.stage].lock {
            let effect = release_lock(started, self.id, at.stage, acquisition, false);
            self.send(effect);
        }
    }

    /// Sends the same question under the same id. The event moves the time of the next one.
    fn ask_again(&mut self, started: &Started, at: StepRef, running: &Running) {
        let attempt = Attempt { run: &self.run, started, id: self.id, at, number: running.event.attempt };
        match attempt.request(running.event.time_ms) {
            Ok(request) => {
                self.send(request.signal);
                self.waiting(at, running.message.clone());
            }
            Err(message) => self.misconfigured(at, message),
        }
    }

    /// Asks a worker to stop what it does.
    pub(super) fn ask_to_stop(&mut self, at: StepRef, running: &Running) {
        let reason = self.run.stages[at.stage].trouble.as_ref().map_or("", |trouble| trouble.reason.as_str());
        let effect = cancel_task(running, reason);
        self.send(effect);
        self.waiting(at, "asked to stop".to_owned());
    }

    pub(super) fn waiting(&mut self, at: StepRef, message: String) {
        let (stage_id, step_id) = self.names(at);
        self.emit(Kind::StepWaiting(StepWaiting { stage_id, step_id, message, time_ms: self.now }));
    }
}

fn stage_too_long(started: &Started, stage: usize) -> String {
    let plan = &started.plan.stages[stage];
    format!("the stage took longer than its timeout of {}", duration(plan.timeout_ms))
}

/// A length of time as people write it, to the second.
pub(super) fn duration(ms: i64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        _ if ms < 1_000 => format!("{ms} ms"),
        0..60 => format!("{seconds} s"),
        60..3_600 if seconds % 60 == 0 => format!("{} min", seconds / 60),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if seconds % 3_600 < 60 => format!("{} h", seconds / 3_600),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
