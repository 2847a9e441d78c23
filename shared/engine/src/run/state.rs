//! What a run remembers.
//!
//! Parts that are large or rarely change are behind `Arc`, so that a decision may work on a copy of the run.

use std::sync::Arc;

use cdflow_pipeline::plan::{Action, Plan, Step, Verb};
use cdflow_protocol::{
    UnixMillis,
    v1::{ErrorClass, Observation, Outcome, RunFinished, RunStarted, StageFinished, StepFinished, StepStarted},
};

/// One pipeline run. See the [module](crate::run) for its rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    pub(crate) started: Option<Arc<Started>>,
    /// In the order of the plan.
    pub(crate) stages: Vec<Arc<StageState>>,
    pub(crate) cancelled: Option<Arc<Cancelled>>,
    pub(crate) finished: Option<Arc<RunFinished>>,
}

/// The first event, read once.
#[derive(Debug, PartialEq)]
pub(crate) struct Started {
    pub(crate) event: RunStarted,
    pub(crate) plan: Plan,
    /// For each stage the indices of those it needs.
    pub(crate) needs: Vec<Vec<usize>>,
    /// For each stage the JSON of its target, as verbs carry it; empty if it deploys nothing.
    pub(crate) targets: Vec<Vec<u8>>,
}

/// A person asked the run to stop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cancelled {
    pub(crate) reason: String,
    /// The second time, clean-up steps are stopped and not started either.
    pub(crate) times: u32,
    pub(crate) last_ms: UnixMillis,
}

