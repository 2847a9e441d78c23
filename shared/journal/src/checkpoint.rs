//! Checkpoints: the stored states of a partition at one commit, so that an owner need not fold from the beginning
//! (rule 14).
//!
//! Two objects for each partition are written in turn, so the older one stays while the newer is being written, and a
//! crash in the middle leaves both usable. A checkpoint counts only if the journal holds, at its sequence, a commit with
//! its hash.

use std::{collections::BTreeMap, sync::Arc};

use async_nats::jetstream::object_store::ObjectStore;
use cdflow_protocol::{
    AggregateKind, Partition,
    v1::{CancelTask, Checkpoint, FinishedSegment, Stored},
};
use prost::Message as _;

use crate::{
    Aggregate, Error, JournalOptions, Position,
    archive::{compress, decompress, encode_segment, get_object, id_hash, put_object},
    population::Finished,
};

/// Which of the two objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    A,
    B,
}

impl Slot {
    pub(crate) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(crate) fn object(self, kind: AggregateKind, partition: Partition) -> String {
        format!("{kind}.{partition}.{}", if self == Self::A { "a" } else { "b" })
    }
}

/// A checkpoint as it lies in the store.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) slot: Slot,
    pub(crate) checkpoint: Checkpoint,
}

impl Found {
    pub(crate) fn position(&self) -> Position {
        Position { sequence: self.checkpoint.sequence, hash: self.checkpoint.hash.clone() }
    }
}

/// The checkpoints of a partition, newest first; a damaged one is skipped.
pub(crate) async fn find(store: &ObjectStore, kind: AggregateKind, partition: Partition) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for slot in Slot::BOTH {
        let name = slot.object(kind, partition);
        let Some(bytes) = get_object(store, &name).await? else { continue };
        match decompress(&bytes).and_then(|b| Checkpoint::decode(b.as_slice()).map_err(|error| error.to_string())) {
            Ok(checkpoint) => found.push(Found { slot, checkpoint }),
            Err(reason) => tracing::error!(object = name, reason, "a checkpoint is unusable, the older one is taken"),
        }
    }
    found.sort_by_key(|found| std::cmp::Reverse((found.checkpoint.incarnation, found.checkpoint.sequence)));
    Ok(found)
}

/// Everything that a checkpoint holds, taken in one instant. Cheap to take: states are shared, not copied.
pub(crate) struct Snapshot<A> {
    pub(crate) position: Position,
    pub(crate) time_ms: i64,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) dispatched_through: u64,
    pub(crate) live: Vec<(String, Arc<A>, String)>,
    pub(crate) finished: BTreeMap<String, Finished>,
    pub(crate) segments: Vec<Arc<FinishedSegment>>,
    pub(crate) cancelling: Vec<CancelTask>,
}

/// What was written.
pub(crate) struct Written {
    pub(crate) slot: Slot,
    pub(crate) position: Position,
    pub(crate) finished: BTreeMap<String, Finished>,
    pub(crate) segment: Option<FinishedSegment>,
}

/// Writes final states first, then the checkpoint that names them: a crash between leaves an object that nobody names.
pub(crate) async fn write<A: Aggregate>(
    store: &ObjectStore,
    partition: Partition,
    slot: Slot,
    snapshot: Snapshot<A>,
    options: &JournalOptions,
) -> Result<Written, Error> {
    let Snapshot { position, finished, .. } = &snapshot;
    let segment = (!finished.is_empty()).then(|| FinishedSegment {
        object: format!("{}.{partition}.finished.{}.{}", A::KIND, snapshot.epoch, position.sequence),
        id_hashes: finished.keys().map(|id| id_hash(id)).collect(),
    });
    let (position, segment_to_encode) = (position.clone(), segment.clone());
    let encode = move || {
        let states = segment_to_encode.as_ref().map(|_| encode_segment(&snapshot.finished));
        let aggregates = snapshot
            .live
            .iter()
            .map(|(id, state, traceparent)| Stored {
                aggregate_id: id.clone(),
                state: state.checkpoint(),
                traceparent: traceparent.clone(),
            })
            .collect();
        let checkpoint = Checkpoint {
            sequence: snapshot.position.sequence,
            hash: snapshot.position.hash.clone(),
            time_ms: snapshot.time_ms,
            incarnation: snapshot.incarnation,
            epoch: snapshot.epoch,
            dispatched_through: snapshot.dispatched_through,
            aggregates,
            finished: snapshot.segments.iter().map(|s| s.as_ref().clone()).chain(segment_to_encode).collect(),
            cancelling: snapshot.cancelling,
        };
        (states, compress(&checkpoint.encode_to_vec()), snapshot.finished)
    };
    let (states, checkpoint, finished) =
        tokio::task::spawn_blocking(encode).await.map_err(|error| Error::request("encode a checkpoint", error))?;
    if let (Some(segment), Some(states)) = (&segment, states) {
        put_object(store, &segment.object, states).await?;
    }
    #[cfg(feature = "failpoints")]
    options.failpoints.reached(crate::Crash::InCheckpoint)?;
    put_object(store, &slot.object(A::KIND, partition), checkpoint).await?;
    options.metrics.checkpoints.add(1);
    Ok(Written { slot, position, finished, segment })
}
