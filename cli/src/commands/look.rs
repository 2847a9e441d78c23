//! Commands that only look.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use cdflow_console::api::{
    Board, Explanation, History, ListRuns, LogLine, ReadLogs, ReadTriggerLog, RunList, TriggerLog, event,
};
use clap::Subcommand;
use console::{Color, style};
use futures::{StreamExt as _, pin_mut};

use crate::{client::Client, show};

/// `cdflow runs`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunsOptions {
    /// At most so many.
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: u32,
    /// Only of this pipeline.
    #[arg(long)]
    pipeline: Option<String>,
    /// Only with this state (`waiting`, `running`…) or outcome (`succeeded`, `rolled-back`…).
    #[arg(long)]
    status: Option<String>,
}

/// One run.
#[derive(Debug, clap::Args)]
pub(crate) struct RunOption {
    /// Number or id of the run.
    #[arg(default_value = "latest")]
    run: String,
}

/// `cdflow logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogsOptions {
    /// Number or id of the run.
    #[arg(default_value = "latest")]
    run: String,
    /// Only of this stage.
    #[arg(long)]
    stage: Option<String>,
    /// Only of this step.
    #[arg(long, requires = "stage")]
    step: Option<String>,
    /// Go on until the run has ended.
    #[arg(long, short = 'f')]
    follow: bool,
}

/// `cdflow trigger`.
#[derive(Debug, Subcommand)]
pub(crate) enum TriggerCommand {
    /// List CI events, newest first, with what they started or why they started nothing.
    Log {
        /// At most so many.
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: u32,
    },
}

pub(crate) async fn runs(client: &Client, options: &RunsOptions, json: bool) -> Result<()> {
    let query =
        ListRuns { limit: Some(options.limit), pipeline: options.pipeline.clone(), status: options.status.clone() };
    let list: RunList = client.get("/runs", &query).await?;
    show::answer(json, &list, |list| show::runs(&list.runs))
}

pub(crate) async fn explain(client: &Client, options: &RunOption, json: bool) -> Result<()> {
    let explanation: Explanation = client.get(&format!("/runs/{}/explain", options.run), &()).await?;
    show::answer(json, &explanation, show::explanation)
}

pub(crate) async fn events(client: &Client, options: &RunOption, json: bool) -> Result<()> {
    let history: History = client.get(&format!("/runs/{}/events", options.run), &()).await?;
    show::answer(json, &history, show::history)
}

pub(crate) async fn board(client: &Client, json: bool) -> Result<()> {
    let board: Board = client.get("/board", &()).await?;
    show::answer(json, &board, show::board)
}

pub(crate) async fn trigger(client: &Client, command: &TriggerCommand, json: bool) -> Result<()> {
    let TriggerCommand::Log { limit } = command;
    let log: TriggerLog = client.get("/trigger/log", &ReadTriggerLog { limit: Some(*limit) }).await?;
    show::answer(json, &log, show::trigger_log)
}

pub(crate) async fn logs(client: &Client, options: &LogsOptions, json: bool) -> Result<()> {
    let query = ReadLogs { stage: options.stage.clone(), step: options.step.clone(), follow: options.follow };
    let events = client.events(&format!("/runs/{}/logs", options.run), &query).await?;
    pin_mut!(events);
    let mut colours = Colours::default();
    while let Some(event) = events.next().await {
        let event = event?;
        if event.name == event::END {
            break;
        }
        if event.name != event::LINE {
            continue;
        }
        if json {
            show::line(&event.data);
            continue;
        }
        let line: LogLine =
            serde_json::from_str(&event.data).context("a log line that this version of cdflow understands")?;
        let source = format!("{}/{}", line.stage, line.step);
        show::line(format!("{} {}", style(&source).fg(colours.of(&source)), line.text));
    }
    Ok(())
}

/// A colour for each step, in the order in which they first speak.
#[derive(Default)]
struct Colours(BTreeMap<String, Color>);

impl Colours {
    fn of(&mut self, source: &str) -> Color {
        const COLOURS: [Color; 5] = [Color::Cyan, Color::Green, Color::Magenta, Color::Yellow, Color::Blue];
        let next = COLOURS[self.0.len() % COLOURS.len()];
        *self.0.entry(source.to_owned()).or_insert(next)
    }
}
