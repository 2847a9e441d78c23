//! Leases in the bucket LEASES: who is alive, and who owns a partition.
//!
//! Leases save two owners the trouble of fighting; what keeps them from doing harm is the conditional append. So a lease
//! is judged by nothing but the observer's own clock: it is dead when its revision has not changed for the lease time.
//! The server's time to live only clears away what nobody renews.

use std::{collections::HashMap, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, message::PublishMessage},
};
use cdflow_protocol::{AggregateKind, Partition};
use prost::Message;
use tokio::time::Instant;

use crate::{Error, history};

const STREAM: &str = "KV_LEASES";
const OPERATION: &str = "KV-Operation";
const MARKER: &str = "Nats-Marker-Reason";

/// Value of a lease.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Lease {
    /// Who holds it: different for each start of a process.
    #[prost(string, tag = "1")]
    pub(crate) holder: String,
    /// Partitions that the holder gives back because it is too old for their commits (rule 15).
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) declined: Vec<Partition>,
}

/// A key of the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// An instance is alive.
    Instance(String),
    /// A partition has an owner.
    Partition(Partition),
}

impl Key {
    fn subject(&self, kind: AggregateKind) -> String {
        match self {
            Self::Instance(holder) => format!("$KV.LEASES.{kind}.instance.{holder}"),
            Self::Partition(partition) => format!("$KV.LEASES.{kind}.{partition}"),
        }
    }

    fn parse(kind: AggregateKind, subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix("$KV.LEASES.")?.strip_prefix(kind.as_str())?.strip_prefix('.')?;
        match rest.strip_prefix("instance.") {
            Some(holder) => Some(Self::Instance(holder.to_owned())),
            None => rest.parse().ok().map(Self::Partition),
        }
    }
}

/// What the bucket holds for a key.
#[derive(Debug, Clone)]
struct Seen {
    revision: u64,
    /// `None` when it was given back or has run out.
    lease: Option<Lease>,
    /// When this revision was first seen here.
    since: Instant,
}

/// Leases of one kind, as last seen.
#[derive(Debug, Default)]
pub(crate) struct View {
    seen: HashMap<Key, Seen>,
}

impl View {
    /// Takes what the bucket holds now.
    pub(crate) fn update(&mut self, found: Vec<(Key, u64, Option<Lease>)>, now: Instant) {
        let mut next = HashMap::with_capacity(found.len());
        for (key, revision, lease) in found {
            let since = match self.seen.get(&key) {
                Some(seen) if seen.revision == revision => seen.since,
                _ => now,
            };
            next.insert(key, Seen { revision, lease, since });
        }
        self.seen = next;
    }

    /// Who holds a lease that is alive.
    pub(crate) fn holder(&self, key: &Key, lease_time: Duration, now: Instant) -> Option<&Lease> {
        let seen = self.seen.get(key)?;
        let alive = now.saturating_duration_since(seen.since) < lease_time;
        seen.lease.as_ref().filter(|_| alive)
    }

    /// Who holds it, alive or not.
    pub(crate) fn last_holder(&self, key: &Key) -> Option<&str> {
        self.seen.get(key)?.lease.as_ref().map(|lease| lease.holder.as_str())
    }

    /// Revision that a write must replace; 0 for a new key.
    pub(crate) fn revision(&self, key: &Key) -> u64 {
        self.seen.get(key).map_or(0, |seen| seen.revision)
    }

    /// Leases of instances that are alive.
    pub(crate) fn instances(&self, lease_time: Duration, now: Instant) -> Vec<&Lease> {
        let alive = |key: &Key| self.holder(key, lease_time, now);
        self.seen.keys().filter(|key| matches!(key, Key::Instance(_))).filter_map(alive).collect()
    }
}

/// The bucket, for one kind and one holder.
pub(crate) struct Bucket {
    pub(crate) context: jetstream::Context,
    pub(crate) client: Client,
    pub(crate) kind: AggregateKind,
    pub(crate) ttl: Duration,
}

impl Bucket {
    /// Every lease of the kind, in one request.
    pub(crate) async fn read(&self) -> Result<Vec<(Key, u64, Option<Lease>)>, Error> {
        let subject = format!("$KV.LEASES.{}.>", self.kind);
        let found = history::read_last_of_each(&self.client, STREAM, &subject, Duration::from_secs(1)).await?;
        Ok(found
            .into_iter()
            .filter_map(|message| {
                let key = Key::parse(self.kind, &message.subject)?;
                let gone = message.headers.get(OPERATION).is_some() || message.headers.get(MARKER).is_some();
                let lease = if gone { None } else { Lease::decode(message.body).ok() };
                Some((key, message.sequence, lease))
            })
            .collect())
    }

    /// Writes a lease if the key is still at `revision` (`None`: whatever it is).
    pub(crate) async fn write(&self, key: &Key, lease: &Lease, revision: Option<u64>) -> Result<u64, Error> {
        let mut message = PublishMessage::build().payload(lease.encode_to_vec().into()).ttl(self.ttl);
        if let Some(revision) = revision {
            message = message.expected_last_subject_sequence(revision);
        }
        self.publish(key, message).await
    }

    /// Gives a lease back.
    pub(crate) async fn release(&self, key: &Key) -> Result<u64, Error> {
        self.publish(key, PublishMessage::build().header(OPERATION, "DEL").ttl(self.ttl)).await
    }

    async fn publish(&self, key: &Key, message: PublishMessage) -> Result<u64, Error> {
        let failed = |error: jetstream::context::PublishError| Error::request("write a lease", error);
        let answer = self.context.send_publish(key.subject(self.kind), message).await.map_err(failed)?;
        match tokio::time::timeout(Duration::from_secs(1), answer.into_future()).await {
            Ok(stored) => Ok(stored.map_err(failed)?.sequence),
            Err(_) => Err(Error::request("write a lease", "no answer within 1 s")),
        }
    }
}

use std::future::IntoFuture as _;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Option<Lease> {
        Some(Lease { holder: holder.into(), declined: Vec::new() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_dead_when_its_revision_stands_still() {
        let (key, time) = (Key::Partition(0), Duration::from_millis(1_500));
        let mut view = View::default();
        view.update(vec![(key.clone(), 1, lease("a"))], Instant::now());
        tokio::time::advance(Duration::from_millis(1_000)).await;
        view.update(vec![(key.clone(), 2, lease("a"))], Instant::now());
        tokio::time::advance(Duration::from_millis(1_000)).await;
        view.update(vec![(key.clone(), 2, lease("a"))], Instant::now());
        assert!(view.holder(&key, time, Instant::now()).is_some());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(view.holder(&key, time, Instant::now()).is_none());
        assert_eq!(view.revision(&key), 2);
        view.update(vec![(key.clone(), 3, None)], Instant::now());
        assert!(view.holder(&key, time, Instant::now()).is_none());
    }

    #[test]
    fn keys_come_back_from_their_subjects() {
        for key in [Key::Partition(7), Key::Instance("a-b_1".into())] {
            assert_eq!(Key::parse(AggregateKind::Run, &key.subject(AggregateKind::Run)), Some(key));
        }
        assert_eq!(Key::parse(AggregateKind::Run, "$KV.LEASES.lock.7"), None);
    }
}
