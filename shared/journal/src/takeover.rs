//! Becoming the owner of a partition, in the order of rule 2, with the state of its aggregates.

use async_nats::jetstream::{
    consumer::{Consumer, pull},
    object_store::ObjectStore,
    stream::Stream,
};
use bytes::Bytes;
use cdflow_bus::{Bus, Installation};
use cdflow_protocol::{
    Partition, UnixMillis, streams, subjects,
    v1::{CancelTask, Commit, Effect, Takeover, effect},
};
use futures::TryStreamExt as _;
use prost::Message as _;

#[cfg(test)]
mod tests;

use crate::{
    Aggregate, Error, JournalMetrics, Position,
    append::{Failed, append, read_tail},
    archive,
    checkpoint::{self, Found, Slot},
    commit::Entries,
    dispatch::Batch,
    history, inbox,
    population::{Place, Population},
    time::PartitionTime,
};

/// What a takeover works on.
pub(crate) struct Ground<'a> {
    pub(crate) bus: &'a Bus,
    pub(crate) store: &'a ObjectStore,
    pub(crate) journal: &'a Stream<()>,
    pub(crate) metrics: &'a JournalMetrics,
    pub(crate) partition: Partition,
    /// Name of this owner, different for each takeover.
    pub(crate) owner: &'a str,
    /// Where this process last saw the journal, if it owned the partition before.
    pub(crate) known: Option<&'a Position>,
}

/// A partition that is owned: decide.
pub(crate) struct Taken<A> {
    pub(crate) installation: Installation,
    pub(crate) population: Population<A>,
    pub(crate) tail: Position,
    pub(crate) time: PartitionTime,
    pub(crate) epoch: u64,
    /// All effects up to this commit have gone out.
    pub(crate) dispatched_through: u64,
    /// Effects that may not have gone out.
    pub(crate) unsent: Vec<Batch>,
    /// Tasks that were asked to stop.
    pub(crate) cancelling: Vec<CancelTask>,
    pub(crate) consumer: Consumer<pull::Config>,
    /// Where the next checkpoint goes.
    pub(crate) slot: Slot,
    /// Commits since the newest checkpoint.
    pub(crate) commits: u64,
}

/// How far a fold of the journal has come.
struct Fold<A> {
    population: Population<A>,
    at: Position,
    time: PartitionTime,
    epoch: u64,
    dispatched_through: u64,
    unsent: Vec<Batch>,
    cancelling: Vec<CancelTask>,
    commits: u64,
}

