//! The bare write path: what JetStream allows when nothing is decided.
//!
//! The same messages as a run of empty steps makes, with bodies of the same size and the same grouping (one append in
//! flight for the journal, one publish in flight for results), but no aggregates, timers, fences or checks. The ratio of
//! the whole path to this one says what deciding costs, on the same machine and in the same minute.

use std::{collections::HashMap, sync::Arc, time::Instant};

use anyhow::Result;
use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, pull},
    message::PublishMessage,
    stream::{Config, RetentionPolicy, StorageType},
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::{
    sync::{Mutex, Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use crate::measure::{Samples, Throughput};

/// Bytes of one event, as measured on the whole path.
const EVENT_BYTES: usize = 160;
/// Most items in one message.
const GROUP: usize = 500;

/// Which run, and the step that has ended.
type Item = (u32, u32);

fn pack(items: &[Item], bytes_each: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(4 + items.len() * bytes_each.max(8));
    body.put_u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
    for (run, step) in items {
        body.put_u32(*run);
        body.put_u32(*step);
    }
    body.resize(4 + items.len() * bytes_each.max(8), 0);
    body.freeze()
}

fn unpack(mut body: Bytes) -> Vec<Item> {
    let count = body.get_u32();
    (0..count).map(|_| (body.get_u32(), body.get_u32())).collect()
}

/// Takes what has piled up behind `first`.
fn group<T>(first: T, waiting: &mut mpsc::Receiver<T>) -> Vec<T> {
    let mut items = vec![first];
    while items.len() < GROUP {
        let Ok(more) = waiting.try_recv() else { break };
        items.push(more);
    }
    items
}

async fn messages(context: &Context, stream: &str, name: &str) -> Result<pull::Stream> {
    let config = pull::Config {
        durable_name: Some(name.into()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 20_000,
        ..Default::default()
    };
    let consumer = context.get_stream(stream).await?.create_consumer(config).await?;
    Ok(consumer.stream().max_messages_per_batch(GROUP).messages().await?)
}

async fn publish(context: &Context, subject: String, message: PublishMessage) -> Result<u64> {
    Ok(context.send_publish(subject, message).await?.await?.sequence)
}

type Waiting = Arc<Mutex<HashMap<u32, oneshot::Sender<()>>>>;

async fn owner(
    context: Context,
    steps: u32,
    mut inbox: mpsc::Receiver<(Vec<Item>, jetstream::Message)>,
    waiting: Waiting,
) -> Result<()> {
    let mut last = 0;
    while let Some(first) = inbox.recv().await {
        let group = group(first, &mut inbox);
        let decided: Vec<Item> = group.iter().flat_map(|(items, _)| items.iter().copied()).collect();
        let append = PublishMessage::build().payload(pack(&decided, 3 * EVENT_BYTES)).expected_last_subject_sequence(last);
        last = publish(&context, "bare.journal".into(), append).await?;
        let mut sent = Vec::new();
        for (run, step) in decided {
            if step < steps {
                let task = PublishMessage::build().payload(pack(&[(run, step + 1)], EVENT_BYTES));
                sent.push(context.send_publish(format!("bare.task.{run}-{step}"), task).await?);
            } else if let Some(done) = waiting.lock().await.remove(&run) {
                let _ = done.send(());
            }
        }
        tokio::spawn(async move {
            for acknowledgement in sent {
                let _ = acknowledgement.await;
            }
            for (_, message) in group {
                let _ = message.ack().await;
            }
        });
    }
    Ok(())
}

async fn results(context: Context, mut ended: mpsc::Receiver<(Item, jetstream::Message)>) -> Result<()> {
    while let Some(first) = ended.recv().await {
        let group = group(first, &mut ended);
        let items: Vec<Item> = group.iter().map(|(item, _)| *item).collect();
        publish(&context, "bare.signal".into(), PublishMessage::build().payload(pack(&items, EVENT_BYTES))).await?;
        for (_, message) in group {
            let _ = message.ack().await;
        }
    }
    Ok(())
}

/// Runs `total` runs of `steps` empty steps with `in_flight` at a time; creates and removes its own streams.
pub(crate) async fn measure(url: &str, steps: u32, total: u32, in_flight: usize) -> Result<Throughput> {
    let connect = async || anyhow::Ok(jetstream::new(async_nats::connect(url).await?));
    let context = connect().await?;
    let queue = RetentionPolicy::WorkQueue;
    let stream = |name: &str, subject: &str| Config {
        name: name.into(),
        subjects: vec![subject.into()],
        ..Default::default()
    };
    context.create_stream(stream("BARE_JOURNAL", "bare.journal")).await?;
    context.create_stream(Config { retention: queue, ..stream("BARE_SIGNALS", "bare.signal") }).await?;
    let tasks = Config { retention: queue, storage: StorageType::Memory, ..stream("BARE_TASKS", "bare.task.*") };
    context.create_stream(tasks).await?;

    let waiting = Waiting::default();
    let mut parts = JoinSet::new();
    let (to_owner, inbox) = mpsc::channel(10_000);
    parts.spawn(owner(context.clone(), steps, inbox, waiting.clone()));
    let mut signals = messages(&context, "BARE_SIGNALS", "owner").await?;
    parts.spawn(async move {
        while let Some(message) = signals.next().await {
            let Ok(message) = message else { continue };
            if to_owner.send((unpack(message.payload.clone()), message)).await.is_err() {
                break;
            }
        }
        Ok(())
    });

    let worker = connect().await?;
    let (to_results, ended) = mpsc::channel(10_000);
    parts.spawn(results(worker.clone(), ended));
    let mut tasks = messages(&worker, "BARE_TASKS", "worker").await?;
    parts.spawn(async move {
        while let Some(message) = tasks.next().await {
            let Ok(message) = message else { continue };
            for item in unpack(message.payload.clone()) {
                let _ = to_results.send((item, message.clone())).await;
            }
        }
        Ok(())
    });

    let reader = connect().await?;
    let mut journal = messages(&reader, "BARE_JOURNAL", "reader").await?;
    parts.spawn(async move {
        while let Some(message) = journal.next().await {
            if let Ok(message) = message {
                let _ = message.ack().await;
            }
        }
        Ok(())
    });

    let source = connect().await?;
    let places = Arc::new(Semaphore::new(in_flight));
    let begun = Instant::now();
    let mut runs = JoinSet::new();
    for run in 0..total {
        let place = places.clone().acquire_owned().await?;
        let (source, waiting) = (source.clone(), waiting.clone());
        runs.spawn(async move {
            let (done, ended) = oneshot::channel();
            waiting.lock().await.insert(run, done);
            let begun = Instant::now();
            let start = PublishMessage::build().payload(pack(&[(run, 0)], EVENT_BYTES)).message_id(format!("b{run}"));
            publish(&source, "bare.signal".into(), start).await?;
            ended.await?;
            drop(place);
            anyhow::Ok(begun.elapsed())
        });
    }
    let mut samples = Samples::default();
    while let Some(ended) = runs.join_next().await {
        samples.add(ended??);
    }
    let throughput = Throughput { runs: total, steps, elapsed: begun.elapsed(), samples };
    parts.abort_all();
    for name in ["BARE_JOURNAL", "BARE_SIGNALS", "BARE_TASKS"] {
        context.delete_stream(name).await?;
    }
    Ok(throughput)
}
