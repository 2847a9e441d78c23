//! Requests for approval.

use cdflow_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::Outcome;

/// A request for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Id of the request.
    pub id: String,
    /// The stage that asks.
    pub stage: String,
    /// The step that asks.
    pub step: String,
    /// What is asked for.
    pub message: String,
    /// How many of each group, and how many there are.
    pub by: Vec<Quorum>,
    /// Oldest first.
    pub decisions: Vec<DecisionView>,
    /// Who can still decide.
    pub eligible: Vec<String>,
    /// When it was asked for.
    pub requested_ms: UnixMillis,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<UnixMillis>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it ended so.
    pub reason: String,
}

/// Approvals of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// Name of the group.
    pub group: String,
    /// Approvals by its members.
    pub have: u32,
    /// Approvals that are needed.
    pub need: u32,
    /// Members when the run was compiled.
    pub members: Vec<String>,
}

/// What one person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// Who.
    pub person: String,
    /// Approved, or rejected.
    pub approve: bool,
    /// What they wrote.
    pub comment: String,
    /// How: `cli`, `page`, `slack`.
    pub channel: String,
    /// When.
    pub time_ms: UnixMillis,
}
