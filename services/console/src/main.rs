//! The console as a process of its own.

use cdflow_telemetry::ServiceOptions;
use clap::Parser;

/// API, pages and the read model of cdflow.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    console: cdflow_console::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = cdflow_telemetry::init("console", &arguments.service.telemetry)?;
    let bus = arguments.service.bus("console")?;
    cdflow_console::run(arguments.console, bus, cdflow_telemetry::stop_signal()).await
}
