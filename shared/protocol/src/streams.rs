//! Names of streams and headers.

/// What CI systems publish.
pub const CI: &str = "CI";
/// Inputs of aggregates.
pub const SIGNALS: &str = "SIGNALS";
/// The facts.
pub const JOURNAL: &str = "JOURNAL";
/// Work to do now; in memory, derived from the journal.
pub const TASKS: &str = "TASKS";
/// Output lines of steps.
pub const LOGS: &str = "LOGS";
/// The public feed.
pub const EVENTS: &str = "EVENTS";
/// Signals that were refused or could not be decided.
pub const DEAD: &str = "DEAD";

/// Keys in stream metadata that every publisher checks (`protocol.md`, rule 21).
pub mod metadata {
    /// Random id of the installation.
    pub const INSTALLATION: &str = "cdflow-installation";
    /// Number of partitions of each aggregate kind.
    pub const PARTITIONS: &str = "cdflow-partitions";
    /// Name of the hash from id to partition.
    pub const HASH: &str = "cdflow-partition-hash";
    /// Raised by every restore of the journal.
    pub const INCARNATION: &str = "cdflow-incarnation";
}

/// Header with the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
