//! Reading facts, for projections and archives.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    message::Acker,
    stream::{LastRawMessageErrorKind, Stream},
};
use bytes::Bytes;
use cdflow_bus::Bus;
use cdflow_protocol::{AggregateKind, Partition, ids::token, streams, subjects, v1::Commit};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::sync::watch;

use crate::{Error, Position, Positions, inbox::is_gone};

/// How long the server remembers a reader that is away.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Reads every commit of every partition in stream order, each once, with the hash chain checked (rule 7).
///
/// The truth about how far a reader has come is the reader's own: it stores [`ReadCommit::position`] in the transaction
/// in which it stores what it made of the commit, and opens with these positions. The server's consumer is only a
/// cursor: it outlives a restart of the server, and is made again from the positions when it is gone. A crash between
/// reading and storing reads again; nothing is skipped, whatever was acknowledged.
pub struct Reader {
    journal: Stream<()>,
    name: String,
    positions: Positions,
    /// The commit up to which everything has been read, of whatever partition.
    last: Option<(AggregateKind, Partition)>,
    messages: Option<Cursor>,
    health: watch::Receiver<Option<String>>,
    down: bool,
    /// A commit before which something was missing; seen twice it is missing for good.
    gap: Option<u64>,
}

struct Cursor {
    consumer: async_nats::jetstream::consumer::Consumer<pull::Config>,
    messages: pull::Stream,
    silent: bool,
}

/// A commit as it was stored.
pub struct ReadCommit {
    /// Kind of the partition.
    pub kind: AggregateKind,
    /// Its number.
    pub partition: Partition,
    /// Stream sequence.
    pub sequence: u64,
    /// SHA-256 of `body`.
    pub hash: Vec<u8>,
    /// The stored bytes, for an archive.
    pub body: Bytes,
    /// What they say.
    pub commit: Commit,
    acker: Acker,
}

impl ReadCommit {
    /// What to store together with what was made of the commit.
    pub fn position(&self) -> Position {
        Position { sequence: self.sequence, hash: self.hash.clone() }
    }

    /// The same commit for [`crate::restore`].
    pub fn archived(&self) -> crate::ArchivedCommit {
        crate::ArchivedCommit {
            kind: self.kind,
            partition: self.partition,
            sequence: self.sequence,
            body: self.body.clone(),
        }
    }

    /// Tells the server that it need not send the commit again. After storing, not before.
    pub async fn ack(&self) {
        if let Err(error) = self.acker.ack().await {
            tracing::debug!(%error, "acknowledging a commit: it comes again and is skipped");
        }
    }
}

impl Reader {
    /// A reader that goes on after `from` (empty: from the first commit). `name` is shown in the list of consumers; two
    /// readers of the same name do not share work, each reads everything.
    ///
    /// # Errors
    /// [`Error::WentBack`] when the journal does not hold a commit of `from`; [`Error::Request`].
    pub async fn open(bus: Bus, name: &str, from: Positions) -> Result<Self, Error> {
        let journal = bus
            .context()
            .get_stream_no_info(streams::JOURNAL)
            .await
            .map_err(|error| Error::request("open JOURNAL", error))?;
        let suffix = uuid::Uuid::now_v7().simple().to_string();
        let mut health = bus.health();
        let down = health.borrow_and_update().is_some();
        let last = from.iter().max_by_key(|(_, position)| position.sequence).map(|(key, _)| *key);
        let reader = Self {
            name: format!("{}-{}", token(name), &suffix[20..]),
            journal,
            positions: from,
            last,
            messages: None,
            health,
            down,
            gap: None,
        };
        for (&(kind, partition), position) in &reader.positions {
            reader.check(kind, partition, position).await?;
        }
        Ok(reader)
    }

