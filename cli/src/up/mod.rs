//! `cdflow up`: the whole suite in one process on embedded defaults.
//!
//! Every service runs as it would in a process of its own, over its own connection to a private NATS server. Killing
//! this process loses nothing: the next `cdflow up` on the same state directory goes on where it stopped.

mod at_rest;
mod detached;
mod nats;
mod suite;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cdflow_bus::{Credentials, Options as BusOptions};
use cdflow_telemetry::TelemetryOptions;
use serde::{Deserialize, Serialize};

pub(crate) use at_rest::AtRest;
pub(crate) use detached::{DownOptions, down};
pub(crate) use nats::write_private;

use crate::settings::STATE_DIRECTORY;

/// `cdflow up`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UpOptions {
    /// Where everything is kept: the journal, the read model, fetched artifacts, credentials, logs.
    #[arg(long, default_value = STATE_DIRECTORY)]
    state: PathBuf,
    /// Where the console listens: pages and API.
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Where CI systems post events.
    #[arg(long, default_value = "127.0.0.1:7701")]
    listen_events: SocketAddr,
    /// Start in the background, and return when the suite is ready.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    telemetry: TelemetryOptions,
}

/// What other commands need to know of a running suite; readable by its owner only.
#[derive(Serialize, Deserialize)]
struct Connection {
    nats: String,
    user: String,
    password: String,
    console: String,
}

const CONNECTION: &str = "connection.json";

pub(crate) async fn up(options: UpOptions) -> Result<()> {
    // The journal and the read model hold what only the installation's people may read.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&options.state)
        .with_context(|| format!("create {}", options.state.display()))?;
    if options.detach { detached::start(&options).await } else { suite::run(&options).await }
}

/// How a suite leaves word of itself for other commands.
fn write_connection(state: &Path, bus: &BusOptions, console: &str) -> Result<()> {
    let Some(Credentials::User { name, password }) = bus.credentials.clone() else {
        bail!("the private server has a user");
    };
    let connection = Connection { nats: bus.url.clone(), user: name, password, console: console.to_owned() };
    write_private(&state.join(CONNECTION), &serde_json::to_vec_pretty(&connection)?)
}

/// How to reach the private server of the suite in this state directory.
pub(crate) fn private_bus(state: &Path, service: &str) -> Result<BusOptions> {
    let connection = read(state)?;
    let credentials = Credentials::User { name: connection.user, password: connection.password };
    Ok(BusOptions::new(connection.nats, service).with_credentials(credentials))
}

/// Where the console of the suite in this state directory listens.
pub(crate) fn console_url(state: &Path) -> Result<String> {
    Ok(read(state)?.console)
}

fn read(state: &Path) -> Result<Connection> {
    let path = state.join(CONNECTION);
    let bytes = fs::read(&path).with_context(|| {
        format!(
            "read {}: is this the state directory of a suite (`cdflow up`)? Else use --state or --nats",
            path.display()
        )
    })?;
    serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))
}
