//! A run as one trace: the run is the root (or a child of the CI system's span), stages below it, steps below them.
//!
//! Attribute names follow OpenTelemetry's semantic conventions for CI/CD
//! (<https://opentelemetry.io/docs/specs/semconv/cicd/>) where they have one.

use cdflow_engine::{Run, trace};
use cdflow_journal::{Observer, StoredEntry};
use cdflow_protocol::v1::{Outcome, RunFinished, StageFinished, StepFinished, run_event};
use cdflow_telemetry::spans::{FinishedSpan, emit};

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
        trace_id: String::new(),
        span_id: trace::step_span(run, &step.stage_id, &step.step_id, step.attempt),
        parent_span_id: trace::stage_span(run, &step.stage_id),
        name: format!("{} {}", step.stage_id, step.step_id),
        start_ms: step.started_ms,
        end_ms: step.time_ms,
        attributes: vec![
            ("cicd.pipeline.task.name", step.step_id.clone()),
            ("cicd.pipeline.task.run.id", format!("{run}/{}/{}/{}", step.stage_id, step.step_id, step.attempt)),
            ("cicd.pipeline.task.run.result", result(step.outcome()).into()),
        ],
        error: failure(step.outcome(), &step.message),
    }
}

fn stage_span(run: &str, stage: &StageFinished) -> FinishedSpan {
    FinishedSpan {
        trace_id: String::new(),
        span_id: trace::stage_span(run, &stage.stage_id),
        parent_span_id: trace::run_span(run),
        name: format!("stage {}", stage.stage_id),
        start_ms: stage.started_ms,
        end_ms: stage.time_ms,
        attributes: vec![
            ("cicd.pipeline.task.name", stage.stage_id.clone()),
            ("cicd.pipeline.task.run.result", result(stage.outcome()).into()),
        ],
        error: failure(stage.outcome(), &stage.reason),
    }
}

fn run_span(id: &str, run: &Run, end: &RunFinished) -> FinishedSpan {
    let plan = run.plan();
    let pipeline = plan.map(|plan| plan.pipeline.clone()).unwrap_or_default();
    let version = plan.and_then(|plan| plan.artifact.as_ref()).map(|artifact| artifact.version.clone());
    FinishedSpan {
        trace_id: String::new(),
        span_id: trace::run_span(id),
        parent_span_id: run.cause_span().unwrap_or_default(),
        name: format!("RUN {pipeline}"),
        start_ms: end.started_ms,
        end_ms: end.time_ms,
        attributes: vec![
            ("cicd.pipeline.name", pipeline),
            ("cicd.pipeline.run.id", id.to_owned()),
            ("cicd.pipeline.result", result(end.outcome()).into()),
            ("cdflow.run.number", run.number().unwrap_or_default().to_string()),
            ("cdflow.version", version.unwrap_or_default()),
        ],
        error: failure(end.outcome(), &end.reason),
    }
}

/// The values of `cicd.pipeline.result`.
fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded | Outcome::Ignored | Outcome::Superseded => "success",
        Outcome::Skipped => "skip",
        Outcome::Cancelled => "cancellation",
        Outcome::Expired => "timeout",
        Outcome::Failed | Outcome::RolledBack | Outcome::Rejected => "failure",
        Outcome::Unspecified => "error",
    }
}

fn failure(outcome: Outcome, reason: &str) -> Option<String> {
    matches!(result(outcome), "failure" | "timeout" | "error").then(|| reason.to_owned())
}
