//! A collection as a task of a worker.

use cdflow_protocol::v1::{ErrorClass, Task, TaskResult, task::Work};
use cdflow_worker::{Handler, TaskContext, failed};

use super::{Collection, Outbox};

/// Does tasks of the worker kind [`crate::COLLECTOR`].
#[derive(Debug)]
pub struct Collector {
    outbox: Outbox,
}

impl Collector {
    /// Puts what it reads into `outbox`.
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox }
    }
}

impl Handler for Collector {
    /// Goes on until it is told to stop: a collection has no end of its own.
    async fn perform(&self, task: Task, context: TaskContext) -> TaskResult {
        let Some(Work::Collect(work)) = &task.work else {
            return failed(
                ErrorClass::Configuration,
                format!("task {} is no collection: a collector cannot do it", task.id),
            );
        };
        let collection = match Collection::of(&task.id, work) {
            Ok(collection) => collection,
            Err(error) => return failed(ErrorClass::Configuration, error.to_string()),
        };
        tracing::debug!(task = task.id, verification = work.verification_id, "collecting");
        let put = |readings| self.outbox.put(&work.verification_id, &task.traceparent, readings);
        collection.run(context.cancelled.clone(), put).await;
        failed(ErrorClass::Transient, "the collection was stopped")
    }
}
