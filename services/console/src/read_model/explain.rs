//! Why a run is where it is, in sentences.

use super::titles;
use crate::api::{Explanation, Outcome, RunStatus, RunView, StageStatus, StepStatus};

/// Answer of `GET /runs/{run}/explain`.
pub(crate) fn explain(run: &RunView) -> Explanation {
    Explanation {
        number: run.number,
        status: run.status,
        outcome: run.outcome,
        summary: summary(run),
        waiting: run.waiting.clone(),
        because: because(run),
    }
}

fn summary(run: &RunView) -> String {
    let number = run.number;
    let stages = |status| -> String {
        let ids: Vec<String> =
            run.stages.iter().filter(|stage| stage.status == status).map(|stage| stage.id.clone()).collect();
        titles::list(&ids, "and")
    };
    match run.status {
        RunStatus::Requested => format!("run {number} waits for an orchestrator to take it up"),
        RunStatus::Running => format!("run {number} is at work in {}", at_work(run)),
        RunStatus::Waiting => {
            let what: Vec<String> = run.waiting.iter().map(|waiting| waiting.what.clone()).collect();
            format!("run {number} waits in {} for {}", stages(StageStatus::Waiting), titles::list(&what, "and"))
        }
        RunStatus::Watching => format!("run {number} is live and watched in {}", stages(StageStatus::Watching)),
        RunStatus::RollingBack => format!("run {number} rolls back {}", stages(StageStatus::RollingBack)),
        RunStatus::Finished => {
            let outcome = run.outcome.map_or("ended", Outcome::as_str).replace('-', " ");
            if run.reason.is_empty() {
                format!("run {number} {outcome}")
            } else {
                format!("run {number} {outcome}: {}", run.reason)
            }
        }
    }
}

/// "prod (Verify at 5 % of the traffic)".
fn at_work(run: &RunView) -> String {
    let running = run.stages.iter().filter(|stage| stage.status == StageStatus::Running);
    let stages = running.map(|stage| {
        let step = stage.steps.iter().find(|step| step.status == StepStatus::Running);
        step.map_or_else(|| stage.id.clone(), |step| format!("{} ({})", stage.id, step.title))
    });
    titles::list(&stages.collect::<Vec<_>>(), "and")
}

fn because(run: &RunView) -> Vec<String> {
    let mut reasons: Vec<(i64, String)> = Vec::new();
    for stage in &run.stages {
        for step in stage.steps.iter().chain(&stage.rollback) {
            let Some(ended) = step.ended_ms else { continue };
            let place = format!("{}/{}", stage.id, step.id);
            if let Some(verdict) = &step.verdict {
                let (kind, basis) = (verdict.kind.as_str(), verdict.basis.as_str());
                reasons.push((ended, format!("{place}: {kind} ({basis}): {}", verdict.sentence)));
            } else if !matches!(step.outcome, None | Some(Outcome::Succeeded | Outcome::Skipped)) {
                let class = step.error_class.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
                let outcome = if step.status == StepStatus::Retrying {
                    "failed and is tried again"
                } else {
                    step.outcome.map_or("ended", Outcome::as_str)
                };
                reasons.push((ended, titles::with_reason(&format!("{place}: {outcome}{class}"), &step.message)));
            }
        }
        if let (Some(ended), false) = (stage.ended_ms, stage.reason.is_empty()) {
            let outcome = stage.outcome.map_or("ended", Outcome::as_str);
            reasons.push((ended, titles::with_reason(&format!("{}: {outcome}", stage.id), &stage.reason)));
        }
    }
    for approval in &run.approvals {
        for decision in &approval.decisions {
            let verb = if decision.approve { "approved" } else { "rejected" };
            reasons.push((
                decision.time_ms,
                titles::with_reason(&format!("{}: {verb} by {}", approval.stage, decision.person), &decision.comment),
            ));
        }
    }
    reasons.sort();
    reasons.into_iter().map(|(_, reason)| reason).collect()
}
