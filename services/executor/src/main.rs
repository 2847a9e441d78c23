//! The executor as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// Does verbs and scripts near the targets.
#[derive(Parser)]
#[command(name = "cdflow-executor", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_executor::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("executor", &arguments.service.telemetry)?;
    cdflow_executor::run(arguments.options, arguments.service.bus("executor")?, stop_signal()).await
}
