//! What is where.

use cdflow_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::RunStatus;

/// Answer of `GET /board`: services by environments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Rows, by name.
    pub services: Vec<String>,
    /// Columns, in the order in which releases pass through them.
    pub environments: Vec<String>,
    /// One for each service and environment about which something is known.
    pub cells: Vec<BoardCell>,
}

/// One service in one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardCell {
    /// The service.
    pub service: String,
    /// The environment.
    pub environment: String,
    /// The version that is live there; unset if none was ever promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<UnixMillis>,
    /// Number of the run that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// It is live because a newer one was rolled back.
    #[serde(default)]
    pub rolled_back: bool,
    /// Runs on the way to this environment, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_its_way: Vec<OnItsWay>,
}

/// A run on the way to an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnItsWay {
    /// Number of the run.
    pub run: u64,
    /// The version that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where the run is.
    pub status: RunStatus,
    /// The run is in the stage of this environment now, not in one before it.
    pub here: bool,
    /// What or whom it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// Query of `GET /trigger/log`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadTriggerLog {
    /// At most so many, newest first; 50 unless said, never more than 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Answer of `GET /trigger/log`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerLog {
    /// Newest first.
    pub entries: Vec<TriggerEntry>,
}

/// A CI event, and what it started or why it started nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerEntry {
    /// When it was seen.
    pub time_ms: UnixMillis,
    /// CloudEvents source.
    pub source: String,
    /// CloudEvents id.
    pub event_id: String,
    /// CloudEvents type.
    pub event_type: String,
    /// What was published: "storefront v1.0.0".
    pub subject: String,
    /// Digest of the artifact, if the event has one.
    pub digest: String,
    /// Numbers of the runs that it started.
    pub runs: Vec<u64>,
    /// Why it started nothing; empty if it did.
    pub ignored_because: String,
}
