//! Writing the archive back into JOURNAL (rule 7).

use std::{collections::HashMap, fmt::Display, time::Duration};

use async_nats::jetstream::{message::PublishMessage, stream::Config};
use bytes::Bytes;
use cdflow_bus::Bus;
use cdflow_protocol::{AggregateKind, Partition, streams, streams::metadata, subjects, v1::Commit};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use prost::Message as _;

use crate::{Error, Position, Positions, history};

/// Key in the metadata of JOURNAL while a restore is going on.
pub(crate) const RESTORING: &str = "cdflow-restoring";
/// Takes the place of a stream sequence that the archive does not have, so that all others keep theirs.
const GAP: &str = "cdflow.journal.gap.0";
/// Appends in flight.
const AT_ONCE: usize = 64;

/// A commit as an archive keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedCommit {
    /// Kind of the partition.
    pub kind: AggregateKind,
    /// Its number.
    pub partition: Partition,
    /// Stream sequence at which it was stored.
    pub sequence: u64,
    /// The stored bytes.
    pub body: Bytes,
}

/// What a restore has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Commits written.
    pub commits: u64,
    /// The incarnation from now on: every fence is higher than any before.
    pub incarnation: u64,
    /// The last commit of each partition.
    pub positions: Positions,
}

/// Replaces JOURNAL by an archive: the same bytes at the same stream sequences, so that positions, checkpoints and the
/// hash chain stay valid as far as the archive goes, and a higher incarnation, so that whatever a lost tail had sent is
/// fenced.
///
/// `archive` is read twice, in the order of stream sequences: once to check all of it before anything is deleted, once to
/// write. All services must be stopped. A crash in the middle leaves JOURNAL marked: nobody decides until the restore has
/// been run again.
///
/// # Errors
/// [`Error::NotEmpty`] when JOURNAL holds commits and `replace` is not set; [`Error::InUse`]; [`Error::Archive`] with the
/// first commit that does not fit; [`Error::Request`].
pub async fn restore<S, E>(bus: &Bus, archive: impl Fn() -> S, replace: bool) -> Result<Restored, Error>
where
    S: Stream<Item = Result<ArchivedCommit, E>>,
    E: Display,
{
    refuse_if_in_use(bus).await?;
    let stream =
        bus.context().get_stream(streams::JOURNAL).await.map_err(|error| Error::request("open JOURNAL", error))?;
    let info = stream.cached_info();
    let unfinished = info.config.metadata.contains_key(RESTORING);
    if info.state.messages > 0 && !replace && !unfinished {
        return Err(Error::NotEmpty { messages: info.state.messages });
    }
    let checked = check(archive()).await?;
    let before = bus.read_installation().await?.incarnation;
    let incarnation = before.max(checked.incarnation) + 1;
    let marked = |config: &Config, restoring: bool| {
        let mut metadata: HashMap<String, String> = config
            .metadata
            .iter()
            .filter(|(key, _)| !key.starts_with("_nats"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        metadata.insert(metadata::INCARNATION.to_owned(), incarnation.to_string());
        if restoring {
            metadata.insert(RESTORING.to_owned(), "1".to_owned());
        } else {
            metadata.remove(RESTORING);
        }
        Config { metadata, first_sequence: Some(checked.first.max(1)), ..config.clone() }
    };
    let config = info.config.clone();
    let failed = |what: &'static str| move |error: &dyn Display| Error::request(what, error);
    // From here to the last line nobody may own a partition; the mark says so.
    bus.context().delete_stream(streams::JOURNAL).await.map_err(|error| failed("empty JOURNAL")(&error))?;
    bus.context().create_stream(marked(&config, true)).await.map_err(|error| failed("create JOURNAL again")(&error))?;
    forget_owners(bus).await?;
    let commits = write(bus, archive()).await?;
    bus.context().update_stream(marked(&config, false)).await.map_err(|error| failed("finish the restore")(&error))?;
    Ok(Restored { commits, incarnation, positions: checked.positions })
}

#[derive(Default)]
struct Checked {
    first: u64,
    incarnation: u64,
    positions: Positions,
}

/// Follows every chain of the archive.
async fn check<E: Display>(archive: impl Stream<Item = Result<ArchivedCommit, E>>) -> Result<Checked, Error> {
    let mut archive = std::pin::pin!(archive);
    let mut checked = Checked::default();
    let mut last = 0;
    while let Some(archived) = archive.next().await {
        let archived = archived.map_err(|error| Error::request("read the archive", error))?;
        let ArchivedCommit { kind, partition, sequence, body } = archived;
        let wrong = |reason: String| Error::Archive { sequence, reason };
        if sequence <= last {
            return Err(wrong(format!("it comes after commit {last}: the order must be that of stream sequences")));
        }
        let commit = Commit::decode(body.clone()).map_err(|error| wrong(format!("it cannot be decoded: {error}")))?;
        let position = match checked.positions.get(&(kind, partition)) {
            Some(position) => position.follow(sequence, &body, &commit).map_err(wrong)?,
            None if commit.previous_sequence == 0 => Position::of(sequence, &body),
            None => {
                return Err(wrong(format!("commit {} of its partition is missing", commit.previous_sequence)));
            }
        };
        checked.positions.insert((kind, partition), position);
        checked.incarnation = checked.incarnation.max(commit.incarnation);
        if checked.first == 0 {
            checked.first = sequence;
        }
        last = sequence;
    }
    Ok(checked)
}

async fn write<E: Display>(bus: &Bus, archive: impl Stream<Item = Result<ArchivedCommit, E>>) -> Result<u64, Error> {
    let mut next = 0;
    let messages = archive
        .map_err(|error| Error::request("read the archive", error))
        .map_ok(move |archived| {
            let first_gap = if next == 0 { archived.sequence } else { next };
            next = archived.sequence + 1;
            let gaps = (first_gap..archived.sequence).map(|sequence| (GAP.to_owned(), sequence, Bytes::new()));
            let subject = subjects::journal(archived.kind, archived.partition);
            futures::stream::iter(
                gaps.chain(std::iter::once((subject, archived.sequence, archived.body))).map(Ok).collect::<Vec<_>>(),
            )
        })
        .try_flatten();
    let acknowledgements = messages.and_then(|(subject, sequence, body)| async move {
        let message = PublishMessage::build().payload(body).expected_stream(streams::JOURNAL);
        let sent = bus.context().send_publish(subject.clone(), message).await;
        let answer = sent.map_err(|error| Error::request("write a commit", error))?;
        Ok(async move {
            let stored = answer.await.map_err(|error| Error::request("write a commit", error))?;
            if stored.sequence == sequence {
                Ok(u64::from(subject != GAP))
            } else {
                let reason =
                    format!("it was stored at {}: somebody else writes; run the restore again", stored.sequence);
                Err(Error::Archive { sequence, reason })
            }
        })
    });
    acknowledgements.try_buffered(AT_ONCE).try_fold(0, |sum, written| async move { Ok(sum + written) }).await
}

/// Deletes the consumers of all former owners: epochs may begin again below theirs.
async fn forget_owners(bus: &Bus) -> Result<(), Error> {
    let signals = bus.context().get_stream_no_info(streams::SIGNALS).await;
    let signals = signals.map_err(|error| Error::request("open SIGNALS", error))?;
    let names: Result<Vec<String>, _> = signals.consumer_names().try_collect().await;
    let names = names.map_err(|error| Error::request("look for consumers of former owners", error))?;
    for name in names.iter().filter(|name| name.starts_with("own-")) {
        signals
            .delete_consumer(name)
            .await
            .map_err(|error| Error::request(format!("delete the consumer {name} of a former owner"), error))?;
    }
    Ok(())
}

/// Leases that are being renewed mean that somebody decides.
async fn refuse_if_in_use(bus: &Bus) -> Result<(), Error> {
    let read = async || {
        let leases =
            history::read_last_of_each(&bus.client(), "KV_LEASES", "$KV.LEASES.>", Duration::from_secs(2)).await?;
        Ok::<HashMap<String, u64>, Error>(leases.into_iter().map(|lease| (lease.subject, lease.sequence)).collect())
    };
    let before = read().await?;
    if before.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut renewed: Vec<String> = read()
        .await?
        .into_iter()
        .filter(|(key, revision)| key.contains(".instance.") && before.get(key).is_some_and(|was| was < revision))
        .map(|(key, _)| key.trim_start_matches("$KV.LEASES.").to_owned())
        .collect();
    renewed.sort();
    if renewed.is_empty() { Ok(()) } else { Err(Error::InUse { instances: renewed.join(", ") }) }
}
