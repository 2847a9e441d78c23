//! The bare write path: what JetStream allows when nothing is decided.
//!
//! The same messages as a run of empty steps makes, with bodies of the same size and the same grouping (one append in
//! flight for the journal, one publish in flight for results), but no aggregates, timers, fences, ids or checks. The
//! ratio of the whole path to this one says what cdflow costs, on the same machine and in the same minute.

use std::sync::Arc;

use anyhow::Result;
use async_nats::jetstream::{
    self, Context,
    consumer::{AckPolicy, pull},
    message::PublishMessage,
    stream::{Config, RetentionPolicy, StorageType},
};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    beside::Beside,
    client::{InFlight, Load, drive},
    measure::Throughput,
    run::STEPS,
    sizes::Sizes,
};

/// Most items in one message.
const GROUP: usize = 500;
const STREAMS: [&str; 3] = ["BARE_JOURNAL", "BARE_SIGNALS", "BARE_TASKS"];

/// Which run, and the step that has ended; 0 is its start.
type Item = (u32, u32);

/// A message that says something about these items in `bytes` bytes, or in as few as that takes.
fn pack(items: &[Item], bytes: usize) -> Bytes {
    let needed = 4 + 8 * items.len();
    let mut body = BytesMut::with_capacity(bytes.max(needed));
    body.put_u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
    for (run, step) in items {
        body.put_u32(*run);
        body.put_u32(*step);
    }
    body.resize(bytes.max(needed), 0);
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

async fn own(
    context: Context,
    sizes: Sizes,
    mut inbox: mpsc::Receiver<(Vec<Item>, jetstream::Message)>,
    in_flight: Arc<InFlight<u32>>,
) -> Result<()> {
    let mut last = 0;
    while let Some(first) = inbox.recv().await {
        let group = group(first, &mut inbox);
        let decided: Vec<Item> = group.iter().flat_map(|(items, _)| items.iter().copied()).collect();
        let bytes = decided.iter().map(|(_, step)| if *step == 0 { sizes.started } else { sizes.step }).sum();
        let append = PublishMessage::build().payload(pack(&decided, bytes)).expected_last_subject_sequence(last);
        last = publish(&context, "bare.journal".into(), append).await?;
        let mut sent = Vec::new();
        for (run, step) in decided {
            in_flight.stored(&run, step >= STEPS);
            if step < STEPS {
                let task = PublishMessage::build().payload(pack(&[(run, step + 1)], sizes.task));
                sent.push(context.send_publish(format!("bare.task.{run}-{step}"), task).await?);
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

async fn report(
    context: Context,
    sizes: Sizes,
    mut ended: mpsc::Receiver<(Vec<Item>, jetstream::Message)>,
) -> Result<()> {
    while let Some(first) = ended.recv().await {
        let group = group(first, &mut ended);
        let items: Vec<Item> = group.iter().flat_map(|(items, _)| items.iter().copied()).collect();
        let body = pack(&items, items.len() * sizes.result);
        publish(&context, "bare.signal".into(), PublishMessage::build().payload(body)).await?;
        for (_, message) in group {
            let _ = message.ack().await;
        }
    }
    Ok(())
}

async fn pump(mut from: pull::Stream, into: mpsc::Sender<(Vec<Item>, jetstream::Message)>) -> Result<()> {
    while let Some(message) = from.next().await {
        let message = message?;
        if into.send((unpack(message.payload.clone()), message)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn read(mut from: pull::Stream) -> Result<()> {
    while let Some(message) = from.next().await {
        let _ = message?.ack().await;
    }
    Ok(())
}

/// Carries runs to their ends, on streams of its own that it creates and removes.
pub(crate) async fn measure(url: &str, sizes: Sizes, load: Load) -> Result<Throughput> {
    let connect = async || anyhow::Ok(jetstream::new(async_nats::connect(url).await?));
    let context = connect().await?;
    let stream =
        |name: &str, subject: &str| Config { name: name.into(), subjects: vec![subject.into()], ..Default::default() };
    let queue = |config: Config| Config { retention: RetentionPolicy::WorkQueue, ..config };
    context.create_stream(stream(STREAMS[0], "bare.journal")).await?;
    context.create_stream(queue(stream(STREAMS[1], "bare.signal"))).await?;
    let tasks = queue(stream(STREAMS[2], "bare.task.*"));
    context.create_stream(Config { storage: StorageType::Memory, ..tasks }).await?;

    let in_flight = Arc::new(InFlight::<u32>::default());
    let mut beside = Beside::default();
    let (to_owner, inbox) = mpsc::channel(10_000);
    beside.start("the owner", own(context.clone(), sizes, inbox, in_flight.clone()));
    beside.start("the owner's consumer", pump(messages(&context, STREAMS[1], "owner").await?, to_owner));
    let worker = connect().await?;
    let (to_results, ended) = mpsc::channel(10_000);
    beside.start("the worker's results", report(worker.clone(), sizes, ended));
    beside.start("the worker", pump(messages(&worker, STREAMS[2], "worker").await?, to_results));
    beside.start("the reader", read(messages(&connect().await?, STREAMS[0], "reader").await?));

    let (source, runs) = (connect().await?, in_flight.clone());
    let start = move |run: u32| {
        let (source, runs) = (source.clone(), runs.clone());
        async move {
            let ended = runs.begin(run);
            let start = PublishMessage::build().payload(pack(&[(run, 0)], sizes.start)).message_id(format!("b{run}"));
            publish(&source, "bare.signal".into(), start).await?;
            Ok(ended)
        }
    };
    let measured = beside.during(drive(load, &CancellationToken::new(), &in_flight, start)).await;
    drop(beside);
    for name in STREAMS {
        context.delete_stream(name).await?;
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_whatever_the_size_of_their_message() {
        let items = [(1, 0), (7, 12)];
        for bytes in [0, 20, 1_000] {
            let body = pack(&items, bytes);
            assert_eq!(body.len(), bytes.max(20));
            assert_eq!(unpack(body), items);
        }
    }
}
