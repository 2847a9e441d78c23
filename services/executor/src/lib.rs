//! The executor: does verbs and scripts near the targets.
//!
//! # Promise
//! - The effect of a verb happens exactly once per attempt: every verb looks before it changes anything, and a target
//!   refuses whoever comes with an older fence than it has seen.
//! - A script runs at least once, and not again after a crash if it says so (`on-crash`).
//! - No secret of a step's environment is published: output, messages and outputs are redacted here.
//!
//! # A crash in the middle
//! Processes of releases live on: they are in sessions of their own. The task goes to another executor, or to the same
//! one after its restart, whose verb finds how far the first has got and does the rest. See [`cdflow_worker`] for leases,
//! and the module of a platform for what it writes down.

pub mod archive;
mod artifact;
mod error;
mod executor;
mod log;
mod options;
pub mod platform;
pub mod process;
mod redact;
mod script;

pub use artifact::{Artifact, ArtifactCache};
pub use error::Error;
pub use executor::{Executor, perform};
pub use log::{Line, StepLog};
pub use options::Options;
pub use redact::Redactor;

use anyhow::{Result, ensure};
use cdflow_bus::Bus;
use cdflow_telemetry::health;
use cdflow_worker::{Worker, WorkerOptions};
use futures::future::try_join_all;
use platform::Surroundings;
use tokio_util::sync::CancellationToken;

/// Does the tasks of all its pools until `stop`.
///
/// # Errors
/// When it cannot start (pools, bus, installation, address), or the server refuses a subscription.
pub async fn run(options: Options, bus_options: cdflow_bus::Options, stop: CancellationToken) -> Result<()> {
    let pools: Vec<&str> = options.pools.iter().map(|pool| pool.trim()).filter(|pool| !pool.is_empty()).collect();
    ensure!(!pools.is_empty(), "no pool to work for: name one with `--pools`");
    let http = reqwest::Client::builder().connect_timeout(std::time::Duration::from_secs(5)).build()?;
    let artifacts = ArtifactCache::new(std::path::absolute(&options.artifact_cache)?, http.clone());
    let surroundings = Surroundings { http, artifacts, keep_releases: options.keep_releases };
    script::end_orphans();
    let instance = options.instance.clone().unwrap_or_else(cdflow_telemetry::instance_name);
    let bus = Bus::connect(&bus_options).await?;
    let checks = vec![bus.health()];
    let workers = pools.iter().map(|pool| {
        let worker_options = WorkerOptions {
            slots: options.slots,
            lease: options.lease,
            finish_within: options.finish_within,
            ..WorkerOptions::new("executor", *pool, &instance)
        };
        Worker::new(bus.clone(), worker_options).run(Executor::new(surroundings.clone()), stop.clone())
    });
    tracing::info!(executor = %instance, pools = %pools.join(","), "ready for tasks");
    tokio::try_join!(async { Ok(try_join_all(workers).await?) }, health::serve(options.health, checks, stop.clone()))?;
    Ok(())
}
