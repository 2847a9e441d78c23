//! Undoing what a stage has changed, and what a stage ends as.
//!
//! The rollback begins before any step with `if: failure()` or `if: always()`: users come first. Those steps run after
//! it, without the lock.

use std::collections::BTreeMap;

use cdflow_pipeline::plan::{Action, Verb};
use cdflow_protocol::v1::{Observation, Outcome, StageRollingBack, run_event::Kind};

use super::{
    decide::Deciding,
    state::{LockState, StagePhase, StageState, Started, StepPhase, StepRef},
};

impl Deciding<'_> {
    /// The stage is in trouble, has changed something, has not begun to undo it, and nothing of it runs any more.
    pub(super) fn must_undo(&self, started: &Started, stage: usize) -> bool {
        let state = &self.run.stages[stage];
        let busy = self.run.current(stage).is_some_and(|at| {
            matches!(self.run.step_state(at).phase, StepPhase::Running(_) | StepPhase::Resting { stopped: true, .. })
        });
        state.phase == StagePhase::Running
            && state.trouble.is_some()
            && state.changed
            && state.rolling_back.is_none()
            && state.superseded.is_none()
            && !started.plan.stages[stage].rollback.is_empty()
            && !busy
    }

    pub(super) fn begin_rollback(&mut self, started: &Started, stage: usize) {
        let reason = self.run.stages[stage].trouble.as_ref().map_or(String::new(), |trouble| trouble.reason.clone());
        self.emit(Kind::StageRollingBack(StageRollingBack {
            stage_id: started.plan.stages[stage].id.clone(),
            reason,
            time_ms: self.now,
        }));
    }

    /// Why a step of the rollback is left out, if it is.
    ///
    /// After a first release there is nothing to stage or to promote again. `shift` and `retire` then go without a
    /// release: they take the traffic from, and remove, what this run has put there.
    pub(super) fn not_needed_to_undo(&self, started: &Started, at: StepRef) -> Option<&'static str> {
        let state = &self.run.stages[at.stage];
        let first = state.base.as_ref().is_none_or(|base| base.live.is_none());
        match started.step(at).action {
            Action::Lock { .. } if matches!(state.lock, LockState::Held(_)) => Some("the stage holds the lock already"),
            Action::Verb { verb: Verb::Stage | Verb::Promote, .. } if first => {
                Some("nothing was live before, so there is nothing to go back to")
            }
            _ => None,
        }
    }

    /// How a stage ends whose steps are done or given up, and why, in a sentence.
    pub(super) fn stage_ending(&self, started: &Started, stage: usize) -> (Outcome, String) {
        let state = &self.run.stages[stage];
        let trouble = state.trouble.as_ref();
        let because = trouble.map_or(String::new(), |trouble| trouble.reason.clone());
        if let (Some(by), Some(trouble)) = (&state.superseded, trouble)
            && state.changed
        {
            return (trouble.outcome, format!("{because}; not rolled back, since it was {by}"));
        }
        if let Some(rolling) = &state.rolling_back {
            return match &rolling.failed {
                None => (Outcome::RolledBack, rolling.reason.clone()),
                Some(failed) => (
                    Outcome::Failed,
                    format!(
                        "{}; the rollback stopped at {failed}. {} It is not tried again: a person has to look",
                        rolling.reason,
                        what_is_where(state)
                    ),
                ),
            };
        }
        match (&state.superseded, trouble) {
            (Some(by), None) if state.changed && state.promoted_ms.is_some() => (Outcome::Succeeded, by.clone()),
            (Some(by), None) if state.changed => {
                (Outcome::Failed, format!("{by} before it was promoted. {}", what_is_where(state)))
            }
            (Some(by), None) => (Outcome::Skipped, by.clone()),
            (_, Some(trouble)) if state.changed && started.plan.stages[stage].rollback.is_empty() => {
                let outcome = if trouble.outcome == Outcome::Cancelled { Outcome::Cancelled } else { Outcome::Failed };
                (outcome, format!("{because}; the plan has no rollback for this stage. {}", what_is_where(state)))
            }
            (_, Some(trouble)) => (trouble.outcome, because),
            (None, None) => (Outcome::Succeeded, String::new()),
        }
    }
}

/// What serves users as far as anybody has reported, for the person who has to look.
fn what_is_where(state: &StageState) -> String {
    let before = state
        .base
        .as_ref()
        .and_then(|base| base.live.as_ref())
        .map_or_else(|| "Nothing was live before.".to_owned(), |live| format!("Live before was {}.", live.version));
    let reported = state.latest.as_deref().map_or_else(
        || "no verb has reported what is there".to_owned(),
        |seen| format!("last reported: {}", by_version(seen)),
    );
    format!("{before} What is there now is not certain; {reported}.")
}

fn by_version(seen: &Observation) -> String {
    let mut versions: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for instance in &seen.instances {
        let (count, weight) = versions.entry(&instance.version).or_default();
        *count += 1;
        *weight += instance.weight;
    }
    if versions.is_empty() {
        return "no instances".to_owned();
    }
    let each = versions.iter().map(|(version, (count, weight))| {
        let instances = if *count == 1 { "instance" } else { "instances" };
        format!("{version} on {count} {instances} with {weight:.0} % of the traffic")
    });
    each.collect::<Vec<_>>().join(", ")
}
