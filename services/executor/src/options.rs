//! Settings of the executor.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What an executor takes on.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Pools whose tasks are done here, separated by commas. An infrastructure names the pool that can reach it.
    #[arg(long, env = "CDFLOW_EXECUTOR_POOLS", value_delimiter = ',', default_value = "default")]
    pub pools: Vec<String>,
    /// Name of this instance, for people. Without it: the machine's name and the process id.
    #[arg(long, env = "CDFLOW_EXECUTOR_INSTANCE")]
    pub instance: Option<String>,
    /// Most tasks at the same time in each pool.
    #[arg(long, env = "CDFLOW_EXECUTOR_SLOTS", default_value_t = 1_024)]
    pub slots: usize,
    /// Seconds without an answer from NATS after which running tasks are stopped. The same for all executors of a pool:
    /// another one takes a task over after twice this time and the time to stop.
    #[arg(long = "lease-seconds", env = "CDFLOW_EXECUTOR_LEASE_SECONDS", default_value = "5", value_parser = seconds)]
    pub lease: Duration,
    /// Seconds that running tasks may take to end when the executor is stopped.
    #[arg(long = "finish-seconds", env = "CDFLOW_EXECUTOR_FINISH_SECONDS", default_value = "20", value_parser = seconds)]
    pub finish_within: Duration,
    /// Directory of fetched artifacts, kept by digest. Executors on one machine may share it.
    #[arg(long, env = "CDFLOW_EXECUTOR_ARTIFACT_CACHE", default_value = ".cdflow/artifacts")]
    pub artifact_cache: PathBuf,
    /// Unpacked releases that stay on a host, the live one included: what a rollback needs not fetch again.
    #[arg(long, env = "CDFLOW_EXECUTOR_KEEP_RELEASES", default_value_t = 5)]
    pub keep_releases: usize,
    /// Address and port for `/healthz` and `/readyz`. Not served without it.
    #[arg(long, env = "CDFLOW_EXECUTOR_HEALTH")]
    pub health: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pools: vec!["default".into()],
            instance: None,
            slots: 1_024,
            lease: Duration::from_secs(5),
            finish_within: Duration::from_secs(20),
            artifact_cache: ".cdflow/artifacts".into(),
            keep_releases: 5,
            health: None,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration >= Duration::from_millis(100))
        .ok_or_else(|| format!("`{text}` is too short or too long: at least 0.1 s"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn defaults_are_those_of_the_command_line_and_mistakes_are_errors() {
        let parsed = Command::try_parse_from(["executor"]).expect("parses").options;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Options::default()));
        let parsed = Command::try_parse_from(["executor", "--pools", "dmz,office"]).expect("parses").options;
        assert_eq!(parsed.pools, ["dmz", "office"]);
        assert!(Command::try_parse_from(["executor", "--lease-seconds", "0"]).is_err());
    }
}
