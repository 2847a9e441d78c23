//! One task, from its start to its result.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::jetstream::AckKind;
use cdflow_bus::Bus;
use cdflow_protocol::v1::{ErrorClass, Outcome, Task, TaskResult};
use futures::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use crate::{
    context::{StopReason, TaskContext},
    held::Held,
    options::WorkerOptions,
    results::{ReplyTo, Results, acknowledge, failed},
    span,
    worker::Handler,
};

/// What all tasks of a worker share.
pub(crate) struct Bench<H> {
    pub(crate) bus: Bus,
    pub(crate) handler: H,
    pub(crate) held: Arc<Held>,
    pub(crate) results: Results,
    pub(crate) options: WorkerOptions,
}

impl<H: Handler> Bench<H> {
    /// Does the task and reports, unless it has become another worker's.
    pub(crate) async fn perform(
        self: Arc<Self>,
        task: Task,
        reply_to: ReplyTo,
        context: TaskContext,
        slot: OwnedSemaphorePermit,
    ) {
        let id = task.id.clone();
        let span = span::of(&task, context.delivery, &self.options);
        let ended = self.run(task, &context).instrument(span.clone()).await;
        let ended_cleanly = !matches!(ended, Ended::Dropped);
        let result = settle(ended, context.reason().as_ref()).filter(|_| context.lease.is_held());
        span::end(&span, result.as_ref());
        drop(span);
        match result {
            Some(result) => {
                let fence = self.held.fence(&id).unwrap_or(context.fence);
                let result = TaskResult {
                    task_id: id,
                    fence: Some(fence),
                    worker_instance: self.options.instance.clone(),
                    ..result
                };
                self.results.report(&reply_to, result, slot);
            }
            None => {
                // Stopping in good order: the next worker need not wait. What was dropped in the middle may have left
                // something running for a moment, and after a lost lease there is nothing to give.
                let in_order = context.reason() == Some(StopReason::ShuttingDown) && ended_cleanly;
                if in_order && context.lease.is_held() {
                    // Before it is let go: the worker ends when it holds nothing any more.
                    acknowledge(&self.bus, self.held.deliveries_of(&id), AckKind::Nak(None)).await;
                }
                self.held.give_up(&id);
                tracing::info!(task = %id, reason = ?context.reason(), "left to another delivery");
            }
        }
    }

    async fn run(&self, task: Task, context: &TaskContext) -> Ended {
        let limit_ms = task.timeout_ms;
        let work = AssertUnwindSafe(self.handler.perform(task, context.clone())).catch_unwind();
        let mut work = std::pin::pin!(work);
        let too_long = async {
            match u64::try_from(limit_ms) {
                Ok(limit) if limit > 0 => tokio::time::sleep(Duration::from_millis(limit)).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = &mut work => return Ended::from_caught(result),
            () = context.cancelled.cancelled() => {}
            () = too_long => context.stop(StopReason::TimedOut(limit_ms)),
        }
        match tokio::time::timeout(self.options.stop_within, work).await {
            Ok(result) => Ended::from_caught(result),
            Err(_) => Ended::Dropped,
        }
    }
}

/// How a handler came to its end.
#[derive(Debug)]
enum Ended {
    Returned(Box<TaskResult>),
    Panicked(String),
    /// It did not stop in time.
    Dropped,
}

impl Ended {
    fn from_caught(caught: std::thread::Result<TaskResult>) -> Self {
        match caught {
            Ok(result) => Self::Returned(Box::new(result)),
            Err(panic) => Self::Panicked(
                panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".into()),
            ),
        }
    }
}

/// The result to report; `None` when it is not this worker's to report.
fn settle(ended: Ended, reason: Option<&StopReason>) -> Option<TaskResult> {
    let succeeded = matches!(&ended, Ended::Returned(result) if result.outcome() == Outcome::Succeeded);
    match reason {
        Some(StopReason::LeaseLost) => None,
        Some(StopReason::ShuttingDown) if !succeeded => None,
        // What was done is told as done, also when the wish to stop came meanwhile.
        Some(reason) if !succeeded => {
            let (outcome, class) = match reason {
                StopReason::TimedOut(_) => (Outcome::Failed, ErrorClass::Timeout),
                _ => (Outcome::Cancelled, ErrorClass::Unspecified),
            };
            let base = if let Ended::Returned(result) = ended { *result } else { TaskResult::default() };
            let message =
                if base.message.is_empty() { reason.to_string() } else { format!("{reason} ({})", base.message) };
            Some(TaskResult { outcome: outcome.into(), error_class: class.into(), message, ..base })
        }
        _ => Some(match ended {
            Ended::Returned(result) => *result,
            Ended::Panicked(text) => failed(
                ErrorClass::Unknown,
                format!("a defect in the worker ended this task: {text}. Its log has the place; please report it"),
            ),
            Ended::Dropped => failed(ErrorClass::Unknown, "the task ended without a result"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::succeeded;

    #[test]
    fn a_task_that_lost_its_lease_reports_nothing_even_if_it_went_well() {
        assert!(settle(Ended::Returned(Box::new(succeeded(""))), Some(&StopReason::LeaseLost)).is_none());
    }

    #[test]
    fn a_cancelled_task_says_why_and_one_that_had_finished_says_so() {
        let reason = StopReason::Cancelled("superseded by run 8".into());
        let stopped = failed(ErrorClass::Script, "sleep was killed");
        let result = settle(Ended::Returned(Box::new(stopped)), Some(&reason)).expect("reported");
        assert_eq!(result.outcome(), Outcome::Cancelled);
        assert_eq!(result.message, "cancelled: superseded by run 8 (sleep was killed)");
        let result = settle(Ended::Returned(Box::new(succeeded("done"))), Some(&reason)).expect("reported");
        assert_eq!(result.outcome(), Outcome::Succeeded);
    }

    #[test]
    fn a_task_that_will_not_stop_in_time_has_timed_out_all_the_same() {
        let result = settle(Ended::Dropped, Some(&StopReason::TimedOut(1_500))).expect("reported");
        assert_eq!((result.outcome(), result.error_class()), (Outcome::Failed, ErrorClass::Timeout));
        assert_eq!(result.message, "stopped after its time limit of 1.5 s");
    }
}
