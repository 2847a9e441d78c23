//! Settings of the service.

use std::net::SocketAddr;

use anyhow::{Result, bail};

/// Who may publish events over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Authentication {
    /// Whoever presents a CI token of the bucket ACCESS.
    Tokens,
    /// Whoever reaches the address; only on a loopback address.
    None,
}

/// Options of the trigger.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Project whose pipelines are started.
    #[arg(long, env = "CDFLOW_PROJECT", default_value = "default")]
    pub project: String,
    /// Address and port for CI events over HTTP, `/healthz`, `/readyz` and `/metrics`.
    #[arg(long, env = "CDFLOW_TRIGGER_LISTEN", default_value = "127.0.0.1:7701")]
    pub listen: SocketAddr,
    /// Who may publish events over HTTP.
    #[arg(long, env = "CDFLOW_TRIGGER_AUTHENTICATION", value_enum, default_value = "tokens")]
    pub authentication: Authentication,
    /// Largest event that is read, in bytes.
    #[arg(long, env = "CDFLOW_TRIGGER_MAX_EVENT_BYTES", default_value_t = 262_144)]
    pub max_event_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            project: "default".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7701)),
            authentication: Authentication::Tokens,
            max_event_bytes: 262_144,
        }
    }
}

impl Options {
    /// # Errors
    /// When anybody on the network could start a release.
    pub(crate) fn check(&self) -> Result<()> {
        if self.authentication == Authentication::None && !self.listen.ip().is_loopback() {
            bail!(
                "CDF-6106: {} is not a loopback address, and with `--authentication none` anybody who reaches \
                 it could start a release: use `tokens`, or listen on 127.0.0.1",
                self.listen
            );
        }
        Ok(())
    }
}
