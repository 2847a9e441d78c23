//! The trigger as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// Takes CI events and starts pipelines.
#[derive(Parser)]
#[command(name = "cdflow-trigger", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_trigger::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("trigger", &arguments.service.telemetry)?;
    cdflow_trigger::run(arguments.options, arguments.service.bus("trigger")?, stop_signal()).await
}
