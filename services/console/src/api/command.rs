//! What people ask for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Starts a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Version of the service's artifact, if the pipeline releases one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Values of the pipeline's inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// Only these stages; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
    /// Chosen by who asks, so that asking twice starts one run; a new one unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// Deploys a version to one environment without a pipeline; the environment's rules hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartDeployment {
    /// Name of the service.
    pub service: String,
    /// Version of its artifact.
    pub version: String,
    /// Name of the environment.
    pub environment: String,
    /// Chosen by who asks, so that asking twice starts one run; a new one unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// A run was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRun {
    /// Id of the run.
    pub run_id: String,
    /// Its number; unset with status 202, when the request is stored and not yet handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Path of its page.
    pub path: String,
}

/// Stops a run now; what was changed is rolled back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRun {
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Rolls back a deploy stage of a run that has not ended. After the end, deploying the version before is the way back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBackRun {
    /// The stage; the last one that is live unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Approves or rejects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideApproval {
    /// Approve, or reject.
    pub approve: bool,
    /// Kept with the decision.
    #[serde(default)]
    pub comment: String,
    /// The stage that asks; needed only when several do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// Answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// `false` with status 202: the command is stored and not yet handled.
    pub handled: bool,
    /// What happened, in one sentence.
    pub message: String,
}
