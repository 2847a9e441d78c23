//! Looking on while facts are stored.

use cdflow_protocol::{Partition, UnixMillis, v1::Effect};

use crate::Aggregate;

/// Told of every decision once it is stored, in order for each aggregate: for spans and metrics.
///
/// Called on the partition's own task: be quick, and hand anything slow to another one. After a crash, what was stored
/// and not yet told is not told again; a projection reads the journal with [`crate::Reader`] instead.
pub trait Observer<A: Aggregate>: Send + Sync + 'static {
    /// `entry` is stored.
    fn stored(&self, entry: &StoredEntry<'_, A>);
}

/// A decision that has been stored.
pub struct StoredEntry<'a, A: Aggregate> {
    /// Whose.
    pub aggregate_id: &'a str,
    /// Partition of the aggregate.
    pub partition: Partition,
    /// State after the events, with nothing of later decisions.
    pub state: &'a A,
    /// What was stored, oldest first; never empty.
    pub events: &'a [A::Event],
    /// What is being sent now.
    pub effects: &'a [Effect],
    /// Partition time of the commit in Unix milliseconds.
    pub time: UnixMillis,
    /// Stream sequence of the commit.
    pub sequence: u64,
    /// W3C trace context of the aggregate, empty if none of its signals had one.
    pub traceparent: &'a str,
}

/// Looks away.
pub struct NoObserver;

impl<A: Aggregate> Observer<A> for NoObserver {
    fn stored(&self, _: &StoredEntry<'_, A>) {}
}
