//! What operators read in the log, and see of an approval in the trace of its run, once it is stored.

use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::{
    ids, trace,
    v1::{ApprovalEnded, ErrorClass, approval_event::Kind},
};
use cdflow_telemetry::{
    cicd,
    spans::{FinishedSpan, SpanKind, emit},
};

use crate::Approval;

/// Logs requests, decisions and ends; emits a span for each request that has ended. Comments stay in the journal: they
/// may hold anything.
pub(crate) struct Log;

impl Observer<Approval> for Log {
    fn stored(&self, entry: &StoredEntry<'_, Approval>) {
        let approval = entry.aggregate_id;
        let run = entry.state.request().map_or(0, |request| request.run_number);
        for event in entry.events {
            match &event.kind {
                Some(Kind::Requested(_)) => tracing::info!(approval, run, "approval requested"),
                Some(Kind::Decided(decided)) => {
                    let decision = decided.decision.clone().unwrap_or_default();
                    let (person, channel, approve) = (decision.person, decision.channel, decision.approve);
                    tracing::info!(approval, run, person, channel, approve, "decided");
                }
                Some(Kind::Ended(ended)) => {
                    tracing::info!(approval, run, outcome = ended.outcome().word(), "approval ended");
                    if let Some(span) = span(approval, entry.state, ended) {
                        emit(span);
                    }
                }
                None => {}
            }
        }
    }
}

/// From the request to its end; `None` if nothing was requested, or nobody follows the run.
fn span(id: &str, approval: &Approval, ended: &ApprovalEnded) -> Option<FinishedSpan> {
    let request = approval.request()?;
    let (trace_id, step) = trace::parse(&request.traceparent)?;
    let groups: Vec<String> = request.by.iter().map(|(group, minimum)| format!("{group}: {minimum}")).collect();
    let outcome = ended.outcome();
    Some(FinishedSpan {
        service: "approval",
        kind: SpanKind::Internal,
        trace_id: trace_id.to_owned(),
        span_id: trace::approval_span(id),
        parent_span_id: step.to_owned(),
        name: format!("approval {}", request.stage_id),
        start_ms: approval.requested_ms(),
        end_ms: ended.time_ms,
        attributes: vec![
            (cicd::RUN, request.run_id.clone()),
            (cicd::STAGE, request.stage_id.clone()),
            (cicd::TASK, request.step_id.clone()),
            (cicd::TASK_RUN, ids::approval_id(&request.run_id, &request.stage_id, &request.step_id)),
            (cicd::TASK_RESULT, cicd::result(outcome).into()),
            ("cdflow.approval.groups", groups.join(", ")),
            ("cdflow.approval.decisions", approval.votes().len().to_string()),
        ],
        // Not the reason: it holds comments.
        error: cicd::failure(outcome, ErrorClass::Unspecified, outcome.word()),
    })
}
