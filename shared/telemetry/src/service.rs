//! Options that every service has.

use std::path::PathBuf;

use anyhow::Context as _;
use cdflow_bus::{Credentials, Options as BusOptions};

use crate::TelemetryOptions;

/// Flattened into every service's command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceOptions {
    /// NATS servers, separated by commas.
    #[arg(long, env = "CDFLOW_NATS", default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// File with `name:password` or the seed of an nkey user (`SU…`). No credentials without it.
    #[arg(long, env = "CDFLOW_NATS_CREDENTIALS_FILE")]
    pub nats_credentials_file: Option<PathBuf>,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetryOptions,
}

impl ServiceOptions {
    /// How this service reaches the bus.
    ///
    /// # Errors
    /// When the credentials file cannot be read or holds neither form.
    pub fn bus(&self, service: &str) -> anyhow::Result<BusOptions> {
        let options = BusOptions::new(&self.nats, service);
        let Some(path) = &self.nats_credentials_file else { return Ok(options) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read NATS credentials {}", path.display()))?;
        let credentials = credentials(text.trim())
            .with_context(|| format!("{} holds neither `name:password` nor an nkey seed (`SU…`)", path.display()))?;
        Ok(options.with_credentials(credentials))
    }
}

fn credentials(text: &str) -> Option<Credentials> {
    if text.starts_with("SU") && !text.contains(':') {
        return Some(Credentials::NkeySeed(text.to_owned()));
    }
    let (name, password) = text.split_once(':')?;
    Some(Credentials::User { name: name.to_owned(), password: password.to_owned() })
}

/// Name of this process for people: the machine's name and the process id.
pub fn instance_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", machine.trim(), std::process::id())
}
