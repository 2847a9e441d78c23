//! A run, arranged for its template.

use std::collections::HashMap;

use super::super::{clock::Moment, icon};
use crate::{
    api::{
        ApprovalView, Basis, Counted, EvidenceView, Outcome, RunStatus, RunView, StageStatus, StageView, StepKind,
        StepStatus, StepView, VerdictView, Waiting,
    },
    read_model::{duration, explain},
};

/// The part of the page that changes.
pub(super) struct RunPart {
    pub(super) number: u64,
    pub(super) what: String,
    pub(super) version: String,
    pub(super) pipeline: String,
    pub(super) icon: &'static str,
    pub(super) words: String,
    pub(super) summary: String,
    pub(super) who: String,
    pub(super) cause: String,
    pub(super) started: Moment,
    pub(super) took: Option<String>,
    pub(super) trace_id: String,
    pub(super) going_on: bool,
    pub(super) can_roll_back: Vec<String>,
    pub(super) waits: Vec<Wait>,
    pub(super) asks: Vec<Ask>,
    /// Stages that can run at the same time are in one column.
    pub(super) columns: Vec<Vec<StagePart>>,
}

pub(super) struct Wait {
    pub(super) place: String,
    pub(super) what: String,
    pub(super) since: Moment,
    pub(super) until: Option<Moment>,
    pub(super) released_by: String,
}

/// An approval that is open, or has ended.
pub(super) struct Ask {
    pub(super) stage: String,
    pub(super) message: String,
    pub(super) open: bool,
    pub(super) icon: &'static str,
    pub(super) words: String,
    pub(super) reason: String,
    pub(super) quorum: Vec<(String, u32, u32)>,
    pub(super) decisions: Vec<Said>,
    pub(super) expires: Option<Moment>,
    pub(super) mine: bool,
    pub(super) others: String,
}

pub(super) struct Said {
    pub(super) person: String,
    pub(super) icon: &'static str,
    pub(super) verb: &'static str,
    pub(super) comment: String,
    pub(super) time: Moment,
}

pub(super) struct StagePart {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) icon: &'static str,
    pub(super) words: String,
    pub(super) reason: String,
    pub(super) done: usize,
    pub(super) all: usize,
    pub(super) since: Option<Moment>,
    pub(super) took: Option<String>,
    pub(super) open: bool,
    pub(super) traffic: Option<Traffic>,
    pub(super) url: String,
    pub(super) preview_url: String,
    pub(super) steps: Vec<StepPart>,
    /// Steps that will not be reached any more.
    pub(super) unreached: Vec<StepPart>,
    pub(super) rollback: Vec<StepPart>,
}

/// How the traffic is split.
pub(super) struct Traffic {
    pub(super) new: String,
    pub(super) old: String,
    pub(super) percent: u32,
}

pub(super) struct StepPart {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) icon: &'static str,
    pub(super) words: String,
    pub(super) attempts: String,
    pub(super) message: String,
    pub(super) error_class: String,
    pub(super) since: Option<Moment>,
    pub(super) took: Option<String>,
    pub(super) waiting: Option<String>,
    pub(super) evidence: Vec<(String, String)>,
    pub(super) verdict: Option<VerdictPart>,
    pub(super) outputs: Vec<(String, String)>,
    /// Query of the log, if there can be one.
    pub(super) log: Option<String>,
}

pub(super) struct VerdictPart {
    pub(super) icon: &'static str,
    pub(super) kind: &'static str,
    pub(super) basis: &'static str,
    pub(super) sentence: String,
    pub(super) figures: Vec<(String, String)>,
}

impl RunPart {
    /// As `viewer` sees it.
    pub(super) fn of(run: &RunView, viewer: &str) -> Self {
        let summary = explain(run).summary;
        let prefix = format!("run {} ", run.number);
        Self {
            number: run.number,
            what: run.service.clone().unwrap_or_else(|| run.pipeline.clone()),
            version: run.version.clone().unwrap_or_default(),
            pipeline: run.pipeline.clone(),
            icon: icon::of_run(run.status, run.outcome),
            words: icon::run_words(run.status, run.outcome),
            summary: capitalised(summary.strip_prefix(&prefix).unwrap_or(&summary)),
            who: run.initiator.name.clone(),
            cause: run.cause.clone(),
            started: Moment(run.started_ms),
            took: run.ended_ms.map(|ended| duration(ended - run.started_ms)),
            trace_id: run.trace_id.clone(),
            going_on: run.status != RunStatus::Finished,
            can_roll_back: live_stages(run),
            waits: run.waiting.iter().filter(|waiting| !asks_people(run, waiting)).map(wait).collect(),
            asks: run.approvals.iter().map(|approval| ask(approval, viewer)).collect(),
            columns: columns(run),
        }
    }
}

