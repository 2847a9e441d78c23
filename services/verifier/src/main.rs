//! The verifier as a process of its own.

use cdflow_telemetry::{ServiceOptions, init, stop_signal};
use clap::Parser;

/// Compares releases by what they count, and gives verdicts.
#[derive(Parser)]
#[command(name = "cdflow-verifier", version)]
struct Arguments {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_verifier::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _telemetry = init("verifier", &arguments.service.telemetry)?;
    cdflow_verifier::run(arguments.options, arguments.service.bus("verifier")?, stop_signal()).await
}
