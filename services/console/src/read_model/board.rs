//! Services by environments.

use std::collections::BTreeSet;

use crate::api::{Board, BoardCell, OnItsWay, RunView, StageStatus};

/// A version that is live somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) version: Option<String>,
    pub(crate) previous: Option<String>,
    pub(crate) since_ms: Option<i64>,
    pub(crate) run: Option<u64>,
    pub(crate) rolled_back: bool,
}

/// Names that the configuration knows; what is live elsewhere is shown all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) services: Vec<String>,
    /// In the order of the configuration.
    pub(crate) environments: Vec<String>,
}

/// What is where, and what is on its way, from what is live and the runs that have not ended (oldest first).
pub(crate) fn board(known: Known, live: Vec<Live>, unfinished: &[RunView]) -> Board {
    let mut cells: Vec<BoardCell> = Vec::new();
    for live in live {
        let cell = cell(&mut cells, &live.service, &live.environment);
        // Several infrastructures of one environment: the youngest stands for them.
        if cell.since_ms.unwrap_or(-1) <= live.since_ms.unwrap_or(0) {
            cell.version = live.version;
            cell.previous = live.previous;
            cell.since_ms = live.since_ms;
            cell.run = live.run;
            cell.rolled_back = live.rolled_back;
        }
    }
    for run in unfinished {
        let Some(service) = &run.service else { continue };
        for stage in &run.stages {
            let Some(environment) = &stage.environment else { continue };
            let arrived = stage.promoted_ms.is_some() && stage.status != StageStatus::RollingBack;
            if arrived || stage.status == StageStatus::Finished {
                continue;
            }
            let here = stage.started_ms.is_some();
            let waiting = run.waiting.iter().find(|waiting| !here || waiting.stage == stage.id);
            cell(&mut cells, service, environment).on_its_way.push(OnItsWay {
                run: run.number,
                version: run.version.clone(),
                status: run.status,
                here,
                waiting_for: waiting.map(|waiting| waiting.what.clone()),
            });
        }
    }
    let mut services: BTreeSet<String> = known.services.into_iter().collect();
    services.extend(cells.iter().map(|cell| cell.service.clone()));
    let mut environments = known.environments;
    // In the order of the pipelines, for what the configuration does not know.
    let in_runs = unfinished.iter().flat_map(|run| &run.stages).filter_map(|stage| stage.environment.clone());
    let in_cells = cells.iter().map(|cell| cell.environment.clone());
    for environment in in_runs.chain(in_cells) {
        if !environments.contains(&environment) {
            environments.push(environment);
        }
    }
    cells.sort_by(|a, b| {
        let column = |cell: &BoardCell| environments.iter().position(|name| *name == cell.environment);
        (&a.service, column(a)).cmp(&(&b.service, column(b)))
    });
    Board { services: services.into_iter().collect(), environments, cells }
}

fn cell<'c>(cells: &'c mut Vec<BoardCell>, service: &str, environment: &str) -> &'c mut BoardCell {
    let found = cells.iter().position(|cell| cell.service == service && cell.environment == environment);
    let index = found.unwrap_or_else(|| {
        cells.push(BoardCell {
            service: service.to_owned(),
            environment: environment.to_owned(),
            version: None,
            previous: None,
            since_ms: None,
            run: None,
            rolled_back: false,
            on_its_way: Vec::new(),
        });
        cells.len() - 1
    });
    &mut cells[index]
}
