//! Folds the events of a run into what people see. Pure: the same events give the same view, whenever they are read.

use cdflow_pipeline::plan::{self, Plan};
use cdflow_protocol::{
    UnixMillis,
    v1::{self, run_event},
};

use super::{
    titles::{self, Direction},
    words,
};
use crate::api::{Actor, Outcome, RunStatus, RunView, StageStatus, StageView, StepKind, StepStatus, StepView, Waiting};

/// What an event changes about what is live somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveChange {
    pub(crate) service: String,
    pub(crate) environment: String,
    pub(crate) infrastructure: String,
    pub(crate) version: Option<String>,
    pub(crate) previous: Option<String>,
    pub(crate) time_ms: UnixMillis,
    pub(crate) how: LiveBecause,
}

/// Why a version is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LiveBecause {
    /// It was there when somebody looked for the first time.
    Found,
    /// A run promoted it.
    Promoted,
    /// A run took back the version after it.
    RolledBack,
}

/// A run that has a number and no events of its own yet.
pub(crate) fn requested(requested: &v1::RunRequested, project: &str, sequence: u64) -> RunView {
    RunView {
        number: requested.number,
        id: requested.run_id.clone(),
        project: project.to_owned(),
        pipeline: requested.pipeline.clone(),
        service: None,
        version: Some(requested.version.clone()).filter(|version| !version.is_empty()),
        status: RunStatus::Requested,
        outcome: None,
        initiator: words::actor(requested.initiator.as_ref()),
        cause: requested.cause.clone(),
        started_ms: requested.time_ms,
        ended_ms: None,
        reason: String::new(),
        stages: Vec::new(),
        waiting: Vec::new(),
        approvals: Vec::new(),
        trace_id: String::new(),
        revision: 0,
        sequence,
    }
}

/// Folds one event. `view` is `None` before the first; an event that makes no sense changes nothing.
pub(crate) fn apply(view: &mut Option<RunView>, id: &str, event: &v1::RunEvent, sequence: u64) -> Option<LiveChange> {
    let kind = event.kind.as_ref()?;
    if let run_event::Kind::RunStarted(started) = kind {
        *view = Some(begin(id, started, sequence));
        return None;
    }
    let view = view.as_mut()?;
    view.sequence = sequence;
    let change = fold(view, kind);
    view.waiting = waiting(view);
    view.status = status(view);
    change
}

fn begin(id: &str, started: &v1::RunStarted, sequence: u64) -> RunView {
    let plan: Option<Plan> = serde_json::from_slice(&started.plan)
        .inspect_err(
            |error| tracing::error!(run = id, %error, "the plan of a run cannot be read; it is shown without stages"),
        )
        .ok();
    let version = plan.as_ref().and_then(|plan| plan.artifact.as_ref()).map(|artifact| artifact.version.clone());
    RunView {
        number: started.number,
        id: id.to_owned(),
        project: plan.as_ref().map_or_else(|| "default".into(), |plan| plan.project.clone()),
        pipeline: plan.as_ref().map(|plan| plan.pipeline.clone()).unwrap_or_default(),
        service: plan.as_ref().and_then(|plan| plan.service.clone()),
        status: RunStatus::Running,
        outcome: None,
        initiator: words::actor(started.initiator.as_ref()),
        cause: started.cause.clone(),
        started_ms: started.time_ms,
        ended_ms: None,
        reason: String::new(),
        stages: plan.iter().flat_map(|plan| &plan.stages).map(|stage| stage_view(stage, version.as_deref())).collect(),
        waiting: Vec::new(),
        approvals: Vec::new(),
        trace_id: trace_id(&started.traceparent),
        revision: plan.as_ref().map_or(0, |plan| plan.revision),
        version,
        sequence,
    }
}

/// The second part of a W3C `traceparent`.
fn trace_id(traceparent: &str) -> String {
    let id = traceparent.split('-').nth(1).unwrap_or_default();
    let valid = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { id.to_owned() } else { String::new() }
}

