//! What happens in a run, a line each, with the minutes and seconds since it started.

use std::collections::BTreeMap;

use cdflow_console::api::{ApprovalView, Outcome, RunView, StageView, StepView};
use console::style;

use super::{
    line,
    words::{elapsed, now, outcome},
};

/// Remembers what it has said of a run and says what is new.
#[derive(Default)]
pub(crate) struct Timeline {
    begun: bool,
    stages: BTreeMap<String, Said>,
    steps: BTreeMap<(String, String), (u32, Option<Outcome>)>,
    approvals: BTreeMap<String, usize>,
    ended: bool,
}

#[derive(Default, PartialEq)]
struct Said {
    started: bool,
    weight: Option<u32>,
    promoted: bool,
    undoing: bool,
    ended: bool,
}

impl Timeline {
    /// Lines for what has changed since the last call.
    pub(crate) fn show(&mut self, run: &RunView) {
        for text in self.news(run) {
            line(text);
        }
    }

    fn news(&mut self, run: &RunView) -> Vec<String> {
        let mut lines = Vec::new();
        let at = |time: Option<i64>| style(elapsed(run.started_ms, time.unwrap_or_else(now))).dim();
        if !self.begun {
            self.begun = true;
            let version = run.version.as_deref().unwrap_or_default();
            let what = style(format!("run {} {} {version}", run.number, run.pipeline)).bold();
            lines.push(format!("{}  {what} started by {}", at(Some(run.started_ms)), run.cause));
        }
        for stage in &run.stages {
            self.stage(stage, &at, &mut lines);
        }
        for approval in &run.approvals {
            self.approval(run, approval, &at, &mut lines);
        }
        if let (Some(how), false) = (run.outcome, self.ended) {
            self.ended = true;
            let reason = if run.reason.is_empty() { String::new() } else { format!(": {}", run.reason) };
            lines.push(format!("{}  {} {}{reason}", at(run.ended_ms), style(format!("run {}", run.number)).bold(), outcome(how)));
        }
        lines
    }

    fn stage(&mut self, stage: &StageView, at: &impl Fn(Option<i64>) -> console::StyledObject<String>, lines: &mut Vec<String>) {
        let name = style(&stage.id).bold();
        let said = self.stages.entry(stage.id.clone()).or_default();
        // An approval is told by who is waited for; its stage has nothing to add.
        let deploys = stage.environment.is_some();
        if stage.started_ms.is_some() && !said.started {
            said.started = true;
            if deploys {
                let how = stage.strategy.as_deref().unwrap_or("rolling");
                lines.push(format!("{}  {name}: deploying ({how})", at(stage.started_ms)));
            }
        }
        if stage.weight != said.weight {
            said.weight = stage.weight;
            if let Some(weight) = stage.weight {
                lines.push(format!("{}  {name}: {weight} % of the traffic", at(None)));
            }
        }
        for step in stage.steps.iter().chain(&stage.rollback) {
            Self::step(&mut self.steps, stage, step, at, lines);
        }
        let said = self.stages.entry(stage.id.clone()).or_default();
        if stage.status == cdflow_console::api::StageStatus::RollingBack && !said.undoing {
            said.undoing = true;
            lines.push(format!("{}  {name}: {} - {}", at(None), style("rolling back").yellow(), stage.reason));
        }
        if stage.promoted_ms.is_some() && !said.promoted {
            said.promoted = true;
            let watches = stage.steps.iter().any(|step| step.kind == cdflow_console::api::StepKind::Watch);
            let then = if watches { ", watching" } else { "" };
            lines.push(format!("{}  {name}: {}{then}", at(stage.promoted_ms), style("promoted").green()));
        }
        if let (Some(how), false) = (stage.outcome, said.ended) {
            said.ended = true;
            let reason = if stage.reason.is_empty() { String::new() } else { format!(": {}", stage.reason) };
            if deploys || how != Outcome::Succeeded {
                lines.push(format!("{}  {name}: {}{reason}", at(stage.ended_ms), outcome(how)));
            }
        }
    }

    fn step(
        steps: &mut BTreeMap<(String, String), (u32, Option<Outcome>)>,
        stage: &StageView,
        step: &StepView,
        at: &impl Fn(Option<i64>) -> console::StyledObject<String>,
        lines: &mut Vec<String>,
    ) {
        let state = (step.attempt, step.outcome);
        if steps.insert((stage.id.clone(), step.id.clone()), state) == Some(state) {
            return;
        }
        let name = style(&stage.id).bold();
        if let Some(verdict) = &step.verdict {
            lines.push(format!("{}  {name}: {}", at(step.ended_ms), verdict.sentence));
        } else if let Some(how @ (Outcome::Failed | Outcome::Expired)) = step.outcome {
            lines.push(format!("{}  {name}: {} {} - {}", at(step.ended_ms), step.title, outcome(how), step.message));
        }
    }

    fn approval(
        &mut self,
        run: &RunView,
        approval: &ApprovalView,
        at: &impl Fn(Option<i64>) -> console::StyledObject<String>,
        lines: &mut Vec<String>,
    ) {
        let said = self.approvals.get(&approval.id).copied();
        for decision in approval.decisions.iter().skip(said.unwrap_or(0)) {
            let what = if decision.approve { style("approved").green() } else { style("rejected").red() };
            let comment = if decision.comment.is_empty() { String::new() } else { format!(": {}", decision.comment) };
            lines.push(format!("{}  {what} by {}{comment}", at(Some(decision.time_ms)), style(&decision.person).bold()));
        }
        let is_news = said != Some(approval.decisions.len());
        self.approvals.insert(approval.id.clone(), approval.decisions.len());
        if approval.outcome.is_some() || !is_news {
            return;
        }
        let missing: Vec<String> = approval
            .by
            .iter()
            .filter(|quorum| quorum.have < quorum.need)
            .map(|quorum| format!("{} ({} of {})", quorum.group, quorum.have, quorum.need))
            .collect();
        let waiting = style(format!("waiting for {}", missing.join(" and "))).magenta();
        lines.push(format!("{}  {waiting} - type: ./cdflow approve {}", at(None), run.number));
    }
}
