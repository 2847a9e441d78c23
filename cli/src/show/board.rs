//! `cdflow board`: what version is where, and what is on its way.

use cdflow_console::api::{Board, BoardCell};
use console::style;

use super::{line, print, table, words::ago};

/// One row for each service, one column for each environment.
pub(crate) fn board(board: &Board) {
    if board.services.is_empty() {
        line("Nothing was deployed yet.");
        return;
    }
    let mut header = vec!["service"];
    header.extend(board.environments.iter().map(String::as_str));
    let mut rows = table(&header);
    for service in &board.services {
        let mut row = vec![style(service).bold().to_string()];
        for environment in &board.environments {
            let found = board.cells.iter().find(|cell| cell.service == *service && cell.environment == *environment);
            row.push(found.map_or_else(|| style("–").dim().to_string(), cell));
        }
        rows.add_row(row);
    }
    print(&rows);
}

fn cell(cell: &BoardCell) -> String {
    let mut lines = Vec::new();
    match (&cell.version, cell.since_ms) {
        (Some(version), Some(since)) => {
            let mark = if cell.rolled_back { " ↩" } else { "" };
            lines.push(style(format!("{version}{mark}")).green().to_string());
            let run = cell.run.map(|run| format!("run {run}, ")).unwrap_or_default();
            lines.push(style(format!("{run}{}", ago(since))).dim().to_string());
        }
        _ => lines.push(style("–").dim().to_string()),
    }
    for coming in &cell.on_its_way {
        let version = coming.version.as_deref().unwrap_or("?");
        let state = match (&coming.waiting_for, coming.here) {
            (Some(whom), _) => format!("← {version} waits for {whom} (run {})", coming.run),
            (None, true) => format!("← {version} arriving (run {})", coming.run),
            (None, false) => format!("← {version} on its way (run {})", coming.run),
        };
        lines.push(style(state).cyan().to_string());
    }
    lines.join("\n")
}
