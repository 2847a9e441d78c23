//! Forgetting what checkpoints and the archive have (rule 14).

use std::collections::BTreeMap;

use async_nats::jetstream::{consumer, stream::Stream};
use cdflow_bus::Bus;
use cdflow_protocol::{AggregateKind, Partition, streams, subjects};
use futures::TryStreamExt as _;

use crate::{Error, Positions, append::read_tail, checkpoint};

/// From here on room counts for more than commits that somebody might like to read, in percent of JOURNAL's `max_bytes`.
const PRESSED: u64 = 80;

/// What a trim has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Commits removed.
    pub commits: u64,
    /// JOURNAL holds more than 80 % of what it may hold all the same: look again soon.
    pub pressed: bool,
}

/// Removes commits from JOURNAL that nobody needs any more: those before the older of two checkpoints, before every
/// effect that may still have to be sent, before `archived`, up to which an archive has everything on disk, and before
/// what a connected [`crate::Reader`] has not acknowledged. A partition without two checkpoints or without an archived
/// position is left alone, and the last commit of each always stays.
///
/// The last `keep` commits of all partitions together stay as well, for readers that begin anew, until JOURNAL is 80 %
/// full.
///
/// A crash in the middle leaves some partitions trimmed and others not.
///
/// # Errors
/// [`Error::Request`]; [`Error::Bus`].
pub async fn trim(bus: &Bus, archived: &Positions, keep: u64) -> Result<Trimmed, Error> {
    let journal =
        bus.context().get_stream(streams::JOURNAL).await.map_err(|error| Error::request("open JOURNAL", error))?;
    let (state, max_bytes) = (&journal.cached_info().state, journal.cached_info().config.max_bytes);
    let pressed = is_pressed(state.bytes, max_bytes);
    let keep = if pressed { 0 } else { keep };
    if state.messages <= keep {
        return Ok(Trimmed { commits: 0, pressed });
    }
    let before = (state.last_sequence + 1).saturating_sub(keep).min(read_by_all(&journal).await?);
    let handle = bus.context().get_stream_no_info(streams::JOURNAL).await;
    let handle = handle.map_err(|error| Error::request("open JOURNAL", error))?;
    let mut removed = 0;
    for ((kind, partition), needed) in needed(bus, archived).await? {
        let subject = subjects::journal(kind, partition);
        let Some(tail) = read_tail(&handle, &subject).await? else { continue };
        let keep_from = needed.min(before).min(tail.sequence);
        if keep_from <= state.first_sequence.max(1) {
            continue;
        }
        let purged = journal
            .purge()
            .filter(subject.as_str())
            .sequence(keep_from)
            .await
            .map_err(|error| Error::request(format!("trim {subject}"), error))?;
        removed += purged.purged;
    }
    let after = journal.get_info().await.map_err(|error| Error::request("look how full JOURNAL is", error))?;
    Ok(Trimmed { commits: removed, pressed: is_pressed(after.state.bytes, max_bytes) })
}

fn is_pressed(bytes: u64, max_bytes: i64) -> bool {
    u64::try_from(max_bytes).is_ok_and(|most| most > 0 && bytes / PRESSED >= most / 100)
}

/// The first commit of each partition that a new owner or a restore may need.
async fn needed(bus: &Bus, archived: &Positions) -> Result<BTreeMap<(AggregateKind, Partition), u64>, Error> {
    let installation = bus.read_installation().await?;
    let store = bus
        .context()
        .get_object_store(subjects::SNAPSHOTS_BUCKET)
        .await
        .map_err(|error| Error::request("open the store of checkpoints", error))?;
    let mut needed = BTreeMap::new();
    for (&(kind, partition), position) in archived {
        let found = checkpoint::find(&store, kind, partition).await?;
        // Checkpoints from before a restore may hold what never happened.
        if found.len() < 2 || found.iter().any(|found| found.checkpoint.incarnation != installation.incarnation) {
            continue;
        }
        let by_owners = found
            .iter()
            .map(|found| found.checkpoint.sequence.min(found.checkpoint.dispatched_through + 1))
            .min()
            .unwrap_or(0);
        needed.insert((kind, partition), by_owners.min(position.sequence));
    }
    Ok(needed)
}

/// The first commit that some reader has not acknowledged.
async fn read_by_all(journal: &Stream) -> Result<u64, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::request("look at the readers of JOURNAL", error);
    let readers: Vec<consumer::Info> = journal.consumers().try_collect().await.map_err(|error| failed(&error))?;
    Ok(readers.iter().map(|reader| reader.ack_floor.stream_sequence + 1).min().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_pressed_from_four_fifths_on_and_never_without_a_limit() {
        assert!(is_pressed(8 << 30, 10 << 30));
        assert!(!is_pressed(7 << 30, 10 << 30));
        assert!(!is_pressed(8 << 30, -1));
    }
}