fn stage_view(stage: &plan::Stage, version: Option<&str>) -> StageView {
    let deploy = stage.deploy.as_ref();
    let steps = |steps: &[plan::Step], direction| {
        steps.iter().map(|step| step_view(step, deploy, version, direction)).collect::<Vec<_>>()
    };
    StageView {
        id: stage.id.clone(),
        needs: stage.needs.clone(),
        environment: deploy.map(|deploy| deploy.environment.clone()),
        infrastructure: deploy.map(|deploy| deploy.target.infrastructure.clone()),
        strategy: deploy.map(|deploy| deploy.strategy.clone()),
        status: StageStatus::Pending,
        outcome: None,
        reason: String::new(),
        started_ms: None,
        promoted_ms: None,
        ended_ms: None,
        steps: steps(&stage.steps, Direction::Forward),
        rollback: steps(&stage.rollback, Direction::Back),
        previous: None,
        weight: None,
        url: None,
        preview_url: None,
    }
}

fn step_view(
    step: &plan::Step,
    deploy: Option<&plan::Deploy>,
    version: Option<&str>,
    direction: Direction,
) -> StepView {
    StepView {
        id: step.id.clone(),
        title: titles::title(&step.action, deploy, version, direction),
        kind: titles::kind(&step.action),
        percent: titles::percent(&step.action),
        duration_ms: titles::duration_ms(&step.action),
        status: StepStatus::Pending,
        outcome: None,
        error_class: None,
        attempt: 0,
        attempts: step.retry.map_or(1, |retry| retry.attempts.max(1)),
        message: String::new(),
        started_ms: None,
        ended_ms: None,
        deadline_ms: None,
        retry_at_ms: None,
        waiting: None,
        evidence: None,
        verdict: None,
        outputs: Default::default(),
    }
}

fn fold(view: &mut RunView, kind: &run_event::Kind) -> Option<LiveChange> {
    let (number, service, version) = (view.number, view.service.clone(), view.version.clone());
    match kind {
        run_event::Kind::RunStarted(_) => {}
        run_event::Kind::StageStarted(started) => {
            let stage = stage(view, &started.stage_id)?;
            stage.status = StageStatus::Running;
            stage.started_ms = Some(started.time_ms);
        }
        run_event::Kind::StepStarted(started) => step_started(stage(view, &started.stage_id)?, started, number)?,
        run_event::Kind::StepWaiting(waits) => step_waiting(stage(view, &waits.stage_id)?, waits, number)?,
        run_event::Kind::StepFinished(finished) => {
            return step_finished(stage(view, &finished.stage_id)?, finished, service.as_deref());
        }
        run_event::Kind::StagePromoted(promoted) => {
            let stage = stage(view, &promoted.stage_id)?;
            stage.promoted_ms = Some(promoted.time_ms);
            stage.weight = stage.environment.is_some().then_some(100);
            return Some(LiveChange {
                version: Some(version?),
                ..live(stage, service.as_deref(), promoted.time_ms, LiveBecause::Promoted)?
            });
        }
        run_event::Kind::StageRollingBack(back) => {
            let stage = stage(view, &back.stage_id)?;
            stage.status = StageStatus::RollingBack;
            stage.reason.clone_from(&back.reason);
            // What was to come will not come: the rollback has steps of its own.
            stop(&mut stage.steps, back.time_ms);
        }
        run_event::Kind::StageFinished(finished) => {
            let stage = stage(view, &finished.stage_id)?;
            stage.status = StageStatus::Finished;
            stage.outcome = words::outcome(finished.outcome);
            if !finished.reason.is_empty() {
                stage.reason.clone_from(&finished.reason);
            }
            stage.ended_ms = Some(finished.time_ms);
            stop(&mut stage.steps, finished.time_ms);
            stop(&mut stage.rollback, finished.time_ms);
            if stage.outcome == Some(Outcome::RolledBack) && stage.promoted_ms.is_some() {
                return Some(LiveChange {
                    version: stage.previous.clone(),
                    previous: version,
                    ..live(stage, service.as_deref(), finished.time_ms, LiveBecause::RolledBack)?
                });
            }
        }
        run_event::Kind::RunCommanded(commanded) => {
            let command = commanded.command.as_ref()?;
            if matches!(command.kind, Some(v1::run_command::Kind::Cancel(_))) {
                view.reason = commanded_reason("cancelled", command);
            }
        }
        run_event::Kind::RunFinished(finished) => {
            view.outcome = words::outcome(finished.outcome);
            view.ended_ms = Some(finished.time_ms);
            if !finished.reason.is_empty() || view.reason.is_empty() {
                view.reason.clone_from(&finished.reason);
            }
            for stage in &mut view.stages {
                stop(&mut stage.steps, finished.time_ms);
                stop(&mut stage.rollback, finished.time_ms);
            }
        }
    }
    None
}

