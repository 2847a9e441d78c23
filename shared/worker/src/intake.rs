//! Taking tasks from the server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    StatusCode, Subject, Subscriber,
    jetstream::{
        self, AckKind,
        consumer::{AckPolicy, Consumer, pull},
    },
};
use cdflow_bus::{Bus, Error};
use cdflow_protocol::{ids::token, subjects};
use futures::StreamExt as _;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::options::WorkerOptions;

/// Most messages of one pull.
const BATCH: usize = 500;
/// How long one pull waits at the server.
const PULL_FOR: Duration = Duration::from_secs(10);
/// How long a stopping worker waits for what the server may have sent before it knew.
const HAND_BACK_WITHIN: Duration = Duration::from_millis(500);

/// A delivered task, with the slot that was reserved for it.
pub(crate) struct Delivered {
    pub(crate) message: jetstream::Message,
    pub(crate) slot: OwnedSemaphorePermit,
}

/// The durable consumer of a pool, and when to look for it again.
pub(crate) struct Intake {
    bus: Bus,
    options: WorkerOptions,
    slots: Arc<Semaphore>,
    bound: Mutex<Option<String>>,
    rebind: Notify,
}

impl Intake {
    pub(crate) fn new(bus: Bus, options: WorkerOptions) -> Self {
        let slots = Arc::new(Semaphore::new(options.slots.clamp(1, Semaphore::MAX_PERMITS)));
        Self { bus, options, slots, bound: Mutex::new(None), rebind: Notify::new() }
    }

    /// Name of the consumer, once there is one.
    pub(crate) fn consumer_name(&self) -> Option<String> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Throws away what has been asked for and not arrived, and begins anew. After a lost lease a message in some
    /// buffer may be another's task by now; after a restart the server knows nothing of what was asked.
    pub(crate) fn start_over(&self) {
        self.rebind.notify_one();
    }

    /// Hands every task to `take` until `stop`.
    pub(crate) async fn run(&self, stop: &CancellationToken, mut take: impl FnMut(Delivered)) {
        while let Some(consumer) = stop.run_until_cancelled(self.bind()).await {
            self.pull_from(&consumer, stop, &mut take).await;
        }
    }

    /// Returns when the consumer must be looked up again, and on `stop`.
    async fn pull_from(
        &self,
        consumer: &Consumer<pull::Config>,
        stop: &CancellationToken,
        take: &mut impl FnMut(Delivered),
    ) {
        let mut connection = self.bus.health();
        connection.mark_unchanged();
        loop {
            let Some(mut slots) = stop.run_until_cancelled(self.reserve()).await else { return };
            let mut pull = match Pull::begin(&self.bus, consumer, slots.num_permits()).await {
                Ok(pull) => pull,
                Err(error) => {
                    tracing::debug!(error, "asking for tasks");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    return;
                }
            };
            loop {
                let next = tokio::select! {
                    biased;
                    // Not at once gone: what is on its way here is handed back, so that nobody waits for it.
                    () = stop.cancelled() => return pull.hand_back().await,
                    () = self.rebind.notified() => return,
                    _ = connection.changed() => return,
                    next = pull.next() => next,
                };
                match next {
                    Next::Task(message) => match slots.split(1) {
                        Some(slot) => take(Delivered { message, slot }),
                        // More than was asked for: comes again.
                        None => break,
                    },
                    Next::Refused(reason) => {
                        tracing::debug!(reason, "waiting for tasks");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        return;
                    }
                    Next::Over => break,
                }
            }
        }
    }

    /// At least one free slot, at most a batch.
    async fn reserve(&self) -> OwnedSemaphorePermit {
        let first = self.slots.clone().acquire_owned().await;
        let mut slots = first.unwrap_or_else(|_| unreachable!("the semaphore is never closed"));
        let further = self.slots.available_permits().min(BATCH - 1);
        // Nobody else reserves, so what is free stays free.
        if let Ok(count) = u32::try_from(further)
            && let Ok(more) = self.slots.clone().try_acquire_many_owned(count)
        {
            slots.merge(more);
        }
        slots
    }

