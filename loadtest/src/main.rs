//! Measures cdflow: how many runs it carries, what a step costs, how fast an owner is replaced, what a run weighs.
//!
//! Everything measured is the real code against a real nats-server that this program starts. Beside the whole path, in
//! the same minute, it measures the bare write path: the same messages without anything being decided. Their ratio says
//! what cdflow costs, and is less a matter of the machine than either figure. It is a report, not a test: a limit that
//! is missed is marked, and the exit code stays 0.

mod bare;
mod beside;
mod client;
mod machine;
mod measure;
mod memory;
mod options;
mod owner;
mod projector;
mod report;
mod run;
mod sizes;
mod takeover;
mod throughput;
mod whole;

use std::io::Write as _;

use anyhow::Result;
use clap::Parser as _;

use options::{Command, Options, Part};
use report::Report;

/// Most allocations of a run are small and freed by another thread than made them, which costs glibc's allocator about
/// a third of the processor time outside of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Command::Own(own)) = &options.command {
        return owner::run(own).await;
    }
    let mut report = Report::begin().await?;
    let measured = measure(&options, &mut report).await;
    // What was found before an error is found all the same.
    let text = if options.json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    writeln!(std::io::stdout(), "{text}")?;
    measured
}

async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if options.measures(Part::Throughput) {
        throughput::measure(options, report).await?;
    }
    if options.measures(Part::Takeover) {
        report.takeover = Some(takeover::measure(options.quick).await?);
    }
    if options.measures(Part::Memory) {
        report.memory = Some(memory::measure(options.quick).await?);
    }
    Ok(())
}
