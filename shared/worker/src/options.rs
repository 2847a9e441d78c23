//! Settings of a worker.

use std::time::Duration;

/// Who a worker is and how much it takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The kind of worker, as in task subjects: `executor` or `collector`.
    pub worker: String,
    /// The service that it is part of, for traces: the kind of worker unless set.
    pub service: String,
    /// The pool whose tasks it does.
    pub pool: String,
    /// Unique name of this process, for people and announcements.
    pub instance: String,
    /// Most tasks at the same time.
    pub slots: usize,
    /// How long it goes on without an answer from the server. The same for all workers of a pool.
    pub lease: Duration,
    /// How long a task may take to stop when it is told to. The same for all workers of a pool.
    pub stop_within: Duration,
    /// How long running tasks may go on when the worker is told to stop, before they are left to another worker.
    pub finish_within: Duration,
}

impl WorkerOptions {
    /// 1,024 slots, a lease of 5 s, 5 s to stop a task and 20 s to finish.
    pub fn new(worker: impl Into<String>, pool: impl Into<String>, instance: impl Into<String>) -> Self {
        let worker = worker.into();
        Self {
            service: worker.clone(),
            worker,
            pool: pool.into(),
            instance: instance.into(),
            slots: 1_024,
            lease: Duration::from_secs(5),
            stop_within: Duration::from_secs(5),
            finish_within: Duration::from_secs(20),
        }
    }

    /// When the server hands a silent worker's task to another: two leases and the time to stop (rule 17).
    pub(crate) fn redeliver_after(&self) -> Duration {
        self.lease * 2 + self.stop_within
    }

    /// Between two contacts with the server.
    pub(crate) fn contact_every(&self) -> Duration {
        (self.lease / 4).min(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_gets_a_task_only_after_the_first_must_have_stopped() {
        let options = WorkerOptions::new("executor", "default", "a");
        // The lease is counted from a contact; the delivery before it may be one contact older.
        assert!(options.redeliver_after() > options.contact_every() + options.lease + options.stop_within);
    }
}