    /// How far this reader has come.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The next commit; waits for it as long as it takes, restarts of the server included. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// [`Error::WentBack`] when the chain is broken or the journal does not hold any more what was read: what this reader
    /// has made of it must not go on.
    pub async fn next(&mut self) -> Result<ReadCommit, Error> {
        loop {
            let Some(cursor) = &mut self.messages else {
                match self.connect().await {
                    Ok(cursor) => self.messages = Some(cursor),
                    Err(error) if error.is_transient() => {
                        tracing::debug!(%error, "reading the journal");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            let next = tokio::select! {
                next = cursor.messages.next() => next,
                Ok(()) = self.health.changed() => {
                    let was_down = std::mem::replace(&mut self.down, self.health.borrow_and_update().is_some());
                    if was_down && !self.down {
                        // A new cursor compares positions first.
                        self.messages = None;
                    }
                    continue;
                }
            };
            match next {
                Some(Ok(message)) => {
                    cursor.silent = false;
                    if let Some(commit) = self.take(message).await? {
                        return Ok(commit);
                    }
                }
                Some(Err(error)) => {
                    // What a restart of the server looks like; only a consumer that is gone needs a new one.
                    tracing::debug!(%error, "stream of commits");
                    let deleted = error.kind() == pull::MessagesErrorKind::ConsumerDeleted;
                    if deleted || (cursor.silent && is_gone(&cursor.consumer).await) {
                        self.messages = None;
                    } else {
                        cursor.silent = true;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                None => self.messages = None,
            }
        }
    }

    async fn connect(&self) -> Result<Cursor, Error> {
        let mut start = 1;
        if let Some(last) = self.last
            && let Some(position) = self.positions.get(&last)
        {
            self.check(last.0, last.1, position).await?;
            start = position.sequence + 1;
        }
        // Whatever the former cursor had, the positions count.
        let _ = self.journal.delete_consumer(&self.name).await;
        let config = pull::Config {
            durable_name: Some(self.name.clone()),
            filter_subject: "cdflow.journal.*.*".into(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(60),
            max_ack_pending: 10_000,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            inactive_threshold: FORGET_AFTER,
            ..pull::Config::default()
        };
        let consumer =
            self.journal.create_consumer(config).await.map_err(|error| Error::request("read the journal", error))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(500)
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await
            .map_err(|error| Error::request("read the journal", error))?;
        Ok(Cursor { consumer, messages, silent: false })
    }

    /// Checks a commit against the chain. `None` when it was read before, or when something is missing before it: then
    /// reading begins again after the last one that was read.
    async fn take(&mut self, message: async_nats::jetstream::Message) -> Result<Option<ReadCommit>, Error> {
        let Ok(sequence) = message.info().map(|info| info.stream_sequence) else { return Ok(None) };
        let (message, acker) = message.split();
        let Some((kind, partition)) = subjects::parse_partition(&message.subject) else {
            let _ = acker.ack().await;
            return Ok(None);
        };
        let body = message.payload;
        let commit = Commit::decode(body.clone()).map_err(|error| {
            let at = Position { sequence, hash: Vec::new() };
            Error::went_back(kind, partition, &at, format!("the commit cannot be decoded: {error}"))
        })?;
        let known = self.positions.get(&(kind, partition));
        if known.is_some_and(|known| sequence <= known.sequence) {
            let _ = acker.ack().await;
            return Ok(None);
        }
        let followed = match known {
            Some(known) => known.follow(sequence, &body, &commit),
            // Nothing is known of the partition: its journal may have been trimmed before this commit.
            None if self.is_trimmed(commit.previous_sequence).await? => Ok(Position::of(sequence, &body)),
            None => Err(format!("commit {} was not read", commit.previous_sequence)),
        };
        match followed {
            Ok(position) => {
                self.gap = None;
                self.last = Some((kind, partition));
                let hash = position.hash.clone();
                self.positions.insert((kind, partition), position);
                Ok(Some(ReadCommit { kind, partition, sequence, hash, body, commit, acker }))
            }
            Err(reason) => {
                let known = known.cloned().unwrap_or_default();
                if self.gap.replace(sequence) == Some(sequence) {
                    return Err(Error::went_back(kind, partition, &known, reason));
                }
                self.messages = None;
                Ok(None)
            }
        }
    }

    async fn is_trimmed(&self, sequence: u64) -> Result<bool, Error> {
        if sequence == 0 {
            return Ok(true);
        }
        match self.journal.get_raw_message(sequence).await {
            Ok(_) => Ok(false),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(true),
            Err(error) => Err(Error::request(format!("read commit {sequence}"), error)),
        }
    }

    /// Whether the journal still holds the commit of a position.
    async fn check(&self, kind: AggregateKind, partition: Partition, position: &Position) -> Result<(), Error> {
        let found = match self.journal.get_raw_message(position.sequence).await {
            Ok(message) => Position::of(message.sequence, &message.payload).to_string(),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => "nothing".into(),
            Err(error) => return Err(Error::request(format!("read commit {}", position.sequence), error)),
        };
        if found == position.to_string() {
            return Ok(());
        }
        Err(Error::went_back(
            kind,
            partition,
            position,
            format!("commit {position} was read before, now there is {found}"),
        ))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Politeness only: the server forgets an inactive reader by itself.
        let (journal, name) = (self.journal.clone(), self.name.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { journal.delete_consumer(&name).await.map(|_| ()) });
        }
    }
}
