//! Commits of JOURNAL, as the projector takes them.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use cdflow_bus::Bus;
use cdflow_protocol::{streams, subjects, v1::Commit};
use futures::StreamExt as _;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    Error,
    projection::{Incoming, Position},
};

pub(crate) struct Feed {
    messages: pull::Stream,
}

impl Feed {
    pub(crate) async fn open(bus: &Bus, name: &str, from: &BTreeMap<String, Position>) -> Result<Self, Error> {
        let failed = |error: String| Error::Journal(error);
        let stream = bus.context().get_stream(streams::JOURNAL).await.map_err(|e| failed(e.to_string()))?;
        let start = from.values().map(|position| position.sequence).min().unwrap_or(0);
        let consumer = stream
            .create_consumer(pull::Config {
                name: Some(name.to_owned()),
                ack_policy: AckPolicy::None,
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start + 1 },
                inactive_threshold: Duration::from_secs(60),
                ..Default::default()
            })
            .await
            .map_err(|e| failed(e.to_string()))?;
        let messages = consumer.messages().await.map_err(|e| failed(e.to_string()))?;
        Ok(Self { messages })
    }

    pub(crate) async fn next(&mut self) -> Result<Incoming, Error> {
        loop {
            let message = match self.messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    tracing::debug!(%error);
                    continue;
                }
                None => return Err(Error::Journal("closed".into())),
            };
            let sequence = message.info().map_err(|e| Error::Journal(e.to_string()))?.stream_sequence;
            let Some((kind, _)) = subjects::parse_partition(&message.subject) else { continue };
            let body = message.message.payload.clone();
            let commit = Commit::decode(body.as_ref()).map_err(|e| Error::Journal(e.to_string()))?;
            return Ok(Incoming {
                kind,
                subject: message.subject.to_string(),
                sequence,
                hash: hex::encode(Sha256::digest(&body)),
                body,
                commit,
            });
        }
    }
}
