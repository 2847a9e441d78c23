//! From a task to a result.

use cdflow_pipeline::plan::Target;
use cdflow_protocol::v1::{ErrorClass, Task, TaskResult, Verb, VerbTask, task::Work};
use cdflow_worker::{Handler, TaskContext, failed, succeeded};

use crate::{
    error::Error,
    log::{self, StepLog},
    platform::{Attempt, Change, Surroundings, driver},
    redact::Redactor,
    script,
};

/// Does verbs and scripts.
pub struct Executor {
    surroundings: Surroundings,
}

impl Executor {
    /// An executor with what its drivers share.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings }
    }

    async fn verb(&self, work: &VerbTask, context: &TaskContext, log: &StepLog) -> TaskResult {
        let permission = context.clone();
        let attempt =
            Attempt { fence: context.fence(), log: log.clone(), may_change: Box::new(move || permission.may_change()) };
        let done = tokio::select! {
            biased;
            // Dropped between two changes; the worker says why.
            () = context.cancelled.cancelled() => return failed(ErrorClass::Transient, ""),
            done = perform(work, &attempt, &self.surroundings) => done,
        };
        match done {
            Ok(observation) => TaskResult { observation: Some(observation), ..succeeded("") },
            Err(error) => {
                log.say(error.to_string());
                failed(error.class(), log.redact(&error.to_string()))
            }
        }
    }
}

/// Runs one verb of the driver that the target names.
///
/// # Errors
/// As the driver says; [`Error::Configuration`] for a task that makes no sense.
pub async fn perform(
    work: &VerbTask,
    attempt: &Attempt,
    surroundings: &Surroundings,
) -> Result<cdflow_protocol::v1::Observation, Error> {
    let target: Target = serde_json::from_slice(&work.target)
        .map_err(|e| Error::configuration(format!("the target of the task cannot be understood: {e}")))?;
    let driver = driver(&target, surroundings)?;
    let change = Change { release: work.release.clone(), previous: work.previous.clone(), rollback: work.rollback };
    match work.verb() {
        Verb::Observe => driver.observe(attempt).await,
        Verb::Stage => driver.stage(attempt, &change, work.percent).await,
        Verb::Shift => driver.shift(attempt, &change, work.percent).await,
        Verb::Promote => driver.promote(attempt, &change).await,
        Verb::Retire if change.release.is_none() && !change.rollback => {
            Err(Error::configuration("`retire` without a release removes everything, and only a rollback may do that"))
        }
        Verb::Retire => driver.retire(attempt, &change).await,
        Verb::Unspecified => Err(Error::configuration("the task names no verb: is this executor too old?")),
    }
}

impl Handler for Executor {
    async fn perform(&self, task: Task, context: TaskContext) -> TaskResult {
        let environment = match &task.work {
            Some(Work::Nothing(_)) => return succeeded(""),
            Some(Work::Script(script)) => Some(&script.environment),
            Some(Work::Verb(verb)) => verb.release.as_ref().map(|release| &release.environment),
            _ => None,
        };
        let own: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let given = environment.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        let inherited = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let redactor = Redactor::for_environment(given.chain(inherited));
        let (log, lines) = StepLog::new(redactor, context.delivery);
        let publisher = log::publish(context.bus.clone(), &task, lines);

        let result = match &task.work {
            Some(Work::Verb(verb)) => self.verb(verb, &context, &log).await,
            Some(Work::Script(script)) => script::run(&task, script, &context, &log).await,
            _ => failed(ErrorClass::Configuration, "CDF-5106: this executor cannot do such a task: is it too old?"),
        };
        // The log is complete before the step is: whoever follows it sees its end.
        drop(log);
        if let Err(error) = publisher.await {
            tracing::warn!(%error, "publishing the log of a step");
        }
        result
    }
}
