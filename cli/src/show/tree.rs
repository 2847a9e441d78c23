//! A run as a tree of stages and steps.

use cdflow_console::api::{RunView, StageStatus, StageView, StepStatus, StepView};
use cdflow_protocol::wall_clock;
use console::style;

use super::words::{duration, elapsed, mark, run_status, stage_status};

/// The lines of the tree; stages that have ended or not begun are folded unless `all`.
pub(crate) fn tree(run: &RunView, all: bool) -> Vec<String> {
    let version = run.version.as_deref().unwrap_or_default();
    let end = run.ended_ms.unwrap_or_else(wall_clock);
    let mut lines = vec![format!(
        "{} {} {}  {}  {}",
        style(format!("run {}", run.number)).bold(),
        run.pipeline,
        style(version).bold(),
        run_status(run.status, run.outcome),
        style(elapsed(run.started_ms, end)).dim(),
    )];
    lines.push(style(format!("started by {} · {}", run.initiator.name, run.cause)).dim().to_string());
    for (index, stage) in run.stages.iter().enumerate() {
        let last = index + 1 == run.stages.len();
        add_stage(&mut lines, stage, last, all);
    }
    if !run.reason.is_empty() {
        lines.push(run.reason.clone());
    }
    lines
}

fn add_stage(lines: &mut Vec<String>, stage: &StageView, last: bool, all: bool) {
    let strategy = stage.strategy.as_deref().map(|strategy| format!(" ({strategy})")).unwrap_or_default();
    let time = match (stage.started_ms, stage.ended_ms) {
        (Some(start), end) => duration(end.unwrap_or_else(wall_clock) - start),
        _ => String::new(),
    };
    lines.push(format!(
        "{} {}{}  {}  {}",
        if last { "└─" } else { "├─" },
        style(&stage.id).bold(),
        style(strategy).dim(),
        stage_status(stage.status, stage.outcome),
        style(time).dim(),
    ));
    let folded = matches!(stage.status, StageStatus::Pending | StageStatus::Finished) && !all;
    let bar = if last { "   " } else { "│  " };
    if !folded {
        let undo = stage.rollback.iter().filter(|step| step.status != StepStatus::Pending);
        for step in stage.steps.iter().chain(undo) {
            add_step(lines, step, bar);
        }
    }
    if !stage.reason.is_empty() {
        lines.push(format!("{bar} {}", style(&stage.reason).yellow()));
    }
}

fn add_step(lines: &mut Vec<String>, step: &StepView, bar: &str) {
    let time = match (step.started_ms, step.ended_ms) {
        (Some(start), end) => style(duration(end.unwrap_or_else(wall_clock) - start)).dim().to_string(),
        _ => String::new(),
    };
    lines.push(format!("{bar} {} {}  {time}", mark(step.status, step.outcome), step.title));
    if let Some(waiting) = &step.waiting {
        lines.push(format!("{bar}     {}", style(&waiting.what).magenta()));
    }
    if let Some(verdict) = &step.verdict {
        lines.push(format!("{bar}     {}", verdict.sentence));
    } else if step.outcome.is_some() && !step.message.is_empty() {
        lines.push(format!("{bar}     {}", style(&step.message).dim()));
    }
}
