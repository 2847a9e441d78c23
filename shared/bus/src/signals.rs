//! Sending signals to aggregates.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::{context::PublishErrorKind, message::PublishMessage};
use cdflow_protocol::{
    AggregateKind, streams, subjects,
    v1::{Signal, SignalBatch},
};
use prost::Message as _;

use crate::{Bus, Error, error::is_ambiguous, retry};

/// How long a publish is tried again before its caller hears of it.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bus {
    /// Stores signals for aggregates of one kind: one message for each partition. Returns when all are on disk.
    ///
    /// # Errors
    /// [`Error::Full`] at once when SIGNALS refuses; [`Error::Unconfirmed`] after 30 s without an answer (the signals may
    /// have been stored: send the same ones again).
    pub async fn send_signals(&self, kind: AggregateKind, signals: Vec<Signal>) -> Result<(), Error> {
        let mut partitions: BTreeMap<u32, Vec<Signal>> = BTreeMap::new();
        for signal in signals {
            partitions.entry(self.installation().partitions.of(&signal.aggregate_id)).or_default().push(signal);
        }
        for (partition, signals) in partitions {
            self.send_batch(subjects::signal(kind, partition), signals).await?;
        }
        Ok(())
    }

    /// As [`Bus::send_signals`], for what comes from outside (people, CI): refused when SIGNALS is 80 % full, so that the
    /// signals of services among each other, which finish what was begun, still find room.
    ///
    /// # Errors
    /// As [`Bus::send_signals`]; [`Error::Api`] when the server does not say how full SIGNALS is.
    pub async fn send_outside_signals(&self, kind: AggregateKind, signals: Vec<Signal>) -> Result<(), Error> {
        if !self.has_room_for_outside().await? {
            return Err(Error::Full { stream: streams::SIGNALS });
        }
        self.send_signals(kind, signals).await
    }

    async fn send_batch(&self, subject: String, signals: Vec<Signal>) -> Result<(), Error> {
        // A batch is recognised by its only signal, or by all of them: a different grouping of the same signals is
        // another message, and its receiver deduplicates.
        let id = match signals.as_slice() {
            [only] => only.id.clone(),
            many => many.iter().map(|signal| signal.id.as_str()).collect::<Vec<_>>().join(","),
        };
        let id = if id.len() > 200 { digest(&id) } else { id };
        let traceparent = signals.first().map(|signal| signal.traceparent.clone()).unwrap_or_default();
        let body = SignalBatch { signals }.encode_to_vec();
        self.publish_stored(streams::SIGNALS, &subject, &id, &traceparent, body.into()).await.map(|_| ())
    }

    /// Stores one message under an id, sending the same bytes again until the server has confirmed it; returns its
    /// stream sequence.
    ///
    /// # Errors
    /// As [`Bus::send_signals`].
    pub async fn publish_stored(
        &self,
        stream: &'static str,
        subject: &str,
        id: &str,
        traceparent: &str,
        body: bytes::Bytes,
    ) -> Result<u64, Error> {
        let attempt = || self.attempt(stream, subject, id, traceparent, body.clone());
        retry::until(PATIENCE, "publish", attempt).await
    }

    /// As [`Bus::publish_stored`], sent once: for who must look at the world before sending again.
    ///
    /// # Errors
    /// As [`Bus::send_signals`], without its patience.
    pub async fn publish_once(
        &self,
        stream: &'static str,
        subject: &str,
        id: &str,
        traceparent: &str,
        body: bytes::Bytes,
    ) -> Result<u64, Error> {
        self.attempt(stream, subject, id, traceparent, body).await.map_err(|error| match error {
            retry::Attempt::Permanent(error) | retry::Attempt::Transient { err: error, .. } => error,
        })
    }

    async fn attempt(
        &self,
        stream: &'static str,
        subject: &str,
        id: &str,
        traceparent: &str,
        body: bytes::Bytes,
    ) -> Result<u64, retry::Attempt<Error>> {
        let mut message = PublishMessage::build().payload(body).message_id(id).expected_stream(stream);
        if !traceparent.is_empty() {
            message = message.header(streams::TRACEPARENT, traceparent);
        }
        let sent = match self.context().send_publish(subject.to_owned(), message).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        sent.map(|ack| ack.sequence).map_err(|error| {
            let unconfirmed = Error::Unconfirmed {
                subject: subject.to_owned(),
                reason: error.to_string(),
                maybe_stored: error.kind() != PublishErrorKind::StreamNotFound,
            };
            match error.kind() {
                kind if is_ambiguous(kind) => retry::Attempt::transient(unconfirmed),
                PublishErrorKind::Other if is_full(&error) => retry::Attempt::permanent(Error::Full { stream }),
                PublishErrorKind::MaxAckPending => retry::Attempt::transient(unconfirmed),
                PublishErrorKind::Other => retry::Attempt::transient(unconfirmed),
                _ => retry::Attempt::permanent(unconfirmed),
            }
        })
    }
}

fn is_full(error: &impl std::error::Error) -> bool {
    let text = std::iter::successors(error.source(), |e| e.source()).map(ToString::to_string).collect::<String>();
    text.contains("maximum bytes exceeded") || text.contains("insufficient resources") || text.contains("10023")
}

fn digest(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}
