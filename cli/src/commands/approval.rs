//! Deciding what runs wait for.

use anyhow::Result;
use cdflow_console::api::{DecideApproval, RunView};

use super::{
    run::command_run,
    watch::{Until, follow_after},
};
use crate::client::Client;

/// `cdflow approve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ApproveOptions {
    /// Number or id of the run.
    run: String,
    /// Kept with the decision.
    #[arg(long, short = 'm', default_value = "")]
    comment: String,
    /// The stage that asks; needed only when several do.
    #[arg(long)]
    stage: Option<String>,
    /// Return at once instead of following the run.
    #[arg(long)]
    no_watch: bool,
}

/// `cdflow reject`.
#[derive(Debug, clap::Args)]
pub(crate) struct RejectOptions {
    /// Number or id of the run.
    run: String,
    /// Why; kept with the decision.
    #[arg(long, short = 'm')]
    comment: String,
    /// The stage that asks; needed only when several do.
    #[arg(long)]
    stage: Option<String>,
}

pub(crate) async fn approve(client: &Client, options: ApproveOptions, json: bool) -> Result<()> {
    let before: RunView = client.get(&format!("/runs/{}", options.run), &()).await?;
    let request = DecideApproval { approve: true, comment: options.comment, stage: options.stage };
    command_run(client, &format!("/runs/{}/approval", options.run), &request, json).await?;
    if options.no_watch || json {
        return Ok(());
    }
    follow_after(client, &before, Until::Promoted).await
}

pub(crate) async fn reject(client: &Client, options: RejectOptions, json: bool) -> Result<()> {
    let request = DecideApproval { approve: false, comment: options.comment, stage: options.stage };
    command_run(client, &format!("/runs/{}/approval", options.run), &request, json).await
}
