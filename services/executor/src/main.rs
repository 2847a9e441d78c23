//! `cdflow-executor`: the executor as a process of its own.

use clap::Parser;

/// Does verbs and scripts near the targets.
#[derive(Parser)]
#[command(name = "cdflow-executor", version)]
struct Command {
    #[command(flatten)]
    service: cdflow_telemetry::ServiceOptions,
    #[command(flatten)]
    executor: cdflow_executor::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    let _telemetry = cdflow_telemetry::init("executor", &command.service.telemetry)?;
    let stop = cdflow_telemetry::stop_signal();
    cdflow_executor::run(command.executor, command.service.bus("executor")?, stop).await
}
