//! A run as one trace: the run is the root (or a child of the CI system's span), stages below it, steps below them.
//!
//! Attribute names follow OpenTelemetry's semantic conventions for CI/CD
//! (<https://opentelemetry.io/docs/specs/semconv/cicd/>) where they have one.

use cdflow_engine::Run;
use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::{
    ids, trace,
    v1::{ErrorClass, RunFinished, StageFinished, StepFinished, run_event},
};
use cdflow_telemetry::{
    cicd,
    spans::{FinishedSpan, SpanKind, emit},
};

/// For [`cicd::SERVICE`].
const SERVICE: &str = "orchestrator";

/// Emits a span for everything that ends.
pub struct SpanObserver;

impl Observer<Run> for SpanObserver {
    fn stored(&self, entry: &StoredEntry<'_, Run>) {
        let run = entry.aggregate_id;
        let ended = entry.events.iter().filter_map(|event| event.kind.as_ref());
        for kind in ended {
            let span = match kind {
                run_event::Kind::StepFinished(step) => step_span(run, step),
                run_event::Kind::StageFinished(stage) => stage_span(run, stage),
                run_event::Kind::RunFinished(end) => run_span(run, entry.state, end),
                _ => continue,
            };
            emit(FinishedSpan { trace_id: entry.state.trace_id(run), ..span });
        }
    }
}

fn step_span(run: &str, step: &StepFinished) -> FinishedSpan {
    FinishedSpan {
        service: SERVICE,
        kind: SpanKind::Internal,
        trace_id: String::new(),
        span_id: trace::step_span(run, &step.stage_id, &step.step_id, step.attempt),
        parent_span_id: trace::stage_span(run, &step.stage_id),
        name: format!("{} {}", step.stage_id, step.step_id),
        start_ms: step.started_ms,
        end_ms: step.time_ms,
        attributes: vec![
            (cicd::RUN, run.to_owned()),
            (cicd::STAGE, step.stage_id.clone()),
            (cicd::TASK, step.step_id.clone()),
            (cicd::TASK_RUN, ids::task_id(run, &step.stage_id, &step.step_id, step.attempt)),
            (cicd::TASK_RESULT, cicd::result(step.outcome()).into()),
        ],
        error: cicd::failure(step.outcome(), step.error_class(), &step.message),
    }
}

fn stage_span(run: &str, stage: &StageFinished) -> FinishedSpan {
    FinishedSpan {
        service: SERVICE,
        kind: SpanKind::Internal,
        trace_id: String::new(),
        span_id: trace::stage_span(run, &stage.stage_id),
        parent_span_id: trace::run_span(run),
        name: format!("stage {}", stage.stage_id),
        // A stage that was skipped has never started.
        start_ms: if stage.started_ms > 0 { stage.started_ms } else { stage.time_ms },
        end_ms: stage.time_ms,
        attributes: vec![
            (cicd::RUN, run.to_owned()),
            (cicd::STAGE, stage.stage_id.clone()),
            (cicd::TASK, stage.stage_id.clone()),
            (cicd::TASK_RUN, format!("{run}.{}", stage.stage_id)),
            (cicd::TASK_RESULT, cicd::result(stage.outcome()).into()),
        ],
        error: cicd::failure(stage.outcome(), ErrorClass::Unspecified, &stage.reason),
    }
}

fn run_span(id: &str, run: &Run, end: &RunFinished) -> FinishedSpan {
    let plan = run.plan();
    let pipeline = plan.map(|plan| plan.pipeline.clone()).unwrap_or_default();
    let version = plan.and_then(|plan| plan.artifact.as_ref()).map(|artifact| artifact.version.clone());
    FinishedSpan {
        service: SERVICE,
        kind: SpanKind::Server,
        trace_id: String::new(),
        span_id: trace::run_span(id),
        parent_span_id: run.cause_span().unwrap_or_default(),
        name: format!("RUN {pipeline}"),
        start_ms: end.started_ms,
        end_ms: end.time_ms,
        attributes: vec![
            (cicd::ACTION, "RUN".into()),
            (cicd::PIPELINE, pipeline),
            (cicd::RUN, id.to_owned()),
            (cicd::RESULT, cicd::result(end.outcome()).into()),
            ("cdflow.run.number", run.number().unwrap_or_default().to_string()),
            ("cdflow.version", version.unwrap_or_default()),
        ],
        error: cicd::failure(end.outcome(), ErrorClass::Unspecified, &end.reason),
    }
}
