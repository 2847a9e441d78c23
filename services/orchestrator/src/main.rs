//! The orchestrator in a process of its own.

use cdflow_telemetry::ServiceOptions;
use clap::Parser;

/// Owns runs and locks.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    options: cdflow_orchestrator::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let CommandLine { service, options } = CommandLine::parse();
    let _telemetry = cdflow_telemetry::init("cdflow-orchestrator", &service.telemetry)?;
    let stop = cdflow_telemetry::stop_signal();
    cdflow_orchestrator::run(options, service.bus("orchestrator")?, stop).await
}