/// Stages that can be rolled back, the last one first; none once the run has ended.
fn live_stages(run: &RunView) -> Vec<String> {
    if run.status == RunStatus::Finished {
        return Vec::new();
    }
    run.stages.iter().rev().filter(|stage| stage.is_live()).map(|stage| stage.id.clone()).collect()
}

/// An approval has a card of its own.
fn asks_people(run: &RunView, waiting: &Waiting) -> bool {
    run.approvals.iter().any(|approval| approval.stage == waiting.stage && approval.step == waiting.step)
}

fn wait(waiting: &Waiting) -> Wait {
    Wait {
        place: waiting.stage.clone(),
        what: waiting.what.clone(),
        since: Moment(waiting.since_ms),
        until: waiting.until_ms.map(Moment),
        released_by: waiting.released_by.clone(),
    }
}

fn ask(approval: &ApprovalView, viewer: &str) -> Ask {
    let open = approval.outcome.is_none();
    Ask {
        stage: approval.stage.clone(),
        message: approval.message.clone(),
        open,
        icon: approval.outcome.map_or("waiting", icon::of_outcome),
        words: match approval.outcome {
            None => "Approval needed".into(),
            Some(Outcome::Succeeded) => "Approved".into(),
            Some(outcome) => capitalised(&icon::words(outcome.as_str())),
        },
        reason: approval.reason.clone(),
        quorum: approval.by.iter().map(|quorum| (quorum.group.clone(), quorum.have, quorum.need)).collect(),
        decisions: approval
            .decisions
            .iter()
            .map(|decision| Said {
                person: decision.person.clone(),
                icon: if decision.approve { "succeeded" } else { "failed" },
                verb: if decision.approve { "approved" } else { "rejected" },
                comment: decision.comment.clone(),
                time: Moment(decision.time_ms),
            })
            .collect(),
        expires: approval.expires_ms.filter(|_| open).map(Moment),
        mine: approval.eligible.iter().any(|person| person == viewer),
        others: approval.eligible.join(", "),
    }
}

/// Each stage in the column after the last of those it needs.
fn columns(run: &RunView) -> Vec<Vec<StagePart>> {
    let mut depth: HashMap<&str, usize> = HashMap::new();
    let mut columns: Vec<Vec<StagePart>> = Vec::new();
    for stage in &run.stages {
        // A plan lists a stage after the ones it needs.
        let column = stage.needs.iter().filter_map(|need| depth.get(need.as_str())).map(|depth| depth + 1).max();
        let column = column.unwrap_or(0);
        depth.insert(&stage.id, column);
        if columns.len() <= column {
            columns.resize_with(column + 1, Vec::new);
        }
        columns[column].push(stage_part(run, stage));
    }
    columns.retain(|column| !column.is_empty());
    columns
}

fn stage_part(run: &RunView, stage: &StageView) -> StagePart {
    let going_on = stage.started_ms.is_some() && stage.ended_ms.is_none();
    let well = matches!(stage.outcome, Some(Outcome::Succeeded | Outcome::Skipped));
    let is_approval = stage.steps.iter().all(|step| step.kind == StepKind::Approve) && !stage.steps.is_empty();
    let begun = |steps: &[StepView]| steps.iter().any(|step| step.status != StepStatus::Pending);
    let over = stage.ended_ms.is_some() || stage.status == StageStatus::RollingBack;
    let steps = stage
        .steps
        .iter()
        .map(|step| (over && step.status == StepStatus::Pending, step_part(stage, run.version.as_deref(), step)));
    let (unreached, steps): (Vec<_>, Vec<_>) = steps.partition(|(unreached, _)| *unreached);
    StagePart {
        id: stage.id.clone(),
        kind: match (&stage.strategy, is_approval) {
            (Some(strategy), _) => strategy.clone(),
            (None, true) => "approval".into(),
            (None, false) => "steps".into(),
        },
        icon: icon::of_stage(stage.status, stage.outcome),
        words: icon::stage_words(stage.status, stage.outcome),
        reason: stage.reason.clone(),
        done: stage.steps.iter().filter(|step| step.status == StepStatus::Finished).count(),
        all: stage.steps.len(),
        since: stage.started_ms.filter(|_| going_on).map(Moment),
        took: stage.started_ms.zip(stage.ended_ms).map(|(started, ended)| duration(ended - started)),
        open: going_on || (stage.ended_ms.is_some() && !well),
        traffic: stage.weight.map(|percent| Traffic {
            new: run.version.clone().unwrap_or_else(|| "new release".into()),
            old: stage.previous.clone().unwrap_or_else(|| "before".into()),
            percent: percent.min(100),
        }),
        url: web_address(stage.url.as_deref()),
        preview_url: web_address(stage.preview_url.as_deref()),
        steps: steps.into_iter().map(|(_, step)| step).collect(),
        unreached: unreached.into_iter().map(|(_, step)| step).collect(),
        rollback: if begun(&stage.rollback) || stage.status == StageStatus::RollingBack {
            stage.rollback.iter().map(|step| step_part(stage, run.version.as_deref(), step)).collect()
        } else {
            Vec::new()
        },
    }
}

