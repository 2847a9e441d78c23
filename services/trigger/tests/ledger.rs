//! Events are recorded once, runs are numbered without a gap and started once.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use cdflow_journal::{Aggregate as _, Decision, Input};
use cdflow_protocol::v1::{
    Actor, EventRecorded, EventSeen, Refusal, RequestRun, RunRequested, RunSignal, StartRun, TriggerEvent,
    TriggerSignal, effect, run_signal, trigger_event, trigger_signal::Kind,
};
use cdflow_trigger::{TriggerLedger, codes};
use proptest::prelude::*;
use prost::Message as _;

const DAY: i64 = 24 * 3_600 * 1_000;

fn run(pipeline: &str, run_id: &str) -> RequestRun {
    RequestRun {
        run_id: run_id.into(),
        pipeline: pipeline.into(),
        version: "v1.0.0".into(),
        plan: b"{}".to_vec(),
        initiator: Some(Actor { kind: "ci".into(), name: "jenkins".into() }),
        cause: "CI event".into(),
        traceparent: String::new(),
    }
}

fn seen(event_id: &str, digest: &str, starts: Vec<RequestRun>) -> EventSeen {
    EventSeen {
        source: "jenkins".into(),
        event_id: event_id.into(),
        r#type: "dev.cdevents.artifact.published.0.2.0".into(),
        subject: "storefront v1.0.0".into(),
        digest: digest.into(),
        starts,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        ..Default::default()
    }
}

fn send(ledger: &mut TriggerLedger, kind: Kind, now: i64) -> Result<Decision<TriggerEvent>, Refusal> {
    let decision = ledger.decide("default", Input::Signal(TriggerSignal { kind: Some(kind) }), now)?;
    decision.events.iter().for_each(|event| ledger.apply(event));
    Ok(decision)
}

fn record(decision: &Decision<TriggerEvent>) -> EventRecorded {
    match decision.events.last().unwrap().kind.clone() {
        Some(trigger_event::Kind::EventRecorded(record)) => record,
        other => panic!("the last event is no record: {other:?}"),
    }
}

fn requested(decision: &Decision<TriggerEvent>) -> Vec<RunRequested> {
    let runs = decision.events.iter().filter_map(|event| match event.kind.clone() {
        Some(trigger_event::Kind::RunRequested(run)) => Some(run),
        _ => None,
    });
    runs.collect()
}

fn started(decision: &Decision<TriggerEvent>) -> Vec<(String, StartRun)> {
    let starts = decision.effects.iter().map(|effect| match effect.kind.clone() {
        Some(effect::Kind::Signal(send)) => {
            assert_eq!(send.aggregate, "run");
            let signal = send.signal.unwrap();
            assert_eq!(signal.id, format!("{}.start", signal.aggregate_id));
            match RunSignal::decode(signal.payload.as_slice()).unwrap().kind {
                Some(run_signal::Kind::Start(start)) => (signal.aggregate_id, start),
                other => panic!("not a start: {other:?}"),
            }
        }
        other => panic!("not a signal: {other:?}"),
    });
    starts.collect()
}

#[test]
fn an_event_starts_its_runs_with_the_next_numbers() {
    let mut ledger = TriggerLedger::default();
    let event = seen("1", "sha256:a", vec![run("storefront", "r1"), run("mirror", "r2")]);
    let decision = send(&mut ledger, Kind::EventSeen(event.clone()), 5).unwrap();
    assert_eq!(record(&decision).run_numbers, [1, 2]);
    assert_eq!(record(&decision).ignored_because, "");
    let starts = started(&decision);
    assert_eq!(
        starts.iter().map(|(id, start)| (id.as_str(), start.number)).collect::<Vec<_>>(),
        [("r1", 1), ("r2", 2)]
    );
    assert_eq!(starts[0].1.traceparent, event.traceparent, "the event's trace goes on in the run");
    assert_eq!(starts[0].1.plan, b"{}");
    assert_eq!(ledger.last_number(), 2);
}

#[test]
fn the_same_event_is_recorded_once() {
    let mut ledger = TriggerLedger::default();
    let event = Kind::EventSeen(seen("1", "sha256:a", vec![run("storefront", "r1")]));
    send(&mut ledger, event.clone(), 5).unwrap();
    assert_eq!(send(&mut ledger, event, 6).unwrap(), Decision::nothing());
}

