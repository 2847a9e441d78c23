//! What a journal counts. Read by the service that runs it; writing is one atomic addition.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A number that only rises, or a level.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }
}

/// Counters of all partitions that one `serve` owns, since it started.
#[derive(Debug, Default)]
pub struct JournalMetrics {
    /// Commits stored.
    pub commits: Count,
    /// Decisions in them.
    pub entries: Count,
    /// Signals decided (stored or refused).
    pub signals: Count,
    /// Bytes of stored commits.
    pub bytes: Count,
    /// Sum of the times from sending a commit to its acknowledgement, in microseconds.
    pub append_micros: Count,
    /// Appends sent again because the answer was lost or unclear.
    pub appends_repeated: Count,
    /// Appends refused because JOURNAL is full: nothing is decided until there is room.
    pub appends_refused_full: Count,
    /// Partitions given up because another owner had appended.
    pub fenced: Count,
    /// Signals refused, poison included.
    pub refused: Count,
    /// Signals kept in the dead-letter stream.
    pub dead_letters: Count,
    /// Signals delayed because they are of a newer version.
    pub delayed: Count,
    /// Partitions taken over.
    pub takeovers: Count,
    /// Effects sent.
    pub effects: Count,
    /// Tasks that had vanished.
    pub tasks_lost: Count,
    /// Checkpoints written.
    pub checkpoints: Count,
    /// Errors in the stream of signals, such as missed heartbeats.
    pub stream_errors: Count,
    /// Aggregates whose stored events this release cannot apply; their signals are refused. A level.
    pub quarantined: Count,
    /// Live aggregates in memory now. A level.
    pub live: Count,
    /// Tasks sent and without a result now. A level.
    pub outstanding: Count,
    /// Partitions owned now. A level.
    pub partitions: Count,
}

/// What one partition contributes to the levels; taken back when it is dropped.
pub(crate) struct Levels {
    metrics: Arc<JournalMetrics>,
    now: [u64; 4],
}

impl Levels {
    pub(crate) fn new(metrics: Arc<JournalMetrics>) -> Self {
        let mut levels = Self { metrics, now: [0; 4] };
        levels.set([0, 0, 0, 1]);
        levels
    }

    /// Live aggregates, outstanding tasks, quarantined aggregates.
    pub(crate) fn report(&mut self, live: usize, outstanding: usize, quarantined: usize) {
        self.set([live as u64, outstanding as u64, quarantined as u64, 1]);
    }

    fn set(&mut self, next: [u64; 4]) {
        let m = &self.metrics;
        for (count, (old, new)) in
            [&m.live, &m.outstanding, &m.quarantined, &m.partitions].into_iter().zip(self.now.iter().zip(next))
        {
            count.add(new);
            count.sub(*old);
        }
        self.now = next;
    }
}

impl Drop for Levels {
    fn drop(&mut self) {
        self.set([0; 4]);
    }
}
