//! Plans as the compiler makes them.

use std::collections::BTreeMap;

use cdflow_pipeline::plan::{
    Action, Artifact, Deploy, Plan, Platform, Profile, Retry, Stage, Step, Target, Transport, Verb,
};

pub fn step(id: &str, action: Action) -> Step {
    Step { id: id.into(), action, condition: None, timeout_ms: 0, retry: None }
}

pub fn script(id: &str, script: &str) -> Step {
    step(id, Action::Run { script: script.into(), env: BTreeMap::new(), pool: "any".into(), repeat_on_crash: true })
}

pub fn once(id: &str) -> Step {
    let action =
        Action::Run { script: "./migrate".into(), env: BTreeMap::new(), pool: "any".into(), repeat_on_crash: false };
    step(id, action)
}

pub fn nothing(id: &str) -> Step {
    step(id, Action::Nothing { pool: "any".into() })
}

pub fn approve(id: &str) -> Step {
    step(
        id,
        Action::Approve {
            by: BTreeMap::from([("release-managers".into(), 1)]),
            groups: BTreeMap::from([("release-managers".into(), vec!["ana".into()])]),
            expires_ms: 3_600_000,
            message: "Release ${{ artifact.version }}?".into(),
        },
    )
}

pub fn verb(id: &str, verb: Verb, percent: u32) -> Step {
    Step { timeout_ms: 300_000, ..step(id, Action::Verb { verb, percent }) }
}

pub trait With: Sized {
    fn when(self, condition: &str) -> Self;
    fn tried(self, attempts: u32, interval_ms: i64) -> Self;
}

impl With for Step {
    fn when(mut self, condition: &str) -> Self {
        self.condition = Some(condition.into());
        self
    }

    fn tried(mut self, attempts: u32, interval_ms: i64) -> Self {
        self.retry = Some(Retry { attempts, interval_ms });
        self
    }
}

pub fn stage(id: &str, needs: &[&str], steps: Vec<Step>) -> Stage {
    Stage {
        id: id.into(),
        needs: needs.iter().map(|&need| need.into()).collect(),
        condition: None,
        deploy: None,
        steps,
        rollback: vec![],
        timeout_ms: 0,
    }
}

pub fn rollback() -> Vec<Step> {
    vec![
        step("rollback-lock", Action::Lock { only_if_latest: true }),
        verb("rollback-stage", Verb::Stage, 100),
        verb("rollback-shift", Verb::Shift, 100),
        verb("rollback-promote", Verb::Promote, 0),
        verb("rollback-retire", Verb::Retire, 0),
        step("rollback-unlock", Action::Unlock { watching: false }),
    ]
}

/// A canary at 5 %, then everything, then an hour of watching with the old release still there.
pub fn canary(id: &str, needs: &[&str], infrastructure: &str) -> Stage {
    let steps = vec![
        step("lock", Action::Lock { only_if_latest: false }),
        verb("observe", Verb::Observe, 0),
        verb("stage", Verb::Stage, 34),
        verb("shift-5", Verb::Shift, 5),
        step("verify-5", Action::Verify { weight: 5, within_ms: 600_000 }),
        verb("promote", Verb::Promote, 0),
        step("promoted", Action::Promoted),
        step("unlock", Action::Unlock { watching: true }),
        step("watch", Action::Watch { duration_ms: 3_600_000 }),
        step("relock", Action::Lock { only_if_latest: true }),
        verb("retire", Verb::Retire, 0),
        step("unlock-2", Action::Unlock { watching: false }),
    ];
    Stage { deploy: Some(deploy(id, infrastructure)), rollback: rollback(), ..stage(id, needs, steps) }
}

pub fn deploy(environment: &str, infrastructure: &str) -> Deploy {
    Deploy {
        environment: environment.into(),
        strategy: "canary".into(),
        target: Target {
            service: "storefront".into(),
            infrastructure: infrastructure.into(),
            environment: environment.into(),
            pool: "dmz".into(),
            platform: Platform::Vm {
                transport: Transport::Local,
                hosts: vec!["a".into()],
                instances_per_host: 2,
                root: "/srv".into(),
                ports: (9000, 9100),
                start: "bin/storefront --port {port}".into(),
                ready_path: "/healthz".into(),
                ready_within_ms: 10_000,
                drain_ms: 1_000,
                router: None,
            },
            variables: BTreeMap::from([("RUN".into(), "${{ run.number }}".into())]),
        },
        profile: Some(Profile {
            name: "web".into(),
            path: "/metrics".into(),
            every_ms: 1_000,
            requests: "http_requests_total".into(),
            errors: "http_requests_total{code=~\"5..\"}".into(),
            alpha: 0.01,
            beta: 0.05,
            harmful_odds_ratio: 2.0,
            bake_ms: 20_000,
            min_ticks: 20,
            min_requests: 100,
            max_error_rate: 0.05,
        }),
    }
}

pub fn plan(stages: Vec<Stage>) -> Plan {
    Plan {
        project: "shop".into(),
        pipeline: "storefront".into(),
        revision: 7,
        service: Some("storefront".into()),
        artifact: Some(Artifact {
            version: "v2".into(),
            location: "https://example.com/v2.tar.gz".into(),
            digest: String::new(),
        }),
        inputs: BTreeMap::from([("mode".into(), "full".into())]),
        event: serde_json::Value::Null,
        stages,
    }
}
