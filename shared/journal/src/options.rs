//! Settings of a journal.

use std::{sync::Arc, time::Duration};

use crate::JournalMetrics;

/// How one instance of a service runs its journal.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Name of this instance, for people; need not be unique.
    pub instance: String,
    /// How long a lease that is not renewed counts. Default 1.5 s. Shorter takes over faster; an owner that is paused for
    /// longer loses its partitions (and nothing else: the conditional append is the fence).
    pub lease: Duration,
    /// How often leases are renewed and looked at. Default 0.4 s.
    pub renew: Duration,
    /// How long a task may be neither in TASKS nor announced by a worker before it counts as lost. Default 10 s; not
    /// shorter than the lease of the workers.
    pub worker_lease: Duration,
    /// Commits of a partition between two checkpoints. Default 5,000.
    pub checkpoint_every: u64,
    /// Bytes of final states that are kept in memory before a checkpoint moves them out. Default 16 MiB.
    pub finished_bytes: usize,
    /// Where to count.
    pub metrics: Arc<JournalMetrics>,
    /// Crashes that a test asks for.
    #[cfg(feature = "failpoints")]
    pub failpoints: crate::Failpoints,
}

impl JournalOptions {
    /// The defaults.
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            lease: Duration::from_millis(1_500),
            renew: Duration::from_millis(400),
            worker_lease: Duration::from_secs(10),
            checkpoint_every: 5_000,
            finished_bytes: 16 << 20,
            metrics: Arc::default(),
            #[cfg(feature = "failpoints")]
            failpoints: crate::Failpoints::default(),
        }
    }
}
