//! The console as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// API, pages and the read model of cdflow.
#[derive(Parser)]
#[command(name = "cdflow-console", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_console::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("console", &arguments.service.telemetry)?;
    cdflow_console::run(arguments.options, arguments.service.bus("console")?, stop_signal()).await
}
