//! The command line.

use cdflow_testkit::SyncMode;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Measures the whole path beside the bare write path. Build it with `--release`.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// A few runs of each kind, in seconds: shows that everything works, and says nothing about speed.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Runs in flight at the same time, separated by commas. Default 1,16,64,256; with `--quick` 1,16.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: Vec<u16>,
    /// When nats-server writes to disk, separated by commas. Default both.
    #[arg(long, value_delimiter = ',', value_enum)]
    durability: Vec<Durability>,
    /// What to measure, separated by commas. Default everything.
    #[arg(long, value_delimiter = ',', value_enum)]
    part: Vec<Part>,
    /// Times that each measurement of throughput is repeated, whole and bare path in turn. Default 3; with `--quick` 1.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What this program does for itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// An owner of partitions in a process of its own.
    #[command(hide = true)]
    Own(Own),
}

/// Settings of an owner.
#[derive(Debug, Args)]
pub(crate) struct Own {
    /// URL of the server.
    #[arg(long)]
    pub(crate) nats: String,
    /// Name of the instance.
    #[arg(long)]
    pub(crate) instance: String,
}

/// When the server writes acknowledged messages to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// `sync_interval: always`: before each acknowledgement. What cdflow sets.
    Always,
    /// The server's default: every two minutes.
    Default,
}

impl Durability {
    pub(crate) fn sync_mode(self) -> SyncMode {
        match self {
            Self::Always => SyncMode::Always,
            Self::Default => SyncMode::Default,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Default => "default",
        }
    }
}

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Runs per second and what a step costs.
    Throughput,
    /// How long nothing is decided after an owner was killed.
    Takeover,
    /// Bytes of a live run.
    Memory,
}

impl Options {
    pub(crate) fn measures(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }

    pub(crate) fn in_flight(&self) -> Vec<u16> {
        match (self.in_flight.as_slice(), self.quick) {
            ([], true) => vec![1, 16],
            ([], false) => vec![1, 16, 64, 256],
            (chosen, _) => chosen.to_vec(),
        }
    }

    pub(crate) fn durability(&self) -> Vec<Durability> {
        if self.durability.is_empty() { vec![Durability::Always, Durability::Default] } else { self.durability.clone() }
    }

    pub(crate) fn rounds(&self) -> u16 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_measures_everything_unless_told() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
        let options = Options::parse_from(["cdflow-loadtest"]);
        assert!(options.measures(Part::Memory) && options.measures(Part::Takeover));
        assert_eq!(options.in_flight(), [1, 16, 64, 256]);
        let options = Options::parse_from(["cdflow-loadtest", "--part", "throughput", "--in-flight", "4,8"]);
        assert!(!options.measures(Part::Memory));
        assert_eq!(options.in_flight(), [4, 8]);
        assert!(Options::try_parse_from(["cdflow-loadtest", "--in-flight", "0"]).is_err());
    }
}
