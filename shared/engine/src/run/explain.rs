//! What a run waits for, in sentences for a person.

use cdflow_pipeline::plan::Action;
use cdflow_protocol::UnixMillis;

use super::{
    state::{Run, Running, StagePhase, Started, StepPhase, StepRef},
    timing::{APPROVAL_GRACE_MS, duration},
};

/// One thing that a live run waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Id of the stage.
    pub stage: String,
    /// Id of the step; `None` while the stage itself has not started.
    pub step: Option<String>,
    /// What it waits for: "approval by release-managers (1)".
    pub waits_for: String,
    /// Since when.
    pub since: UnixMillis,
    /// What would let it go on, and when it stops waiting.
    pub released_by: String,
}

/// Everything that a live run waits for, in the order of the plan; nothing for one that has ended.
pub fn explain(run: &Run, now: UnixMillis) -> Vec<Waiting> {
    let Some(started) = run.started.as_ref().filter(|_| run.finished.is_none()) else { return Vec::new() };
    (0..run.stages.len())
        .filter_map(|stage| match run.stages[stage].phase {
            StagePhase::Ended => None,
            StagePhase::Pending => Some(pending(run, started, stage)),
            StagePhase::Running | StagePhase::RollingBack => {
                run.current(stage).and_then(|at| of_step(run, started, at, now))
            }
        })
        .collect()
}

fn pending(run: &Run, started: &Started, stage: usize) -> Waiting {
    let open = |&need: &usize| (!run.is_settled(need)).then(|| format!("`{}`", started.plan.stages[need].id));
    let needs: Vec<_> = started.needs[stage].iter().filter_map(open).collect();
    let (stages, them) = if needs.len() == 1 { ("stage", "its") } else { ("stages", "their") };
    Waiting {
        stage: started.plan.stages[stage].id.clone(),
        step: None,
        waits_for: format!("{stages} {}", needs.join(", ")),
        since: started.event.time_ms,
        released_by: format!("{them} promotion or end"),
    }
}

fn of_step(run: &Run, started: &Started, at: StepRef, now: UnixMillis) -> Option<Waiting> {
    let step = started.step(at);
    let (since, waits_for, released_by) = match &run.step_state(at).phase {
        StepPhase::Running(running) => {
            let (waits_for, released_by) = of_running(started, at, running);
            let within = |deadline: UnixMillis| duration(deadline.saturating_sub(now).max(0));
            let until = match (&step.action, running.event.deadline_ms) {
                (_, 0) | (Action::Wait { .. } | Action::Verify { .. } | Action::Watch { .. }, _) => String::new(),
                (Action::Approve { .. }, deadline) => {
                    format!("; expires in {}", within(deadline.saturating_sub(APPROVAL_GRACE_MS)))
                }
                (_, deadline) => format!("; given up in {}", within(deadline)),
            };
            (running.event.time_ms, waits_for, released_by + &until)
        }
        StepPhase::Resting { until_ms, last, .. } => (
            last.time_ms,
            format!(
                "attempt {} after attempt {} failed: {}",
                last.attempt.saturating_add(1),
                last.attempt,
                last.message
            ),
            format!("time, in {}", duration(until_ms.saturating_sub(now).max(0))),
        ),
        StepPhase::Pending | StepPhase::Ended(_) => return None,
    };
    let waits_for = if at.rollback { format!("{waits_for} (rolling back)") } else { waits_for };
    Some(Waiting {
        stage: started.plan.stages[at.stage].id.clone(),
        step: Some(step.id.clone()),
        waits_for,
        since,
        released_by,
    })
}

/// What a running step waits for, and what releases it.
fn of_running(started: &Started, at: StepRef, running: &Running) -> (String, String) {
    let target = &running.event.waits_for;
    if running.stopping_ms.is_some() {
        return ("the executor to stop".to_owned(), "its result, or a minute of silence".to_owned());
    }
    match &started.step(at).action {
        Action::Lock { .. } => {
            let behind = if running.message.is_empty() { String::new() } else { format!(", {}", running.message) };
            (format!("the lock {target}{behind}"), "the promotion or end of the run that holds it".to_owned())
        }
        Action::Approve { by, .. } => {
            let groups: Vec<_> = by.iter().map(|(group, minimum)| format!("{group} ({minimum})")).collect();
            (format!("approval by {}", groups.join(", ")), format!("cdflow approve {}", started.event.number))
        }
        Action::Verify { weight, within_ms } => (
            format!("a verdict at {weight} % of the traffic"),
            format!("enough evidence, at the latest {} after it began", duration(*within_ms)),
        ),
        Action::Watch { duration_ms } => (
            "the end of the watch".to_owned(),
            format!("{} without a sign of harm, or a newer release", duration(*duration_ms)),
        ),
        Action::Wait { duration_ms } => ("time".to_owned(), format!("{} have passed", duration(*duration_ms))),
        Action::Verb { .. } | Action::Run { .. } | Action::Nothing { .. } => {
            let pool = running.event.task.as_ref().map_or("", |task| task.pool.as_str());
            (format!("task {target}"), format!("its result from an executor of pool `{pool}`"))
        }
        Action::Unlock { .. } | Action::Promoted => (String::new(), String::new()),
    }
}
