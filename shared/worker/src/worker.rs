//! A worker: wires intake, handler, results and contact together.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::jetstream::AckKind;
use cdflow_bus::{Bus, Error};
use cdflow_protocol::v1::{Fence, Task, TaskResult};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{
    contact::Contact,
    context::{StopReason, TaskContext},
    held::{Admission, Held},
    intake::{Delivered, Intake},
    lease::Lease,
    options::WorkerOptions,
    perform::Bench,
    results::{ReplyTo, Results, acknowledge},
};

/// Does tasks. A panic fails its task and nothing else.
pub trait Handler: Send + Sync + 'static {
    /// Does one task. `task_id`, `fence` and `worker_instance` of the result are filled in by the worker.
    fn perform(&self, task: Task, context: TaskContext) -> impl Future<Output = TaskResult> + Send;
}

/// Takes tasks of one pool from the server, has them done, and stores the results.
pub struct Worker {
    bus: Bus,
    options: WorkerOptions,
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(bus: Bus, options: WorkerOptions) -> Self {
        Self { bus, options }
    }

    /// Works until `stop`, then gives running tasks [`WorkerOptions::finish_within`] to end. What has not ended by then
    /// is stopped and left to another worker.
    ///
    /// # Errors
    /// When the server refuses the subscription to requests to cancel. Everything else is tried again until it works.
    pub async fn run(self, handler: impl Handler, stop: CancellationToken) -> Result<(), Error> {
        let Self { bus, options } = self;
        let lease = Arc::new(Lease::new(options.lease));
        let held = Arc::new(Held::default());
        let intake = Intake::new(bus.clone(), options.clone());
        let bench = Arc::new(Bench {
            bus: bus.clone(),
            handler,
            held: held.clone(),
            results: Results::new(bus.clone(), held.clone()),
            options: options.clone(),
        });
        let contact = Contact { bus: &bus, options: &options, held: &held, lease: &lease, intake: &intake };
        let done = CancellationToken::new();
        let _stop_on_drop = StopOnDrop(&held);
        let take = |delivered| begin(&bench, &lease, delivered);
        let work = async {
            intake.run(&stop, take).await;
            if !contact.until_idle(options.finish_within).await {
                let left = held.stop_all(&StopReason::ShuttingDown);
                tracing::info!(tasks = left, "stopping: leaving tasks to another worker");
                contact.until_idle(options.stop_within * 2).await;
            }
            done.cancel();
        };
        let (heeded, (), ()) = tokio::join!(contact.heed_cancellations(&done), contact.keep(&done), work);
        // What was acknowledged last is still on its way.
        let _ = bus.client().flush().await;
        heeded
    }
}

/// A worker that is dropped in the middle keeps no lease, so what it began must not go on.
struct StopOnDrop<'a>(&'a Held);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop_all(&StopReason::LeaseLost);
    }
}

/// Starts a delivered task, unless it is known.
fn begin<H: Handler>(bench: &Arc<Bench<H>>, lease: &Arc<Lease>, Delivered { message, slot }: Delivered) {
    if !lease.is_held() {
        // It may have waited in a buffer while this process was paused: the server gives it to whoever is well.
        return;
    }
    let delivery = message.info().map(|info| u64::try_from(info.delivered).unwrap_or(1)).unwrap_or(1);
    let Some(reply) = message.reply.clone() else { return };
    let respond = |kind| {
        let (bus, reply) = (bench.bus.clone(), reply.clone());
        tokio::spawn(async move { acknowledge(&bus, vec![reply], kind).await });
    };
    let task = match Task::decode(message.payload.clone()) {
        Ok(task) => task,
        Err(error) => {
            tracing::error!(%error, subject = %message.subject, "a task cannot be read, and is dropped");
            return respond(AckKind::Term);
        }
    };
    let Some(reply_to) = ReplyTo::new(&task.reply_aggregate, &task.reply_id, &task.traceparent) else {
        tracing::error!(task = %task.id, aggregate = %task.reply_aggregate, "nobody takes the result of this task: dropped");
        return respond(AckKind::Term);
    };
    let context = TaskContext {
        cancelled: CancellationToken::new(),
        delivery,
        bus: bench.bus.clone(),
        fence: Fence { delivery, ..task.fence.unwrap_or_default() },
        reason: Arc::new(OnceLock::new()),
        lease: lease.clone(),
    };
    match bench.held.admit(&task.id, &context, reply.clone()) {
        Admission::Start => {
            tokio::spawn(bench.clone().perform(task, reply_to, context, slot));
        }
        Admission::Underway => tracing::debug!(task = %task.id, "delivered again while underway"),
        Admission::Finished => respond(AckKind::Ack),
        Admission::Stopping => respond(AckKind::Nak(Some(Duration::from_secs(1)))),
    }
}
