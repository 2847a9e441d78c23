//! Sending the effects of a stored commit (rule 3).
//!
//! Every message is derived from the commit alone, id included, so a new owner that sends it again sends the same.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use cdflow_bus::Bus;
use cdflow_protocol::{
    AggregateKind, Partition, PartitionCount, streams, subjects,
    v1::{CancelTask, Effect, Fence, Signal, SignalBatch, Task, effect},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::Instant};

use crate::{JournalMetrics, tasks};

/// Commits whose effects are being sent at the same time.
const COMMITS_AT_ONCE: usize = 8;
/// A TASKS that is older than an attempt by this much was there before it, whatever the two clocks say.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// The partition that sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) kind: AggregateKind,
    pub(crate) partition: Partition,
    pub(crate) partitions: PartitionCount,
    /// Largest body of a message in bytes.
    pub(crate) limit: usize,
}

/// The effects of one commit.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) incarnation: u64,
    /// Stream sequence of the commit.
    pub(crate) sequence: u64,
    pub(crate) effects: Vec<Effect>,
}

/// A message that is to be stored.
#[derive(Debug, PartialEq)]
pub(crate) struct Outgoing {
    stream: &'static str,
    subject: String,
    id: String,
    traceparent: String,
    body: Bytes,
}

/// Everything that a commit sends.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Mail {
    pub(crate) stored: Vec<Outgoing>,
    /// Told once on plain NATS, and again each second until the task has ended.
    pub(crate) cancels: Vec<CancelTask>,
}

/// A task as workers get it: with the fence of the commit that sends it (rules 6 and 9).
pub(crate) fn task_message(incarnation: u64, sequence: u64, mut task: Task) -> Outgoing {
    task.fence = Some(Fence { incarnation, sequence, delivery: 0 });
    Outgoing {
        stream: streams::TASKS,
        subject: subjects::task(&task.worker, &task.pool, &task.id),
        id: format!("{}.{incarnation}.{sequence}", task.id),
        traceparent: task.traceparent.clone(),
        body: task.encode_to_vec().into(),
    }
}

