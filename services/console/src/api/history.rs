//! What happened in a run, and why it is where it is.

use cdflow_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::{Outcome, RunStatus, Waiting};

/// Answer of `GET /runs/{run}/explain`: why the run is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Number of the run.
    pub number: u64,
    /// Where it is.
    pub status: RunStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// In one sentence.
    pub summary: String,
    /// What it waits for, since when, and what would release it.
    pub waiting: Vec<Waiting>,
    /// What led here: failures, verdicts, decisions; oldest first.
    pub because: Vec<String>,
}

/// Answer of `GET /runs/{run}/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first.
    pub events: Vec<HistoryEntry>,
}

/// One stored event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Journal sequence of its commit.
    pub sequence: u64,
    /// When.
    pub time_ms: UnixMillis,
    /// `run`, `approval` or `verification`.
    pub aggregate: String,
    /// Such as `step-finished`.
    pub event: String,
    /// Stage, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Step, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// In one sentence.
    pub text: String,
}

/// Query of `GET /runs/{run}/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLogs {
    /// Only of this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Only of this step (with `stage`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Go on until the run, or the step asked for, has ended.
    #[serde(default)]
    pub follow: bool,
}

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: String,
    /// From 1.
    pub attempt: u32,
    /// Position in the attempt, from 0.
    pub number: u64,
    /// When.
    pub time_ms: UnixMillis,
    /// Without the line break.
    pub text: String,
    /// On standard error.
    pub stderr: bool,
}
