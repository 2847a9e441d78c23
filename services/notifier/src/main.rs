//! The notifier as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// Publishes what happens as CDEvents.
#[derive(Parser)]
#[command(name = "cdflow-notifier", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_notifier::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("notifier", &arguments.service.telemetry)?;
    cdflow_notifier::run(arguments.options, arguments.service.bus("notifier")?, stop_signal()).await
}
