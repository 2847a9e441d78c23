//! The signals of a partition: pulled in batches, decoded beside the loop, acknowledged when all of a message is stored.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, Consumer, pull},
    message::Acker,
};
use bytes::Bytes;
use cdflow_protocol::{
    UnixMillis,
    v1::{Signal, SignalBatch},
};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::JournalMetrics;

/// Messages that may be unacknowledged at once; with the batch size this bounds what a flood can put in memory.
pub(crate) const MAX_PENDING: i64 = 2_000;
const BATCH: usize = 500;
/// Decoded messages that wait for the loop.
pub(crate) const QUEUE: usize = 64;
/// How long a message with signals of a newer version is put off.
const DELAY: Duration = Duration::from_secs(5);

/// Settings of an owner's consumer. Its ack wait is long: within one epoch a message comes again only if its
/// acknowledgement was lost.
pub(crate) fn consumer(name: &str, filter: &str) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: filter.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(60),
        max_ack_pending: MAX_PENDING,
        max_deliver: -1,
        ..pull::Config::default()
    }
}

/// One message of SIGNALS.
pub(crate) struct Incoming {
    pub(crate) acker: Acker,
    pub(crate) sequence: u64,
    /// When the stream took it: the time at which its signals are judged.
    pub(crate) published: UnixMillis,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Signals(Vec<Signal>),
    /// Not a batch of signals.
    Garbage {
        reason: String,
        body: Bytes,
    },
}

/// Moves messages from the server to the loop, until the consumer is gone or nobody listens.
pub(crate) async fn pump(
    consumer: Consumer<pull::Config>,
    into: mpsc::Sender<Incoming>,
    metrics: std::sync::Arc<JournalMetrics>,
) {
    let mut silent = false;
    loop {
        let mut messages = match consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await
        {
            Ok(messages) => messages,
            Err(error) => {
                tracing::debug!(%error, "subscribing to signals");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        while let Some(next) = messages.next().await {
            match next {
                Ok(message) => {
                    silent = false;
                    let Some(incoming) = decode(message) else { continue };
                    if into.send(incoming).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Missed heartbeats and refused pulls are what a restart of the server looks like.
                    metrics.stream_errors.add(1);
                    tracing::debug!(%error, "stream of signals");
                    if error.kind() == pull::MessagesErrorKind::ConsumerDeleted {
                        return;
                    }
                    if silent && is_gone(&consumer).await {
                        return;
                    }
                    silent = true;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        if is_gone(&consumer).await {
            return;
        }
    }
}

/// Whether the server says that there is no such consumer; silence says nothing.
pub(crate) async fn is_gone(consumer: &Consumer<pull::Config>) -> bool {
    match consumer.get_info().await {
        Ok(_) => false,
        Err(error) => match error.kind() {
            async_nats::jetstream::context::ConsumerInfoErrorKind::NotFound => true,
            async_nats::jetstream::context::ConsumerInfoErrorKind::JetStream(error) => {
                error.error_code() == async_nats::jetstream::ErrorCode::CONSUMER_NOT_FOUND
            }
            _ => false,
        },
    }
}

fn decode(message: async_nats::jetstream::Message) -> Option<Incoming> {
    let (sequence, published) = match message.info() {
        Ok(info) => (info.stream_sequence, info.published.unix_timestamp_nanos() / 1_000_000),
        Err(error) => {
            tracing::warn!(%error, "a message without delivery information");
            return None;
        }
    };
    let (message, acker) = message.split();
    let content = match SignalBatch::decode(message.payload.clone()) {
        Ok(batch) => Content::Signals(batch.signals),
        Err(error) => Content::Garbage { reason: error.to_string(), body: message.payload },
    };
    Some(Incoming { acker, sequence, published: UnixMillis::try_from(published).unwrap_or(0), content })
}

/// Messages of which not every signal has been decided yet.
#[derive(Default)]
pub(crate) struct Deliveries {
    open: HashMap<u64, Open>,
    /// The highest stream sequence whose signals have been looked at.
    seen_through: u64,
}

struct Open {
    ackers: Vec<Acker>,
    undecided: usize,
}

impl Deliveries {
    /// Takes note of a message. `None` when the same message is being decided already: then the later delivery is
    /// acknowledged together with the first.
    pub(crate) fn begin(&mut self, sequence: u64, acker: Acker, signals: usize) -> Option<()> {
        if let Some(open) = self.open.get_mut(&sequence) {
            open.ackers.push(acker);
            return None;
        }
        self.open.insert(sequence, Open { ackers: vec![acker], undecided: signals });
        Some(())
    }

    /// One signal of the message has been decided. Returns what to acknowledge once that is stored, if it was the last.
    pub(crate) fn decided(&mut self, sequence: u64) -> Vec<Acker> {
        let Some(open) = self.open.get_mut(&sequence) else { return Vec::new() };
        open.undecided = open.undecided.saturating_sub(1);
        if open.undecided > 0 {
            return Vec::new();
        }
        self.open.remove(&sequence).map(|open| open.ackers).unwrap_or_default()
    }

    /// The message will come again later; what it holds and can be decided is decided now as well.
    pub(crate) fn put_off(&mut self, sequence: u64) -> Vec<Acker> {
        self.open.remove(&sequence).map(|open| open.ackers).unwrap_or_default()
    }

    /// All signals of the message have been handed to their aggregates.
    pub(crate) fn seen(&mut self, sequence: u64) {
        self.seen_through = self.seen_through.max(sequence);
    }

    pub(crate) fn seen_through(&self) -> u64 {
        self.seen_through
    }
}

/// Asks for the message again in a while.
pub(crate) async fn delay(ackers: Vec<Acker>) {
    for acker in ackers {
        if let Err(error) = acker.ack_with(AckKind::Nak(Some(DELAY))).await {
            tracing::debug!(%error, "delaying a signal");
        }
    }
}
