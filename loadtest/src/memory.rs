//! What a live run weighs in its owner's memory.
//!
//! An owner in a process of its own holds more and more runs that wait. The slope of its resident memory over their
//! number is what one weighs, free of what the process takes anyway.

use std::time::Duration;

use anyhow::Result;
use cdflow_protocol::AggregateKind;
use cdflow_testkit::{NatsServer, SyncMode};
use serde::Serialize;

use crate::{
    machine::resident_bytes,
    measure::slope,
    owner::OwnerProcess,
    run::{Starter, new_id, waiting_plan},
    whole::{connect, install},
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Runs started with one message.
const TOGETHER: usize = 200;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// Live runs, and resident bytes of their owner.
    pub(crate) points: Vec<(u64, u64)>,
    /// Slope of the line through the points.
    pub(crate) bytes_per_run: f64,
    /// Bytes of the plan of each run, as stored.
    pub(crate) plan_bytes: usize,
}

/// Fills an owner with runs.
pub(crate) async fn measure(quick: bool) -> Result<Memory> {
    let levels: &[u64] = if quick { &[200, 400] } else { &[1_000, 5_000, 10_000, 15_000, 20_000] };
    // Nothing here depends on when the server syncs.
    let server = NatsServer::start(SyncMode::Default).await?;
    install(&server.url()).await?;
    let bus = connect(&server.url(), "loadtest-client").await?;
    let mut owner = OwnerProcess::start(&server.url(), "loadtest-memory")?;
    owner.until("it owns the partition", |owning| owning.partitions == 1, PATIENCE).await?;
    let plan = waiting_plan();
    let starter = Starter::new(&plan);
    let (mut started, mut points) = (0, Vec::new());
    for &level in levels {
        while started < level {
            let count = TOGETHER.min(usize::try_from(level - started).unwrap_or(TOGETHER));
            let signals = (0..count).map(|_| {
                started += 1;
                starter.signal(&new_id(), started)
            });
            let signals = signals.collect();
            bus.send_signals(AggregateKind::Run, signals).await?;
        }
        owner.until("all runs are live", |owning| owning.live >= level, PATIENCE).await?;
        // What was in flight is let go.
        tokio::time::sleep(Duration::from_secs(1)).await;
        points.push((level, resident_bytes(owner.pid()?)?));
    }
    let line: Vec<_> = points.iter().map(|(runs, bytes)| (*runs as f64, *bytes as f64)).collect();
    Ok(Memory { bytes_per_run: slope(&line), points, plan_bytes: cdflow_engine::run::encode_plan(&plan).len() })
}
