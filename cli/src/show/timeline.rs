//! What happens in a run, a line each, with the minutes and seconds since it started.

use std::collections::BTreeSet;

use cdflow_console::api::{ApprovalView, Outcome, RunView, StageStatus, StageView, StepKind, StepView};
use cdflow_protocol::{UnixMillis, wall_clock};
use console::style;

use super::{
    line,
    words::{elapsed, outcome},
};

/// Remembers what it has said of a run and says what is new.
#[derive(Default)]
pub(crate) struct Timeline {
    /// What was said, by stage, step and attempt.
    said: BTreeSet<String>,
    /// Verdicts that were said: reasons that repeat them are cut short.
    sentences: Vec<String>,
}

/// Something that happened, and when.
struct News {
    at: UnixMillis,
    text: String,
}

impl Timeline {
    /// Prints what has changed since the last call, in the order in which it happened.
    pub(crate) fn show(&mut self, run: &RunView) {
        for news in self.news(run) {
            line(format!("{}  {}", style(elapsed(run.started_ms, news.at)).dim(), news.text));
        }
    }

    /// Says nothing of what this view shows, now or later.
    pub(crate) fn pass_over(&mut self, run: &RunView) {
        self.news(run);
    }

    fn news(&mut self, run: &RunView) -> Vec<News> {
        let mut news = Vec::new();
        let version = run.version.as_deref().unwrap_or_default();
        let what = format!("run {} {} {version}", run.number, run.pipeline);
        let what = style(what.trim_end()).bold();
        let cause = run.cause.strip_prefix("started by ").unwrap_or(&run.cause);
        self.say(&mut news, "run", Some(run.started_ms), || format!("{what} started by {cause}"));
        for stage in &run.stages {
            self.stage(&mut news, stage);
        }
        for approval in &run.approvals {
            self.approval(&mut news, run, approval);
        }
        news.sort_by_key(|news| news.at);
        if let Some(how) = run.outcome {
            let text = format!(
                "{} {}{}",
                style(format!("run {}", run.number)).bold(),
                outcome(how),
                self.because(&run.reason)
            );
            self.say(&mut news, "run ended", run.ended_ms, || text);
        }
        news
    }

    fn say(&mut self, news: &mut Vec<News>, key: &str, at: Option<UnixMillis>, text: impl FnOnce() -> String) {
        if self.said.insert(key.to_owned()) {
            news.push(News { at: at.unwrap_or_else(wall_clock), text: text() });
        }
    }

    /// A reason after a colon, unless it only repeats a verdict.
    fn because(&self, reason: &str) -> String {
        if reason.is_empty() || self.sentences.iter().any(|sentence| reason.contains(sentence.as_str())) {
            String::new()
        } else {
            format!(": {reason}")
        }
    }

    fn stage(&mut self, news: &mut Vec<News>, stage: &StageView) {
        let (id, name) = (&stage.id, style(&stage.id).bold());
        // An approval is told by who is waited for; its stage has nothing to add.
        let deploys = stage.environment.is_some();
        if stage.started_ms.is_some() && deploys {
            let how = stage.strategy.as_deref().unwrap_or("rolling");
            self.say(news, &format!("{id} started"), stage.started_ms, || format!("{name}: deploying ({how})"));
        }
        for step in stage.steps.iter().chain(&stage.rollback) {
            self.step(news, stage, step);
        }
        if stage.status == StageStatus::RollingBack {
            let text = format!("{name}: {}{}", style("rolling back").yellow(), self.because(&stage.reason));
            self.say(news, &format!("{id} back"), None, || text);
        }
        if stage.promoted_ms.is_some() {
            let watches = stage.steps.iter().any(|step| step.kind == StepKind::Watch);
            let then = if watches { ", watching" } else { "" };
            self.say(news, &format!("{id} promoted"), stage.promoted_ms, || {
                format!("{name}: {}{then}", style("promoted").green())
            });
        }
        if let Some(how) = stage.outcome.filter(|how| deploys || *how != Outcome::Succeeded) {
            let text = format!("{name}: {}{}", outcome(how), self.because(&stage.reason));
            self.say(news, &format!("{id} ended"), stage.ended_ms, || text);
        }
    }

    fn step(&mut self, news: &mut Vec<News>, stage: &StageView, step: &StepView) {
        let name = style(&stage.id).bold();
        let key = format!("{}/{}/{}", stage.id, step.id, step.attempt);
        match (&step.verdict, step.outcome) {
            (Some(verdict), _) => {
                if !self.sentences.contains(&verdict.sentence) {
                    self.sentences.push(verdict.sentence.clone());
                }
                self.say(news, &key, step.ended_ms, || format!("{name}: {}", verdict.sentence));
            }
            (None, Some(how @ (Outcome::Failed | Outcome::Expired))) => self.say(news, &key, step.ended_ms, || {
                format!("{name}: {} {} - {}", step.title, outcome(how), step.message)
            }),
            (None, Some(Outcome::Succeeded)) if step.kind == StepKind::Shift => {
                let is_back = stage.rollback.iter().any(|undo| undo.id == step.id);
                let weight = step.percent.filter(|_| !is_back);
                self.say(news, &key, step.ended_ms, || match weight {
                    Some(weight) => format!("{name}: {weight} % of the traffic"),
                    None => format!("{name}: all traffic is back where it was"),
                });
            }
            _ => {}
        }
    }

    fn approval(&mut self, news: &mut Vec<News>, run: &RunView, approval: &ApprovalView) {
        for (number, decision) in approval.decisions.iter().enumerate() {
            let what = if decision.approve { style("approved").green() } else { style("rejected").red() };
            let comment = if decision.comment.is_empty() { String::new() } else { format!(": {}", decision.comment) };
            let text = format!("{what} by {}{comment}", style(&decision.person).bold());
            self.say(news, &format!("{} {number}", approval.id), Some(decision.time_ms), || text);
        }
        if approval.outcome.is_some() {
            return;
        }
        let missing: Vec<String> = approval
            .by
            .iter()
            .filter(|quorum| quorum.have < quorum.need)
            .map(|quorum| format!("{} ({} of {})", quorum.group, quorum.have, quorum.need))
            .collect();
        let waiting = style(format!("waiting for {}", missing.join(" and "))).magenta();
        let key = format!("{} after {}", approval.id, approval.decisions.len());
        // Last of what happened at the same moment.
        self.say(news, &key, Some(approval.requested_ms), || {
            format!("{waiting} - type: ./cdflow approve {}", run.number)
        });
    }
}