/// Where a step is: in the stage's steps or in its rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepRef {
    pub(crate) stage: usize,
    pub(crate) rollback: bool,
    pub(crate) index: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StageState {
    pub(crate) phase: StagePhase,
    pub(crate) steps: Vec<StepState>,
    pub(crate) rollback: Vec<StepState>,
    pub(crate) started_ms: UnixMillis,
    pub(crate) promoted_ms: Option<UnixMillis>,
    /// What was live before this stage changed anything.
    pub(crate) base: Option<Arc<Observation>>,
    /// What a verb reported last.
    pub(crate) latest: Option<Arc<Observation>>,
    /// A step that may change the target has been started.
    pub(crate) changed: bool,
    pub(crate) lock: LockState,
    /// Time spent waiting for people, locks and the end of a watch; the timeout does not count it.
    pub(crate) waited_ms: i64,
    /// Why the stage cannot end well any more.
    pub(crate) trouble: Option<Trouble>,
    /// A newer release has taken over: by which run.
    pub(crate) superseded: Option<String>,
    pub(crate) rolling_back: Option<RollingBack>,
    pub(crate) finished: Option<StageFinished>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StagePhase {
    #[default]
    Pending,
    Running,
    RollingBack,
    Ended,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trouble {
    /// How the stage ends if there is nothing to undo.
    pub(crate) outcome: Outcome,
    /// A sentence that names the step.
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RollingBack {
    pub(crate) reason: String,
    /// What stopped the rollback. The rest of it is not tried: a person has to look.
    pub(crate) failed: Option<String>,
}

/// Which request for the lock is the one that counts: the step that asked, and its attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acquisition {
    pub(crate) step: String,
    pub(crate) attempt: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum LockState {
    #[default]
    Free,
    Asked(Acquisition),
    Held(Acquisition),
    /// Given back; the lock tells of a newer release.
    Watching(Acquisition),
}

impl LockState {
    pub(crate) fn acquisition(&self) -> Option<&Acquisition> {
        match self {
            Self::Free => None,
            Self::Asked(a) | Self::Held(a) | Self::Watching(a) => Some(a),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StepState {
    pub(crate) phase: StepPhase,
    /// The last attempt that was started, from 1.
    pub(crate) attempt: u32,
    /// Attempts that failed, and those that vanished with their worker.
    pub(crate) failures: u32,
    pub(crate) losses: u32,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum StepPhase {
    #[default]
    Pending,
    Running(Arc<Running>),
    /// Failed, and tried again at `until_ms`.
    Resting {
        until_ms: UnixMillis,
        last: Arc<StepFinished>,
        /// The stage was told to stop meanwhile.
        stopped: bool,
    },
    Ended(Arc<StepFinished>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Running {
    pub(crate) event: StepStarted,
    /// When another party was asked last, and how often.
    pub(crate) asked_ms: UnixMillis,
    pub(crate) asks: u32,
    /// What holds it up, as it says itself.
    pub(crate) message: String,
    /// Since when it is asked to stop.
    pub(crate) stopping_ms: Option<UnixMillis>,
}

impl StepState {
    pub(crate) fn ended(&self) -> Option<&StepFinished> {
        match &self.phase {
            StepPhase::Ended(event) => Some(event),
            _ => None,
        }
    }

    pub(crate) fn running(&self) -> Option<&Arc<Running>> {
        match &self.phase {
            StepPhase::Running(running) => Some(running),
            _ => None,
        }
    }
}

impl StageState {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.finished.as_ref().map(StageFinished::outcome)
    }

    /// The rollback has been done, or given up.
    pub(crate) fn rollback_is_over(&self) -> bool {
        self.rolling_back
            .as_ref()
            .is_some_and(|rolling| rolling.failed.is_some() || self.rollback.iter().all(|step| step.ended().is_some()))
    }

    /// Whether the steps that count now are those of the rollback.
    pub(crate) fn is_undoing(&self) -> bool {
        self.phase == StagePhase::RollingBack && !self.rollback_is_over()
    }

    /// Outputs of its steps; where two have the same name, the later step's.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.steps.iter().filter_map(StepState::ended).flat_map(|event| &event.outputs)
    }
}

impl Run {
    pub(crate) fn stage_index(&self, id: &str) -> Option<usize> {
        self.started.as_ref()?.plan.stages.iter().position(|stage| stage.id == id)
    }

    /// The step with this id; ids are unique in a stage, its rollback included.
    pub(crate) fn find(&self, stage: &str, step: &str) -> Option<StepRef> {
        let index = self.stage_index(stage)?;
        let plan = &self.started.as_ref()?.plan.stages[index];
        let in_steps = |steps: &[Step]| steps.iter().position(|s| s.id == step);
        if let Some(at) = in_steps(&plan.steps) {
            return Some(StepRef { stage: index, rollback: false, index: at });
        }
        in_steps(&plan.rollback).map(|at| StepRef { stage: index, rollback: true, index: at })
    }

    pub(crate) fn step_state(&self, at: StepRef) -> &StepState {
        let stage = &self.stages[at.stage];
        if at.rollback { &stage.rollback[at.index] } else { &stage.steps[at.index] }
    }

    pub(crate) fn stage_mut(&mut self, index: usize) -> &mut StageState {
        Arc::make_mut(&mut self.stages[index])
    }

    pub(crate) fn step_mut(&mut self, at: StepRef) -> &mut StepState {
        let stage = self.stage_mut(at.stage);
        if at.rollback { &mut stage.rollback[at.index] } else { &mut stage.steps[at.index] }
    }

    /// The step that a stage is at: the first of the current list that has not ended.
    pub(crate) fn current(&self, stage: usize) -> Option<StepRef> {
        let state = &self.stages[stage];
        let rollback = match state.phase {
            StagePhase::Pending | StagePhase::Ended => return None,
            StagePhase::Running => false,
            StagePhase::RollingBack => state.is_undoing(),
        };
        let steps = if rollback { &state.rollback } else { &state.steps };
        let index = steps.iter().position(|step| step.ended().is_none())?;
        Some(StepRef { stage, rollback, index })
    }

    /// Steps that run now. There is at most one in each stage.
    pub(crate) fn running_steps(&self) -> impl Iterator<Item = (StepRef, &Arc<Running>)> {
        (0..self.stages.len()).filter_map(|stage| {
            let at = self.current(stage)?;
            Some((at, self.step_state(at).running()?))
        })
    }
}

impl Started {
    pub(crate) fn step(&self, at: StepRef) -> &Step {
        let stage = &self.plan.stages[at.stage];
        if at.rollback { &stage.rollback[at.index] } else { &stage.steps[at.index] }
    }
}

/// Whether a step may change its target.
pub(crate) fn changes_target(action: &Action) -> bool {
    match action {
        Action::Verb { verb, .. } => *verb != Verb::Observe,
        _ => false,
    }
}

/// Whether time spent in a step does not count for the stage's timeout.
pub(crate) fn waits_for_others(action: &Action) -> bool {
    matches!(action, Action::Lock { .. } | Action::Approve { .. } | Action::Watch { .. })
}

/// An attempt that ended so did not fail by its own fault: another is due that no retry rule has to allow.
pub(crate) fn is_lost(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::ExecutorLost | ErrorClass::Fenced)
}
