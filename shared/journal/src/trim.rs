//! Forgetting what checkpoints and the archive have (rule 14).

use cdflow_bus::Bus;
use cdflow_protocol::{streams, subjects};

use crate::{Error, Positions, append::read_tail, checkpoint};

/// Removes commits from JOURNAL that nobody needs any more: those before the older of two checkpoints, before every
/// effect that may still have to be sent, and before `archived`, up to which an archive has everything. A partition
/// without two checkpoints or without an archived position is left alone, and the last commit always stays. Returns how
/// many commits were removed.
///
/// A crash in the middle leaves some partitions trimmed and others not.
///
/// # Errors
/// [`Error::Request`]; [`Error::Bus`].
pub async fn trim(bus: &Bus, archived: &Positions) -> Result<u64, Error> {
    let installation = bus.read_installation().await?;
    let store = bus
        .context()
        .get_object_store(subjects::SNAPSHOTS_BUCKET)
        .await
        .map_err(|error| Error::request("open the store of checkpoints", error))?;
    let journal = bus
        .context()
        .get_stream_no_info(streams::JOURNAL)
        .await
        .map_err(|error| Error::request("open JOURNAL", error))?;
    let mut removed = 0;
    for (&(kind, partition), position) in archived {
        let found = checkpoint::find(&store, kind, partition).await?;
        // Checkpoints from before a restore may hold what never happened.
        if found.len() < 2 || found.iter().any(|found| found.checkpoint.incarnation != installation.incarnation) {
            continue;
        }
        let needed = found
            .iter()
            .map(|found| found.checkpoint.sequence.min(found.checkpoint.dispatched_through + 1))
            .min()
            .unwrap_or(0);
        let subject = subjects::journal(kind, partition);
        let Some(tail) = read_tail(&journal, &subject).await? else { continue };
        let keep_from = needed.min(position.sequence).min(tail.sequence);
        if keep_from <= 1 {
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
    Ok(removed)
}
