//! What people read: colour and tables where a person looks, plain lines where a program does.

mod board;
mod printable;
mod runs;
mod timeline;
mod tree;
mod words;

use std::io::{IsTerminal as _, Write as _};

use cdflow_console::api::DiagnosticView;
use comfy_table::{ContentArrangement, Table, presets};
use console::style;
use printable::printable;
use serde::Serialize;

pub(crate) use board::board;
pub(crate) use runs::{explanation, history, journal, runs, trigger_log};
pub(crate) use timeline::Timeline;
pub(crate) use tree::tree;
use words::clock;
pub(crate) use words::counted;

/// One line on standard output; a reader that has gone away (`| head`) is no error.
pub(crate) fn line(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", printable(text.as_ref()));
}

/// One line on standard error, for what is said beside the answer.
pub(crate) fn aside(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text.as_ref()));
}

/// An error.
pub(crate) fn error(text: &str) {
    aside(format!("{} {text}", style("error:").for_stderr().red().bold()));
}

/// A place in a document.
pub(crate) fn diagnostic(place: &DiagnosticView) {
    let at = format!("{}:{}:{}", place.file, place.line, place.column);
    aside(format!("  {} {} {}", style(at).for_stderr().cyan(), place.code, place.message));
    if !place.help.is_empty() {
        aside(format!("    {}", style(&place.help).for_stderr().dim()));
    }
}

/// An answer of the console: JSON for scripts, else as `show` has it for people.
pub(crate) fn answer<A: Serialize>(json: bool, answer: &A, show: impl FnOnce(&A)) -> anyhow::Result<()> {
    if json {
        return self::json(answer);
    }
    show(answer);
    Ok(())
}

/// Pretty JSON on standard output.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Whether a person is looking at standard output.
pub(crate) fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

/// A table without borders, cut to the width of the terminal.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|text| style(text).dim().to_string()));
    table
}

fn print(table: &Table) {
    for row in table.lines() {
        line(row.trim_end());
    }
}
