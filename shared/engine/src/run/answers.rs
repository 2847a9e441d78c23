//! What others answer: workers, locks, people, the verifier. An answer that nobody waits for changes nothing.

use cdflow_pipeline::plan::{Action, Step};
use cdflow_protocol::{
    UnixMillis,
    v1::{ApprovalAnswer, ErrorClass, LockAnswer, Outcome, TaskResult, VerdictKind, VerificationAnswer, lock_answer},
};

use super::{
    decide::Deciding,
    dispatch::release_lock,
    state::{Acquisition, LockState, Running, StagePhase, Started, StepPhase, StepRef, is_lost},
};
use std::sync::Arc;

/// A step whose workers vanish this often is what makes them vanish.
const MOST_LOSSES: u32 = 25;

impl Deciding<'_> {
    pub(super) fn on_task_result(&mut self, started: &Started, result: TaskResult) {
        let Some((at, running)) = self.with_task(&result.task_id) else { return };
        let mut end = self.end_of(at, result.outcome(), result.message.clone());
        end.outputs = result.outputs.clone();
        end.observation = result.observation.clone();
        if result.outcome() == Outcome::Succeeded {
            return self.finish(end);
        }
        if running.stopping_ms.is_some() {
            end.outcome = Outcome::Cancelled.into();
            if end.message.is_empty() {
                end.message = "stopped".to_owned();
            }
            return self.finish(end);
        }
        end.outcome = Outcome::Failed.into();
        end.error_class = match result.error_class() {
            ErrorClass::Unspecified => ErrorClass::Unknown.into(),
            class => class.into(),
        };
        if end.message.is_empty() {
            end.message = "the executor reported a failure and no reason".to_owned();
        }
        end.retry_at_ms = self.retry_at(started, at, end.error_class());
        self.finish(end);
    }

    pub(super) fn on_task_lost(&mut self, started: &Started, task_id: &str) {
        let Some((at, running)) = self.with_task(task_id) else { return };
        let stopping = running.stopping_ms.is_some();
        let outcome = if stopping { Outcome::Cancelled } else { Outcome::Failed };
        let mut end = self.end_of(at, outcome, "the executor that had it is gone");
        end.error_class = ErrorClass::ExecutorLost.into();
        if !stopping {
            end.retry_at_ms = self.retry_at(started, at, ErrorClass::ExecutorLost);
            if end.retry_at_ms == 0 && !repeatable(started.step(at)) {
                end.message
                    .push_str(", and the script must not be repeated: it may have done its work or a part of it");
            } else if end.retry_at_ms == 0 {
                end.message.push_str(&format!(
                    ", as after {MOST_LOSSES} attempts before: the step may be what stops executors"
                ));
            }
        }
        self.finish(end);
    }

    fn with_task(&self, task_id: &str) -> Option<(StepRef, Arc<Running>)> {
        self.run
            .running_steps()
            .find(|(_, running)| running.event.task.as_ref().is_some_and(|task| task.id == task_id))
            .map(|(at, running)| (at, running.clone()))
    }

    /// When the next attempt of a failed step begins; 0 if there is none.
    ///
    /// An attempt that was lost, or refused at the target because a later delivery of the same task had been there,
    /// is followed by another one whatever the step says: its fence is higher than all before.
    pub(super) fn retry_at(&self, started: &Started, at: StepRef, class: ErrorClass) -> UnixMillis {
        let (step, state) = (started.step(at), self.run.step_state(at));
        if is_lost(class) {
            let again = repeatable(step) && state.losses < MOST_LOSSES;
            return if again { self.now.max(1) } else { 0 };
        }
        match step.retry {
            Some(retry) if may_help(class) && is_work(step) && state.failures.saturating_add(1) < retry.attempts => {
                self.now.saturating_add(retry.interval_ms.max(0)).max(1)
            }
            _ => 0,
        }
    }

    pub(super) fn on_lock(&mut self, started: &Started, answer: &LockAnswer) {
        let Some(at) = self.run.find(&answer.stage_id, &answer.step_id) else { return };
        let asking = self.run.current(at.stage) == Some(at)
            && self.run.step_state(at).running().is_some_and(|running| running.event.attempt == answer.attempt);
        let acquisition = Acquisition { step: answer.step_id.clone(), attempt: answer.attempt };
        match answer.kind() {
            lock_answer::Kind::Granted if asking => {
                let end = self.end_of(at, Outcome::Succeeded, "");
                self.finish(end);
            }
            // Nobody wants it any more, so it must not stay granted.
            lock_answer::Kind::Granted if self.run.stages[at.stage].lock.acquisition() != Some(&acquisition) => {
                self.send(release_lock(started, self.id, at.stage, &acquisition, false));
            }
            lock_answer::Kind::Queued if asking => {
                let message = format!("behind run {}", answer.holder_number);
                if self.run.step_state(at).running().is_some_and(|running| running.message != message) {
                    self.waiting(at, message);
                }
            }
            lock_answer::Kind::Superseded => {
                let by = format!("superseded by run {}", answer.holder_number);
                if asking {
                    let end = self.end_of(at, Outcome::Superseded, by);
                    self.finish(end);
                } else if self.run.stages[at.stage].lock == LockState::Watching(acquisition) {
                    self.end_watch(started, at.stage, by);
                }
            }
            lock_answer::Kind::Granted | lock_answer::Kind::Queued | lock_answer::Kind::Unspecified => {}
        }
    }

    /// Ends the watch of a stage, also one that has not begun yet.
    fn end_watch(&mut self, started: &Started, stage: usize, by: String) {
        let state = &self.run.stages[stage];
        if state.phase != StagePhase::Running || state.trouble.is_some() {
            return;
        }
        let watch = (0..state.steps.len()).map(|index| StepRef { stage, rollback: false, index }).find(|&at| {
            matches!(started.step(at).action, Action::Watch { .. })
                && matches!(self.run.step_state(at).phase, StepPhase::Pending | StepPhase::Running(_))
        });
        if let Some(at) = watch {
            let end = self.end_of(at, Outcome::Superseded, by);
            self.finish(end);
        }
    }

    pub(super) fn on_approval(&mut self, answer: &ApprovalAnswer) {
        let Some(at) = self.run.find(&answer.stage_id, &answer.step_id) else { return };
        let asking = self.run.current(at.stage) == Some(at)
            && self.run.step_state(at).running().is_some_and(|running| running.event.waits_for == answer.approval_id);
        if !asking {
            return;
        }
        let said = answer.decisions.join("; ");
        let (outcome, class, without_words) = match answer.outcome() {
            Outcome::Succeeded => (Outcome::Succeeded, ErrorClass::Unspecified, "approved"),
            Outcome::Rejected => (Outcome::Rejected, ErrorClass::ApprovalRejected, "rejected"),
            Outcome::Expired => (Outcome::Expired, ErrorClass::Timeout, "nobody decided in time"),
            Outcome::Cancelled => (Outcome::Cancelled, ErrorClass::ApprovalRejected, "withdrawn"),
            _ => return,
        };
        let mut end = self.end_of(at, outcome, if said.is_empty() { without_words.to_owned() } else { said });
        end.error_class = class.into();
        self.finish(end);
    }

    pub(super) fn on_verdict(&mut self, started: &Started, answer: VerificationAnswer) {
        let Some(at) = self.run.find(&answer.stage_id, &answer.step_id) else { return };
        let asking = self.run.current(at.stage) == Some(at)
            && matches!(started.step(at).action, Action::Verify { .. } | Action::Watch { .. })
            && self.run.step_state(at).running().is_some_and(|running| running.event.attempt == answer.attempt);
        let Some(verdict) = answer.verdict.filter(|_| asking) else { return };
        let outcome = match verdict.kind() {
            VerdictKind::Pass => Outcome::Succeeded,
            // No data is never a pass.
            VerdictKind::Fail | VerdictKind::Inconclusive => Outcome::Failed,
            VerdictKind::Unspecified => return,
        };
        let mut end = self.end_of(at, outcome, verdict.sentence.clone());
        if outcome == Outcome::Failed {
            end.error_class = ErrorClass::Verification.into();
        }
        end.verdict = Some(verdict);
        self.finish(end);
    }
}

/// Whether trying again can end differently without anybody changing something first.
fn may_help(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Connectivity
        | ErrorClass::Timeout
        | ErrorClass::Infrastructure
        | ErrorClass::NoExecutor
        | ErrorClass::Script
        | ErrorClass::Transient
        | ErrorClass::Unknown
        | ErrorClass::Unspecified => true,
        ErrorClass::Authentication
        | ErrorClass::Authorization
        | ErrorClass::Verification
        | ErrorClass::Policy
        | ErrorClass::ApprovalRejected
        | ErrorClass::Input
        | ErrorClass::Configuration
        | ErrorClass::ExecutorLost
        | ErrorClass::Fenced => false,
    }
}

/// Only work is tried again: a person or a verdict is not asked until the answer pleases.
fn is_work(step: &Step) -> bool {
    matches!(step.action, Action::Verb { .. } | Action::Run { .. } | Action::Nothing { .. })
}

/// Whether a step may be done again though nobody knows how far the last attempt got.
fn repeatable(step: &Step) -> bool {
    match step.action {
        Action::Run { repeat_on_crash, .. } => repeat_on_crash,
        _ => true,
    }
}
