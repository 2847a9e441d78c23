//! What operators read in the log, and see of the trigger in the trace of a run, once it is stored.

use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::{
    trace,
    v1::{Effect, RunRequested, effect, trigger_event::Kind},
};
use cdflow_telemetry::{
    cicd,
    spans::{FinishedSpan, SpanKind, emit},
};

use crate::TriggerLedger;

/// Logs every event and every run that is requested; emits a span for each run.
pub(crate) struct Log;

impl Observer<TriggerLedger> for Log {
    fn stored(&self, entry: &StoredEntry<'_, TriggerLedger>) {
        let project = entry.aggregate_id;
        for event in entry.events {
            match &event.kind {
                Some(Kind::RunRequested(run)) => {
                    let (run_id, pipeline, version) = (&run.run_id, &run.pipeline, &run.version);
                    tracing::info!(
                        project,
                        run = run.number,
                        run_id,
                        pipeline,
                        version,
                        cause = run.cause,
                        "run requested"
                    );
                    emit(span(run, entry.effects));
                }
                Some(Kind::EventRecorded(event)) if event.run_numbers.is_empty() => {
                    let (source, id, because) = (&event.source, &event.event_id, &event.ignored_because);
                    tracing::info!(project, source, id, subject = event.subject, because, "event starts nothing");
                }
                Some(Kind::EventRecorded(_)) | None => {}
            }
        }
    }
}

/// From the arrival of what asked for the run until the run was asked for.
fn span(run: &RunRequested, effects: &[Effect]) -> FinishedSpan {
    let caused_by = effects.iter().find_map(|effect| match &effect.kind {
        Some(effect::Kind::Signal(send)) => send.signal.as_ref().filter(|signal| signal.aggregate_id == run.run_id),
        _ => None,
    });
    let caused_by = caused_by.map_or("", |signal| signal.traceparent.as_str());
    FinishedSpan {
        service: "trigger",
        kind: SpanKind::Internal,
        trace_id: trace::trace_id(&run.run_id, caused_by),
        span_id: trace::trigger_span(&run.run_id),
        parent_span_id: trace::cause_span(caused_by).map_or_else(|| trace::run_span(&run.run_id), str::to_owned),
        name: format!("trigger {}", run.pipeline),
        start_ms: if run.received_ms > 0 { run.received_ms.min(run.time_ms) } else { run.time_ms },
        end_ms: run.time_ms,
        attributes: vec![
            (cicd::PIPELINE, run.pipeline.clone()),
            (cicd::RUN, run.run_id.clone()),
            ("cdflow.run.number", run.number.to_string()),
            ("cdflow.version", run.version.clone()),
            ("cdflow.cause", run.cause.clone()),
        ],
        error: None,
    }
}
