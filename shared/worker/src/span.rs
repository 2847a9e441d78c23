//! What a trace shows of a task: a span for each time that a worker does it, below the step that asked for it.

use cdflow_protocol::v1::{Task, TaskResult, Verb, task::Work};
use cdflow_telemetry::{adopt, cicd};
use tracing::{Span, field::Empty};

use crate::options::WorkerOptions;

/// The span of one delivery of a task; none for a task that is to cost nothing.
pub(crate) fn of(task: &Task, delivery: u64, options: &WorkerOptions) -> Span {
    let (what, kind) = match &task.work {
        None | Some(Work::Nothing(_)) => return Span::none(),
        Some(Work::Script(_)) => ("execute script", None),
        Some(Work::Collect(_)) => ("collect", Some("test")),
        Some(Work::Verb(verb)) => (word(verb.verb()), Some("deploy")),
    };
    let span = tracing::info_span!(
        "task",
        otel.name = format!("{what} {}", task.stage_id),
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        cdflow.service = options.service,
        cdflow.pool = task.pool,
        cdflow.stage = task.stage_id,
        cdflow.delivery = delivery,
        cicd.pipeline.run.id = task.run_id,
        cicd.pipeline.task.name = task.step_id,
        cicd.pipeline.task.type = kind,
        cicd.pipeline.task.run.id = task.id,
        cicd.pipeline.task.run.result = Empty,
        cicd.worker.id = options.instance,
        cicd.worker.name = options.worker,
    );
    adopt(&span, &task.traceparent);
    span
}

/// Says how it ended; `None` is a task that was left to another worker.
pub(crate) fn end(span: &Span, result: Option<&TaskResult>) {
    let Some(result) = result else {
        span.record(cicd::TASK_RESULT, "error");
        span.record("error.type", "left-to-another-delivery");
        span.record("otel.status_code", "error");
        return;
    };
    span.record(cicd::TASK_RESULT, cicd::result(result.outcome()));
    if let Some(failure) = cicd::failure(result.outcome(), result.error_class(), &result.message) {
        span.record("error.type", failure.class);
        span.record("otel.status_code", "error");
        span.record("otel.status_description", failure.message);
    }
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Unspecified => "execute unknown verb",
        Verb::Observe => "execute observe",
        Verb::Stage => "execute stage",
        Verb::Shift => "execute shift",
        Verb::Promote => "execute promote",
        Verb::Retire => "execute retire",
    }
}