    /// Finds or makes the consumer, as long as it takes.
    async fn bind(&self) -> Consumer<pull::Config> {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.try_bind().await {
                Ok((name, consumer)) => {
                    let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
                    if bound.as_ref() != Some(&name) {
                        tracing::info!(consumer = %name, "taking tasks");
                        *bound = Some(name);
                    }
                    return consumer;
                }
                Err(error) => {
                    tracing::warn!(%error, "no consumer of tasks yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    async fn try_bind(&self) -> Result<(String, Consumer<pull::Config>), Error> {
        let stream = self.bus.ensure_tasks().await?;
        let WorkerOptions { worker, pool, .. } = &self.options;
        // A stream that was lost begins again at sequence 1. Acknowledgements of the former stream that are still on
        // their way would remove other tasks from this one, were the consumer's name the same.
        let created = stream.cached_info().created.unix_timestamp_nanos() / 1_000_000;
        let name = format!("{}-{}-{created}", token(worker), token(pool));
        let config = pull::Config {
            durable_name: Some(name.clone()),
            description: Some(format!("tasks for {worker} in pool {pool}")),
            filter_subject: subjects::tasks_of(worker, pool),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.options.redeliver_after(),
            max_ack_pending: 65_536,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await?;
        Ok((name, consumer))
    }
}

/// One request for tasks, with its own subscription: only so can what the server has sent for it be told from what it
/// has not, when the worker stops.
struct Pull {
    answers: Subscriber,
    context: jetstream::Context,
    left: usize,
    until: Instant,
}

#[expect(clippy::large_enum_variant, reason = "made for every task: a box would be an allocation each")]
enum Next {
    Task(jetstream::Message),
    /// The server has ended this request early, and said why.
    Refused(String),
    /// All has come that was asked for, or nothing for as long as was asked.
    Over,
}

impl Pull {
    async fn begin(bus: &Bus, consumer: &Consumer<pull::Config>, count: usize) -> Result<Self, String> {
        let client = bus.client();
        let inbox = Subject::from(client.new_inbox());
        let answers = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        let request = pull::BatchConfig { batch: count, expires: Some(PULL_FOR), ..Default::default() };
        consumer.request_batch(request, inbox).await.map_err(|error| error.to_string())?;
        // The server says when it is over; this is for when that gets lost.
        let until = Instant::now() + PULL_FOR + Duration::from_secs(5);
        Ok(Self { answers, context: bus.context().clone(), left: count, until })
    }

    async fn next(&mut self) -> Next {
        while self.left > 0 {
            let Ok(Some(message)) = tokio::time::timeout_at(self.until, self.answers.next()).await else { break };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.left -= 1;
                    return Next::Task(jetstream::Message { message, context: self.context.clone() });
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => break,
                Some(status) => return Next::Refused(format!("{status} {}", message.description.unwrap_or_default())),
            }
        }
        Next::Over
    }

    /// Gives tasks that were delivered and not begun back to the server, for another worker to take at once: also those
    /// that were on their way when the server read that nobody listens any more.
    async fn hand_back(mut self) {
        if self.answers.drain().await.is_err() {
            return;
        }
        let rest = async {
            let mut handed_back = 0;
            while let Some(message) = self.answers.next().await {
                if message.status.is_none_or(|status| status == StatusCode::OK) {
                    let message = jetstream::Message { message, context: self.context.clone() };
                    let _ = message.ack_with(AckKind::Nak(None)).await;
                    handed_back += 1;
                }
            }
            handed_back
        };
        // Without a server there is nobody to wait for.
        if let Ok(tasks) = tokio::time::timeout(HAND_BACK_WITHIN, rest).await
            && tasks > 0
        {
            tracing::info!(tasks, "stopping: handing back what was delivered and not begun");
        }
    }
}
