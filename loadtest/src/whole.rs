//! The whole path: the orchestrator's journal, a worker, a projector and clients, each on a connection of its own.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use cdflow_bus::{Bus, NewInstallation, Options};
use cdflow_engine::Run;
use cdflow_journal::{JournalMetrics, JournalOptions, Observer, StoredEntry};
use cdflow_protocol::{
    AggregateKind,
    v1::{Task, TaskResult, run_event},
};
use cdflow_worker::{Handler, TaskContext, Worker, WorkerOptions, succeeded};
use tokio_util::sync::CancellationToken;

use crate::{
    beside::Beside,
    client::{InFlight, Load, drive},
    measure::Throughput,
    projector::project,
    run::{POOL, Starter, empty_plan, new_id},
};

/// The system that is measured.
pub(crate) struct Whole {
    beside: Beside,
    stop: CancellationToken,
    in_flight: Arc<InFlight<String>>,
    source: Bus,
    starter: Starter,
    metrics: Arc<JournalMetrics>,
}

/// What the journal counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commits {
    pub(crate) commits: u64,
    pub(crate) entries: u64,
    /// Sum of the times from sending a commit to its acknowledgement.
    pub(crate) appending: Duration,
}

impl Commits {
    fn now(metrics: &JournalMetrics) -> Self {
        Self {
            commits: metrics.commits.get(),
            entries: metrics.entries.get(),
            appending: Duration::from_micros(metrics.append_micros.get()),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            entries: self.entries - before.entries,
            appending: self.appending - before.appending,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.commits += other.commits;
        self.entries += other.entries;
        self.appending += other.appending;
    }

    /// Decisions in a commit.
    pub(crate) fn group(&self) -> f64 {
        self.entries as f64 / self.commits.max(1) as f64
    }

    /// Milliseconds from sending a commit to its acknowledgement.
    pub(crate) fn append_ms(&self) -> f64 {
        self.appending.as_secs_f64() * 1e3 / self.commits.max(1) as f64
    }
}

/// Does what an executor does for an empty step.
pub(crate) struct DoNothing;

impl Handler for DoNothing {
    async fn perform(&self, _: Task, _: TaskContext) -> TaskResult {
        succeeded("")
    }
}

/// A worker of the pool that the runs use.
pub(crate) async fn work(bus: Bus, stop: CancellationToken) -> Result<()> {
    let options = WorkerOptions::new("executor", POOL, "loadtest");
    Ok(Worker::new(bus, options).run(DoNothing, stop).await?)
}

impl Observer<Run> for InFlight<String> {
    fn stored(&self, entry: &StoredEntry<'_, Run>) {
        let has_ended = entry.events.iter().any(|event| matches!(event.kind, Some(run_event::Kind::RunFinished(_))));
        InFlight::stored(self, entry.aggregate_id, has_ended);
    }
}

/// Creates an empty installation, which asks for less of the disk than a real one.
pub(crate) async fn install(url: &str) -> Result<()> {
    let new = NewInstallation { max_bytes: 2 << 30, ..NewInstallation::default() };
    cdflow_bus::install(&Options::new(url, "loadtest-install"), &new).await?;
    Ok(())
}

/// A connection of its own.
pub(crate) async fn connect(url: &str, name: &str) -> Result<Bus> {
    Ok(Bus::connect(&Options::new(url, name)).await?)
}

impl Whole {
    /// Starts everything on an installation, and waits until a run has gone through.
    pub(crate) async fn start(url: &str) -> Result<Self> {
        let (mut beside, stop) = (Beside::default(), CancellationToken::new());
        let in_flight = Arc::new(InFlight::default());
        let options = JournalOptions::new("loadtest");
        let metrics = options.metrics.clone();
        let owner = connect(url, "loadtest-orchestrator").await?;
        let served = cdflow_journal::serve::<Run>(owner, options, in_flight.clone(), stop.clone());
        beside.start("the orchestrator", async { Ok(served.await?) });
        beside.start("the worker", work(connect(url, "loadtest-worker").await?, stop.clone()));
        let projected = project(connect(url, "loadtest-projector").await?, |_| {});
        let stopped = stop.clone();
        beside.start("the projector", async move { stopped.run_until_cancelled(projected).await.unwrap_or(Ok(())) });
        let source = connect(url, "loadtest-client").await?;
        let starter = Starter::new(&empty_plan());
        let mut whole = Self { beside, stop, in_flight, source, starter, metrics };
        whole.measure(Load { runs: 1, in_flight: 1 }).await.context("the first run")?;
        Ok(whole)
    }

    /// Carries runs to their ends.
    pub(crate) async fn measure(&mut self, load: Load) -> Result<(Throughput, Commits)> {
        let before = Commits::now(&self.metrics);
        let (source, starter, in_flight) = (self.source.clone(), self.starter.clone(), self.in_flight.clone());
        let start = move |number: u32| {
            let (source, starter, in_flight) = (source.clone(), starter.clone(), in_flight.clone());
            async move {
                let id = new_id();
                let signal = starter.signal(&id, u64::from(number));
                let ended = in_flight.begin(id);
                source.send_signals(AggregateKind::Run, vec![signal]).await?;
                Ok(ended)
            }
        };
        let measured = self.beside.during(drive(load, &self.stop, &self.in_flight, start)).await?;
        Ok((measured, Commits::now(&self.metrics).since(before)))
    }

    /// Stops everything in good order.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.beside.ended().await
    }
}
