//! Settings of the service.

use std::net::SocketAddr;

use anyhow::{Result, bail};

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Both.
    All,
    /// Keeps the evidence and gives verdicts.
    Decide,
    /// Reads counters: for networks that only an instance inside of them can reach.
    Collect,
}

/// Options of the verifier.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// What this instance does.
    #[arg(long, env = "CDFLOW_VERIFIER_ROLE", value_enum, default_value = "all")]
    pub role: Role,
    /// Pools whose instances this one can reach, separated by commas.
    #[arg(long, env = "CDFLOW_VERIFIER_POOLS", value_delimiter = ',', default_value = "default")]
    pub pools: Vec<String>,
    /// Stages that are read at the same time in each pool.
    #[arg(long, env = "CDFLOW_VERIFIER_COLLECTIONS", default_value_t = 1_024)]
    pub collections: usize,
    /// Address and port for `/healthz` and `/readyz`. Not served without it.
    #[arg(long, env = "CDFLOW_VERIFIER_HEALTH")]
    pub health: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { role: Role::All, pools: vec!["default".into()], collections: 1_024, health: None }
    }
}

impl Options {
    /// # Errors
    /// When there would be nothing to do.
    pub(crate) fn check(&self) -> Result<()> {
        if self.role == Role::Decide {
            return Ok(());
        }
        if self.pools.iter().all(|pool| pool.trim().is_empty()) {
            bail!("no pool to collect in: name one with `--pools`, or set `--role decide`");
        }
        if self.collections == 0 {
            bail!("`--collections 0` leaves nothing to read: set at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parsed(arguments: &[&str]) -> Options {
        let command = Options::augment_args(clap::Command::new("verifier").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).expect("valid arguments");
        Options::from_arg_matches(&matches).expect("valid options")
    }

    #[test]
    fn without_arguments_the_defaults_hold() {
        assert_eq!(parsed(&[]), Options::default());
        assert!(Options::default().check().is_ok());
    }

    #[test]
    fn options_that_leave_nothing_to_do_are_refused() {
        let pools = parsed(&["--pools", "dmz,edge", "--role", "collect"]);
        assert_eq!(
            (pools.pools.as_slice(), pools.role),
            (["dmz".to_owned(), "edge".to_owned()].as_slice(), Role::Collect)
        );
        assert!(parsed(&["--pools", " "]).check().is_err());
        assert!(parsed(&["--pools", " ", "--role", "decide"]).check().is_ok());
        assert!(parsed(&["--collections", "0"]).check().is_err());
    }
}
