//! Wiring: the journal of verifications, and collectors for pools, in one process.

use std::sync::Arc;

use anyhow::Result;
use cdflow_bus::Bus;
use cdflow_journal::JournalOptions;
use cdflow_telemetry::health;
use cdflow_worker::{Worker, WorkerOptions};
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    COLLECTOR, Options, Role, Verification,
    collector::{Collector, outbox},
    observe::Log,
};

/// Runs the verifier until `stop`. Several instances may run: one owns the verifications of a partition, all share the
/// tasks of their pools.
///
/// # Errors
/// When it cannot start (bus, installation, address) or its journal is damaged.
pub async fn run(options: Options, bus_options: cdflow_bus::Options, stop: CancellationToken) -> Result<()> {
    options.check()?;
    let bus = Bus::connect(&bus_options.named("verifier")).await?;
    let instance = cdflow_telemetry::instance_name();
    tokio::try_join!(
        health::serve(options.health, vec![bus.health()], stop.clone()),
        decide(&options, &bus, &instance, &stop),
        collect(&options, &bus, &instance, &stop),
    )?;
    Ok(())
}

async fn decide(options: &Options, bus: &Bus, instance: &str, stop: &CancellationToken) -> Result<()> {
    if options.role != Role::Collect {
        let journal = JournalOptions::new(instance);
        cdflow_journal::serve::<Verification>(bus.clone(), journal, Arc::new(Log), stop.clone()).await?;
    }
    Ok(())
}

async fn collect(options: &Options, bus: &Bus, instance: &str, stop: &CancellationToken) -> Result<()> {
    if options.role == Role::Decide {
        return Ok(());
    }
    let (outbox, postman) = outbox();
    let pools = options.pools.iter().map(|pool| pool.trim()).filter(|pool| !pool.is_empty());
    let workers = try_join_all(pools.map(|pool| {
        let worker = WorkerOptions {
            service: "verifier".into(),
            slots: options.collections,
            // A collection has no end to wait for: another instance goes on with it.
            finish_within: std::time::Duration::ZERO,
            ..WorkerOptions::new(COLLECTOR, pool, instance)
        };
        Worker::new(bus.clone(), worker).run(Collector::new(outbox.clone()), stop.clone())
    }));
    let workers = async {
        let ended = workers.await;
        // The postman ends when the last outbox is gone.
        drop(outbox);
        ended
    };
    let (ended, ()) = tokio::join!(workers, postman.run(bus.clone()));
    ended?;
    Ok(())
}
