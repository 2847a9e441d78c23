//! Requests and answers of the REST API below [`BASE`], for the server and for every client in Rust.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `GET /runs` | [`ListRuns`] (query) | [`RunList`] |
//! | `GET /runs/{run}` | `12`, a run id or `latest` | [`RunView`] |
//! | `GET /runs/{run}/watch` | | server-sent events, [`event::RUN`] with a [`RunView`] each, then [`event::END`] |
//! | `GET /runs/{run}/explain` | | [`Explanation`] |
//! | `GET /runs/{run}/logs` | [`ReadLogs`] (query) | server-sent events, [`event::LINE`] with a [`LogLine`] each, then [`event::END`] |
//! | `GET /runs/{run}/events` | | [`History`] |
//! | `POST /runs` | [`StartRun`] | [`StartedRun`] |
//! | `POST /deployments` | [`StartDeployment`] | [`StartedRun`] |
//! | `POST /runs/{run}/cancel` | [`CancelRun`] | [`CommandAnswer`] |
//! | `POST /runs/{run}/rollback` | [`RollBackRun`] | [`CommandAnswer`] |
//! | `POST /runs/{run}/approval` | [`DecideApproval`] | [`CommandAnswer`] |
//! | `GET /board` | | [`Board`] |
//! | `GET /trigger/log` | [`ReadTriggerLog`] (query) | [`TriggerLog`] |
//! | `GET /configuration` | | [`Configuration`] |
//! | `PUT /configuration` | [`ReplaceConfiguration`] | [`ConfigurationReplaced`] |
//! | `POST /login` | [`Login`] | [`Session`] |
//! | `POST /logout` | | [`CommandAnswer`] |
//! | `GET /me` | | [`Me`] |
//!
//! An answer to a command has status 200 when it took effect, 202 when it was stored but not yet handled after 10 s, 409
//! when it was refused. Everything that fails is answered with a [`Problem`] (`application/problem+json`).
//!
//! Times are Unix milliseconds. Keys are never renamed or given another meaning; clients ignore the ones they do not know.

mod approval;
mod board;
mod command;
mod configuration;
mod history;
mod problem;
mod run;
mod session;

pub use approval::{ApprovalView, DecisionView, Quorum};
pub use board::{Board, BoardCell, OnItsWay, ReadTriggerLog, TriggerEntry, TriggerLog};
pub use command::{CancelRun, CommandAnswer, DecideApproval, RollBackRun, StartDeployment, StartRun, StartedRun};
pub use configuration::{Configuration, ConfigurationReplaced, Document, ReplaceConfiguration, StoredDocument};
pub use history::{Explanation, History, HistoryEntry, LogLine, ReadLogs};
pub use problem::{DiagnosticView, Problem};
pub use run::{
    Actor, Basis, Counted, EvidenceView, Figure, ListRuns, Outcome, RunList, RunStatus, RunSummary, RunView,
    StageStatus, StageView, StepKind, StepStatus, StepView, VerdictKind, VerdictView, Waiting,
};
pub use session::{Login, Me, Session};

/// Where the API is.
pub const BASE: &str = "/api/v1";

/// Media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Names of server-sent events.
pub mod event {
    /// A whole [`super::RunView`].
    pub const RUN: &str = "run";
    /// One [`super::LogLine`].
    pub const LINE: &str = "line";
    /// Nothing more follows.
    pub const END: &str = "end";
}
