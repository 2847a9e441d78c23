//! Reads the stream `CI` and tells the ledger. Several instances share one durable consumer.
//!
//! A message is acknowledged when the signal to the ledger is stored. A crash in between delivers it again, and the
//! ledger knows it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use async_nats::jetstream::{AckKind, Message, consumer::pull};
use cdflow_bus::Bus;
use cdflow_protocol::{
    AggregateKind, streams,
    v1::{EventSeen, Signal, TriggerSignal, trigger_signal},
};
use futures::{StreamExt as _, future::join_all};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{
    counts::Counts,
    intake::{self, CiMessage},
    releases::{Applied, Releases},
};

/// Name of the durable consumer.
const DURABLE: &str = "trigger";
/// Most messages that are read against one reading of the configuration.
const BATCH: usize = 64;
/// How long the server waits before it delivers a message of a dead instance again. A living one that takes longer does
/// no harm: the ledger knows what comes twice.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// How long to wait before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Consumer {
    pub(crate) bus: Bus,
    pub(crate) project: String,
    pub(crate) max_event_bytes: usize,
    pub(crate) counts: Arc<Counts>,
}

impl Consumer {
    /// Until `stop`. Trouble with the bus is waited out.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut releases = Releases::open(&self.bus, &self.project).await?;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ended = self.read(&mut releases) => ended,
            };
            if let Err(error) = ended {
                tracing::warn!(error = format!("{error:#}"), "reading CI events; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn read(&self, releases: &mut Releases) -> Result<()> {
        let stream = self.bus.context().get_stream(streams::CI).await.context("find stream CI")?;
        let config = pull::Config {
            durable_name: Some(DURABLE.into()),
            description: Some("tells the trigger ledger what CI has published".into()),
            ack_wait: ACK_WAIT,
            max_ack_pending: 1_024,
            ..Default::default()
        };
        let consumer = stream.get_or_create_consumer(DURABLE, config).await.context("open consumer trigger")?;
        let mut batches = consumer.messages().await.context("read CI")?.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let mut messages = Vec::with_capacity(batch.len());
            for message in batch {
                match message {
                    Ok(message) => messages.push(message),
                    // A missed heartbeat is no end: the stream asks again by itself.
                    Err(error) => tracing::debug!(%error, "reading CI events"),
                }
            }
            if messages.is_empty() {
                continue;
            }
            // Read after the messages have come: what was applied before an event was sent is seen.
            match releases.current().await {
                Ok(applied) => {
                    join_all(messages.iter().map(|message| self.handle(message, applied))).await;
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), waiting = messages.len(), "CI events wait");
                    join_all(messages.iter().map(later)).await;
                }
            }
        }
        Ok(())
    }

    async fn handle(&self, message: &Message, applied: Option<&Applied>) {
        match self.tell(message, applied).await {
            Ok(()) => {
                if let Err(error) = message.ack().await {
                    tracing::debug!(error, "acknowledging a CI event; it is known when it comes again");
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), subject = %message.subject, "a CI event waits");
                later(message).await;
            }
        }
    }

    /// Returns when the signal to the ledger is stored.
    async fn tell(&self, message: &Message, applied: Option<&Applied>) -> Result<()> {
        let info = message.info().map_err(|error| anyhow::anyhow!("a message without its place: {error}"))?;
        let headers = message.headers.as_ref().map(|headers| {
            headers
                .iter()
                .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str())))
                .collect()
        });
        let read = CiMessage {
            subject: &message.subject,
            sequence: info.stream_sequence,
            time_ms: i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
            headers: headers.unwrap_or_default(),
            body: &message.payload,
        };
        let (seen, reading) = intake::read(&read, &self.project, applied, self.max_event_bytes);
        let seen = fitting(seen, self.bus.max_payload() / 2);
        let signal = Signal {
            id: intake::message_id(&seen.source, &seen.event_id),
            aggregate_id: self.project.clone(),
            traceparent: seen.traceparent.clone(),
            payload: TriggerSignal { kind: Some(trigger_signal::Kind::EventSeen(seen)) }.encode_to_vec(),
            ..Default::default()
        };
        self.bus.send_outside_signals(AggregateKind::Trigger, vec![signal]).await?;
        self.counts.read(reading);
        Ok(())
    }
}

async fn later(message: &Message) {
    // Without it the message comes back all the same, only later.
    let _ = message.ack_with(AckKind::Nak(Some(PAUSE))).await;
}

/// Plans that no message can carry would be tried for ever: the event is kept with that reason instead.
fn fitting(mut seen: EventSeen, limit: usize) -> EventSeen {
    let length = seen.encoded_len();
    if length > limit {
        let pipelines: Vec<_> = seen.starts.iter().map(|start| start.pipeline.as_str()).collect();
        seen.ignored_because = format!(
            "the compiled plans of {} have {length} bytes together, and at most {limit} fit: split the pipeline",
            pipelines.join(", ")
        );
        seen.starts = Vec::new();
    }
    seen
}
