//! What every request works with.

use std::{sync::Arc, time::Duration};

use cdflow_access::Access;
use cdflow_bus::{Bus, ConfigurationStore};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Board, RunView},
    http::{Failure, SessionCookie},
    project::ProjectConfiguration,
    read_model::{self, Changes, Database, Progress, RunRef},
};

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Console(Arc<Parts>);

/// What a console is made of.
pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) database: Database,
    pub(crate) changes: Changes,
    pub(crate) progress: Progress,
    pub(crate) access: Access,
    pub(crate) store: ConfigurationStore,
    pub(crate) configuration: watch::Receiver<Arc<ProjectConfiguration>>,
    pub(crate) project: String,
    pub(crate) cookie: SessionCookie,
    pub(crate) session_lifetime: Duration,
    pub(crate) answer_within: Duration,
    pub(crate) stop: CancellationToken,
}

impl Console {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.0.bus
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.0.changes
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.0.progress
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
    }

    /// The stored configuration.
    pub(crate) fn store(&self) -> &ConfigurationStore {
        &self.0.store
    }

    /// The configuration as last seen; a change arrives within moments.
    pub(crate) fn configuration(&self) -> Arc<ProjectConfiguration> {
        self.0.configuration.borrow().clone()
    }

    /// The configuration as it is stored now, for what must not be decided on an older one.
    pub(crate) async fn newest_configuration(&self) -> Result<Arc<ProjectConfiguration>, Failure> {
        let known = self.configuration();
        match self.store().load(self.project()).await? {
            Some((revision, _)) if revision == known.revision() => Ok(known),
            Some((revision, body)) => Ok(Arc::new(ProjectConfiguration::read(revision, &body))),
            None => Ok(Arc::default()),
        }
    }

    pub(crate) fn project(&self) -> &str {
        &self.0.project
    }

    pub(crate) fn cookie(&self) -> SessionCookie {
        self.0.cookie
    }

    pub(crate) fn session_lifetime(&self) -> Duration {
        self.0.session_lifetime
    }

    pub(crate) fn answer_within(&self) -> Duration {
        self.0.answer_within
    }

    /// Cancelled when the console stops: streams of events end then.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// The run that somebody names.
    pub(crate) async fn run(&self, named: &str) -> Result<RunView, Failure> {
        let named: RunRef = named.parse().unwrap_or_else(|never| match never {});
        let found = self.database().run(self.project(), &named).await?;
        found.ok_or_else(|| Failure::NotFound(format!("{named} in project {}", self.project())))
    }

    /// What is where.
    pub(crate) async fn board(&self) -> Result<Board, Failure> {
        let live = self.database().live(self.project()).await?;
        let unfinished = self.database().unfinished(self.project()).await?;
        Ok(read_model::board(self.configuration().known(), live, &unfinished))
    }
}
