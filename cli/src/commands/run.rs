//! Starting, following and stopping runs.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use cdflow_console::api::{
    CancelRun, CommandAnswer, ListRuns, RollBackRun, RunList, StartDeployment, StartRun, StartedRun,
};
use clap::Subcommand;
use serde::Serialize;

use super::watch::{Look, Until, follow};
use crate::{client::Client, show};

/// `cdflow deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeployOptions {
    /// Name of the service.
    service: String,
    /// Version of its artifact.
    version: String,
    /// Name of the environment.
    #[arg(long = "to")]
    environment: String,
    /// Return at once instead of following the run.
    #[arg(long)]
    no_watch: bool,
}

/// `cdflow run`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Start a pipeline.
    Start(StartOptions),
    /// Follow a run.
    Watch(WatchOptions),
    /// Stop a run now; what it changed is rolled back.
    Cancel(CancelOptions),
    /// Roll back a stage of a run that goes on; after its end, `cdflow deploy` the version before.
    Rollback(RollbackOptions),
}

#[derive(Debug, clap::Args)]
pub(crate) struct StartOptions {
    /// Name of the pipeline.
    pipeline: String,
    /// Version of the service's artifact.
    #[arg(long)]
    version: Option<String>,
    /// A value for one of the pipeline's inputs; JSON where it parses, text otherwise.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
    /// Only these stages.
    #[arg(long = "stage", value_name = "ID")]
    stages: Vec<String>,
    /// Return at once instead of following the run.
    #[arg(long)]
    no_watch: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WatchOptions {
    /// Number or id of the run.
    #[arg(default_value = "latest")]
    run: String,
    /// When to stop following.
    #[arg(long, default_value = "end")]
    until: Until,
    /// How it looks: a tree where a person looks, a timeline elsewhere.
    #[arg(long)]
    look: Option<Look>,
    /// With `latest`: wait up to 30 s for a run of this version.
    #[arg(long)]
    version: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CancelOptions {
    /// Number or id of the run.
    run: String,
    /// Why; kept with the run.
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackOptions {
    /// Number or id of the run.
    run: String,
    /// The stage; the last one that is live unless said.
    #[arg(long)]
    stage: Option<String>,
    /// Why; kept with the run.
    #[arg(long, default_value = "")]
    reason: String,
}

pub(crate) async fn deploy(client: &Client, options: DeployOptions, json: bool) -> Result<()> {
    let request = StartDeployment {
        service: options.service,
        version: options.version,
        environment: options.environment,
        run_id: Some(uuid::Uuid::now_v7().to_string()),
    };
    let started: StartedRun = client.post("/deployments", &request).await?;
    after_start(client, &started, options.no_watch, json).await
}

pub(crate) async fn run(client: &Client, command: RunCommand, json: bool) -> Result<()> {
    match command {
        RunCommand::Start(options) => start(client, options, json).await,
        RunCommand::Watch(options) => {
            let run = match &options.version {
                Some(version) if options.run == "latest" => await_version(client, version).await?,
                _ => options.run,
            };
            follow(client, &run, options.until, options.look.unwrap_or_else(|| look(json))).await
        }
        RunCommand::Cancel(options) => {
            let request = CancelRun { reason: options.reason };
            command_run(client, &format!("/runs/{}/cancel", options.run), &request, json).await
        }
        RunCommand::Rollback(options) => {
            let request = RollBackRun { stage: options.stage, reason: options.reason };
            command_run(client, &format!("/runs/{}/rollback", options.run), &request, json).await
        }
    }
}

async fn start(client: &Client, options: StartOptions, json: bool) -> Result<()> {
    let mut inputs = BTreeMap::new();
    for input in &options.inputs {
        let Some((name, value)) = input.split_once('=') else {
            bail!("`--input {input}`: expected NAME=VALUE");
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.to_owned()));
        inputs.insert(name.to_owned(), value);
    }
    let request = StartRun {
        pipeline: options.pipeline,
        version: options.version,
        inputs,
        stages: options.stages,
        // Sent again after a lost answer, it starts no second run.
        run_id: Some(uuid::Uuid::now_v7().to_string()),
    };
    let started: StartedRun = client.post("/runs", &request).await?;
    after_start(client, &started, options.no_watch, json).await
}

async fn after_start(client: &Client, started: &StartedRun, no_watch: bool, json: bool) -> Result<()> {
    if json {
        show::json(started)?;
    } else {
        let number = started.number.map_or_else(|| "a run".to_owned(), |number| format!("run {number}"));
        show::aside(format!("{number} started: {}{}", client.server(), started.path));
    }
    if no_watch || json {
        return Ok(());
    }
    follow(client, &started.run_id, Until::Waiting, look(json)).await
}

/// Sends a command and says what happened.
pub(super) async fn command_run(client: &Client, path: &str, request: &impl Serialize, json: bool) -> Result<()> {
    let answer: CommandAnswer = client.post(path, request).await?;
    show::answer(json, &answer, |answer| show::line(&answer.message))
}

/// How a run looks unless said: a tree where a person looks, a timeline elsewhere.
pub(super) fn look(json: bool) -> Look {
    match (json, show::is_watched()) {
        (true, _) => Look::Json,
        (false, true) => Look::Tree,
        (false, false) => Look::Timeline,
    }
}

/// A CI event was published a moment ago: its run may not be there yet.
async fn await_version(client: &Client, version: &str) -> Result<String> {
    for _ in 0..150 {
        let list: RunList = client.get("/runs", &ListRuns { limit: Some(20), ..ListRuns::default() }).await?;
        if let Some(run) = list.runs.iter().find(|run| run.version.as_deref() == Some(version)) {
            return Ok(run.id.clone());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("no run of {version} within 30 s: `cdflow trigger log` says what the CI event did")
}
