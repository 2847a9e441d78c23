//! Platforms: whatever a release can run on. Each speaks the same five verbs, so that every strategy works on all.

mod vm;

use cdflow_pipeline::plan::{Platform, Target};
use cdflow_protocol::v1::{Fence, Observation, Release};
use futures::future::BoxFuture;

use crate::{artifact::ArtifactCache, error::Error, log::StepLog};

/// What a verb is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// The release to act on; in a rollback the one to go back to, and `None` when there was none.
    pub release: Option<Release>,
    /// What was live before; in a rollback the release that is undone.
    pub previous: Option<Release>,
    /// It undoes an earlier change.
    pub rollback: bool,
}

/// On whose behalf a verb changes things.
pub struct Attempt {
    /// Older ones are refused by the target.
    pub fence: Fence,
    /// Where to tell what is done.
    pub log: StepLog,
    /// Whether the task is still this executor's.
    pub may_change: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The five verbs.
///
/// Each looks before it changes anything, may be run again after it was ended at any instruction, and then leads to the
/// same state; what it has started is never started twice. A future that is dropped stops between two changes.
pub trait Driver: Send + Sync {
    /// What is there. Changes nothing.
    fn observe<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Observation, Error>>;

    /// Puts the release beside what is there, on this percent of the capacity (rounded up, at least one copy), without
    /// traffic.
    fn stage<'a>(
        &'a self,
        attempt: &'a Attempt,
        change: &'a Change,
        percent: u32,
    ) -> BoxFuture<'a, Result<Observation, Error>>;

    /// Gives the release this percent of the traffic, and the rest to `previous`.
    fn shift<'a>(
        &'a self,
        attempt: &'a Attempt,
        change: &'a Change,
        percent: u32,
    ) -> BoxFuture<'a, Result<Observation, Error>>;

    /// Makes the release the stable one: full capacity, all traffic.
    fn promote<'a>(&'a self, attempt: &'a Attempt, change: &'a Change) -> BoxFuture<'a, Result<Observation, Error>>;

    /// Drains and removes everything of the service that is not the release.
    fn retire<'a>(&'a self, attempt: &'a Attempt, change: &'a Change) -> BoxFuture<'a, Result<Observation, Error>>;
}

/// What drivers share.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// For readiness checks.
    pub http: reqwest::Client,
    /// Where artifacts come from.
    pub artifacts: ArtifactCache,
    /// How many releases stay on a host, the live one included.
    pub keep_releases: usize,
}

/// The driver of a target. A new platform is a variant of `Platform` and a line here.
///
/// # Errors
/// [`Error::Configuration`] when the target makes no sense.
pub fn driver(target: &Target, surroundings: &Surroundings) -> Result<Box<dyn Driver>, Error> {
    match &target.platform {
        Platform::Vm { .. } => Ok(Box::new(vm::Vm::new(target, surroundings)?)),
    }
}
