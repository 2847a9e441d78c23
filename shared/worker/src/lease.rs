//! How long a worker may believe that its tasks are its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Held from the moment the last answered contact was sent, by a clock that also runs while the machine sleeps.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    answered_ms: AtomicU64,
}

/// A moment on the clock of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let millis = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
        Self(seconds * 1_000 + millis)
    }
}

impl Lease {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, answered_ms: AtomicU64::new(Moment::now().0) }
    }

    /// A contact sent at `sent` has been answered.
    pub(crate) fn renew(&self, sent: Moment) {
        self.answered_ms.fetch_max(sent.0, Ordering::AcqRel);
    }

    /// Whether tasks delivered so far are still this worker's.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held_at(Moment::now())
    }

    fn is_held_at(&self, now: Moment) -> bool {
        u128::from(now.0.saturating_sub(self.answered_ms.load(Ordering::Acquire))) < self.length.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_from_the_sending_of_what_was_answered() {
        let lease = Lease { length: Duration::from_secs(5), answered_ms: AtomicU64::new(1_000) };
        assert!(lease.is_held_at(Moment(5_999)));
        assert!(!lease.is_held_at(Moment(6_000)));
        lease.renew(Moment(3_000));
        assert!(lease.is_held_at(Moment(7_999)));
    }

    #[test]
    fn a_late_answer_to_an_older_contact_takes_nothing_away() {
        let lease = Lease { length: Duration::from_secs(5), answered_ms: AtomicU64::new(3_000) };
        lease.renew(Moment(2_000));
        assert!(lease.is_held_at(Moment(7_999)));
    }
}
