//! Folding events. What an event does to the state never changes, also not in later releases.

use std::{collections::BTreeSet, sync::Arc};

use cdflow_pipeline::plan::{Action, Plan, Verb};
use cdflow_protocol::{
    UnixMillis,
    v1::{
        Outcome, RunCommanded, RunEvent, RunStarted, StagePromoted, StageRollingBack, StepFinished, StepStarted,
        StepWaiting, run_command, run_event::Kind,
    },
};

use super::state::{
    Acquisition, Cancelled, LockState, RollingBack, Run, Running, StagePhase, StageState, Started, StepPhase, StepRef,
    StepState, Trouble, changes_target, is_lost, waits_for_others,
};

/// Reads a plan and checks that it can be run to an end.
pub(super) fn read_plan(event: &RunStarted) -> Result<Started, String> {
    let plan: Plan = serde_json::from_slice(&event.plan).map_err(|e| format!("the plan is not JSON of a plan: {e}"))?;
    let mut needs = Vec::with_capacity(plan.stages.len());
    for (index, stage) in plan.stages.iter().enumerate() {
        if plan.stages[..index].iter().any(|other| other.id == stage.id) {
            return Err(format!("the plan has two stages called `{}`", stage.id));
        }
        let mut ids = BTreeSet::new();
        if let Some(step) = stage.steps.iter().chain(&stage.rollback).find(|step| !ids.insert(&step.id)) {
            return Err(format!("stage `{}` of the plan has two steps called `{}`", stage.id, step.id));
        }
        let of_stage = stage.needs.iter().map(|need| {
            plan.stages
                .iter()
                .position(|other| other.id == *need)
                .ok_or_else(|| format!("stage `{}` of the plan needs `{need}`, which is not in it", stage.id))
        });
        needs.push(of_stage.collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(index) = in_a_circle(&needs) {
        return Err(format!("stage `{}` of the plan needs itself, directly or through others", plan.stages[index].id));
    }
    let targets = plan
        .stages
        .iter()
        .map(|stage| stage.deploy.as_ref().map_or(Ok(Vec::new()), |deploy| serde_json::to_vec(&deploy.target)))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("a target of the plan cannot be written as JSON: {e}"))?;
    Ok(Started { event: event.clone(), plan, needs, targets })
}

/// A stage that can never start because of what it needs.
fn in_a_circle(needs: &[Vec<usize>]) -> Option<usize> {
    let mut free = vec![false; needs.len()];
    for _ in needs {
        for index in 0..needs.len() {
            free[index] = needs[index].iter().all(|&need| free[need]);
        }
    }
    free.iter().position(|free| !free)
}

impl Run {
    pub(super) fn fold(&mut self, event: &RunEvent) {
        match &event.kind {
            Some(Kind::RunStarted(event)) => self.on_run_started(event),
            Some(Kind::StageStarted(event)) => {
                if let Some(stage) = self.stage_named(&event.stage_id)
                    && stage.phase == StagePhase::Pending
                {
                    stage.phase = StagePhase::Running;
                    stage.started_ms = event.time_ms;
                }
            }
            Some(Kind::StepStarted(event)) => self.on_step_started(event),
            Some(Kind::StepWaiting(event)) => self.on_step_waiting(event),
            Some(Kind::StepFinished(event)) => self.on_step_finished(event),
            Some(Kind::StagePromoted(StagePromoted { stage_id, time_ms })) => {
                if let Some(stage) = self.stage_named(stage_id) {
                    stage.promoted_ms = Some(*time_ms);
                }
            }
            Some(Kind::StageRollingBack(StageRollingBack { stage_id, reason, .. })) => {
                if let Some(stage) = self.stage_named(stage_id) {
                    stage.phase = StagePhase::RollingBack;
                    stage.rolling_back = Some(RollingBack { reason: reason.clone(), failed: None });
                    stage.finished = None;
                }
            }
            Some(Kind::StageFinished(event)) => {
                if let Some(stage) = self.stage_named(&event.stage_id) {
                    stage.phase = StagePhase::Ended;
                    stage.lock = LockState::Free;
                    stage.finished = Some(event.clone());
                }
            }
            Some(Kind::RunCommanded(event)) => self.on_commanded(event),
            Some(Kind::RunFinished(event)) => self.finished = Some(Arc::new(event.clone())),
            None => {}
        }
    }

    fn stage_named(&mut self, id: &str) -> Option<&mut StageState> {
        self.stage_index(id).map(|index| self.stage_mut(index))
    }

    fn on_run_started(&mut self, event: &RunStarted) {
        if self.started.is_some() {
            return;
        }
        let Ok(started) = read_plan(event) else { return };
        self.stages = started
            .plan
            .stages
            .iter()
            .map(|stage| {
                Arc::new(StageState {
                    steps: vec![StepState::default(); stage.steps.len()],
                    rollback: vec![StepState::default(); stage.rollback.len()],
                    ..StageState::default()
                })
            })
            .collect();
        self.started = Some(Arc::new(started));
    }

    fn on_step_started(&mut self, event: &StepStarted) {
        let Some((at, started)) = self.locate(&event.stage_id, &event.step_id) else { return };
        let action = &started.step(at).action;
        let asks = u32::from(matches!(
            action,
            Action::Lock { .. } | Action::Approve { .. } | Action::Verify { .. } | Action::Watch { .. }
        ));
        let step = self.step_mut(at);
        step.attempt = event.attempt;
        step.phase = StepPhase::Running(Arc::new(Running {
            event: event.clone(),
            asked_ms: event.time_ms,
            asks,
            message: String::new(),
            stopping_ms: None,
        }));
        let stage = self.stage_mut(at.stage);
        if matches!(action, Action::Lock { .. }) {
            stage.lock = LockState::Asked(Acquisition { step: event.step_id.clone(), attempt: event.attempt });
        }
        if !at.rollback && changes_target(action) {
            stage.changed = true;
        }
    }

    fn on_step_waiting(&mut self, event: &StepWaiting) {
        let Some((at, _)) = self.locate(&event.stage_id, &event.step_id) else { return };
        if let StepPhase::Running(running) = &mut self.step_mut(at).phase {
            let running = Arc::make_mut(running);
            running.asked_ms = event.time_ms;
            running.asks = running.asks.saturating_add(1);
            running.message = event.message.clone();
        }
    }

    fn on_step_finished(&mut self, event: &StepFinished) {
        let Some((at, started)) = self.locate(&event.stage_id, &event.step_id) else { return };
        let action = &started.step(at).action;
        let step = self.step_mut(at);
        let since = step.running().map(|running| running.event.time_ms);
        if event.retry_at_ms > 0 {
            if is_lost(event.error_class()) {
                step.losses = step.losses.saturating_add(1);
            } else {
                step.failures = step.failures.saturating_add(1);
            }
            step.phase =
                StepPhase::Resting { until_ms: event.retry_at_ms, last: Arc::new(event.clone()), stopped: false };
        } else {
            step.attempt = step.attempt.max(event.attempt);
            step.phase = StepPhase::Ended(Arc::new(event.clone()));
        }
        let stage = self.stage_mut(at.stage);
        if let Some(since) = since
            && waits_for_others(action)
        {
            let waited = event.time_ms.saturating_sub(since).max(0);
            stage.waited_ms = stage.waited_ms.saturating_add(waited);
        }
        if event.retry_at_ms == 0 {
            stage.settle(at, action, event);
        }
    }

    fn on_commanded(&mut self, event: &RunCommanded) {
        let Some(command) = &event.command else { return };
        let by = command.actor.as_ref().map_or("somebody", |actor| actor.name.as_str());
        let because = if command.reason.is_empty() { String::new() } else { format!(": {}", command.reason) };
        match &command.kind {
            Some(run_command::Kind::Cancel(_)) => {
                let times = self.cancelled.as_ref().map_or(0, |cancelled| cancelled.times).saturating_add(1);
                let reason = format!("cancelled by {by}{because}");
                self.cancelled = Some(Arc::new(Cancelled { reason: reason.clone(), times, last_ms: event.time_ms }));
                for index in 0..self.stages.len() {
                    self.stop(index, &reason, event.time_ms);
                }
            }
            Some(run_command::Kind::RollBack(roll_back)) => {
                if let Some(index) = self.stage_index(&roll_back.stage_id) {
                    let reason = format!("{by} asked to roll it back{because}");
                    self.stop(index, &reason, event.time_ms);
                    let stage = self.stage_mut(index);
                    if stage.phase == StagePhase::Ended {
                        stage.trouble.get_or_insert(Trouble { outcome: Outcome::Cancelled, reason });
                    }
                }
            }
            None => {}
        }
    }

    /// Marks what runs in a stage as asked to stop. A rollback is never stopped.
    fn stop(&mut self, index: usize, reason: &str, now: UnixMillis) {
        let undoing = self.stages[index].is_undoing();
        if undoing || matches!(self.stages[index].phase, StagePhase::Pending | StagePhase::Ended) {
            return;
        }
        if let Some(at) = self.current(index) {
            match &mut self.step_mut(at).phase {
                StepPhase::Running(running) => {
                    Arc::make_mut(running).stopping_ms.get_or_insert(now);
                }
                StepPhase::Resting { stopped, .. } => *stopped = true,
                StepPhase::Pending | StepPhase::Ended(_) => {}
            }
        }
        self.stage_mut(index).trouble.get_or_insert(Trouble { outcome: Outcome::Cancelled, reason: reason.to_owned() });
    }

    fn locate(&self, stage: &str, step: &str) -> Option<(StepRef, Arc<Started>)> {
        Some((self.find(stage, step)?, self.started.clone()?))
    }
}

impl StageState {
    /// What the end of a step means for its stage.
    fn settle(&mut self, at: StepRef, action: &Action, event: &StepFinished) {
        let succeeded = event.outcome() == Outcome::Succeeded;
        match action {
            Action::Lock { .. } => {
                self.lock = match std::mem::take(&mut self.lock) {
                    LockState::Asked(acquisition) if succeeded => LockState::Held(acquisition),
                    // Given up: the request is taken back at the same time.
                    LockState::Asked(_) => LockState::Free,
                    other => other,
                };
            }
            Action::Unlock { watching } if succeeded => {
                self.lock = match self.lock.acquisition() {
                    Some(acquisition) if *watching => LockState::Watching(acquisition.clone()),
                    _ => LockState::Free,
                };
            }
            _ => {}
        }
        if let Some(observation) = &event.observation {
            let observation = Arc::new(observation.clone());
            let found = matches!(action, Action::Verb { verb: Verb::Observe, .. }) && succeeded;
            if found && !self.changed && !at.rollback {
                self.base = Some(observation.clone());
            }
            self.latest = Some(observation);
        }
        if event.outcome() == Outcome::Superseded {
            self.superseded = Some(event.message.clone());
        }
        if at.rollback {
            if is_trouble(event.outcome())
                && let Some(rolling) = &mut self.rolling_back
            {
                rolling.failed.get_or_insert_with(|| format!("`{}`: {}", event.step_id, event.message));
            }
        } else if is_trouble(event.outcome()) && event.outcome() != Outcome::Superseded {
            self.trouble.get_or_insert_with(|| Trouble {
                outcome: event.outcome(),
                reason: format!("`{}`: {}", event.step_id, event.message),
            });
        }
    }
}

/// Outcomes of a step after which its stage does not go on as planned.
fn is_trouble(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Cancelled | Outcome::Rejected | Outcome::Expired | Outcome::Superseded)
}
