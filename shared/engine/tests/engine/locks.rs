//! The lock on its own.

use cdflow_engine::{Lock, lock::REMEMBERED};
use cdflow_journal::{Aggregate, Decision, Input};
use cdflow_protocol::v1::{
    AcquireLock, LockEvent, LockHolder, LockSignal, ReleaseLock, RunSignal, SendSignal, effect, lock_signal, run_signal,
};
use proptest::prelude::*;
use prost::Message as _;

const ID: &str = "storefront@prod";

fn by(run: u64, step: &str) -> LockHolder {
    LockHolder { run_id: format!("r{run}"), run_number: run, stage_id: "prod".into(), step_id: step.into(), attempt: 1 }
}

fn acquire(run: u64) -> LockSignal {
    let acquire = AcquireLock { holder: Some(by(run, "lock")), only_if_latest: false };
    LockSignal { kind: Some(lock_signal::Kind::Acquire(acquire)) }
}

fn undo(run: u64) -> LockSignal {
    let acquire = AcquireLock { holder: Some(by(run, "undo")), only_if_latest: true };
    LockSignal { kind: Some(lock_signal::Kind::Acquire(acquire)) }
}

fn release(run: u64, step: &str, watching: bool) -> LockSignal {
    let release = ReleaseLock { holder: Some(by(run, step)), watching };
    LockSignal { kind: Some(lock_signal::Kind::Release(release)) }
}

/// Sends a signal and gives the answers as `run:KIND`.
fn send(lock: &mut Lock, signal: LockSignal) -> Vec<String> {
    let Decision { events, effects } = lock.decide(ID, Input::Signal(signal), 5).unwrap();
    for event in &events {
        lock.apply(&LockEvent::decode(event.encode_to_vec().as_slice()).unwrap());
    }
    let answer = |effect: cdflow_protocol::v1::Effect| match effect.kind {
        Some(effect::Kind::Signal(SendSignal { signal: Some(signal), aggregate })) => {
            assert_eq!(aggregate, "run");
            let Some(run_signal::Kind::Lock(answer)) = RunSignal::decode(signal.payload.as_slice()).unwrap().kind
            else {
                panic!("not an answer")
            };
            let behind = if answer.holder_number > 0 { format!("({})", answer.holder_number) } else { String::new() };
            format!("{}:{}{behind}", signal.aggregate_id, answer.kind().as_str_name())
        }
        other => panic!("{other:?}"),
    };
    effects.into_iter().map(answer).collect()
}

#[test]
fn first_come_first_served() {
    let mut lock = Lock::default();
    assert_eq!(send(&mut lock, acquire(1)), ["r1:GRANTED"]);
    assert_eq!(send(&mut lock, acquire(2)), ["r2:QUEUED(1)"]);
    assert_eq!(send(&mut lock, acquire(3)), ["r3:QUEUED(1)"]);
    assert_eq!(send(&mut lock, release(1, "lock", false)), ["r2:GRANTED"]);
    assert_eq!(send(&mut lock, release(3, "lock", false)), [""; 0]);
    assert_eq!(send(&mut lock, release(2, "lock", false)), [""; 0]);
    assert!(lock.is_finished());
}

#[test]
fn asking_again_is_answered_again_and_changes_nothing() {
    let mut lock = Lock::default();
    send(&mut lock, acquire(1));
    send(&mut lock, acquire(2));
    let before = lock.clone();
    assert_eq!(send(&mut lock, acquire(1)), ["r1:GRANTED"]);
    assert_eq!(send(&mut lock, acquire(2)), ["r2:QUEUED(1)"]);
    assert_eq!(lock, before);
}

#[test]
fn a_release_that_comes_before_its_request_wins() {
    let mut lock = Lock::default();
    send(&mut lock, release(1, "lock", false));
    assert_eq!(send(&mut lock, acquire(1)), [""; 0]);
    assert!(lock.is_finished());
    assert_eq!(send(&mut lock, acquire(2)), ["r2:GRANTED"]);
}

#[test]
fn a_newer_run_ends_the_watch_once() {
    let mut lock = Lock::default();
    send(&mut lock, acquire(1));
    send(&mut lock, release(1, "lock", true));
    assert!(!lock.is_finished(), "somebody watches");
    assert_eq!(send(&mut lock, acquire(2)), ["r2:GRANTED", "r1:SUPERSEDED(2)"]);
    send(&mut lock, release(2, "lock", false));
    assert_eq!(send(&mut lock, acquire(3)), ["r3:GRANTED"]);
    assert_eq!(send(&mut lock, acquire(1)), [""; 0], "a repeated old request does not take the lock");
}

#[test]
fn one_who_stopped_watching_hears_nothing() {
    let mut lock = Lock::default();
    send(&mut lock, acquire(1));
    send(&mut lock, release(1, "lock", true));
    send(&mut lock, release(1, "lock", false));
    send(&mut lock, release(1, "lock", true));
    assert!(lock.is_finished());
    assert_eq!(send(&mut lock, acquire(2)), ["r2:GRANTED"]);
}

#[test]
fn undoing_is_refused_once_another_run_has_released() {
    let mut lock = Lock::default();
    send(&mut lock, acquire(5));
    send(&mut lock, release(5, "lock", true));
    assert_eq!(send(&mut lock, undo(5)), ["r5:GRANTED"], "nothing newer yet");
    send(&mut lock, release(5, "undo", false));
    send(&mut lock, acquire(6));
    send(&mut lock, release(6, "lock", true));
    assert_eq!(send(&mut lock, acquire(4)), ["r4:GRANTED", "r6:SUPERSEDED(4)"]);
    assert_eq!(send(&mut lock, undo(6)), ["r6:SUPERSEDED(4)"], "the number does not matter, the order does");
    let restored = Lock::restore(&lock.checkpoint()).unwrap();
    assert_eq!(restored, lock);
}

#[test]
fn memory_is_bounded() {
    let mut lock = Lock::default();
    for run in 1..2_000 {
        send(&mut lock, acquire(run));
        send(&mut lock, release(run, "lock", false));
    }
    assert!(lock.checkpoint().len() < 80 * REMEMBERED);
}

proptest! {
    /// Whatever the order and however often: at most one holds it, and once everybody has given it back nobody does.
    #[test]
    fn nobody_keeps_a_lock_that_was_given_back(
        order in Just((0..6_u64).flat_map(|run| [(run, true), (run, false), (run, true), (run, false)]).collect::<Vec<_>>())
            .prop_shuffle()
    ) {
        let mut lock = Lock::default();
        let mut held: Option<String> = None;
        let mut given_back = std::collections::BTreeSet::new();
        for (run, takes) in order {
            let signal = if takes { acquire(run) } else { release(run, "lock", false) };
            if !takes {
                given_back.insert(format!("r{run}"));
                held = held.filter(|holder| *holder != format!("r{run}"));
            }
            for granted in send(&mut lock, signal).iter().filter_map(|answer| answer.strip_suffix(":GRANTED")) {
                prop_assert!(!given_back.contains(granted));
                prop_assert!(held.is_none() || held.as_deref() == Some(granted));
                held = Some(granted.to_owned());
            }
        }
        prop_assert!(lock.is_finished());
    }
}
