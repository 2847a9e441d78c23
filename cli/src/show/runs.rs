//! Lists: runs, the history of one, why it waits, what CI published.

use cdflow_console::api::{Explanation, History, RunSummary, TriggerLog};
use cdflow_journal::Report;
use console::style;

use super::{
    clock, line, print, table,
    words::{ago, counted, run_status},
};

/// `cdflow runs`.
pub(crate) fn runs(runs: &[RunSummary]) {
    if runs.is_empty() {
        line("No runs yet. A CI event starts one, or `cdflow run start PIPELINE --version VERSION`.");
        return;
    }
    let mut rows = table(&["run", "pipeline", "version", "status", "started", "by", "why"]);
    for run in runs {
        rows.add_row([
            run.number.to_string(),
            run.pipeline.clone(),
            run.version.clone().unwrap_or_default(),
            run_status(run.status, run.outcome).to_string(),
            ago(run.started_ms),
            run.initiator.name.clone(),
            first_line(if run.reason.is_empty() { &run.cause } else { &run.reason }),
        ]);
    }
    print(&rows);
}

/// A reason can hold the last lines of a log: `cdflow explain` shows them.
fn first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => text.to_owned(),
    }
}

/// `cdflow explain`.
pub(crate) fn explanation(explanation: &Explanation) {
    let status = run_status(explanation.status, explanation.outcome);
    line(format!("run {}: {status}. {}", explanation.number, explanation.summary));
    for wait in &explanation.waiting {
        line(format!("\n{} waits for {}", style(format!("{} / {}", wait.stage, wait.step)).bold(), wait.what));
        line(format!("  since        {} ({})", clock(wait.since_ms), ago(wait.since_ms)));
        if let Some(until) = wait.until_ms {
            line(format!("  at most until {}", clock(until)));
        }
        line(format!("  released by  {}", wait.released_by));
    }
    if !explanation.because.is_empty() {
        line(format!("\n{}", style("what led here").dim()));
        for reason in &explanation.because {
            line(format!("  {reason}"));
        }
    }
}

/// `cdflow events`.
pub(crate) fn history(history: &History) {
    let mut rows = table(&["sequence", "time", "aggregate", "event", "stage", "step", ""]);
    for entry in &history.events {
        rows.add_row([
            entry.sequence.to_string(),
            clock(entry.time_ms),
            entry.aggregate.clone(),
            entry.event.clone(),
            entry.stage.clone().unwrap_or_default(),
            entry.step.clone().unwrap_or_default(),
            entry.text.clone(),
        ]);
    }
    print(&rows);
}

/// `cdflow trigger log`.
pub(crate) fn trigger_log(log: &TriggerLog) {
    if log.entries.is_empty() {
        line("No CI events yet. They are published on the subject cdflow.ci.> or posted to the trigger service.");
        return;
    }
    let mut rows = table(&["time", "subject", "source", "type", "started", "why not"]);
    for entry in &log.entries {
        let started = entry.runs.iter().map(|number| format!("run {number}")).collect::<Vec<_>>().join(", ");
        rows.add_row([
            clock(entry.time_ms),
            first_line(entry.subject.trim_end()),
            entry.source.clone(),
            entry.event_type.clone(),
            started,
            first_line(&entry.ignored_because),
        ]);
    }
    print(&rows);
}

/// `cdflow journal verify`.
pub(crate) fn journal(report: &Report) {
    let mut rows = table(&["aggregate", "partition", "commits", "events", "refused", "last", "incarnation", "epoch"]);
    for partition in &report.partitions {
        rows.add_row([
            partition.kind.to_string(),
            partition.partition.to_string(),
            partition.commits.to_string(),
            partition.events.to_string(),
            partition.refused.to_string(),
            partition.last.sequence.to_string(),
            partition.incarnation.to_string(),
            partition.epoch.to_string(),
        ]);
    }
    print(&rows);
    for found in &report.breaks {
        let place = format!("{} {}, sequence {}", found.kind, found.partition, found.sequence);
        line(format!("{} {place}: {}", style("✗").red(), found.reason));
    }
    if report.is_whole() {
        line(format!(
            "{} {}, nothing missing, nothing changed",
            style("✓").green(),
            counted(report.commits(), "commit")
        ));
    }
}
