//! Settings of the service.

use std::net::SocketAddr;

/// Options of the approval service.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Address and port for `/healthz` and `/readyz`. Not served without it.
    #[arg(long, env = "CDFLOW_APPROVAL_HEALTH")]
    pub health: Option<SocketAddr>,
}
