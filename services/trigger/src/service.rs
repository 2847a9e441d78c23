//! Wiring: ledger, consumer and HTTP edge in one process.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cdflow_access::{Access, KvTokens};
use cdflow_bus::Bus;
use cdflow_journal::JournalOptions;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Authentication, Options, TriggerLedger, consumer::Consumer, counts::Counts, http, observe::Log};

/// Runs the trigger until `stop`. Several instances may run: one owns the ledger of a partition, all share the events.
///
/// # Errors
/// When it cannot start (bus, installation, address) or its journal is damaged.
pub async fn run(options: Options, bus_options: cdflow_bus::Options, stop: CancellationToken) -> Result<()> {
    options.check()?;
    let bus = Bus::connect(&bus_options.named("trigger")).await?;
    let access = match options.authentication {
        Authentication::Tokens => Some(Access::new(KvTokens::open(&bus).await?)),
        Authentication::None => None,
    };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listen for CI events on {}", options.listen))?;
    tracing::info!(address = %listener.local_addr()?, project = options.project, "taking CI events");

    let counts = Arc::new(Counts::default());
    let edge = http::Edge {
        bus: bus.clone(),
        access,
        max_event_bytes: options.max_event_bytes,
        counts: counts.clone(),
        checks: vec![bus.health()],
    };
    let consumer =
        Consumer { bus: bus.clone(), project: options.project, max_event_bytes: options.max_event_bytes, counts };
    let journal = JournalOptions::new(cdflow_telemetry::instance_name());
    tokio::try_join!(
        async { Ok(cdflow_journal::serve::<TriggerLedger>(bus, journal, Arc::new(Log), stop.clone()).await?) },
        consumer.run(stop.clone()),
        http::serve(edge, listener, stop.clone()),
    )?;
    Ok(())
}
