//! A run as people see it.

use std::collections::BTreeMap;

use cdflow_protocol::UnixMillis;
use serde::{Deserialize, Serialize};

use super::ApprovalView;

/// Query of `GET /runs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRuns {
    /// At most so many, newest first; 50 unless said, never more than 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only of this pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Only with this [`RunStatus`] or [`Outcome`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Answer of `GET /runs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<RunSummary>,
}

/// One line of a list of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Number in the project, from 1.
    pub number: u64,
    /// Unique for ever.
    pub id: String,
    /// Name of the pipeline; `deploy` for a deployment without one.
    pub pipeline: String,
    /// The service that is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The version that is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it is.
    pub status: RunStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Who started it.
    pub initiator: Actor,
    /// Why, in one phrase.
    pub cause: String,
    /// When it started.
    pub started_ms: UnixMillis,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<UnixMillis>,
    /// Why it ended as it did; the stage it is in while it goes on.
    pub reason: String,
}

/// Everything about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Number in the project, from 1.
    pub number: u64,
    /// Unique for ever.
    pub id: String,
    /// The project.
    pub project: String,
    /// Name of the pipeline; `deploy` for a deployment without one.
    pub pipeline: String,
    /// The service that is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The version that is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it is.
    pub status: RunStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Who started it.
    pub initiator: Actor,
    /// Why, in one phrase: "CI event artifact.published 4711".
    pub cause: String,
    /// When it started.
    pub started_ms: UnixMillis,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<UnixMillis>,
    /// Why it ended as it did; empty while it goes on.
    pub reason: String,
    /// In the order of the pipeline.
    pub stages: Vec<StageView>,
    /// What it waits for now.
    pub waiting: Vec<Waiting>,
    /// Approvals that were asked for, oldest first.
    pub approvals: Vec<ApprovalView>,
    /// Of the OpenTelemetry trace, 32 hexadecimal digits; empty if there is none.
    pub trace_id: String,
    /// Revision of the configuration that it was compiled from.
    pub revision: u64,
    /// Journal sequence of the last change.
    pub sequence: u64,
}

/// Who caused something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// `person`, `ci`, `schedule` or `service`.
    pub kind: String,
    /// Name of the person, source of the event, name of the service.
    pub name: String,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Has a number, not yet taken up.
    Requested,
    /// Something is being done.
    Running,
    /// All that goes on waits for a person, a lock or time.
    Waiting,
    /// Live, and still compared with what was there before.
    Watching,
    /// A stage is being rolled back.
    RollingBack,
    /// Ended: see the outcome.
    Finished,
}

/// How a run, a stage or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words of the pipeline language, explained there")]
pub enum Outcome {
    Succeeded,
    Failed,
    RolledBack,
    Skipped,
    Ignored,
    Cancelled,
    Rejected,
    Expired,
    Superseded,
}

/// A stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// Unique in the run.
    pub id: String,
    /// Stages that come before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Where it deploys, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// On what infrastructure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<String>,
    /// `rolling`, `blue-green` or `canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Where it is.
    pub status: StageStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it ended so, or is being rolled back.
    pub reason: String,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<UnixMillis>,
    /// When the new release became the stable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_ms: Option<UnixMillis>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<UnixMillis>,
    /// One after the other.
    pub steps: Vec<StepView>,
    /// What undoes it; pending until it is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollback: Vec<StepView>,
    /// Version that was live before the first change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Percent of the traffic that the new release has; unset before the first shift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Where users reach the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the release can be tried before it has traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<String>,
}

impl StageView {
    /// Whether it deploys, its release became the stable one, and nobody has begun to undo that.
    pub fn is_live(&self) -> bool {
        let undone = self.status == StageStatus::RollingBack || self.outcome == Some(Outcome::RolledBack);
        self.environment.is_some() && self.promoted_ms.is_some() && !undone
    }
}

/// Where a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageStatus {
    /// Not yet started.
    Pending,
    /// At work.
    Running,
    /// Its step waits for a person, a lock or time.
    Waiting,
    /// Promoted, and still compared.
    Watching,
    /// Being undone.
    RollingBack,
    /// Ended: see the outcome.
    Finished,
}

/// A step of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Unique in the stage.
    pub id: String,
    /// What it does, for people.
    pub title: String,
    /// What sort of step it is.
    pub kind: StepKind,
    /// Percent of capacity or traffic that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// How long it lasts or may wait at most, in milliseconds, where the pipeline says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Where it is.
    pub status: StepStatus,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What sort of failure, such as `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<String>,
    /// From 1; 0 before the first.
    pub attempt: u32,
    /// How many there may be.
    pub attempts: u32,
    /// What happened, in one sentence.
    pub message: String,
    /// When this attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<UnixMillis>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<UnixMillis>,
    /// When it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<UnixMillis>,
    /// When the next attempt begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at_ms: Option<UnixMillis>,
    /// What holds it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// What has been counted so far, while it compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceView>,
    /// What the comparison said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictView>,
    /// What a script wrote to `$CDFLOW_OUTPUT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
}

/// Sorts of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "one for each action of a plan, documented there")]
pub enum StepKind {
    Lock,
    Unlock,
    Observe,
    Stage,
    Shift,
    Promote,
    Retire,
    Promoted,
    Run,
    Wait,
    Approve,
    Verify,
    Watch,
    Nothing,
}

impl StepKind {
    /// Whether a worker does it, and may write a log.
    pub fn has_log(self) -> bool {
        matches!(self, Self::Observe | Self::Stage | Self::Shift | Self::Promote | Self::Retire | Self::Run)
    }
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// Not yet started.
    Pending,
    /// At work.
    Running,
    /// Waits for a person, a lock or time.
    Waiting,
    /// Failed, and will be tried again.
    Retrying,
    /// Ended: see the outcome.
    Finished,
}

/// Why something does not go on, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: String,
    /// For what, in one sentence.
    pub what: String,
    /// Since when.
    pub since_ms: UnixMillis,
    /// Until when at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<UnixMillis>,
    /// What would release it, in one sentence.
    pub released_by: String,
}

/// What has been counted in the comparison that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// Of the new release.
    pub canary: Counted,
    /// Of the release before, in the same time; unset when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Counted>,
    /// When it was last counted.
    pub time_ms: UnixMillis,
}

/// Requests to one release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// All of them.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// What a comparison of two releases said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// Pass, fail or inconclusive.
    pub kind: VerdictKind,
    /// What it stands on.
    pub basis: Basis,
    /// The reason in one sentence that a person can repeat in a meeting.
    pub sentence: String,
    /// The numbers, in this order.
    pub figures: Vec<Figure>,
}

/// What a verdict says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// Goes on.
    Pass,
    /// Rolls back.
    Fail,
    /// Not enough evidence.
    Inconclusive,
}

/// What a verdict stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The release before, at the same time.
    Control,
    /// The service's own past.
    History,
    /// Fixed limits: there was nothing to compare with.
    Guards,
}

/// A number beside a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// For example "errors, canary".
    pub name: String,
    /// For example "41 of 1,204 (3.4 %)".
    pub value: String,
}
