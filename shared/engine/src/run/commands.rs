//! What people may tell a run: to stop, and to go back.

use cdflow_journal::refuse;
use cdflow_pipeline::plan::Action;
use cdflow_protocol::{
    UnixMillis,
    v1::{Outcome, Refusal, RunCommand, RunCommanded, run_command, run_event::Kind},
};

use super::{
    decide::Deciding,
    dispatch::{end_verification, withdraw_approval},
    state::StagePhase,
};

/// A second cancellation stops clean-up steps too. One that comes sooner is taken for a repetition of the first.
const CANCEL_AGAIN_MS: i64 = 5_000;

impl Deciding<'_> {
    pub(super) fn on_command(&mut self, command: RunCommand) -> Result<(), Refusal> {
        if let Some(finished) = &self.run.finished {
            let outcome = finished.outcome().word();
            return Err(refuse(
                "run-finished",
                format!("the run has ended ({outcome}); to go back to another version, deploy that version"),
            ));
        }
        match &command.kind {
            Some(run_command::Kind::Cancel(_)) => {
                let soon = |at: UnixMillis| self.now < at.saturating_add(CANCEL_AGAIN_MS);
                match &self.run.cancelled {
                    Some(cancelled) if soon(cancelled.last_ms) || cancelled.times > 1 => return Ok(()),
                    _ => {}
                }
                self.emit(Kind::RunCommanded(RunCommanded { command: Some(command), time_ms: self.now }));
                for stage in 0..self.run.stages.len() {
                    self.stop_current(stage);
                }
                Ok(())
            }
            Some(run_command::Kind::RollBack(roll_back)) => {
                let stage_id = roll_back.stage_id.clone();
                self.on_roll_back(command, &stage_id)
            }
            None => Err(refuse("unknown-command", "the command says nothing that this version knows; upgrade cdflow")),
        }
    }

    fn on_roll_back(&mut self, command: RunCommand, stage_id: &str) -> Result<(), Refusal> {
        let Some(started) = self.run.started.clone() else {
            return Err(refuse("unknown-run", "there is no such run"));
        };
        let Some(stage) = self.run.stage_index(stage_id) else {
            let known: Vec<_> = started.plan.stages.iter().map(|stage| stage.id.as_str()).collect();
            let known = known.join("`, `");
            return Err(refuse("unknown-stage", format!("the run has no stage `{stage_id}`; it has `{known}`")));
        };
        let state = &self.run.stages[stage];
        if started.plan.stages[stage].rollback.is_empty() {
            return Err(refuse("nothing-to-roll-back", format!("stage `{stage_id}` deploys nothing")));
        }
        let ended_well = match state.phase {
            StagePhase::RollingBack => return Ok(()),
            StagePhase::Pending => {
                return Err(refuse("stage-not-started", format!("stage `{stage_id}` has not started; cancel the run")));
            }
            StagePhase::Running if state.trouble.is_some() => return Ok(()),
            StagePhase::Running => false,
            StagePhase::Ended => match state.outcome() {
                Some(Outcome::RolledBack) => return Ok(()),
                Some(Outcome::Succeeded) => true,
                outcome => {
                    let outcome = outcome.map_or("unknown", Outcome::word);
                    let message =
                        format!("stage `{stage_id}` ended as {outcome}; only a live release can be rolled back");
                    return Err(refuse("nothing-to-roll-back", message));
                }
            },
        };
        if ended_well && !state.changed {
            return Err(refuse("nothing-to-roll-back", format!("stage `{stage_id}` has changed nothing")));
        }
        if let Some(by) = &state.superseded {
            return Err(refuse("superseded", format!("stage `{stage_id}` was {by}: roll that one back instead")));
        }
        self.emit(Kind::RunCommanded(RunCommanded { command: Some(command), time_ms: self.now }));
        if ended_well {
            self.begin_rollback(&started, stage);
        } else {
            self.stop_current(stage);
        }
        Ok(())
    }

    /// Stops what a stage is doing, if the command has marked it so: a worker is asked to, anything else ends here.
    fn stop_current(&mut self, stage: usize) {
        let Some(started) = self.run.started.clone() else { return };
        let Some(at) = self.run.current(stage) else { return };
        let Some(running) = self.run.step_state(at).running().cloned() else { return };
        if running.stopping_ms.is_none() {
            return;
        }
        if running.event.task.is_some() {
            return self.ask_to_stop(at, &running);
        }
        let reason = self.run.stages[stage].trouble.as_ref().map_or(String::new(), |trouble| trouble.reason.clone());
        match started.step(at).action {
            Action::Approve { .. } => self.send(withdraw_approval(&started, self.id, at, &reason)),
            Action::Verify { .. } | Action::Watch { .. } => {
                self.send(end_verification(&started, self.id, stage, &reason));
            }
            Action::Lock { .. } => self.take_back(&started, at),
            _ => {}
        }
        let end = self.end_of(at, Outcome::Cancelled, reason);
        self.finish(end);
    }
}