/// What comes from a target is a link only when it is one.
fn web_address(url: Option<&str>) -> String {
    let url = url.unwrap_or_default();
    if url.starts_with("http://") || url.starts_with("https://") { url.to_owned() } else { String::new() }
}

fn step_part(stage: &StageView, version: Option<&str>, step: &StepView) -> StepPart {
    let going_on = step.started_ms.is_some() && step.ended_ms.is_none();
    let failed = step.outcome.is_some_and(|outcome| outcome != Outcome::Succeeded);
    StepPart {
        id: step.id.clone(),
        title: step.title.clone(),
        icon: icon::of_step(step.status, step.outcome),
        words: icon::step_words(step.status, step.outcome),
        attempts: if step.attempt > 1 { format!("attempt {}", step.attempt) } else { String::new() },
        // A verdict says it with its numbers.
        message: if step.verdict.is_some() { String::new() } else { step.message.clone() },
        error_class: step.error_class.clone().filter(|_| failed).unwrap_or_default(),
        since: step.started_ms.filter(|_| going_on).map(Moment),
        took: step.started_ms.zip(step.ended_ms).map(|(started, ended)| duration(ended - started)),
        waiting: step.waiting.as_ref().map(|waiting| waiting.what.clone()),
        evidence: step.evidence.as_ref().map(|counted| evidence(stage, version, counted)).unwrap_or_default(),
        verdict: step.verdict.as_ref().map(verdict),
        outputs: step.outputs.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        log: (step.kind.has_log() && step.started_ms.is_some())
            .then(|| format!("stage={}&step={}", query_part(&stage.id), query_part(&step.id))),
    }
}

fn evidence(stage: &StageView, version: Option<&str>, evidence: &EvidenceView) -> Vec<(String, String)> {
    let arm = |release: Option<&str>, otherwise: &str, counted: &Counted| {
        (format!("errors, {}", release.unwrap_or(otherwise)), share(counted))
    };
    let new = arm(version, "new release", &evidence.canary);
    let old = evidence.control.as_ref().map(|control| arm(stage.previous.as_deref(), "before", control));
    std::iter::once(new).chain(old).collect()
}

/// "41 of 1,204 (3.4 %)".
fn share(counted: &Counted) -> String {
    let of = format!("{} of {}", grouped(counted.errors), grouped(counted.requests));
    if counted.requests == 0 {
        return of;
    }
    let permille = u128::from(counted.errors) * 1_000 / u128::from(counted.requests);
    format!("{of} ({}.{} %)", permille / 10, permille % 10)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn verdict(verdict: &VerdictView) -> VerdictPart {
    VerdictPart {
        icon: match verdict.kind {
            crate::api::VerdictKind::Pass => "succeeded",
            crate::api::VerdictKind::Fail => "failed",
            crate::api::VerdictKind::Inconclusive => "ignored",
        },
        kind: verdict.kind.as_str(),
        basis: match verdict.basis {
            Basis::Control => "compared with the previous release at the same time",
            Basis::History => "compared with its own past",
            Basis::Guards => "by fixed limits: there was nothing to compare with",
        },
        sentence: verdict.sentence.clone(),
        figures: verdict.figures.iter().map(|figure| (figure.name.clone(), figure.value.clone())).collect(),
    }
}

/// Percent-encoded, all but what never needs it.
fn query_part(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_cannot_smuggle_a_script_into_a_link() {
        assert_eq!(web_address(Some("javascript:alert(1)")), "");
        assert_eq!(web_address(Some("http://127.0.0.1:18080")), "http://127.0.0.1:18080");
    }

    #[test]
    fn counts_are_shown_with_their_share() {
        assert_eq!(share(&Counted { requests: 1_204, errors: 41 }), "41 of 1,204 (3.4 %)");
        assert_eq!(share(&Counted { requests: 0, errors: 0 }), "0 of 0");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn names_cannot_break_out_of_a_query() {
        assert_eq!(query_part("a&b=\"c\""), "a%26b%3D%22c%22");
    }
}
