//! Checking and restoring the journal.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cdflow_bus::Bus;
use clap::Subcommand;
use console::style;

use crate::{Installation, exit::Failure, show};

/// `cdflow journal`.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Walk the hash chain of every partition, and say where it breaks.
    Verify {
        #[command(flatten)]
        installation: Installation,
    },
    /// Write the archive in the read model back into an emptied journal, and raise the incarnation.
    Restore {
        /// SQLite file of the read model; `console.db` in the state directory unless set.
        #[arg(long)]
        database: Option<PathBuf>,
        #[command(flatten)]
        installation: Installation,
    },
}

pub(crate) async fn journal(command: JournalCommand, json: bool) -> Result<()> {
    match command {
        JournalCommand::Verify { installation } => verify(&installation, json).await,
        JournalCommand::Restore { database, installation } => restore(database, &installation).await,
    }
}
