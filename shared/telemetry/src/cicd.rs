//! Words of OpenTelemetry's semantic conventions for CI/CD
//! (<https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/>), and what they mean here: a pipeline run is a run,
//! its tasks are stages, steps, and what services do for a step.

use cdflow_protocol::v1::{ErrorClass, Outcome};

use crate::spans::Failure;

/// Name of the pipeline.
pub const PIPELINE: &str = "cicd.pipeline.name";
/// What a run does with its pipeline: `RUN`.
pub const ACTION: &str = "cicd.pipeline.action.name";
/// Id of the run.
pub const RUN: &str = "cicd.pipeline.run.id";
/// How a run ended: see [`result`].
pub const RESULT: &str = "cicd.pipeline.result";
/// Name of a stage or step.
pub const TASK: &str = "cicd.pipeline.task.name";
/// Id of one attempt of a task.
pub const TASK_RUN: &str = "cicd.pipeline.task.run.id";
/// How a task ended: see [`result`].
pub const TASK_RESULT: &str = "cicd.pipeline.task.run.result";
/// The service that a span is of; several share a process in `cdflow up`, so `service.name` cannot say it.
pub const SERVICE: &str = "cdflow.service";
/// Name of the stage that a step belongs to.
pub const STAGE: &str = "cdflow.stage";

/// The values of `cicd.pipeline.result` and `cicd.pipeline.task.run.result`.
pub fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded | Outcome::Ignored | Outcome::Superseded => "success",
        Outcome::Skipped => "skip",
        Outcome::Cancelled => "cancellation",
        Outcome::Expired => "timeout",
        Outcome::Failed | Outcome::RolledBack | Outcome::Rejected => "failure",
        Outcome::Unspecified => "error",
    }
}

/// The failure that an outcome is, if it is one. Its class is that of the error, else the result.
pub fn failure(outcome: Outcome, class: ErrorClass, message: &str) -> Option<Failure> {
    let result = result(outcome);
    matches!(result, "failure" | "timeout" | "error")
        .then(|| Failure { class: error_type(result, class), message: message.to_owned() })
}

fn error_type(result: &str, class: ErrorClass) -> String {
    match class {
        ErrorClass::Unspecified => result.to_owned(),
        class => class.as_str_name().trim_start_matches("ERROR_CLASS_").to_ascii_lowercase().replace('_', "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_class_and_a_cancellation_is_none() {
        let lost = failure(Outcome::Failed, ErrorClass::ExecutorLost, "gone").expect("a failure");
        assert_eq!((lost.class.as_str(), lost.message.as_str()), ("executor-lost", "gone"));
        assert_eq!(failure(Outcome::Expired, ErrorClass::Unspecified, "").expect("a failure").class, "timeout");
        assert_eq!(failure(Outcome::Cancelled, ErrorClass::Unspecified, ""), None);
        assert_eq!(failure(Outcome::Succeeded, ErrorClass::Unspecified, ""), None);
    }
}
