//! One word for where something is and how it ended: the style draws it, readers of the screen hear it.

use crate::api::{Outcome, RunStatus, StageStatus, StepStatus};

/// Classes of the style sheet.
pub(super) fn of_outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed | Outcome::Rejected | Outcome::Expired => "failed",
        Outcome::RolledBack => "rolled-back",
        Outcome::Skipped | Outcome::Superseded | Outcome::Cancelled => "skipped",
        Outcome::Ignored => "ignored",
    }
}

pub(super) fn of_run(status: RunStatus, outcome: Option<Outcome>) -> &'static str {
    match (outcome, status) {
        (Some(outcome), RunStatus::Finished) => of_outcome(outcome),
        (_, RunStatus::Requested) => "pending",
        (_, RunStatus::Running) => "running",
        (_, RunStatus::Waiting) => "waiting",
        (_, RunStatus::Watching) => "watching",
        (_, RunStatus::RollingBack) => "rolling-back",
        (None, RunStatus::Finished) => "skipped",
    }
}

pub(super) fn of_stage(status: StageStatus, outcome: Option<Outcome>) -> &'static str {
    match (outcome, status) {
        (Some(outcome), StageStatus::Finished) => of_outcome(outcome),
        (_, StageStatus::Pending) => "pending",
        (_, StageStatus::Running) => "running",
        (_, StageStatus::Waiting) => "waiting",
        (_, StageStatus::Watching) => "watching",
        (_, StageStatus::RollingBack) => "rolling-back",
        (None, StageStatus::Finished) => "skipped",
    }
}

pub(super) fn of_step(status: StepStatus, outcome: Option<Outcome>) -> &'static str {
    match (outcome, status) {
        (Some(outcome), StepStatus::Finished) => of_outcome(outcome),
        (_, StepStatus::Pending) => "pending",
        (_, StepStatus::Running) => "running",
        (_, StepStatus::Waiting | StepStatus::Retrying) => "waiting",
        (None, StepStatus::Finished) => "skipped",
    }
}

/// "rolled back".
pub(super) fn words(word: &str) -> String {
    word.replace('-', " ")
}

pub(super) fn run_words(status: RunStatus, outcome: Option<Outcome>) -> String {
    words(outcome.filter(|_| status == RunStatus::Finished).map_or(status.as_str(), Outcome::as_str))
}

pub(super) fn stage_words(status: StageStatus, outcome: Option<Outcome>) -> String {
    words(outcome.filter(|_| status == StageStatus::Finished).map_or(status.as_str(), Outcome::as_str))
}

pub(super) fn step_words(status: StepStatus, outcome: Option<Outcome>) -> String {
    words(outcome.filter(|_| status == StepStatus::Finished).map_or(status.as_str(), Outcome::as_str))
}
