//! Wiring.

use std::sync::Arc;

use anyhow::Result;
use cdflow_bus::Bus;
use cdflow_journal::JournalOptions;
use cdflow_telemetry::health;
use tokio_util::sync::CancellationToken;

use crate::{Approval, Options, observe::Log};

/// Runs the approval service until `stop`. Several instances may run: they share the partitions.
///
/// # Errors
/// When it cannot start (bus, installation, address) or its journal is damaged.
pub async fn run(options: Options, bus_options: cdflow_bus::Options, stop: CancellationToken) -> Result<()> {
    let bus = Bus::connect(&bus_options.named("approval")).await?;
    let journal = JournalOptions::new(cdflow_telemetry::instance_name());
    let checks = vec![bus.health()];
    tokio::try_join!(
        async { Ok(cdflow_journal::serve::<Approval>(bus, journal, Arc::new(Log), stop.clone()).await?) },
        health::serve(options.health, checks, stop.clone()),
    )?;
    Ok(())
}
