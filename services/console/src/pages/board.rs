//! The home page: what is where, and the newest runs.

use askama::Template;
use axum::{Extension, extract::State, response::Response};

use super::{clock::Moment, failure, html, icon};
use crate::{
    api::{BoardCell, ListRuns, RunStatus, RunSummary, TriggerEntry},
    console::Console,
    http::{Failure, Viewer},
};

/// Runs and events that the page shows.
const NEWEST_RUNS: u32 = 20;
const NEWEST_EVENTS: u32 = 6;

#[derive(Template)]
#[template(path = "board.html")]
pub(super) struct BoardPage<'a> {
    viewer: Option<&'a str>,
    environments: Vec<String>,
    rows: Vec<Row>,
    runs: Vec<RunLine>,
    events: Vec<EventLine>,
}

struct Row {
    service: String,
    cells: Vec<Cell>,
}

struct Cell {
    environment: String,
    version: Option<String>,
    rolled_back: bool,
    since: Option<Moment>,
    run: Option<u64>,
    coming: Vec<Coming>,
}

struct Coming {
    run: u64,
    version: String,
    icon: &'static str,
    here: bool,
    text: String,
}

struct RunLine {
    number: u64,
    what: String,
    version: String,
    icon: &'static str,
    words: String,
    who: String,
    started: Moment,
    reason: String,
}

struct EventLine {
    time: Moment,
    subject: String,
    runs: Vec<u64>,
    ignored_because: String,
}

pub(super) async fn page(State(console): State<Console>, Extension(viewer): Extension<Viewer>) -> Response {
    match read(&console, &viewer).await {
        Ok(page) => html(&page),
        Err(error) => failure(&error),
    }
}

async fn read<'a>(console: &Console, viewer: &'a Viewer) -> Result<BoardPage<'a>, Failure> {
    let mut board = console.board().await?;
    let list = ListRuns { limit: Some(NEWEST_RUNS), ..ListRuns::default() };
    let runs = console.database().runs(console.project(), &list).await?;
    let events = console.database().trigger_log(console.project(), Some(NEWEST_EVENTS)).await?;
    let environments = board.environments;
    let rows = board.services.drain(..).map(|service| {
        let cells = environments.iter().map(|environment| {
            let found = board.cells.iter().find(|cell| cell.service == service && cell.environment == *environment);
            found.map_or_else(|| empty(environment), cell)
        });
        Row { cells: cells.collect(), service: service.clone() }
    });
    Ok(BoardPage {
        viewer: Some(&viewer.person),
        rows: rows.collect(),
        environments: environments.clone(),
        runs: runs.runs.into_iter().map(run_line).collect(),
        events: events.entries.into_iter().map(event_line).collect(),
    })
}

fn empty(environment: &str) -> Cell {
    Cell {
        environment: environment.to_owned(),
        version: None,
        rolled_back: false,
        since: None,
        run: None,
        coming: Vec::new(),
    }
}

fn cell(cell: &BoardCell) -> Cell {
    let coming = cell.on_its_way.iter().map(|coming| Coming {
        run: coming.run,
        version: coming.version.clone().unwrap_or_default(),
        icon: if coming.here { icon::of_run(coming.status, None) } else { "pending" },
        here: coming.here,
        text: match (&coming.waiting_for, coming.here) {
            (Some(what), true) => format!("waits for {what}"),
            (Some(what), false) => format!("on its way, waits for {what}"),
            (None, true) => icon::words(coming.status.as_str()),
            (None, false) => "on its way".into(),
        },
    });
    Cell {
        environment: cell.environment.clone(),
        version: cell.version.clone(),
        rolled_back: cell.rolled_back,
        since: cell.since_ms.map(Moment),
        run: cell.run,
        coming: coming.collect(),
    }
}

fn run_line(run: RunSummary) -> RunLine {
    let at = run.status != RunStatus::Finished && !run.reason.is_empty();
    RunLine {
        number: run.number,
        icon: icon::of_run(run.status, run.outcome),
        words: icon::run_words(run.status, run.outcome),
        what: run.service.unwrap_or(run.pipeline),
        version: run.version.unwrap_or_default(),
        who: if run.initiator.kind == "person" { run.initiator.name } else { run.cause },
        started: Moment(run.started_ms),
        reason: if at { format!("in {}", run.reason) } else { run.reason },
    }
}

fn event_line(entry: TriggerEntry) -> EventLine {
    EventLine {
        time: Moment(entry.time_ms),
        subject: if entry.subject.is_empty() { entry.event_type } else { entry.subject },
        runs: entry.runs,
        ignored_because: entry.ignored_because,
    }
}
