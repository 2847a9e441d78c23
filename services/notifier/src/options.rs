//! Settings of the service.

use std::net::SocketAddr;

/// Options of the notifier.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where people reach the console: begin of the links in events. An absolute URL.
    #[arg(
        id = "notifier-console-url",
        long = "notifier-console-url",
        env = "CDFLOW_NOTIFIER_CONSOLE_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub console_url: String,
    /// Address and port for `/healthz` and `/readyz`. Not served without it.
    #[arg(id = "notifier-health", long = "notifier-health", env = "CDFLOW_NOTIFIER_HEALTH")]
    pub health: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { console_url: "http://127.0.0.1:8080".into(), health: None }
    }
}