fn step_started(stage: &mut StageView, started: &v1::StepStarted, number: u64) -> Option<()> {
    let (stage_id, rolling_back) = (stage.id.clone(), stage.status == StageStatus::RollingBack);
    let step = step(stage, &started.step_id)?;
    *step = StepView {
        status: StepStatus::Running,
        outcome: None,
        error_class: None,
        attempt: started.attempt,
        message: String::new(),
        started_ms: Some(started.time_ms),
        ended_ms: None,
        deadline_ms: (started.deadline_ms > 0).then_some(started.deadline_ms),
        retry_at_ms: None,
        waiting: None,
        ..step.clone()
    };
    let what = match step.kind {
        StepKind::Approve => Some("a decision".into()),
        StepKind::Wait => Some("time to pass".into()),
        StepKind::Verify => Some("enough evidence to decide".into()),
        StepKind::Watch => Some("the watch to end; it is rolled back if it gets worse".into()),
        _ => None,
    };
    if let Some(what) = what {
        if matches!(step.kind, StepKind::Approve | StepKind::Wait) {
            step.status = StepStatus::Waiting;
        }
        let limit = step.duration_ms.map(|duration| started.time_ms.saturating_add(duration));
        step.waiting = Some(Waiting {
            stage: stage_id,
            step: step.id.clone(),
            what,
            since_ms: started.time_ms,
            // The deadline of a step has some grace, so that the last word can arrive.
            until_ms: limit.or(step.deadline_ms),
            released_by: released_by(step.kind, number),
        });
    }
    let (kind, waits) = (step.kind, step.status == StepStatus::Waiting);
    if !rolling_back {
        stage.status = match kind {
            StepKind::Watch => StageStatus::Watching,
            _ if waits => StageStatus::Waiting,
            _ => StageStatus::Running,
        };
    }
    Some(())
}

/// What holds a step up, in the words of who noticed. It is said again whenever somebody is asked again.
fn step_waiting(stage: &mut StageView, waits: &v1::StepWaiting, number: u64) -> Option<()> {
    let message = waits.message.trim();
    let (stage_id, rolling_back) = (stage.id.clone(), stage.status == StageStatus::RollingBack);
    let step = step(stage, &waits.step_id)?;
    if message.is_empty() {
        return None;
    }
    let what = match step.kind {
        StepKind::Lock => format!("the lock, {message}"),
        kind if kind.has_log() => format!("its executor ({message})"),
        _ => message.to_owned(),
    };
    let known = step.waiting.as_ref().filter(|waiting| waiting.what == what);
    let since_ms = known.map_or(waits.time_ms, |waiting| waiting.since_ms);
    let until_ms = step.waiting.as_ref().and_then(|waiting| waiting.until_ms).or(step.deadline_ms);
    let released_by = released_by(step.kind, number);
    step.waiting = Some(Waiting { stage: stage_id, step: step.id.clone(), what, since_ms, until_ms, released_by });
    if step.kind == StepKind::Lock {
        step.status = StepStatus::Waiting;
        if !rolling_back {
            stage.status = StageStatus::Waiting;
        }
    }
    Some(())
}