#[test]
fn the_same_digest_for_the_same_pipeline_starts_nothing_and_names_the_run() {
    let mut ledger = TriggerLedger::default();
    send(&mut ledger, Kind::EventSeen(seen("1", "sha256:a", vec![run("storefront", "r1")])), 5).unwrap();
    let again = seen("2", "sha256:a", vec![run("storefront", "r2"), run("mirror", "r3")]);
    let decision = send(&mut ledger, Kind::EventSeen(again), 6).unwrap();
    let record = record(&decision);
    assert_eq!(record.run_numbers, [2], "the other pipeline starts");
    assert_eq!(record.ignored_because, "pipeline storefront has released sha256:a already, in run 1");
    assert_eq!(started(&decision).len(), 1);
}

#[test]
fn without_a_digest_every_event_starts_a_run() {
    let mut ledger = TriggerLedger::default();
    for event in ["1", "2"] {
        let decision = send(&mut ledger, Kind::EventSeen(seen(event, "", vec![run("storefront", event)])), 5).unwrap();
        assert_eq!(started(&decision).len(), 1);
    }
    assert_eq!(ledger.last_number(), 2);
}

#[test]
fn an_event_that_starts_nothing_is_kept_with_the_reason() {
    let mut ledger = TriggerLedger::default();
    let event = EventSeen { ignored_because: "no pipeline is started by it".into(), ..seen("1", "sha256:a", vec![]) };
    let decision = send(&mut ledger, Kind::EventSeen(event), 5).unwrap();
    assert_eq!(record(&decision).ignored_because, "no pipeline is started by it");
    assert!(decision.effects.is_empty());
}

#[test]
fn a_person_who_asks_twice_with_one_run_id_starts_one_run() {
    let mut ledger = TriggerLedger::default();
    let request = Kind::RequestRun(run("deploy", "r1"));
    let first = send(&mut ledger, request.clone(), 5).unwrap();
    assert_eq!(requested(&first)[0].number, 1);
    assert_eq!(send(&mut ledger, request, 6).unwrap(), Decision::nothing());
    // An event cannot start it again either.
    let decision = send(&mut ledger, Kind::EventSeen(seen("1", "", vec![run("deploy", "r1")])), 7).unwrap();
    assert_eq!(record(&decision).ignored_because, "run 1 was started by this request before");
}

#[test]
fn what_could_start_nothing_is_refused() {
    let mut ledger = TriggerLedger::default();
    for incomplete in [
        RequestRun { run_id: String::new(), ..run("deploy", "r1") },
        RequestRun { pipeline: String::new(), ..run("deploy", "r1") },
        RequestRun { plan: Vec::new(), ..run("deploy", "r1") },
    ] {
        assert_eq!(send(&mut ledger, Kind::RequestRun(incomplete), 5).unwrap_err().code, codes::INCOMPLETE);
    }
    assert_eq!(send(&mut ledger, Kind::EventSeen(seen("", "", vec![])), 5).unwrap_err().code, codes::NAMELESS);
    assert_eq!(ledger.last_number(), 0);
}

#[test]
fn an_event_is_known_longer_than_the_stream_keeps_it_and_forgotten_after() {
    let mut ledger = TriggerLedger::default();
    let event = |day: i64| Kind::EventSeen(seen(&day.to_string(), "", vec![]));
    send(&mut ledger, event(0), DAY - 1).unwrap();
    for day in 1..=14 {
        send(&mut ledger, event(day), day * DAY).unwrap();
    }
    // Redelivered at the last moment at which CI can still hold it.
    assert_eq!(send(&mut ledger, event(0), 15 * DAY - 1).unwrap(), Decision::nothing());
    let full = ledger.checkpoint().len();
    for day in 15..100 {
        send(&mut ledger, event(day), day * DAY).unwrap();
    }
    assert!(ledger.checkpoint().len() < full * 2, "memory is bounded");
    assert_ne!(send(&mut ledger, event(0), 100 * DAY).unwrap(), Decision::nothing());
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    assert!(TriggerLedger::restore(&[0xff]).unwrap_err().contains("not the state of a ledger"));
}

