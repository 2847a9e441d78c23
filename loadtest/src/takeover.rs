//! How long nothing is decided after the owner of a partition was killed.
//!
//! Two owners in processes of their own, runs in flight all the time. The one that owns the partition is killed; what is
//! measured is what the outside sees: the time until a reader of the journal gets the first decision of the other one,
//! and until every run that was in flight at that moment has ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use cdflow_journal::ReadCommit;
use cdflow_protocol::{
    AggregateKind,
    v1::{RunEvent, run_event},
};
use cdflow_testkit::{NatsServer, SyncMode};
use prost::Message as _;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    beside::Beside,
    client::{InFlight, Load, drive},
    owner::OwnerProcess,
    projector::project,
    run::{Starter, empty_plan, new_id},
    whole::{connect, install, work},
};

const IN_FLIGHT: u16 = 16;
const PATIENCE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Takeovers {
    /// From each kill to the first decision of the other owner, in milliseconds.
    pub(crate) decides_again_ms: Vec<u64>,
    /// From each kill to the end of the last run that was in flight, in milliseconds.
    pub(crate) all_ended_ms: Vec<u64>,
    /// Runs that were started, and that have ended: all of them.
    pub(crate) runs: usize,
}

/// The newest decision that was read.
#[derive(Debug, Clone, Copy)]
struct Decided {
    epoch: u64,
    at: Instant,
}

/// Kills owners.
pub(crate) async fn measure(quick: bool) -> Result<Takeovers> {
    let kills = if quick { 1 } else { 7 };
    let server = NatsServer::start(SyncMode::Always).await?;
    let url = server.url();
    install(&url).await?;
    let in_flight = Arc::new(InFlight::<String>::default());
    let (tell, decided) = watch::channel(Decided { epoch: 0, at: Instant::now() });
    let mut beside = Beside::default();
    let watched = in_flight.clone();
    let see = move |commit: &ReadCommit| {
        if !commit.commit.entries.is_empty() {
            tell.send_replace(Decided { epoch: commit.commit.epoch, at: Instant::now() });
            note_ends(&watched, commit);
        }
    };
    beside.start("the reader", project(connect(&url, "loadtest-reader").await?, see));
    beside.start("the worker", work(connect(&url, "loadtest-worker").await?, CancellationToken::new()));

    let (source, starter, enough) =
        (connect(&url, "loadtest-client").await?, Starter::new(&empty_plan()), CancellationToken::new());
    let runs = in_flight.clone();
    let start = move |number: u32| {
        let (source, starter, runs) = (source.clone(), starter.clone(), runs.clone());
        async move {
            let id = new_id();
            let signal = starter.signal(&id, u64::from(number));
            let ended = runs.begin(id);
            source.send_signals(AggregateKind::Run, vec![signal]).await?;
            Ok(ended)
        }
    };
    let load = Load { runs: u32::MAX, in_flight: IN_FLIGHT };
    let clients = drive(load, &enough, &in_flight, start);
    let rounds = async {
        let found = rounds(&url, kills, decided, &in_flight, &enough).await;
        enough.cancel();
        found
    };
    let (mut found, carried) = beside.during(async { tokio::try_join!(rounds, clients) }).await?;
    found.runs = carried.runs.len();
    Ok(found)
}

fn note_ends(in_flight: &InFlight<String>, commit: &ReadCommit) {
    let ends = |event: &Vec<u8>| {
        RunEvent::decode(event.as_slice())
            .is_ok_and(|event| matches!(event.kind, Some(run_event::Kind::RunFinished(_))))
    };
    for entry in commit.commit.entries.iter().filter(|entry| entry.events.iter().any(ends)) {
        in_flight.stored(&entry.aggregate_id, true);
    }
}

async fn rounds(
    url: &str,
    kills: u32,
    mut decided: watch::Receiver<Decided>,
    in_flight: &InFlight<String>,
    enough: &CancellationToken,
) -> Result<Takeovers> {
    let mut owners = vec![OwnerProcess::start(url, "owner-0")?, OwnerProcess::start(url, "owner-1")?];
    let mut found = Takeovers { decides_again_ms: Vec::new(), all_ended_ms: Vec::new(), runs: 0 };
    for kill in 0..kills {
        let owner = owners.swap_remove(settled(&owners).await?);
        next(&mut decided, |_| true).await?;
        let epoch = decided.borrow().epoch;
        let killed = owner.kill().await?;
        let waiting = in_flight.ids();
        let again = next(&mut decided, |decided| decided.epoch > epoch).await?;
        found.decides_again_ms.push(millis(again - killed));
        let begun = Instant::now();
        while in_flight.has_any(&waiting) {
            if begun.elapsed() > PATIENCE {
                bail!("runs that were in flight when their owner was killed have not ended");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        found.all_ended_ms.push(millis(killed.elapsed()));
        owners.push(OwnerProcess::start(url, &format!("owner-{}", kill + 2))?);
    }
    // The owners are needed until the last run has ended.
    enough.cancel();
    while !in_flight.ids().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(found)
}

/// Waits until the owners have agreed for a while who has the partition: a new one may be the better one for it, and be
/// handed it over.
async fn settled(owners: &[OwnerProcess]) -> Result<usize> {
    const QUIET: Duration = Duration::from_secs(3);
    let begun = Instant::now();
    let (mut has_it, mut since) = (None, Instant::now());
    while begun.elapsed() < PATIENCE {
        let having: Vec<_> = (0..owners.len()).filter(|&i| owners[i].owning().partitions > 0).collect();
        let now = if let [only] = having.as_slice() { Some(*only) } else { None };
        if now != has_it {
            (has_it, since) = (now, Instant::now());
        }
        if let Some(owner) = has_it
            && since.elapsed() >= QUIET
        {
            return Ok(owner);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("two owners have not agreed within {PATIENCE:?} who has the partition")
}

/// The next decision of which this is true.
async fn next(decided: &mut watch::Receiver<Decided>, wanted: impl Fn(&Decided) -> bool) -> Result<Instant> {
    decided.mark_unchanged();
    let found = async {
        loop {
            decided.changed().await?;
            let seen = *decided.borrow_and_update();
            if wanted(&seen) {
                return anyhow::Ok(seen.at);
            }
        }
    };
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => bail!("nothing was decided for {PATIENCE:?}"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