fn step_finished(stage: &mut StageView, finished: &v1::StepFinished, service: Option<&str>) -> Option<LiveChange> {
    let back = stage.rollback.iter().any(|step| step.id == finished.step_id);
    let (stage_id, rolling_back) = (stage.id.clone(), stage.status == StageStatus::RollingBack);
    let step = step(stage, &finished.step_id)?;
    step.attempt = finished.attempt.max(step.attempt);
    step.outcome = words::outcome(finished.outcome);
    step.error_class = words::error_class(finished.error_class);
    step.message.clone_from(&finished.message);
    step.outputs.extend(finished.outputs.clone());
    step.verdict = finished.verdict.as_ref().map(words::verdict);
    step.ended_ms = Some(finished.time_ms);
    step.waiting = None;
    step.status = StepStatus::Finished;
    if finished.retry_at_ms > 0 {
        step.status = StepStatus::Retrying;
        step.retry_at_ms = Some(finished.retry_at_ms);
        step.waiting = Some(Waiting {
            stage: stage_id,
            step: step.id.clone(),
            what: format!("attempt {} of {}", step.attempt + 1, step.attempts),
            since_ms: finished.time_ms,
            until_ms: Some(finished.retry_at_ms),
            released_by: "the time of the next attempt".into(),
        });
    }
    let (kind, percent, outcome) = (step.kind, step.percent, step.outcome);
    if !rolling_back && stage.status == StageStatus::Waiting {
        stage.status = StageStatus::Running;
    }
    if outcome != Some(Outcome::Succeeded) {
        return None;
    }
    match (kind, back) {
        (StepKind::Shift, false) => stage.weight = percent,
        (StepKind::Promote, false) => stage.weight = Some(100),
        (StepKind::Shift | StepKind::Promote, true) => stage.weight = Some(0),
        _ => {}
    }
    let observation = finished.observation.as_ref()?;
    let said = |url: &str| Some(url.to_owned()).filter(|url| !url.is_empty());
    stage.url = said(&observation.url).or_else(|| stage.url.take());
    stage.preview_url = said(&observation.preview_url).or_else(|| stage.preview_url.take());
    if kind == StepKind::Observe && !back && stage.previous.is_none() && stage.promoted_ms.is_none() {
        let found = observation.live.as_ref().map(|release| release.version.clone());
        stage.previous.clone_from(&found);
        return Some(LiveChange {
            version: Some(found?),
            previous: None,
            ..live(stage, service, finished.time_ms, LiveBecause::Found)?
        });
    }
    None
}

fn live(stage: &StageView, service: Option<&str>, time_ms: UnixMillis, how: LiveBecause) -> Option<LiveChange> {
    Some(LiveChange {
        service: service?.to_owned(),
        environment: stage.environment.clone()?,
        infrastructure: stage.infrastructure.clone().unwrap_or_default(),
        version: None,
        previous: stage.previous.clone(),
        time_ms,
        how,
    })
}

fn stage<'v>(view: &'v mut RunView, id: &str) -> Option<&'v mut StageView> {
    view.stages.iter_mut().find(|stage| stage.id == id)
}

fn step<'v>(stage: &'v mut StageView, id: &str) -> Option<&'v mut StepView> {
    stage.steps.iter_mut().chain(&mut stage.rollback).find(|step| step.id == id)
}

/// Ends what had begun; what had not stays pending: it was never reached.
fn stop(steps: &mut [StepView], time_ms: UnixMillis) {
    for step in steps {
        step.waiting = None;
        if matches!(step.status, StepStatus::Running | StepStatus::Waiting | StepStatus::Retrying) {
            step.status = StepStatus::Finished;
            step.outcome = step.outcome.or(Some(Outcome::Cancelled));
            step.ended_ms = step.ended_ms.or(Some(time_ms));
        }
    }
}

fn waiting(view: &RunView) -> Vec<Waiting> {
    let steps = view.stages.iter().flat_map(|stage| stage.steps.iter().chain(&stage.rollback));
    steps.filter_map(|step| step.waiting.clone()).collect()
}

fn status(view: &RunView) -> RunStatus {
    if view.ended_ms.is_some() {
        return RunStatus::Finished;
    }
    let any = |status| view.stages.iter().any(|stage| stage.status == status);
    if any(StageStatus::RollingBack) {
        RunStatus::RollingBack
    } else if any(StageStatus::Running) {
        RunStatus::Running
    } else if any(StageStatus::Waiting) {
        RunStatus::Waiting
    } else if any(StageStatus::Watching) {
        RunStatus::Watching
    } else {
        RunStatus::Running
    }
}

fn released_by(kind: StepKind, number: u64) -> String {
    match kind {
        StepKind::Lock => "the run that holds the lock, when it has promoted or ended".into(),
        StepKind::Approve => format!("people of the groups that are asked: `cdflow approve {number}`"),
        StepKind::Wait => "the end of the wait".into(),
        StepKind::Verify => "a verdict; inconclusive at the latest when the time is over".into(),
        StepKind::Watch => "the end of the watch, or a newer release".into(),
        _ => "an executor of its pool that takes the task".into(),
    }
}

/// "cancelled by ana: wrong version".
pub(crate) fn commanded_reason(what: &str, command: &v1::RunCommand) -> String {
    let Actor { name, .. } = words::actor(command.actor.as_ref());
    let by = if name.is_empty() { what.to_owned() } else { format!("{what} by {name}") };
    titles::with_reason(&by, &command.reason)
}
