//! Options of the orchestrator.

use std::{net::SocketAddr, time::Duration};

use cdflow_journal::JournalOptions;

/// Options of the orchestrator.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Name of this instance, for people. Without it: the machine's name and the process id.
    #[arg(long, env = "CDFLOW_ORCHESTRATOR_INSTANCE")]
    pub instance: Option<String>,
    /// How long the lease of a partition counts without renewal, in milliseconds. Another instance takes over after it.
    #[arg(long, env = "CDFLOW_ORCHESTRATOR_LEASE_MS", default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(500..=60_000))]
    pub lease_ms: u64,
    /// How long a task may be held by no worker before it counts as lost, in milliseconds.
    #[arg(long, env = "CDFLOW_ORCHESTRATOR_WORKER_LEASE_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..=600_000))]
    pub worker_lease_ms: u64,
    /// Address and port for `/healthz` and `/readyz`. Not served without it.
    #[arg(long, env = "CDFLOW_ORCHESTRATOR_HEALTH")]
    pub health: Option<SocketAddr>,
}

impl Options {
    pub(crate) fn journal(&self) -> JournalOptions {
        let instance = self.instance.clone().unwrap_or_else(cdflow_telemetry::instance_name);
        JournalOptions {
            lease: Duration::from_millis(self.lease_ms),
            worker_lease: Duration::from_millis(self.worker_lease_ms),
            ..JournalOptions::new(instance)
        }
    }
}
