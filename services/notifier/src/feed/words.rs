//! Outcomes in the words of CDEvents.

use cdevents_sdk::spec_0_5_1::pipelinerun_finished;
use cdflow_protocol::v1::Outcome;

/// One of the four outcomes that CDEvents know.
enum Rough {
    Success,
    Failure,
    Cancel,
    Error,
}

fn rough(outcome: Outcome) -> Rough {
    match outcome {
        Outcome::Succeeded | Outcome::Ignored | Outcome::Superseded => Rough::Success,
        Outcome::Failed | Outcome::RolledBack | Outcome::Rejected | Outcome::Expired => Rough::Failure,
        Outcome::Cancelled | Outcome::Skipped => Rough::Cancel,
        Outcome::Unspecified => Rough::Error,
    }
}

pub(super) fn run_outcome(outcome: Outcome) -> pipelinerun_finished::ContentOutcome {
    use pipelinerun_finished::ContentOutcome;
    match rough(outcome) {
        Rough::Success => ContentOutcome::Success,
        Rough::Failure => ContentOutcome::Failure,
        Rough::Cancel => ContentOutcome::Cancel,
        Rough::Error => ContentOutcome::Error,
    }
}

pub(super) fn stage_outcome(outcome: Outcome) -> &'static str {
    match rough(outcome) {
        Rough::Success => "success",
        Rough::Failure => "failure",
        Rough::Cancel => "cancel",
        Rough::Error => "error",
    }
}

/// Why something did not end well.
pub(super) fn errors(outcome: Outcome, reason: &str) -> Option<String> {
    (!matches!(rough(outcome), Rough::Success) && !reason.is_empty()).then(|| reason.to_owned())
}
