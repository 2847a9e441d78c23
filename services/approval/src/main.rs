//! The approval service as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// Asks people, counts what they say and tells the run.
#[derive(Parser)]
#[command(name = "cdflow-approval", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_approval::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("approval", &arguments.service.telemetry)?;
    cdflow_approval::run(arguments.options, arguments.service.bus("approval")?, stop_signal()).await
}
