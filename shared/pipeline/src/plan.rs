//! What a run will do: the compiled pipeline. Stored in the first event of a run, which from then on depends on
//! nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A compiled pipeline: every reference resolved, every default filled in.
///
/// Strings marked *template* may hold `${{ }}` expressions over what is known only later (outputs, the target's URL);
/// they are evaluated when their step starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The project, `default` unless said.
    pub project: String,
    /// Name of the pipeline; `deploy` for `cdflow deploy`.
    pub pipeline: String,
    /// Revision of the configuration it was compiled from.
    pub revision: u64,
    /// The service that is released, if the pipeline has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
    /// Values of the pipeline's inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// The CI event's data, as expressions see it under `event`.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub event: serde_json::Value,
    /// In the order of the document.
    pub stages: Vec<Stage>,
}

/// A version of a service's artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Artifact {
    /// For example `v1.2.0`.
    pub version: String,
    /// Where it is: `file:` or `http(s):` URL.
    pub location: String,
    /// `sha256:<hex>`; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stage {
    /// Unique in the plan; the environment's name unless the document says `id`.
    pub id: String,
    /// Ids of stages that must have ended well (or been promoted) before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// CEL; `success()` unless said.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Set for a deploy stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// Done one after the other. The stage is promoted, and stages that need it may start, when the step with
    /// [`Action::Promoted`] is reached; without one, when all are done.
    pub steps: Vec<Step>,
    /// Done one after the other, with `previous` from what [`Verb::Observe`] recorded, when a deploy stage fails
    /// after its first change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollback: Vec<Step>,
    /// Milliseconds; waiting for people and locks does not use it up. 0 is no limit.
    #[serde(default)]
    pub timeout_ms: i64,
}

/// What a deploy stage deploys, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Deploy {
    /// The environment's name.
    pub environment: String,
    /// `rolling`, `blue-green` or `canary`: for people; the steps say what is done.
    pub strategy: String,
    /// Where.
    pub target: Target,
    /// What healthy means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// One service on one infrastructure: what a driver needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// Name of the service.
    pub service: String,
    /// Name of the infrastructure.
    pub infrastructure: String,
    /// Name of the environment.
    pub environment: String,
    /// Executors that can reach it.
    pub pool: String,
    /// The platform and its settings.
    pub platform: Platform,
    /// Resolved variables, precedence applied (*template*).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

/// Platforms and what their drivers need. A new platform is a variant here and a driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Platform {
    /// Processes on machines, behind a router.
    Vm {
        /// How hosts are reached.
        transport: Transport,
        /// Names of hosts; for [`Transport::Local`] each is a directory below `root`.
        hosts: Vec<String>,
        /// Copies of the service on each host.
        instances_per_host: u32,
        /// Directory of releases and state.
        root: String,
        /// Ports that instances may listen on, both ends included.
        ports: (u16, u16),
        /// Command line in the release; `{port}` and `{version}` are filled in.
        start: String,
        /// Path that answers 200 when an instance is ready.
        ready_path: String,
        /// How long an instance may take to be ready, in milliseconds.
        ready_within_ms: i64,
        /// How long connections may take to drain, in milliseconds.
        drain_ms: i64,
        /// What splits the traffic, if anything does.
        router: Option<Router>,
    },
}

/// How a VM driver reaches a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// This machine.
    Local,
}

/// What splits traffic between releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Router {
    /// HAProxy through its runtime API.
    Haproxy {
        /// `unix:<path>` or `tcp:<host>:<port>` of the admin socket.
        admin: String,
        /// Name of the backend.
        backend: String,
        /// Where users reach the service.
        url: String,
    },
}

/// What healthy means, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    /// Name of the `HealthProfile`.
    pub name: String,
    /// Path on each instance with Prometheus metrics.
    pub path: String,
    /// Scrape interval in milliseconds.
    pub every_ms: i64,
    /// Selector of the counter of requests.
    pub requests: String,
    /// Selector of the counter of failed requests.
    pub errors: String,
    /// False-rollback budget of the whole stage.
    pub alpha: f64,
    /// Wrong-promotion budget.
    pub beta: f64,
    /// A pass must exclude odds ratios of this size and above.
    pub harmful_odds_ratio: f64,
    /// Shortest time before a pass, in milliseconds.
    pub bake_ms: i64,
    /// Fewest scrape intervals with data before a pass.
    pub min_ticks: u32,
    /// Guard: fewest requests of the new release before a pass.
    pub min_requests: u64,
    /// Guard: share of failed requests above which the new release fails, 0 to 1.
    pub max_error_rate: f64,
}

/// A node of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Unique in the stage, rollback included.
    pub id: String,
    /// What it does.
    pub action: Action,
    /// CEL; `success()` unless said.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Milliseconds for one attempt; 0 is no limit.
    #[serde(default)]
    pub timeout_ms: i64,
    /// Further attempts after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// When and how often a failed step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retry {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Milliseconds between the end of one and the start of the next.
    pub interval_ms: i64,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Action {
    /// Wait for the lock of the stage's target.
    Lock {
        /// Only if no newer release has had it since: else the step ends as superseded.
        only_if_latest: bool,
    },
    /// Give the lock back; `watching` asks to hear of newer releases.
    Unlock {
        /// See above.
        watching: bool,
    },
    /// One verb of the platform driver, done by an executor.
    Verb {
        /// Which.
        verb: Verb,
        /// Percent of capacity (`stage`) or traffic (`shift`); 0 for the others.
        percent: u32,
    },
    /// Dependants may start: the new release is live.
    Promoted,
    /// A script, run by an executor.
    Run {
        /// *Template*.
        script: String,
        /// *Templates*.
        env: BTreeMap<String, String>,
        /// Executors that may do it.
        pool: String,
        /// A script whose worker vanished is run again when `true`, else the step fails with `executor-lost`.
        repeat_on_crash: bool,
    },
    /// Let time pass.
    Wait {
        /// Milliseconds.
        duration_ms: i64,
    },
    /// Ask people.
    Approve {
        /// Minimum for each group.
        by: BTreeMap<String, u32>,
        /// Members of each group when the plan was compiled.
        groups: BTreeMap<String, Vec<String>>,
        /// Milliseconds until it expires; 0 is never.
        expires_ms: i64,
        /// What is asked (*template*).
        message: String,
    },
    /// Compare the releases until the evidence decides.
    Verify {
        /// Percent of traffic of the new release.
        weight: u32,
        /// At the latest after, in milliseconds.
        within_ms: i64,
    },
    /// Keep comparing after promotion.
    Watch {
        /// Milliseconds.
        duration_ms: i64,
    },
    /// Goes to an executor and back and does nothing: for load tests.
    Nothing {
        /// Executors that may do it.
        pool: String,
    },
}

/// The five verbs of a platform driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Report what is there.
    Observe,
    /// Put the new release beside what is there, without traffic.
    Stage,
    /// Give it a share of the traffic.
    Shift,
    /// Make it the stable one.
    Promote,
    /// Remove what is no longer needed.
    Retire,
}