impl Sender {
    /// What to send for a commit.
    pub(crate) fn mail(&self, batch: Batch) -> Mail {
        let Batch { incarnation, sequence, effects } = batch;
        let mut mail = Mail::default();
        let mut signals: BTreeMap<(AggregateKind, Partition), Vec<Signal>> = BTreeMap::new();
        for (index, effect) in effects.into_iter().enumerate() {
            match effect.kind {
                Some(effect::Kind::Task(task)) => mail.stored.push(task_message(incarnation, sequence, task)),
                Some(effect::Kind::CancelTask(cancel)) => mail.cancels.push(cancel),
                Some(effect::Kind::Signal(send)) => {
                    let Some(kind) = AggregateKind::from_token(&send.aggregate) else { continue };
                    let Some(signal) = send.signal else { continue };
                    signals.entry((kind, self.partitions.of(&signal.aggregate_id))).or_default().push(signal);
                }
                Some(effect::Kind::Publish(publish)) => mail.stored.push(Outgoing {
                    stream: streams::EVENTS,
                    subject: subjects::event(&publish.project, &publish.r#type),
                    id: format!("{}.{}.{incarnation}.{sequence}.{index}", self.kind, self.partition),
                    traceparent: String::new(),
                    body: publish.body.into(),
                }),
                None => {}
            }
        }
        for ((kind, partition), signals) in signals {
            for signals in split(signals, self.limit) {
                let traceparent = signals.first().map(|signal| signal.traceparent.clone()).unwrap_or_default();
                let body: Bytes = SignalBatch { signals }.encode_to_vec().into();
                mail.stored.push(Outgoing {
                    stream: streams::SIGNALS,
                    subject: subjects::signal(kind, partition),
                    // Named by its content: another split of the same commit is another message.
                    id: format!("{incarnation}.{sequence}.{}", hex::encode(&Sha256::digest(&body)[..12])),
                    traceparent,
                    body,
                });
            }
        }
        mail
    }
}

/// Batches below `limit` bytes; a signal that is larger by itself goes alone.
fn split(signals: Vec<Signal>, limit: usize) -> Vec<Vec<Signal>> {
    let mut batches = vec![Vec::new()];
    let mut size = 0;
    for signal in signals {
        let weight = signal.encoded_len() + 8;
        if size + weight > limit && size > 0 {
            batches.push(Vec::new());
            size = 0;
        }
        size += weight;
        if let Some(batch) = batches.last_mut() {
            batch.push(signal);
        }
    }
    batches
}

/// Sends batch after batch, several at a time, and reports each when everything up to it has gone out.
pub(crate) async fn run(
    bus: Bus,
    sender: Sender,
    mut batches: mpsc::UnboundedReceiver<Batch>,
    done: mpsc::UnboundedSender<u64>,
    metrics: Arc<JournalMetrics>,
) {
    let queue = futures::stream::poll_fn(move |context| batches.poll_recv(context));
    let mut sending = std::pin::pin!(
        queue
            .map(|batch| {
                let (sequence, mail) = (batch.sequence, sender.mail(batch));
                let (bus, metrics) = (&bus, &metrics);
                async move {
                    metrics.effects.add((mail.stored.len() + mail.cancels.len()) as u64);
                    for cancel in &mail.cancels {
                        send_cancel(bus, cancel).await;
                    }
                    store_all(bus, mail.stored).await;
                    sequence
                }
            })
            .buffered(COMMITS_AT_ONCE)
    );
    while let Some(sequence) = sending.next().await {
        if done.send(sequence).is_err() {
            return;
        }
    }
}

/// Stores every message, all at the same time; returns when all are stored.
pub(crate) async fn store_all(bus: &Bus, messages: Vec<Outgoing>) {
    let mut pending: FuturesUnordered<_> = messages.into_iter().map(|message| store(bus, message)).collect();
    while pending.next().await.is_some() {}
}

async fn store(bus: &Bus, message: Outgoing) {
    if message.stream == streams::TASKS {
        return store_task(bus, message).await;
    }
    let Outgoing { stream, subject, id, traceparent, body } = message;
    loop {
        match bus.publish_stored(stream, &subject, &id, &traceparent, body.clone()).await {
            Ok(_) => return,
            // The cause is stored, so this must arrive: wait for as long as it takes.
            Err(error) => {
                tracing::error!(%error, subject, "an effect cannot be sent, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Sends a task until it is stored. TASKS can be lost between two sendings, together with the memory of the first: what
/// may have been stored in a TASKS before is marked.
async fn store_task(bus: &Bus, message: Outgoing) {
    let Outgoing { stream, subject, id, traceparent, mut body } = message;
    let mut pause = Duration::from_millis(50);
    let begun = Instant::now();
    let mut maybe_stored = false;
    loop {
        let Err(error) = bus.publish_once(stream, &subject, &id, &traceparent, body.clone()).await else { return };
        if begun.elapsed() > Duration::from_secs(30) {
            tracing::error!(%error, subject, "a task cannot be sent, trying again");
        } else {
            tracing::debug!(%error, subject, "a task was not confirmed, sending it again");
        }
        maybe_stored |= matches!(error, cdflow_bus::Error::Unconfirmed { maybe_stored: true, .. });
        let age = tasks::age_of_stream(bus).await;
        if maybe_stored && !age.is_ok_and(|age| age > begun.elapsed() + CLOCKS_DIFFER) {
            body = marked_as_resent(&body);
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(Duration::from_secs(1));
    }
}

fn marked_as_resent(body: &Bytes) -> Bytes {
    match Task::decode(body.clone()) {
        Ok(task) => Task { resent: true, ..task }.encode_to_vec().into(),
        Err(_) => body.clone(),
    }
}

/// Asks the workers of a pool to stop a task. Nobody confirms: asked again until the task has ended.
pub(crate) async fn send_cancel(bus: &Bus, cancel: &CancelTask) {
    let subject = subjects::cancellations(&cancel.worker, &cancel.pool);
    if let Err(error) = bus.client().publish(subject, cancel.encode_to_vec().into()).await {
        tracing::debug!(%error, task = cancel.id, "asking a worker to stop a task");
    }
}

#[cfg(test)]
mod tests {
    use cdflow_protocol::v1::{Publish, SendSignal};
    use proptest::prelude::*;

    use super::*;

    fn sender(limit: usize) -> Sender {
        let partitions = PartitionCount::new(4).expect("not zero");
        Sender { kind: AggregateKind::Run, partition: 1, partitions, limit }
    }

    fn effect() -> impl Strategy<Value = Effect> {
        let signal = ("[a-z]{1,8}", 0_usize..200).prop_map(|(id, size)| {
            effect::Kind::Signal(SendSignal {
                aggregate: "lock".into(),
                signal: Some(Signal { aggregate_id: id.clone(), id, payload: vec![1; size], ..Signal::default() }),
            })
        });
        let task = "[a-z]{1,8}".prop_map(|id| {
            effect::Kind::Task(Task { id, worker: "executor".into(), pool: "p".into(), ..Task::default() })
        });
        let publish = "[a-z]{1,8}"
            .prop_map(|project| effect::Kind::Publish(Publish { project, r#type: "x".into(), body: b"{}".to_vec() }));
        prop_oneof![signal, task, publish].prop_map(|kind| Effect { kind: Some(kind) })
    }

    proptest! {
        #[test]
        fn every_effect_leaves_once_and_sending_again_sends_the_same(
            effects in prop::collection::vec(effect(), 0..40),
            limit in 50_usize..2_000,
        ) {
            let batch = || Batch { incarnation: 2, sequence: 77, effects: effects.clone() };
            let mail = sender(limit).mail(batch());
            prop_assert_eq!(&mail, &sender(limit).mail(batch()));
            let mut signals = 0;
            let mut others = 0;
            for message in &mail.stored {
                if message.stream == streams::SIGNALS {
                    let batch = SignalBatch::decode(message.body.clone()).expect("a batch");
                    prop_assert!(batch.signals.len() == 1 || message.body.len() <= limit);
                    signals += batch.signals.len();
                } else {
                    others += 1;
                }
            }
            let sent = effects.iter().filter(|e| matches!(e.kind, Some(effect::Kind::Signal(_)))).count();
            prop_assert_eq!((signals, others), (sent, effects.len() - sent));
        }
    }

    #[test]
    fn a_task_that_is_marked_is_the_same_task() {
        let task = Task { id: "t".into(), worker: "executor".into(), pool: "p".into(), ..Task::default() };
        let body = task_message(1, 5, task).body;
        let marked = Task::decode(marked_as_resent(&body)).expect("a task");
        assert!(marked.resent);
        assert_eq!(Task { resent: false, ..marked }, Task::decode(body).expect("a task"));
    }

    #[test]
    fn a_task_carries_the_fence_of_its_commit_and_another_dispatch_another_id() {
        let task = Task { id: "t".into(), worker: "executor".into(), pool: "p".into(), ..Task::default() };
        let first = task_message(1, 5, task.clone());
        let fence = Task::decode(first.body.clone()).expect("a task").fence;
        assert_eq!(fence, Some(Fence { incarnation: 1, sequence: 5, delivery: 0 }));
        assert_ne!(first.id, task_message(1, 6, task).id);
    }
}