fn any_signals() -> impl Strategy<Value = Vec<Kind>> {
    // Few names, so that the same ones meet often; a run id follows from event and pipeline, as the service makes it.
    let starts = |event: u8| {
        proptest::sample::subsequence(vec!["storefront", "mirror", "docs"], 0..=3).prop_map(move |pipelines| {
            pipelines.into_iter().map(|pipeline| run(pipeline, &format!("{event}/{pipeline}"))).collect::<Vec<_>>()
        })
    };
    let event = (0_u8..8, 0_u8..4).prop_flat_map(move |(event, digest)| {
        let digest = if digest == 0 { String::new() } else { format!("sha256:{digest}") };
        starts(event).prop_map(move |starts| Kind::EventSeen(seen(&event.to_string(), &digest, starts)))
    });
    let person = (0_u8..4).prop_map(|id| Kind::RequestRun(run("deploy", &format!("person/{id}"))));
    proptest::collection::vec(prop_oneof![3 => event, 1 => person], 0..32)
}

proptest! {
    #[test]
    fn numbers_have_no_gap_and_nothing_starts_twice(signals in any_signals()) {
        let mut ledger = TriggerLedger::default();
        let mut runs = Vec::new();
        let mut events = BTreeSet::new();
        for kind in signals {
            let decision = send(&mut ledger, kind, 5).unwrap();
            prop_assert_eq!(requested(&decision).len(), started(&decision).len());
            for (run, (id, start)) in requested(&decision).into_iter().zip(started(&decision)) {
                prop_assert_eq!((&run.run_id, run.number), (&id, start.number));
                runs.push(run);
            }
            if let Some(TriggerEvent { kind: Some(trigger_event::Kind::EventRecorded(record)) }) = decision.events.last() {
                prop_assert!(events.insert(record.event_id.clone()), "recorded twice");
            }
        }
        let numbers: Vec<u64> = runs.iter().map(|run| run.number).collect();
        prop_assert_eq!(numbers, (1..=runs.len() as u64).collect::<Vec<_>>());
        let ids: BTreeSet<_> = runs.iter().map(|run| run.run_id.as_str()).collect();
        prop_assert_eq!(ids.len(), runs.len());
        let mut artifacts: BTreeMap<_, usize> = BTreeMap::new();
        for run in runs.iter().filter(|run| !run.digest.is_empty()) {
            *artifacts.entry((run.pipeline.as_str(), run.digest.as_str())).or_default() += 1;
        }
        prop_assert!(artifacts.values().all(|count| *count == 1), "{artifacts:?}");
    }

    #[test]
    fn doubled_signals_change_nothing(signals in any_signals()) {
        let mut once = TriggerLedger::default();
        let mut twice = TriggerLedger::default();
        for kind in signals {
            let first = send(&mut once, kind.clone(), 5).unwrap();
            prop_assert_eq!(&send(&mut twice, kind.clone(), 5).unwrap(), &first);
            prop_assert_eq!(send(&mut twice, kind, 5).unwrap(), Decision::nothing());
            prop_assert_eq!(&once, &twice);
        }
    }

    #[test]
    fn in_any_order_the_same_artifacts_are_released(signals in any_signals(), middle in any::<prop::sample::Index>()) {
        // Of one event only the first telling counts, so each is told in one way here.
        let mut told = BTreeSet::new();
        let mut signals: Vec<_> = signals
            .into_iter()
            .filter(|kind| !matches!(kind, Kind::EventSeen(event) if !told.insert(event.event_id.clone())))
            .collect();
        let released = |signals: &[Kind]| {
            let mut ledger = TriggerLedger::default();
            let runs: Vec<_> = signals.iter().flat_map(|kind| requested(&send(&mut ledger, kind.clone(), 5).unwrap())).collect();
            let mut artifacts: Vec<_> = runs.into_iter().map(|run| (run.pipeline, run.digest)).collect();
            artifacts.sort();
            artifacts
        };
        let forward = released(&signals);
        if !signals.is_empty() {
            let middle = middle.index(signals.len());
            signals.rotate_left(middle);
            signals.reverse();
        }
        prop_assert_eq!(released(&signals), forward);
    }

    #[test]
    fn a_checkpoint_reads_back(signals in any_signals()) {
        let mut ledger = TriggerLedger::default();
        for (index, kind) in signals.into_iter().enumerate() {
            send(&mut ledger, kind, i64::try_from(index).unwrap() * DAY).unwrap();
            prop_assert_eq!(&TriggerLedger::restore(&ledger.checkpoint()).unwrap(), &ledger);
        }
    }
}