/// What ended a takeover.
pub(crate) enum Interrupted {
    /// Another owner is newer.
    Overtaken,
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes over. The caller holds the lease.
///
/// A crash in the middle leaves at most an `Owner` commit and a consumer of an epoch that nobody uses: the next owner
/// reads the one and deletes the other.
///
/// A taker that was paused anywhere in here must not take the partition from its successor: it gives up as soon as it
/// reads an epoch that was not there when it began, or finds a consumer of one.
pub(crate) async fn take_over<A: Aggregate>(ground: &Ground<'_>) -> Result<Taken<A>, Interrupted> {
    let prepared = prepare(ground).await?;
    claim(ground, prepared).await
}

/// A takeover that has read and changed nothing yet.
struct Prepared<A> {
    installation: Installation,
    fold: Fold<A>,
    slot: Slot,
    /// The epoch to take over with.
    epoch: u64,
}

async fn prepare<A: Aggregate>(ground: &Ground<'_>) -> Result<Prepared<A>, Interrupted> {
    let epoch = next_epoch::<A>(ground).await?;
    let installation = read_installation(ground.bus).await?;
    let (fold, slot) = recover::<A>(ground, &installation).await?;
    Ok(Prepared { installation, fold, slot, epoch })
}

/// The epoch after that of the last commit. Read before everything that takes long.
async fn next_epoch<A: Aggregate>(ground: &Ground<'_>) -> Result<u64, Error> {
    let tail = read_tail(ground.journal, &subjects::journal(A::KIND, ground.partition)).await?;
    match tail {
        Some(tail) => Ok(decode::<A>(ground.partition, tail.sequence, &tail.body)?.epoch + 1),
        None => Ok(1),
    }
}

async fn claim<A: Aggregate>(ground: &Ground<'_>, prepared: Prepared<A>) -> Result<Taken<A>, Interrupted> {
    let Prepared { installation, mut fold, slot, epoch } = prepared;
    // The former owner gets no more signals.
    if delete_consumers::<A>(&open_signals(ground.bus).await?, ground.partition, epoch).await? >= epoch {
        return Err(Interrupted::Overtaken);
    }
    let subject = subjects::journal(A::KIND, ground.partition);
    loop {
        if fold.epoch >= epoch {
            return Err(Interrupted::Overtaken);
        }
        let time_ms = fold.time.read(cdflow_protocol::wall_clock());
        let commit = Commit {
            incarnation: installation.incarnation,
            epoch,
            previous_sequence: fold.at.sequence,
            previous_hash: fold.at.hash.clone(),
            time_ms,
            dispatched_through: fold.dispatched_through,
            min_reader: A::MIN_READER,
            entries: Vec::new(),
            takeover: Some(Takeover { owner: ground.owner.to_owned() }),
        };
        let body = Entries::default().close(&commit);
        let id = format!("{}.{}", ground.owner, fold.at.sequence);
        let (journal, context, metrics) = (ground.journal, ground.bus.context(), ground.metrics);
        match append(journal, context, metrics, &subject, &id, fold.at.sequence, body.clone()).await {
            Ok(sequence) => {
                fold.at = Position::of(sequence, &body);
                break;
            }
            Err(Failed::TooLarge) => {
                return Err(Error::request("take a partition over", "the server takes no message of this size").into());
            }
            // Somebody appended meanwhile: the former owner, or a newer one.
            Err(Failed::Fenced { .. }) => fold.read_on(ground, &subject).await?,
        }
    }
    // From here on nothing older can be appended.
    let consumer = subscribe::<A>(ground.bus, ground.partition, epoch).await?;
    let Fold { population, at, time, dispatched_through, mut unsent, cancelling, commits, .. } = fold;
    unsent.retain(|batch| batch.sequence > dispatched_through);
    ground.metrics.takeovers.add(1);
    Ok(Taken {
        installation,
        population,
        tail: at,
        time,
        epoch,
        dispatched_through,
        unsent,
        cancelling,
        consumer,
        slot,
        commits,
    })
}

/// A fresh consumer for the signals of a partition: every signal that is not acknowledged comes, in order.
pub(crate) async fn subscribe<A: Aggregate>(
    bus: &Bus,
    partition: Partition,
    epoch: u64,
) -> Result<Consumer<pull::Config>, Interrupted> {
    let signals = open_signals(bus).await?;
    let name = format!("own-{}-{partition}-{epoch}", A::KIND);
    let filter = subjects::signal(A::KIND, partition);
    loop {
        if delete_consumers::<A>(&signals, partition, epoch + 1).await? > epoch {
            return Err(Interrupted::Overtaken);
        }
        match signals.create_consumer(inbox::consumer(&name, &filter)).await {
            Ok(consumer) => return Ok(consumer),
            Err(error) => {
                tracing::debug!(%error, name, "another owner's consumer may be in the way");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn open_signals(bus: &Bus) -> Result<Stream<()>, Error> {
    let opened = bus.context().get_stream_no_info(streams::SIGNALS).await;
    opened.map_err(|error| Error::request("open SIGNALS", error))
}

/// The installation as it is now; its incarnation rises with a restore.
async fn read_installation(bus: &Bus) -> Result<Installation, Error> {
    let stream = bus
        .context()
        .get_stream(streams::JOURNAL)
        .await
        .map_err(|error| Error::request("read the settings of JOURNAL", error))?;
    if stream.cached_info().config.metadata.contains_key(crate::restore::RESTORING) {
        return Err(Error::Restoring);
    }
    Ok(bus.read_installation().await?)
}

/// Deletes the consumers of this partition's owners with an epoch below `below`; returns the highest epoch found.
async fn delete_consumers<A: Aggregate>(signals: &Stream<()>, partition: Partition, below: u64) -> Result<u64, Error> {
    let prefix = format!("own-{}-{partition}-", A::KIND);
    let failed = |error: &dyn std::fmt::Display| Error::request("look for consumers of former owners", error);
    let names: Vec<String> = signals.consumer_names().try_collect().await.map_err(|error| failed(&error))?;
    let mut highest = 0;
    for name in names {
        let Some(epoch) = name.strip_prefix(&prefix).and_then(|epoch| epoch.parse::<u64>().ok()) else { continue };
        highest = highest.max(epoch);
        if epoch < below
            && let Err(error) = signals.delete_consumer(&name).await
        {
            tracing::debug!(%error, name, "deleting the consumer of a former owner");
        }
    }
    Ok(highest)
}

/// The newest usable checkpoint and what was stored after it.
async fn recover<A: Aggregate>(ground: &Ground<'_>, installation: &Installation) -> Result<(Fold<A>, Slot), Error> {
    let subject = subjects::journal(A::KIND, ground.partition);
    if let Some(known) = ground.known {
        check_position::<A>(ground, known, "it was stored and acknowledged before").await?;
    }
    let mut usable: Option<Found> = None;
    for found in checkpoint::find(ground.store, A::KIND, ground.partition).await? {
        let position = found.position();
        match check_position::<A>(ground, &position, "a checkpoint was taken of it").await {
            Ok(()) => {
                usable = Some(found);
                break;
            }
            // A restore from an archive that ended before this checkpoint: what it holds never happened.
            Err(Error::WentBack { .. }) if found.checkpoint.incarnation < installation.incarnation => {}
            Err(error) => return Err(error),
        }
    }
    let slot = usable.as_ref().map_or(Slot::A, |found| found.slot.other());
    let mut fold = Fold {
        population: Population::default(),
        at: Position::start(),
        time: PartitionTime::default(),
        epoch: 0,
        dispatched_through: 0,
        unsent: Vec::new(),
        cancelling: Vec::new(),
        commits: 0,
    };
    let mut from = 0;
    if let Some(found) = usable {
        let at = found.position();
        let Found { checkpoint, .. } = found;
        for segment in checkpoint.finished {
            fold.population.archive.push(segment);
        }
        fold.population.restore(checkpoint.aggregates);
        fold.time.journaled(checkpoint.time_ms);
        fold.epoch = checkpoint.epoch;
        fold.dispatched_through = checkpoint.dispatched_through;
        fold.cancelling = checkpoint.cancelling;
        // Effects of commits before the checkpoint may be unsent as well.
        fold.collect_unsent(ground, &subject, checkpoint.dispatched_through, at.sequence).await?;
        from = at.sequence;
        fold.at = at;
    }
    if from == 0 {
        fold.begin_without_checkpoint::<A>(ground, &subject).await?;
    }
    fold.read_on(ground, &subject).await?;
    Ok((fold, slot))
}

/// Whether the journal still holds the commit of a position.
async fn check_position<A: Aggregate>(ground: &Ground<'_>, position: &Position, why: &str) -> Result<(), Error> {
    if position.sequence == 0 {
        return Ok(());
    }
    let gone = |found: String| {
        Error::went_back(A::KIND, ground.partition, position, format!("commit {position} is expected ({why}), {found}"))
    };
    let message = ground.journal.get_raw_message(position.sequence).await;
    match message {
        Ok(message) => {
            let found = Position::of(message.sequence, &message.payload);
            if found == *position { Ok(()) } else { Err(gone(format!("found is {found}"))) }
        }
        Err(error)
            if matches!(error.kind(), async_nats::jetstream::stream::LastRawMessageErrorKind::NoMessageFound) =>
        {
            Err(gone("there is none".into()))
        }
        Err(error) => Err(Error::request(format!("read commit {}", position.sequence), error)),
    }
}

impl<A: Aggregate> Fold<A> {
    /// Without a checkpoint the journal must be whole from its first commit.
    async fn begin_without_checkpoint<K: Aggregate>(
        &mut self,
        ground: &Ground<'_>,
        subject: &str,
    ) -> Result<(), Error> {
        let first = history::read_from(&ground.bus.client(), streams::JOURNAL, subject, 1).await?;
        let Some(first) = first.first() else { return Ok(()) };
        let commit = decode::<K>(ground.partition, first.sequence, &first.body)?;
        if commit.previous_sequence != 0 {
            return Err(Error::went_back(
                K::KIND,
                ground.partition,
                &Position { sequence: commit.previous_sequence, hash: commit.previous_hash },
                "the journal was trimmed here, and there is no usable checkpoint to start from",
            ));
        }
        Ok(())
    }

    /// Folds everything after the current position, through what the leader says is last.
    async fn read_on(&mut self, ground: &Ground<'_>, subject: &str) -> Result<(), Error> {
        let Some(tail) = read_tail(ground.journal, subject).await? else {
            return match self.at.sequence {
                0 => Ok(()),
                _ => Err(Error::went_back(A::KIND, ground.partition, &self.at, "the journal is empty")),
            };
        };
        while self.at.sequence < tail.sequence {
            let from = self.at.sequence + 1;
            let messages = history::read_from(&ground.bus.client(), streams::JOURNAL, subject, from).await?;
            if messages.is_empty() {
                // A replica that is behind has answered; the chain would show a real gap.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            for message in messages {
                self.fold(ground, message.sequence, &message.body).await?;
            }
        }
        Ok(())
    }

    async fn fold(&mut self, ground: &Ground<'_>, sequence: u64, body: &Bytes) -> Result<(), Error> {
        let commit = decode::<A>(ground.partition, sequence, body)?;
        self.at = self
            .at
            .follow(sequence, body, &commit)
            .map_err(|reason| Error::went_back(A::KIND, ground.partition, &self.at, reason))?;
        self.time.journaled(commit.time_ms as UnixMillis);
        self.epoch = commit.epoch;
        self.dispatched_through = self.dispatched_through.max(commit.dispatched_through);
        self.commits += 1;
        let mut effects = Vec::new();
        for mut entry in commit.entries {
            if !entry.events.is_empty() {
                if let Place::Archived(object) = self.population.place(&entry.aggregate_id) {
                    let found = archive::load(ground.store, &object, &entry.aggregate_id).await?;
                    self.population.loaded(&entry.aggregate_id, found);
                }
                self.population.fold(&entry);
            }
            effects.append(&mut entry.effects);
        }
        self.note_effects(commit.incarnation, sequence, effects);
        Ok(())
    }

    fn note_effects(&mut self, incarnation: u64, sequence: u64, effects: Vec<Effect>) {
        for effect in &effects {
            if let Some(effect::Kind::CancelTask(cancel)) = &effect.kind {
                self.cancelling.push(cancel.clone());
            }
        }
        if !effects.is_empty() && sequence > self.dispatched_through {
            self.unsent.push(Batch { incarnation, sequence, effects });
        }
    }

    /// Effects of commits after `after` and up to `through`, without folding them.
    async fn collect_unsent(
        &mut self,
        ground: &Ground<'_>,
        subject: &str,
        after: u64,
        through: u64,
    ) -> Result<(), Error> {
        let mut from = after + 1;
        while from <= through {
            let messages = history::read_from(&ground.bus.client(), streams::JOURNAL, subject, from).await?;
            let Some(last) = messages.last().map(|message| message.sequence) else { break };
            for message in messages.into_iter().filter(|message| message.sequence <= through) {
                let commit = decode::<A>(ground.partition, message.sequence, &message.body)?;
                let effects = commit.entries.into_iter().flat_map(|entry| entry.effects).collect();
                self.note_effects(commit.incarnation, message.sequence, effects);
            }
            from = last + 1;
        }
        Ok(())
    }
}

/// A commit that this release can read.
fn decode<A: Aggregate>(partition: Partition, sequence: u64, body: &Bytes) -> Result<Commit, Error> {
    let commit = Commit::decode(body.clone()).map_err(|error| {
        let at = Position { sequence, hash: Vec::new() };
        Error::went_back(A::KIND, partition, &at, format!("the commit cannot be decoded: {error}"))
    })?;
    if commit.min_reader > A::READER_VERSION {
        return Err(Error::ReaderTooOld {
            kind: A::KIND,
            partition,
            sequence,
            needed: commit.min_reader,
            ours: A::READER_VERSION,
        });
    }
    Ok(commit)
}
