//! What a handler knows besides the task.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use cdflow_bus::Bus;
use cdflow_protocol::v1::Fence;
use tokio_util::sync::CancellationToken;

use crate::lease::Lease;

/// Why a task must stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody asked for it, and said why.
    Cancelled(String),
    /// It took longer than its time limit, in milliseconds.
    TimedOut(i64),
    /// The worker had no contact for a lease: the task may be another's by now.
    LeaseLost,
    /// The worker is stopping; another goes on.
    ShuttingDown,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(reason) if reason.is_empty() => f.write_str("cancelled"),
            Self::Cancelled(reason) => write!(f, "cancelled: {reason}"),
            Self::TimedOut(limit) => write!(f, "stopped after its time limit of {:.1} s", *limit as f64 / 1_000.0),
            Self::LeaseLost => f.write_str("the worker lost contact with the server"),
            Self::ShuttingDown => f.write_str("the worker is stopping"),
        }
    }
}

/// Given to a handler with each task. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext {
    /// Cancelled when the task must stop; [`TaskContext::reason`] says why. A handler ends then as soon as it can, and
    /// ends what it started (the whole process group); after `stop_within` it is dropped.
    pub cancelled: CancellationToken,
    /// How often the task has been handed out, from 1.
    pub delivery: u64,
    /// The worker's connection.
    pub bus: Bus,
    pub(crate) fence: Fence,
    pub(crate) reason: Arc<OnceLock<StopReason>>,
    pub(crate) lease: Arc<Lease>,
}

impl TaskContext {
    /// What targets compare: incarnation, journal sequence, delivery count.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Why it must stop, once it must.
    pub fn reason(&self) -> Option<StopReason> {
        self.reason.get().cloned()
    }

    /// Whether the task may still change something: it is not to stop, and the lease is held at this moment.
    pub fn may_change(&self) -> bool {
        !self.cancelled.is_cancelled() && self.lease.is_held()
    }

    pub(crate) fn stop(&self, reason: StopReason) {
        // The first reason counts.
        let _ = self.reason.set(reason);
        self.cancelled.cancel();
    }
}
