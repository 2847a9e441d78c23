//! Stored events as sentences.

use cdflow_protocol::{
    AggregateKind,
    v1::{self, approval_event, run_event, verification_event},
};
use prost::Message as _;

use super::{run::commanded_reason, titles::with_reason, words};
use crate::api::HistoryEntry;

/// The run that an aggregate belongs to, if it belongs to one.
pub(crate) fn run_of(kind: AggregateKind, aggregate_id: &str) -> Option<&str> {
    match kind {
        AggregateKind::Run => Some(aggregate_id),
        AggregateKind::Approval | AggregateKind::Verification => aggregate_id.split('.').next(),
        AggregateKind::Lock | AggregateKind::Trigger => None,
    }
}

/// Whether an entry says something that a history shows; readings come every second and do not.
pub(crate) fn is_shown(kind: AggregateKind, entry: &v1::Entry) -> bool {
    match kind {
        AggregateKind::Verification => entry.events.iter().any(|event| verification(event).is_some()),
        _ => !entry.events.is_empty(),
    }
}

/// The events of one entry of a commit.
pub(crate) fn entries(kind: AggregateKind, sequence: u64, time_ms: i64, entry: &v1::Entry) -> Vec<HistoryEntry> {
    let said = entry.events.iter().filter_map(|event| match kind {
        AggregateKind::Run => run(event),
        AggregateKind::Approval => approval(event),
        AggregateKind::Verification => verification(event),
        AggregateKind::Lock | AggregateKind::Trigger => None,
    });
    said.map(|said| HistoryEntry {
        sequence,
        time_ms,
        aggregate: kind.as_str().to_owned(),
        event: said.event.to_owned(),
        stage: said.stage,
        step: said.step,
        text: said.text,
    })
    .collect()
}

struct Said {
    event: &'static str,
    stage: Option<String>,
    step: Option<String>,
    text: String,
}

fn said(event: &'static str, stage: &str, step: &str, text: impl Into<String>) -> Option<Said> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Some(Said { event, stage: some(stage), step: some(step), text: text.into() })
}

fn run(bytes: &[u8]) -> Option<Said> {
    match v1::RunEvent::decode(bytes).ok()?.kind? {
        run_event::Kind::RunStarted(e) => said("run-started", "", "", format!("run {} started: {}", e.number, e.cause)),
        run_event::Kind::StageStarted(e) => said("stage-started", &e.stage_id, "", "stage started"),
        run_event::Kind::StepStarted(e) => {
            said("step-started", &e.stage_id, &e.step_id, format!("attempt {} started", e.attempt))
        }
        // Said again whenever somebody is asked again.
        run_event::Kind::StepWaiting(e) if e.message.is_empty() => None,
        run_event::Kind::StepWaiting(e) => said("step-waiting", &e.stage_id, &e.step_id, e.message),
        run_event::Kind::StepFinished(e) => {
            let outcome = outcome(e.outcome);
            let sentence = e.verdict.as_ref().map_or(&e.message, |verdict| &verdict.sentence);
            said("step-finished", &e.stage_id, &e.step_id, with_reason(outcome, sentence))
        }
        run_event::Kind::StagePromoted(e) => said("stage-promoted", &e.stage_id, "", "the new release is live"),
        run_event::Kind::StageRollingBack(e) => {
            said("stage-rolling-back", &e.stage_id, "", with_reason("rolling back", &e.reason))
        }
        run_event::Kind::StageFinished(e) => {
            said("stage-finished", &e.stage_id, "", with_reason(outcome(e.outcome), &e.reason))
        }
        run_event::Kind::RunCommanded(e) => {
            let command = e.command.unwrap_or_default();
            match &command.kind {
                Some(v1::run_command::Kind::RollBack(back)) => {
                    said("run-commanded", &back.stage_id, "", commanded_reason("rollback asked for", &command))
                }
                _ => said("run-commanded", "", "", commanded_reason("cancelled", &command)),
            }
        }
        run_event::Kind::RunFinished(e) => said("run-finished", "", "", with_reason(outcome(e.outcome), &e.reason)),
    }
}

fn approval(bytes: &[u8]) -> Option<Said> {
    match v1::ApprovalEvent::decode(bytes).ok()?.kind? {
        approval_event::Kind::Requested(e) => {
            let request = e.request.unwrap_or_default();
            said("approval-requested", &request.stage_id, &request.step_id, with_reason("asked for", &request.message))
        }
        approval_event::Kind::Decided(e) => {
            let decision = e.decision.unwrap_or_default();
            let verb = if decision.approve { "approved" } else { "rejected" };
            said("approval-decided", "", "", with_reason(&format!("{} {verb}", decision.person), &decision.comment))
        }
        approval_event::Kind::Ended(e) => said("approval-ended", "", "", with_reason(outcome(e.outcome), &e.reason)),
    }
}

fn verification(bytes: &[u8]) -> Option<Said> {
    match v1::VerificationEvent::decode(bytes).ok()?.kind? {
        verification_event::Kind::Began(e) => {
            let phase = e.phase.unwrap_or_default();
            let what = if phase.watch { "watching" } else { "comparing" };
            let text = format!("{what} at {} % of the traffic", phase.weight);
            said("comparison-began", &phase.stage_id, &phase.step_id, text)
        }
        verification_event::Kind::Verdict(e) => {
            let verdict = words::verdict(&e.verdict.unwrap_or_default());
            said("verdict", "", &e.step_id, with_reason(verdict.kind.as_str(), &verdict.sentence))
        }
        verification_event::Kind::Ended(e) => said("comparison-ended", "", "", with_reason("ended", &e.reason)),
        verification_event::Kind::Readings(_) | verification_event::Kind::Collector(_) => None,
    }
}

fn outcome(value: i32) -> &'static str {
    words::outcome(value).map_or("ended", crate::api::Outcome::as_str)
}
