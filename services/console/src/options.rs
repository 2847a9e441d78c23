//! Options of the console.

use std::{net::SocketAddr, path::PathBuf};

/// Options of the console.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address of API and pages. Beyond loopback only together with `--behind-tls-proxy`.
    #[arg(long, env = "CDFLOW_CONSOLE_LISTEN", default_value = "127.0.0.1:7700")]
    pub listen: SocketAddr,
    /// SQLite file of the read model; created when it is not there, built again from the journal when it was deleted.
    #[arg(long, env = "CDFLOW_CONSOLE_DATABASE", default_value = "console.db")]
    pub database: PathBuf,
    /// Name of the project that is shown.
    #[arg(long, env = "CDFLOW_PROJECT", default_value = "default")]
    pub project: String,
    /// TLS ends at a proxy in front: cookies are marked `Secure`, and addresses beyond loopback may be listened on.
    #[arg(long, env = "CDFLOW_CONSOLE_BEHIND_TLS_PROXY")]
    pub behind_tls_proxy: bool,
    /// How long a session lasts after login, in hours.
    #[arg(long, env = "CDFLOW_CONSOLE_SESSION_HOURS", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=24 * 90))]
    pub session_hours: u32,
    /// How long the answer to a command is waited for before it is 202, in seconds.
    #[arg(long, env = "CDFLOW_CONSOLE_ANSWER_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub answer_seconds: u32,
    /// Newest commits that stay in JOURNAL when older ones are trimmed, because the read model has them on disk. Above 80 %
    /// of its size, JOURNAL keeps only what recovery needs.
    #[arg(long, env = "CDFLOW_CONSOLE_KEEP_COMMITS", default_value_t = 100_000)]
    pub keep_commits: u64,
}

impl Options {
    /// Refuses what would send sessions over a network in the clear.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.listen.ip().is_loopback() || self.behind_tls_proxy {
            return Ok(());
        }
        anyhow::bail!(
            "CDF-4004: {} is not a loopback address, and this is plain HTTP: sessions would cross the network unencrypted. \
             Listen on 127.0.0.1, or put a proxy that ends TLS in front and say --behind-tls-proxy",
            self.listen
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        #[derive(clap::Parser)]
        struct Arguments {
            #[command(flatten)]
            options: Options,
        }
        let arguments = ["console"].iter().chain(arguments);
        <Arguments as clap::Parser>::try_parse_from(arguments).unwrap().options
    }

    #[test]
    fn plain_http_beyond_loopback_is_refused_unless_a_proxy_ends_tls() {
        assert!(options(&[]).check().is_ok());
        assert!(options(&["--listen", "[::1]:1"]).check().is_ok());
        let refused = options(&["--listen", "0.0.0.0:1"]).check().unwrap_err().to_string();
        assert!(refused.starts_with("CDF-4004") && refused.contains("--behind-tls-proxy"), "{refused}");
        assert!(options(&["--listen", "0.0.0.0:1", "--behind-tls-proxy"]).check().is_ok());
    }
}
