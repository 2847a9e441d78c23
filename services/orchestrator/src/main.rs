//! The orchestrator as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// Owns runs and locks.
#[derive(Parser)]
#[command(name = "cdflow-orchestrator", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_orchestrator::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("orchestrator", &arguments.service.telemetry)?;
    cdflow_orchestrator::run(arguments.options, arguments.service.bus("orchestrator")?, stop_signal()).await
}
