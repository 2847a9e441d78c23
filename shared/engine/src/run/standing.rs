//! How the stages that a stage needs have ended, as its condition sees them.

use cdflow_pipeline::expression::Status;
use cdflow_protocol::v1::Outcome;

use super::state::{Run, StagePhase, Started};

/// How the stages that a stage needs ended, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Success,
    Skipped,
    RolledBack,
    Failure,
    Cancelled,
}

impl Standing {
    /// For conditions, where neither `success()` nor `failure()` holds after something that was skipped.
    pub(super) fn status(self) -> Status {
        match self {
            Self::Success => Status::Success,
            Self::RolledBack => Status::RolledBack,
            Self::Failure => Status::Failure,
            Self::Skipped | Self::Cancelled => Status::Cancelled,
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Success => "its condition does not hold",
            Self::Skipped => "a stage that it needs was skipped",
            Self::RolledBack => "a stage that it needs was rolled back",
            Self::Failure => "a stage that it needs failed",
            Self::Cancelled => "the run was cancelled",
        }
    }
}

impl Run {
    /// Dependants need not wait for it any longer: it has ended, or its release is live and nothing speaks against it.
    pub(super) fn is_settled(&self, stage: usize) -> bool {
        let state = &self.stages[stage];
        match state.phase {
            StagePhase::Ended => true,
            StagePhase::Running => state.promoted_ms.is_some() && state.trouble.is_none(),
            StagePhase::Pending | StagePhase::RollingBack => false,
        }
    }

    /// The worst of what it needs, looking through skipped stages at what those needed, and behind all of them for a
    /// release that was taken back after others went on: what was built on it does not go on.
    pub(super) fn standing(&self, started: &Started, stage: usize) -> Standing {
        if self.cancelled.is_some() {
            return Standing::Cancelled;
        }
        let mut worst = Standing::Success;
        let mut seen = vec![false; self.stages.len()];
        let mut open = started.needs[stage].clone();
        while let Some(need) = open.pop() {
            if std::mem::replace(&mut seen[need], true) {
                continue;
            }
            let standing = match self.stages[need].outcome() {
                None | Some(Outcome::Succeeded | Outcome::Ignored) => Standing::Success,
                Some(Outcome::Skipped) => {
                    open.extend(&started.needs[need]);
                    Standing::Skipped
                }
                Some(Outcome::RolledBack) => Standing::RolledBack,
                Some(Outcome::Cancelled) => Standing::Cancelled,
                Some(_) => Standing::Failure,
            };
            worst = worst.max(standing);
        }
        if worst == Standing::Success && self.was_taken_back_behind(started, stage) {
            return Standing::RolledBack;
        }
        worst
    }

    /// Whether a release on the way to this stage was promoted, and is being or has been rolled back since.
    fn was_taken_back_behind(&self, started: &Started, stage: usize) -> bool {
        let mut seen = vec![false; self.stages.len()];
        let mut open = started.needs[stage].clone();
        while let Some(need) = open.pop() {
            if std::mem::replace(&mut seen[need], true) {
                continue;
            }
            let state = &self.stages[need];
            let taken_back = state.phase == StagePhase::RollingBack || state.trouble.is_some();
            if state.promoted_ms.is_some() && (taken_back || state.outcome() == Some(Outcome::RolledBack)) {
                return true;
            }
            open.extend(&started.needs[need]);
        }
        false
    }
}
