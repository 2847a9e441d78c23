//! What stops a journal.

use cdflow_protocol::{AggregateKind, Partition};

use crate::Position;

/// An error of the journal; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream does not hold what was read or written before, or its hash chain is broken.
    #[error(
        "CDF-3001: the journal of {kind} partition {partition} has gone back or is damaged at sequence {sequence}: \
         {reason}. Nothing of it is decided any more. Stop all services and run `cdflow journal restore`"
    )]
    WentBack {
        /// Kind of the partition.
        kind: AggregateKind,
        /// Its number.
        partition: Partition,
        /// Stream sequence at which the journal differs.
        sequence: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// A commit was written by a release whose events this one does not understand.
    #[error(
        "CDF-3002: commit {sequence} of {kind} partition {partition} needs reader version {needed}, this release is \
         version {ours}: update this service"
    )]
    ReaderTooOld {
        /// Kind of the partition.
        kind: AggregateKind,
        /// Its number.
        partition: Partition,
        /// Stream sequence of the commit.
        sequence: u64,
        /// What the commit asks for.
        needed: u32,
        /// What this code is.
        ours: u32,
    },
    /// A restore would overwrite commits.
    #[error(
        "CDF-3003: JOURNAL holds {messages} commits: a restore replaces them all. Compare with `cdflow journal verify`, \
         then allow the replacement"
    )]
    NotEmpty {
        /// How many there are.
        messages: u64,
    },
    /// Services are running during a restore.
    #[error("CDF-3004: {instances} still own partitions: stop all services before the journal is restored")]
    InUse {
        /// Instances with a live lease.
        instances: String,
    },
    /// The archive cannot be written back as it is.
    #[error("CDF-3005: the archived commit {sequence} does not fit: {reason}. Use another copy of the archive")]
    Archive {
        /// Stream sequence of the archived commit.
        sequence: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// A restore was interrupted, or is going on.
    #[error("CDF-3006: a restore of the journal has not finished: run `cdflow journal restore` again")]
    Restoring,
    /// A request to the server failed; the same may succeed later.
    #[error("CDF-3007: {what}: {reason}")]
    Request {
        /// What was tried.
        what: String,
        /// As the client says it.
        reason: String,
    },
    /// JOURNAL takes no more commits; the append is repeated until it does.
    #[error(
        "CDF-3008: JOURNAL is full: {subject} decides nothing until there is room. Is the console running (it trims what is \
         archived)? If it is, raise the limit: `nats stream edit JOURNAL --max-bytes=...`"
    )]
    Full {
        /// The partition that waits.
        subject: String,
    },
    /// The bus refused.
    #[error(transparent)]
    Bus(#[from] cdflow_bus::Error),
    /// A test ended the owner here.
    #[cfg(feature = "failpoints")]
    #[error("crashed by a test at {0:?}")]
    Crashed(crate::Crash),
}

impl Error {
    pub(crate) fn request(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Request { what: what.into(), reason: reason.to_string() }
    }

    pub(crate) fn went_back(
        kind: AggregateKind,
        partition: Partition,
        expected: &Position,
        reason: impl Into<String>,
    ) -> Self {
        Self::WentBack { kind, partition, sequence: expected.sequence, reason: reason.into() }
    }

    /// Whether the same may go through later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Restoring | Self::Full { .. } => true,
            Self::Bus(error) => error.is_transient(),
            _ => false,
        }
    }
}
