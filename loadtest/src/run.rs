//! The runs that are measured.

use cdflow_engine::run;
use cdflow_pipeline::plan::{Action, Plan, Stage, Step};
use cdflow_protocol::v1::{Actor, RunSignal, Signal, StartRun, run_signal};
use prost::Message as _;
use uuid::Uuid;

/// Steps of a run.
pub(crate) const STEPS: u32 = 12;
/// The pool of workers whose steps do nothing.
pub(crate) const POOL: &str = "loadtest";

/// Steps that go to a worker and back.
pub(crate) fn empty_plan() -> Plan {
    plan(|_| Action::Nothing { pool: POOL.into() })
}

/// The same, but its first step waits for a day: nothing follows.
pub(crate) fn waiting_plan() -> Plan {
    const DAY_MS: i64 = 24 * 3_600 * 1_000;
    plan(|number| match number {
        1 => Action::Wait { duration_ms: DAY_MS },
        _ => Action::Nothing { pool: POOL.into() },
    })
}

fn plan(action: impl Fn(u32) -> Action) -> Plan {
    let step = |number: u32| Step {
        id: number.to_string(),
        action: action(number),
        condition: None,
        timeout_ms: 0,
        retry: None,
    };
    let stage = Stage {
        id: "dev".into(),
        needs: Vec::new(),
        condition: None,
        deploy: None,
        steps: (1..=STEPS).map(step).collect(),
        rollback: Vec::new(),
        timeout_ms: 0,
    };
    Plan {
        project: "default".into(),
        pipeline: "empty".into(),
        revision: 1,
        service: None,
        artifact: None,
        inputs: Default::default(),
        event: Default::default(),
        stages: vec![stage],
    }
}

/// What starts runs of one plan.
#[derive(Debug, Clone)]
pub(crate) struct Starter {
    plan: Vec<u8>,
}

impl Starter {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { plan: run::encode_plan(plan) }
    }

    /// The signal that starts run `id`, with everything that a trigger fills in.
    pub(crate) fn signal(&self, id: &str, number: u64) -> Signal {
        let trace = Uuid::now_v7().simple().to_string();
        let traceparent = format!("00-{trace}-{}-01", &trace[16..]);
        let start = StartRun {
            number,
            plan: self.plan.clone(),
            initiator: Some(Actor { kind: "service".into(), name: "loadtest".into() }),
            cause: "load test".into(),
            traceparent: traceparent.clone(),
        };
        Signal {
            id: format!("start-{id}"),
            aggregate_id: id.to_owned(),
            payload: RunSignal { kind: Some(run_signal::Kind::Start(start)) }.encode_to_vec(),
            traceparent,
            version: 1,
        }
    }
}

/// A new id of a run, as the trigger makes them.
pub(crate) fn new_id() -> String {
    Uuid::now_v7().to_string()
}
