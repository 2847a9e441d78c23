//! The state of a run as bytes, readable by later releases: a protobuf message of its own, which may gain fields but
//! never changes the meaning of one.

use std::sync::Arc;

use cdflow_protocol::v1::{Observation, Outcome, RunFinished, RunStarted, StageFinished, StepFinished, StepStarted};
use prost::Message;

use super::{
    apply::read_plan,
    state::{
        Acquisition, Cancelled, LockState, RollingBack, Run, Running, StagePhase, StageState, StepPhase, StepState,
        Trouble,
    },
};

const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct StoredRun {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, optional, tag = "2")]
    started: Option<RunStarted>,
    #[prost(message, repeated, tag = "3")]
    stages: Vec<StoredStage>,
    #[prost(message, optional, tag = "4")]
    cancelled: Option<StoredCancelled>,
    #[prost(message, optional, tag = "5")]
    finished: Option<RunFinished>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCancelled {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(uint32, tag = "2")]
    times: u32,
    #[prost(int64, tag = "3")]
    last_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredStage {
    /// 0 pending, 1 running, 2 rolling back, 3 ended.
    #[prost(uint32, tag = "1")]
    phase: u32,
    #[prost(message, repeated, tag = "2")]
    steps: Vec<StoredStep>,
    #[prost(message, repeated, tag = "3")]
    rollback: Vec<StoredStep>,
    #[prost(int64, tag = "4")]
    started_ms: i64,
    #[prost(int64, optional, tag = "5")]
    promoted_ms: Option<i64>,
    #[prost(message, optional, tag = "6")]
    base: Option<Observation>,
    #[prost(message, optional, tag = "7")]
    latest: Option<Observation>,
    #[prost(bool, tag = "8")]
    changed: bool,
    #[prost(message, optional, tag = "9")]
    lock: Option<StoredLock>,
    #[prost(int64, tag = "10")]
    waited_ms: i64,
    #[prost(message, optional, tag = "11")]
    trouble: Option<StoredTrouble>,
    #[prost(string, optional, tag = "12")]
    superseded: Option<String>,
    #[prost(message, optional, tag = "13")]
    rolling_back: Option<StoredRollingBack>,
    #[prost(message, optional, tag = "14")]
    finished: Option<StageFinished>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredLock {
    /// 1 asked, 2 held, 3 watching.
    #[prost(uint32, tag = "1")]
    state: u32,
    #[prost(string, tag = "2")]
    step: String,
    #[prost(uint32, tag = "3")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredTrouble {
    #[prost(int32, tag = "1")]
    outcome: i32,
    #[prost(string, tag = "2")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRollingBack {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, optional, tag = "2")]
    failed: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredStep {
    #[prost(uint32, tag = "1")]
    attempt: u32,
    #[prost(uint32, tag = "2")]
    failures: u32,
    #[prost(uint32, tag = "3")]
    losses: u32,
    #[prost(message, optional, tag = "4")]
    running: Option<StoredRunning>,
    #[prost(message, optional, tag = "5")]
    resting: Option<StoredResting>,
    #[prost(message, optional, tag = "6")]
    ended: Option<StepFinished>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRunning {
    #[prost(message, optional, tag = "1")]
    event: Option<StepStarted>,
    #[prost(int64, tag = "2")]
    asked_ms: i64,
    #[prost(uint32, tag = "3")]
    asks: u32,
    #[prost(string, tag = "4")]
    message: String,
    #[prost(int64, optional, tag = "5")]
    stopping_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredResting {
    #[prost(int64, tag = "1")]
    until_ms: i64,
    #[prost(message, optional, tag = "2")]
    last: Option<StepFinished>,
    #[prost(bool, tag = "3")]
    stopped: bool,
}

pub(super) fn write(run: &Run) -> Vec<u8> {
    StoredRun {
        format: FORMAT,
        started: run.started.as_ref().map(|started| started.event.clone()),
        stages: run.stages.iter().map(|stage| store_stage(stage)).collect(),
        cancelled: run.cancelled.as_ref().map(|c| StoredCancelled {
            reason: c.reason.clone(),
            times: c.times,
            last_ms: c.last_ms,
        }),
        finished: run.finished.as_deref().cloned(),
    }
    .encode_to_vec()
}

pub(super) fn read(bytes: &[u8]) -> Result<Run, String> {
    let stored = StoredRun::decode(bytes).map_err(|e| format!("not the state of a run: {e}"))?;
    if stored.format != FORMAT {
        return Err(format!("the state of a run has format {}, this version reads {FORMAT}", stored.format));
    }
    let started = stored.started.map(|event| read_plan(&event)).transpose()?;
    let shape = |plan: Option<&cdflow_pipeline::plan::Plan>| {
        plan.into_iter().flat_map(|plan| &plan.stages).map(|s| (s.steps.len(), s.rollback.len())).collect::<Vec<_>>()
    };
    let found: Vec<_> = stored.stages.iter().map(|s| (s.steps.len(), s.rollback.len())).collect();
    if found != shape(started.as_ref().map(|started| &started.plan)) {
        return Err("the state of a run does not fit its own plan".to_owned());
    }
    Ok(Run {
        started: started.map(Arc::new),
        stages: stored.stages.into_iter().map(|stage| load_stage(stage).map(Arc::new)).collect::<Result<_, _>>()?,
        cancelled: stored
            .cancelled
            .map(|c| Arc::new(Cancelled { reason: c.reason, times: c.times, last_ms: c.last_ms })),
        finished: stored.finished.map(Arc::new),
    })
}

fn store_stage(stage: &StageState) -> StoredStage {
    let phase = match stage.phase {
        StagePhase::Pending => 0,
        StagePhase::Running => 1,
        StagePhase::RollingBack => 2,
        StagePhase::Ended => 3,
    };
    let lock = stage.lock.acquisition().map(|acquisition| StoredLock {
        state: match stage.lock {
            LockState::Free => 0,
            LockState::Asked(_) => 1,
            LockState::Held(_) => 2,
            LockState::Watching(_) => 3,
        },
        step: acquisition.step.clone(),
        attempt: acquisition.attempt,
    });
    StoredStage {
        phase,
        steps: stage.steps.iter().map(store_step).collect(),
        rollback: stage.rollback.iter().map(store_step).collect(),
        started_ms: stage.started_ms,
        promoted_ms: stage.promoted_ms,
        base: stage.base.as_deref().cloned(),
        latest: stage.latest.as_deref().cloned(),
        changed: stage.changed,
        lock,
        waited_ms: stage.waited_ms,
        trouble: stage
            .trouble
            .as_ref()
            .map(|trouble| StoredTrouble { outcome: trouble.outcome.into(), reason: trouble.reason.clone() }),
        superseded: stage.superseded.clone(),
        rolling_back: stage
            .rolling_back
            .as_ref()
            .map(|rolling| StoredRollingBack { reason: rolling.reason.clone(), failed: rolling.failed.clone() }),
        finished: stage.finished.clone(),
    }
}

fn load_stage(stored: StoredStage) -> Result<StageState, String> {
    let phase = match stored.phase {
        0 => StagePhase::Pending,
        1 => StagePhase::Running,
        2 => StagePhase::RollingBack,
        3 => StagePhase::Ended,
        other => return Err(format!("unknown phase {other} of a stage")),
    };
    let lock = match stored.lock {
        None => LockState::Free,
        Some(StoredLock { state, step, attempt }) => {
            let acquisition = Acquisition { step, attempt };
            match state {
                1 => LockState::Asked(acquisition),
                2 => LockState::Held(acquisition),
                3 => LockState::Watching(acquisition),
                other => return Err(format!("unknown state {other} of a lock")),
            }
        }
    };
    let trouble = stored
        .trouble
        .map(|trouble| {
            let outcome = Outcome::try_from(trouble.outcome).map_err(|e| format!("unknown outcome: {e}"))?;
            Ok::<_, String>(Trouble { outcome, reason: trouble.reason })
        })
        .transpose()?;
    Ok(StageState {
        phase,
        steps: stored.steps.into_iter().map(load_step).collect::<Result<_, _>>()?,
        rollback: stored.rollback.into_iter().map(load_step).collect::<Result<_, _>>()?,
        started_ms: stored.started_ms,
        promoted_ms: stored.promoted_ms,
        base: stored.base.map(Arc::new),
        latest: stored.latest.map(Arc::new),
        changed: stored.changed,
        lock,
        waited_ms: stored.waited_ms,
        trouble,
        superseded: stored.superseded,
        rolling_back: stored.rolling_back.map(|r| RollingBack { reason: r.reason, failed: r.failed }),
        finished: stored.finished,
    })
}

fn store_step(step: &StepState) -> StoredStep {
    let mut stored =
        StoredStep { attempt: step.attempt, failures: step.failures, losses: step.losses, ..StoredStep::default() };
    match &step.phase {
        StepPhase::Pending => {}
        StepPhase::Running(running) => {
            stored.running = Some(StoredRunning {
                event: Some(running.event.clone()),
                asked_ms: running.asked_ms,
                asks: running.asks,
                message: running.message.clone(),
                stopping_ms: running.stopping_ms,
            });
        }
        StepPhase::Resting { until_ms, last, stopped } => {
            let last = Some(last.as_ref().clone());
            stored.resting = Some(StoredResting { until_ms: *until_ms, last, stopped: *stopped });
        }
        StepPhase::Ended(event) => stored.ended = Some(event.as_ref().clone()),
    }
    stored
}

fn load_step(stored: StoredStep) -> Result<StepState, String> {
    let phase = match (stored.running, stored.resting, stored.ended) {
        (None, None, None) => StepPhase::Pending,
        (Some(StoredRunning { event: Some(event), asked_ms, asks, message, stopping_ms }), None, None) => {
            StepPhase::Running(Arc::new(Running { event, asked_ms, asks, message, stopping_ms }))
        }
        (None, Some(StoredResting { until_ms, last: Some(last), stopped }), None) => {
            StepPhase::Resting { until_ms, last: Arc::new(last), stopped }
        }
        (None, None, Some(event)) => StepPhase::Ended(Arc::new(event)),
        _ => return Err("a step is in two states at once".to_owned()),
    };
    Ok(StepState { phase, attempt: stored.attempt, failures: stored.failures, losses: stored.losses })
}
