//! Checking and restoring the journal.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cdflow_bus::Bus;
use cdflow_console::{Database, archived_commits, archived_positions};
use cdflow_journal::{Positions, Report};
use clap::Subcommand;
use console::style;

use crate::{Installation, exit::Failure, show, up::AtRest};

/// `cdflow journal`.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Walk the hash chain of every partition, and say where it breaks. The read model is a witness of what was there.
    Verify {
        /// SQLite file of the read model. Unless set, `console.db` in the state directory if it is there and no `--nats` is given.
        #[arg(long)]
        database: Option<PathBuf>,
        #[command(flatten)]
        installation: Installation,
    },
    /// Write the archive in the read model back into the journal, and raise the incarnation. All services must be stopped.
    Restore {
        /// SQLite file of the read model; `console.db` in the state directory unless set.
        #[arg(long)]
        database: Option<PathBuf>,
        /// Replace a journal that holds commits: what the archive does not have is lost.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        installation: Installation,
    },
}

pub(crate) async fn journal(command: JournalCommand, json: bool) -> Result<()> {
    let installation = match &command {
        JournalCommand::Verify { installation, .. } | JournalCommand::Restore { installation, .. } => {
            installation.clone()
        }
    };
    // A suite that is down has no server: borrow it for the time of the command.
    let at_rest = match installation.nats {
        None => AtRest::start_if_down(&installation.state).await?,
        Some(_) => None,
    };
    let result = perform(command, &installation, json).await;
    if let Some(at_rest) = at_rest {
        at_rest.stop().await;
    }
    result
}

async fn perform(command: JournalCommand, installation: &Installation, json: bool) -> Result<()> {
    let bus = Bus::connect(&installation.bus("journal")?).await?;
    match command {
        JournalCommand::Verify { database, .. } => {
            // The state directory's own read model knows nothing of another server.
            let own = || {
                Some(installation.state.join("console.db")).filter(|file| installation.nats.is_none() && file.exists())
            };
            verify(&bus, database.or_else(own), json).await
        }
        JournalCommand::Restore { database, replace, .. } => {
            let database = database.unwrap_or_else(|| installation.state.join("console.db"));
            restore(&bus, database, replace).await
        }
    }
}

async fn verify(bus: &Bus, database: Option<PathBuf>, json: bool) -> Result<()> {
    let witnesses = match database {
        Some(file) => witnesses(&file).await?,
        None => Positions::new(),
    };
    let report = cdflow_journal::verify_with(bus, &witnesses).await?;
    if json {
        show::json(&as_json(&report))?;
    } else {
        show::journal(&report);
    }
    if report.is_whole() {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "the journal is damaged in {}: stop the suite and run `cdflow journal restore`",
        show::counted(report.breaks.len(), "place")
    ))
    .into())
}

/// What the read model has seen of each partition.
async fn witnesses(file: &Path) -> Result<Positions> {
    anyhow::ensure!(file.exists(), "{} is not there: `--database FILE` names the read model", file.display());
    let model = Database::open(file).await.with_context(|| format!("open {}", file.display()))?;
    let positions = archived_positions(model.pool()).await;
    model.close().await;
    Ok(positions?)
}

fn as_json(report: &Report) -> serde_json::Value {
    let partitions = report.partitions.iter().map(|partition| {
        serde_json::json!({
            "aggregate": partition.kind.as_str(),
            "partition": partition.partition,
            "commits": partition.commits,
            "events": partition.events,
            "refused": partition.refused,
            "first": partition.first,
            "last": partition.last.sequence,
            "incarnation": partition.incarnation,
            "epoch": partition.epoch,
        })
    });
    let breaks = report.breaks.iter().map(|found| {
        serde_json::json!({
            "aggregate": found.kind.as_str(),
            "partition": found.partition,
            "sequence": found.sequence,
            "reason": found.reason,
        })
    });
    serde_json::json!({
        "whole": report.is_whole(),
        "partitions": partitions.collect::<Vec<_>>(),
        "breaks": breaks.collect::<Vec<_>>(),
    })
}

async fn restore(bus: &Bus, database: PathBuf, replace: bool) -> Result<()> {
    anyhow::ensure!(database.exists(), "{} is not there: `--database FILE` names the read model", database.display());
    let model = Database::open(&database).await.with_context(|| format!("open {}", database.display()))?;
    let restored = cdflow_journal::restore(bus, || archived_commits(model.pool()), replace).await?;
    model.close().await;
    show::line(format!(
        "{} {} restored; the incarnation is {} now. Start the suite again.",
        style("✓").green(),
        show::counted(restored.commits, "commit"),
        restored.incarnation
    ));
    Ok(())
}
