//! Owns runs and locks: decides what happens next, and sees to it that it happens.
//!
//! There is nothing here but wiring. What is decided stands in `shared/engine`, how it survives crashes in
//! `shared/journal`; this service adds the spans that show a run in a tracing system. Several instances share the
//! partitions; when one dies, another takes over within a few seconds.

mod options;
mod spans;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cdflow_bus::{Bus, Options as BusOptions};
use cdflow_engine::{Lock, Run};
use cdflow_journal::NoObserver;
use cdflow_telemetry::health;
use tokio_util::sync::CancellationToken;

pub use options::Options;
pub use spans::SpanObserver;

/// Runs until `stop`.
///
/// # Errors
/// When it cannot start (bus, installation, address) or its journal is damaged.
pub async fn run(options: Options, bus: BusOptions, stop: CancellationToken) -> Result<()> {
    let bus = Bus::connect(&bus).await?;
    let checks = vec![bus.health()];
    let runs = cdflow_journal::serve::<Run>(bus.clone(), options.journal(), Arc::new(SpanObserver), stop.clone());
    let locks = cdflow_journal::serve::<Lock>(bus, options.journal(), Arc::new(NoObserver), stop.clone());
    tokio::try_join!(
        async { runs.await.context("runs") },
        async { locks.await.context("locks") },
        health::serve(options.health, checks, stop.clone())
    )?;
    Ok(())
}
