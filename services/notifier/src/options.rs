//! Settings of the service.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

/// Options of the notifier.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where people reach the console: the beginning of links in events. An absolute URL.
    #[arg(long, env = "CDFLOW_NOTIFIER_CONSOLE_URL", default_value = "http://127.0.0.1:7700")]
    pub console_url: String,
    /// Address and port for `/healthz` and `/readyz`. Not served without it.
    #[arg(long, env = "CDFLOW_NOTIFIER_HEALTH")]
    pub health: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { console_url: "http://127.0.0.1:7700".into(), health: None }
    }
}

impl Options {
    /// # Errors
    /// When links in events would lead nowhere.
    pub(crate) fn check(&self) -> Result<()> {
        let is_web = self.console_url.starts_with("http://") || self.console_url.starts_with("https://");
        ensure!(
            is_web && cdevents_sdk::Uri::try_from(self.console_url.as_str()).is_ok(),
            "CDF-6201: the console URL {:?} is no absolute URL: expected for example https://cdflow.example.com",
            self.console_url
        );
        Ok(())
    }
}
