//! Wiring: the journal of verifications, and collectors for pools, in one process.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use cdflow_bus::Bus;
use cdflow_journal::{JournalOptions, Observer, StoredEntry};
use cdflow_protocol::v1::verification_event::Kind;
use cdflow_telemetry::health;
use cdflow_worker::{Worker, WorkerOptions};
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    COLLECTOR, Options, Role, Verification,
    collector::{Collector, outbox},
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
        serve_health(&options, &bus, &stop),
        decide(&options, &bus, &instance, &stop),
        collect(&options, &bus, &instance, &stop),
    )?;
    Ok(())
}

async fn serve_health(options: &Options, bus: &Bus, stop: &CancellationToken) -> Result<()> {
    if let Some(address) = options.health {
        health::serve(address, vec![bus.health()], stop.clone())
            .await
            .with_context(|| format!("answer health checks on {address}"))?;
    }
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

/// What operators read in the log, once it is stored.
struct Log;

impl Observer<Verification> for Log {
    fn stored(&self, entry: &StoredEntry<'_, Verification>) {
        let verification = entry.aggregate_id;
        for event in entry.events {
            match &event.kind {
                Some(Kind::Began(began)) => {
                    let phase = began.phase.clone().unwrap_or_default();
                    tracing::info!(
                        verification,
                        step = phase.step_id,
                        weight = phase.weight,
                        watch = phase.watch,
                        "begun"
                    );
                }
                Some(Kind::Verdict(given)) => {
                    let verdict = given.verdict.clone().unwrap_or_default();
                    let (kind, sentence) = (verdict.kind().as_str_name(), &verdict.sentence);
                    tracing::info!(verification, step = given.step_id, kind, sentence, "verdict");
                }
                Some(Kind::Ended(ended)) => tracing::info!(verification, reason = ended.reason, "ended"),
                Some(Kind::Collector(started)) => {
                    let task = started.task.as_ref().map_or("", |task| task.id.as_str());
                    tracing::info!(verification, task, "collector asked for");
                }
                Some(Kind::Readings(_)) | None => {}
            }
        }
    }
}
