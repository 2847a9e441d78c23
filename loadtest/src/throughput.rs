//! Runs per second and what a step costs: the whole path and the bare one in turn, on the same server.

use std::time::Duration;

use anyhow::Result;
use cdflow_testkit::NatsServer;
use serde::Serialize;

use crate::{
    bare,
    client::Load,
    machine::processor_time,
    measure::Throughput,
    options::{Durability, Options},
    report::Report,
    run::STEPS,
    sizes::Sizes,
    whole::{Commits, Whole, install},
};

/// One path at one load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PathFigures {
    pub(crate) runs: usize,
    pub(crate) runs_per_second: f64,
    pub(crate) run_p50_ms: f64,
    pub(crate) step_p50_ms: f64,
    pub(crate) step_p99_ms: f64,
    /// Processor time of nats-server for a run.
    pub(crate) server_cpu_ms: f64,
    /// Processor time of everything else for a run: owner, worker, reader and clients.
    pub(crate) client_cpu_ms: f64,
}

/// Both paths at one load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) durability: Durability,
    pub(crate) in_flight: u16,
    pub(crate) steps: u32,
    pub(crate) whole: PathFigures,
    pub(crate) bare: PathFigures,
    /// Runs per second of the whole path by those of the bare one.
    pub(crate) ratio: f64,
    /// Decisions in a commit of the whole path.
    pub(crate) decisions_per_commit: f64,
    /// From sending a commit to its acknowledgement, on average.
    pub(crate) append_ms: f64,
}

/// Processor time of the server and of this process.
#[derive(Debug, Default, Clone, Copy)]
struct Cpu {
    server: Duration,
    clients: Duration,
}

impl Cpu {
    fn now(server: u32) -> Result<Self> {
        Ok(Self { server: processor_time(server)?, clients: processor_time(std::process::id())? })
    }

    fn add(&mut self, before: Self, after: Self) {
        self.server += after.server.saturating_sub(before.server);
        self.clients += after.clients.saturating_sub(before.clients);
    }
}

impl PathFigures {
    fn new(found: &Throughput, cpu: Cpu) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let per_run = |time: Duration| ms(time) / found.runs.len().max(1) as f64;
        Self {
            runs: found.runs.len(),
            runs_per_second: found.runs_per_second(),
            run_p50_ms: ms(found.runs.quantile(0.5)),
            step_p50_ms: ms(found.steps.quantile(0.5)),
            step_p99_ms: ms(found.steps.quantile(0.99)),
            server_cpu_ms: per_run(cpu.server),
            client_cpu_ms: per_run(cpu.clients),
        }
    }
}

/// Runs of one round: a few seconds' worth, whatever the load.
fn runs_of_a_round(in_flight: u16, quick: bool) -> u32 {
    let in_flight = u32::from(in_flight);
    if quick { 4 * in_flight } else { (100 + 60 * in_flight).min(8_000) }
}

/// Fills in the rows of the report.
pub(crate) async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let sizes = Sizes::of_a_run()?;
    for durability in options.durability() {
        let server = NatsServer::start(durability.sync_mode()).await?;
        install(&server.url()).await?;
        let mut whole = Whole::start(&server.url()).await?;
        for in_flight in options.in_flight() {
            let load = Load { runs: runs_of_a_round(in_flight, options.quick), in_flight };
            if !options.quick {
                // Caches, connections, allocators.
                whole.measure(Load { runs: load.runs / 10, in_flight }).await?;
            }
            let (mut of_whole, mut of_bare) = (Throughput::default(), Throughput::default());
            let (mut cpu_of_whole, mut cpu_of_bare) = (Cpu::default(), Cpu::default());
            let mut commits = Commits::default();
            for _ in 0..options.rounds() {
                let begin = Cpu::now(server.pid())?;
                let (found, stored) = whole.measure(load).await?;
                let middle = Cpu::now(server.pid())?;
                let found_bare = bare::measure(&server.url(), sizes, load).await?;
                let end = Cpu::now(server.pid())?;
                of_whole.merge(found);
                of_bare.merge(found_bare);
                commits.merge(stored);
                cpu_of_whole.add(begin, middle);
                cpu_of_bare.add(middle, end);
            }
            let whole = PathFigures::new(&of_whole, cpu_of_whole);
            let bare = PathFigures::new(&of_bare, cpu_of_bare);
            report.throughput.push(Row {
                durability,
                in_flight,
                steps: STEPS,
                ratio: whole.runs_per_second / bare.runs_per_second,
                whole,
                bare,
                decisions_per_commit: commits.group(),
                append_ms: commits.append_ms(),
            });
        }
        whole.stop().await?;
    }
    Ok(())
}
