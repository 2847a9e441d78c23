//! The journal of a release, made by hand.

use cdflow_pipeline::{Configuration, Request, compile, init_example};
use cdflow_protocol::v1::{
    Actor, Commit, Entry, Observation, Outcome, Release, RunEvent, RunFinished, RunRequested, RunStarted,
    StageFinished, StagePromoted, StageStarted, StepFinished, TriggerEvent, run_event::Kind, trigger_event,
};
use prost::Message as _;

pub(crate) const RUN: &str = "0190-run";
const START: i64 = 1_790_000_000_000;

fn entry(id: &str, events: Vec<Vec<u8>>) -> Entry {
    Entry { aggregate_id: id.into(), events, ..Default::default() }
}

pub(crate) fn commit(entries: Vec<Entry>) -> Commit {
    Commit { incarnation: 1, epoch: 1, time_ms: START, min_reader: 0, entries, ..Default::default() }
}

pub(crate) fn of_run(run_id: &str, events: impl IntoIterator<Item = Kind>) -> Entry {
    entry(run_id, events.into_iter().map(|kind| RunEvent { kind: Some(kind) }.encode_to_vec()).collect())
}

pub(crate) fn requested(run_id: &str) -> Commit {
    let run = RunRequested {
        number: 7,
        run_id: run_id.into(),
        pipeline: "storefront".into(),
        version: "v1.2.0".into(),
        cause: "CI event artifact.published 4711".into(),
        time_ms: START,
        ..Default::default()
    };
    let event = TriggerEvent { kind: Some(trigger_event::Kind::RunRequested(run)) };
    commit(vec![entry("default", vec![event.encode_to_vec()])])
}

pub(crate) fn started() -> Kind {
    let configuration = Configuration::parse(init_example()).unwrap();
    let request = Request {
        pipeline: "storefront".into(),
        version: Some("v1.2.0".into()),
        digest: Some(format!("sha256:{:064x}", 12)),
        ..Default::default()
    };
    Kind::RunStarted(RunStarted {
        number: 7,
        plan: serde_json::to_vec(&compile(&configuration, &request).unwrap()).unwrap(),
        initiator: Some(Actor { kind: "ci".into(), name: "/ci".into() }),
        cause: "CI event artifact.published 4711".into(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        time_ms: START + 100,
    })
}

pub(crate) fn stage_started(stage: &str) -> Kind {
    Kind::StageStarted(StageStarted { stage_id: stage.into(), time_ms: START + 200 })
}

/// What `observe` finds: a live version, or nothing.
pub(crate) fn observed(stage: &str, live: Option<&str>) -> Kind {
    let live = live.map(|version| Release {
        version: version.into(),
        artifact: format!("https://example.com/storefront-{version}.tar.gz"),
        digest: format!("sha256:{:064x}", 11),
        ..Default::default()
    });
    Kind::StepFinished(StepFinished {
        stage_id: stage.into(),
        step_id: "observe".into(),
        outcome: Outcome::Succeeded.into(),
        observation: Some(Observation { live, url: "http://127.0.0.1:18080".into(), ..Default::default() }),
        time_ms: START + 300,
        ..Default::default()
    })
}

pub(crate) fn promoted(stage: &str) -> Kind {
    Kind::StagePromoted(StagePromoted { stage_id: stage.into(), time_ms: START + 400 })
}

pub(crate) fn stage_finished(stage: &str, outcome: Outcome, reason: &str) -> Kind {
    Kind::StageFinished(StageFinished {
        stage_id: stage.into(),
        outcome: outcome.into(),
        reason: reason.into(),
        time_ms: START + 500,
        ..Default::default()
    })
}

pub(crate) fn finished(outcome: Outcome, reason: &str) -> Kind {
    Kind::RunFinished(RunFinished {
        outcome: outcome.into(),
        reason: reason.into(),
        time_ms: START + 600,
        ..Default::default()
    })
}

/// A first release to dev, an upgrade of staging that is rolled back, and the end; as a journal holds it.
pub(crate) fn release(run_id: &str) -> Vec<Commit> {
    let because = "errors rose from 0.1 % to 4 %";
    vec![
        requested(run_id),
        commit(vec![of_run(run_id, [started(), stage_started("dev"), observed("dev", None)])]),
        commit(vec![of_run(
            run_id,
            [promoted("dev"), stage_finished("dev", Outcome::Succeeded, ""), stage_started("staging")],
        )]),
        commit(vec![of_run(
            run_id,
            [observed("staging", Some("v1.1.0")), promoted("staging"), observed("staging", Some("v1.2.0"))],
        )]),
        commit(vec![of_run(
            run_id,
            [
                stage_finished("staging", Outcome::RolledBack, because),
                stage_finished("prod", Outcome::Skipped, ""),
                finished(Outcome::RolledBack, because),
            ],
        )]),
    ]
}
