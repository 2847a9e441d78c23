//! What people may decide, and what follows.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use cdflow_approval::{Approval, codes};
use cdflow_journal::{Aggregate as _, Decision, Input};
use cdflow_protocol::v1::{
    Actor, ApprovalAnswer, ApprovalEvent, ApprovalSignal, Decide, Effect, Members, Outcome, Refusal, RequestApproval,
    RunSignal, WithdrawApproval, approval_signal::Kind, effect, run_signal,
};
use proptest::prelude::*;
use prost::Message as _;

const ID: &str = "run-1.prod-gate.approve";

fn request(by: &[(&str, u32)], groups: &[(&str, &[&str])]) -> RequestApproval {
    RequestApproval {
        run_id: "run-1".into(),
        stage_id: "prod-gate".into(),
        step_id: "approve".into(),
        by: by.iter().map(|(group, minimum)| (group.to_string(), *minimum)).collect(),
        groups: groups
            .iter()
            .map(|(group, names)| {
                (group.to_string(), Members { names: names.iter().map(ToString::to_string).collect() })
            })
            .collect::<BTreeMap<_, _>>(),
        expires_ms: 1_000,
        ..Default::default()
    }
}

fn started_by(person: &str, request: RequestApproval) -> RequestApproval {
    RequestApproval { initiator: Some(Actor { kind: "person".into(), name: person.into() }), ..request }
}

fn says(person: &str, groups: &[&str], approve: bool) -> Kind {
    Kind::Decide(Decide {
        person: person.into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        approve,
        ..Default::default()
    })
}

fn approves(person: &str, groups: &[&str]) -> Kind {
    says(person, groups, true)
}

fn withdraw() -> Kind {
    Kind::Withdraw(WithdrawApproval { reason: "run 1 was cancelled".into() })
}

/// Decides, stores and returns what left.
fn send(approval: &mut Approval, kind: Kind, now: i64) -> Result<Decision<ApprovalEvent>, Refusal> {
    let signal = ApprovalSignal { kind: Some(kind) };
    let decision = approval.decide(ID, Input::Signal(signal), now)?;
    decision.events.iter().for_each(|event| approval.apply(event));
    Ok(decision)
}

fn asked(request: RequestApproval) -> Approval {
    let mut approval = Approval::default();
    send(&mut approval, Kind::Request(request), 1).unwrap();
    approval
}

fn answers(effects: &[Effect]) -> Vec<(String, ApprovalAnswer)> {
    effects
        .iter()
        .map(|effect| match effect.kind.clone() {
            Some(effect::Kind::Signal(send)) => {
                let signal = send.signal.unwrap();
                assert_eq!((send.aggregate.as_str(), signal.aggregate_id.as_str()), ("run", "run-1"));
                match RunSignal::decode(signal.payload.as_slice()).unwrap().kind.unwrap() {
                    run_signal::Kind::Approval(answer) => (signal.id, answer),
                    other => panic!("not an answer: {other:?}"),
                }
            }
            other => panic!("not a signal: {other:?}"),
        })
        .collect()
}

fn outcome(approval: &Approval) -> Option<Outcome> {
    approval.end().map(|end| end.outcome)
}

#[test]
fn every_group_needs_its_own_minimum() {
    let mut approval = asked(request(&[("release-managers", 1), ("sre", 2)], &[]));
    assert!(send(&mut approval, approves("ana", &["release-managers"]), 2).unwrap().effects.is_empty());
    assert!(send(&mut approval, approves("bo", &["sre"]), 3).unwrap().effects.is_empty());
    let last = send(&mut approval, approves("cy", &["sre"]), 4).unwrap();
    let (id, answer) = answers(&last.effects).remove(0);
    assert_eq!(id, "run-1.prod-gate.approve.succeeded");
    assert_eq!(answer.outcome(), Outcome::Succeeded);
    assert_eq!(answer.decisions, ["ana: approved", "bo: approved", "cy: approved"]);
    assert_eq!(approval.end().unwrap().reason, "approved by ana, bo, cy");
}

#[test]
fn a_person_in_several_groups_counts_for_each() {
    let mut approval = asked(request(&[("release-managers", 1), ("sre", 1)], &[]));
    send(&mut approval, approves("bo", &["sre", "release-managers", "office"]), 2).unwrap();
    assert_eq!(outcome(&approval), Some(Outcome::Succeeded));
}

#[test]
fn one_rejection_ends_it_with_the_persons_words() {
    let mut approval = asked(request(&[("sre", 2)], &[]));
    send(&mut approval, approves("ana", &["sre"]), 2).unwrap();
    let rejection = Decide {
        person: "bo".into(),
        groups: vec!["sre".into()],
        comment: "not on a Friday".into(),
        ..Default::default()
    };
    let decision = send(&mut approval, Kind::Decide(rejection), 3).unwrap();
    let (_, answer) = answers(&decision.effects).remove(0);
    assert_eq!(answer.outcome(), Outcome::Rejected);
    assert_eq!(answer.decisions, ["ana: approved", "bo: not on a Friday"]);
    assert_eq!(approval.end().unwrap().reason, "rejected by bo: not on a Friday");
}

#[test]
fn who_started_the_run_cannot_approve_it_where_others_can() {
    let mut approval = asked(started_by("ana", request(&[("sre", 1)], &[("sre", &["ana", "bo"])])));
    for approve in [true, false] {
        let refusal = send(&mut approval, says("ana", &["sre"], approve), 2).unwrap_err();
        assert_eq!(refusal.code, codes::INITIATOR);
        assert_eq!(refusal.message, "ana started this run, so others of sre decide");
    }
    send(&mut approval, approves("bo", &["sre"]), 3).unwrap();
    assert_eq!(outcome(&approval), Some(Outcome::Succeeded));
}

#[test]
fn who_started_the_run_may_approve_where_the_others_are_too_few() {
    let mut approval = asked(started_by("ana", request(&[("sre", 2)], &[("sre", &["ana", "bo"])])));
    send(&mut approval, approves("ana", &["sre"]), 2).unwrap();
    send(&mut approval, approves("bo", &["sre"]), 3).unwrap();
    assert_eq!(outcome(&approval), Some(Outcome::Succeeded));
}

#[test]
fn the_initiator_counts_only_for_the_group_that_is_too_small() {
    let groups: &[(&str, &[&str])] = &[("owners", &["ana"]), ("sre", &["ana", "bo"])];
    let mut approval = asked(started_by("ana", request(&[("owners", 1), ("sre", 1)], groups)));
    send(&mut approval, approves("ana", &["owners", "sre"]), 2).unwrap();
    let progress: Vec<_> = approval.progress().into_iter().map(|group| (group.group, group.approvals)).collect();
    assert_eq!(progress, [("owners".into(), 1), ("sre".into(), 0)]);
    assert_eq!(outcome(&approval), None);
}

#[test]
fn a_ci_system_with_the_name_of_a_person_excludes_nobody() {
    let by_ci = RequestApproval {
        initiator: Some(Actor { kind: "ci".into(), name: "ana".into() }),
        ..request(&[("sre", 1)], &[("sre", &["ana", "bo"])])
    };
    let mut approval = asked(by_ci);
    send(&mut approval, approves("ana", &["sre"]), 2).unwrap();
    assert_eq!(outcome(&approval), Some(Outcome::Succeeded));
}

#[test]
fn it_expires_at_its_time_and_says_what_was_missing() {
    let mut approval = asked(request(&[("sre", 2)], &[]));
    send(&mut approval, approves("ana", &["sre"]), 2).unwrap();
    assert_eq!(approval.deadline(), Some(1_000));
    assert_eq!(approval.decide(ID, Input::Tick, 999).unwrap(), Decision::nothing());
    let refusal = send(&mut approval, approves("bo", &["sre"]), 1_000).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.message.as_str()),
        ("expired", "the time to decide ended at 1970-01-01T00:00:01Z")
    );
    let expired = approval.decide(ID, Input::Tick, 1_000).unwrap();
    expired.events.iter().for_each(|event| approval.apply(event));
    let (id, answer) = answers(&expired.effects).remove(0);
    assert_eq!(id, "run-1.prod-gate.approve.expired");
    assert_eq!(answer.outcome(), Outcome::Expired);
    assert_eq!(answer.decisions, ["ana: approved", "nobody decided in time: 1 of 2 approvals by sre"]);
    assert_eq!(approval.deadline(), None);
}

#[test]
fn a_request_without_expiry_waits_for_ever() {
    let approval = asked(RequestApproval { expires_ms: 0, ..request(&[("sre", 1)], &[]) });
    assert_eq!(approval.deadline(), None);
    assert_eq!(approval.decide(ID, Input::Tick, i64::MAX).unwrap(), Decision::nothing());
}

#[test]
fn a_second_word_of_the_same_person_is_refused() {
    let mut approval = asked(request(&[("sre", 2)], &[]));
    send(&mut approval, approves("ana", &["sre"]), 2).unwrap();
    for approve in [true, false] {
        let refusal = send(&mut approval, says("ana", &["sre"], approve), 3).unwrap_err();
        assert_eq!(refusal.code, codes::ALREADY_VOTED);
    }
    assert_eq!(outcome(&approval), None);
}

#[test]
fn a_decision_after_the_end_hears_who_decided_and_when() {
    let mut approval = asked(request(&[("sre", 1)], &[]));
    send(&mut approval, approves("ana", &["sre"]), 2).unwrap();
    let refusal = send(&mut approval, approves("bo", &["sre"]), 3).unwrap_err();
    assert_eq!(refusal.code, codes::ALREADY_DECIDED);
    assert_eq!(refusal.message, "this has ended at 1970-01-01T00:00:00.002Z: approved by ana");
}

#[test]
fn a_stranger_hears_who_could_decide() {
    let mut approval = asked(request(&[("release-managers", 1), ("sre", 1)], &[]));
    let refusal = send(&mut approval, approves("eve", &["office"]), 2).unwrap_err();
    assert_eq!(refusal.code, codes::NOT_ELIGIBLE);
    assert_eq!(refusal.message, "eve may not decide this: it takes a member of release-managers or sre");
    let refusal = send(&mut approval, says("eve", &[], false), 2).unwrap_err();
    assert_eq!(refusal.code, codes::NOT_ELIGIBLE, "nor reject it");
}

#[test]
fn a_decision_about_nothing_is_refused_and_leaves_no_trace() {
    let mut approval = Approval::default();
    assert_eq!(send(&mut approval, approves("ana", &["sre"]), 1).unwrap_err().code, codes::UNKNOWN);
    assert_eq!(approval, Approval::default());
}

#[test]
fn a_withdrawal_that_comes_first_is_remembered() {
    let mut approval = Approval::default();
    assert!(send(&mut approval, withdraw(), 1).unwrap().effects.is_empty(), "nobody has asked");
    let late = send(&mut approval, Kind::Request(request(&[("sre", 1)], &[])), 2).unwrap();
    assert_eq!(answers(&late.effects)[0].1.outcome(), Outcome::Cancelled);
    assert_eq!(send(&mut approval, approves("ana", &["sre"]), 3).unwrap_err().code, codes::ALREADY_DECIDED);
    assert!(approval.is_finished());
}

#[test]
fn asking_again_answers_again_with_the_same_signal() {
    let mut approval = asked(request(&[("sre", 1)], &[]));
    let pending = send(&mut approval, Kind::Request(request(&[("sre", 1)], &[])), 2).unwrap();
    assert_eq!(pending, Decision::nothing(), "there is no answer yet");
    let first = send(&mut approval, approves("ana", &["sre"]), 3).unwrap();
    let again = send(&mut approval, Kind::Request(request(&[("sre", 1)], &[])), 4).unwrap();
    assert!(again.events.is_empty());
    assert_eq!(answers(&again.effects), answers(&first.effects));
}

#[test]
fn a_minimum_of_nothing_and_no_group_at_all_never_pass() {
    let approval = asked(request(&[("sre", 0)], &[]));
    assert_eq!((outcome(&approval), approval.progress()[0].minimum), (None, 1));
    let approval = asked(request(&[], &[]));
    assert_eq!(outcome(&approval), Some(Outcome::Rejected));
}

const PEOPLE: [&str; 5] = ["ana", "bo", "cy", "di", "eve"];
const GROUPS: [&str; 2] = ["release-managers", "sre"];

fn any_request() -> impl Strategy<Value = RequestApproval> {
    let groups = proptest::collection::vec(proptest::sample::subsequence(&PEOPLE[..], 0..=4), 2);
    (groups, 0_u32..3, 0_u32..3, proptest::option::of(0..5_usize)).prop_map(|(groups, first, second, initiator)| {
        let members: Vec<(&str, &[&str])> =
            GROUPS.iter().zip(&groups).map(|(name, names)| (*name, names.as_slice())).collect();
        let request = request(&[(GROUPS[0], first), (GROUPS[1], second)], &members);
        match initiator {
            Some(index) => started_by(PEOPLE[index], request),
            None => request,
        }
    })
}

fn any_signals() -> impl Strategy<Value = (RequestApproval, Vec<Kind>)> {
    any_request().prop_flat_map(|request| {
        let of = |person: &str| -> Vec<String> {
            GROUPS
                .iter()
                .filter(|g| request.groups[**g].names.iter().any(|n| n == person))
                .map(ToString::to_string)
                .collect()
        };
        let mut signals = vec![Kind::Request(request.clone()), withdraw()];
        for person in PEOPLE {
            for approve in [true, true, false] {
                signals.push(Kind::Decide(Decide {
                    person: person.into(),
                    groups: of(person),
                    approve,
                    ..Default::default()
                }));
            }
        }
        let signals = proptest::collection::vec(proptest::sample::select(signals), 0..24);
        (Just(request), signals)
    })
}

/// Feeds signals, then the clock; returns the answers that left.
fn feed(approval: &mut Approval, signals: &[Kind]) -> Vec<(String, ApprovalAnswer)> {
    let mut left = Vec::new();
    for (index, kind) in signals.iter().enumerate() {
        if let Ok(decision) = send(approval, kind.clone(), 2 + i64::try_from(index).unwrap()) {
            left.extend(answers(&decision.effects));
        }
    }
    let tick = approval.decide(ID, Input::Tick, 2_000).unwrap();
    tick.events.iter().for_each(|event| approval.apply(event));
    left.extend(answers(&tick.effects));
    left
}

proptest! {
    #[test]
    fn whatever_arrives_a_request_ends_once_and_every_answer_is_the_same((request, signals) in any_signals()) {
        let mut approval = Approval::default();
        let mut all = signals;
        all.push(Kind::Request(request));
        let left = feed(&mut approval, &all);
        prop_assert!(approval.is_finished());
        prop_assert!(!left.is_empty());
        prop_assert!(left.iter().all(|answer| answer == &left[0]), "{left:?}");
        prop_assert_eq!(left[0].1.outcome(), approval.end().unwrap().outcome);
    }

    #[test]
    fn doubled_signals_change_nothing((request, signals) in any_signals()) {
        let mut once = asked(request.clone());
        let mut twice = asked(request);
        for (index, kind) in signals.iter().enumerate() {
            let now = 2 + i64::try_from(index).unwrap();
            let _ = send(&mut once, kind.clone(), now);
            let _ = send(&mut twice, kind.clone(), now);
            let _ = send(&mut twice, kind.clone(), now);
            prop_assert_eq!(&once, &twice);
        }
    }

    #[test]
    fn approvals_in_any_order_end_alike(
        (request, mut signals) in any_signals(),
        order in any::<prop::sample::Index>(),
    ) {
        signals.retain(|kind| matches!(kind, Kind::Decide(decision) if decision.approve));
        let mut one = asked(request.clone());
        feed(&mut one, &signals);
        if !signals.is_empty() {
            let middle = order.index(signals.len());
            signals.rotate_left(middle);
        }
        let mut other = asked(request);
        feed(&mut other, &signals);
        prop_assert_eq!(outcome(&one), outcome(&other));
    }

    #[test]
    fn nothing_succeeds_without_its_quorum((request, signals) in any_signals()) {
        let mut approval = asked(request.clone());
        feed(&mut approval, &signals);
        if outcome(&approval) == Some(Outcome::Succeeded) {
            let initiator = request.initiator.as_ref().map(|actor| actor.name.as_str());
            for (group, minimum) in &request.by {
                let members = &request.groups[group].names;
                let said: Vec<_> = approval.votes().iter().filter(|vote| members.contains(&vote.person)).collect();
                prop_assert!(said.iter().all(|vote| vote.approve));
                let of_others = said.iter().filter(|vote| Some(vote.person.as_str()) != initiator).count();
                let others = members.iter().filter(|name| Some(name.as_str()) != initiator).count();
                let minimum = (*minimum).max(1) as usize;
                let enough = if others >= minimum { of_others } else { said.len() };
                prop_assert!(enough >= minimum, "{group}: {said:?}");
            }
        }
    }

    #[test]
    fn a_checkpoint_reads_back((request, signals) in any_signals()) {
        let mut approval = asked(request);
        for kind in signals {
            let _ = send(&mut approval, kind, 5);
            let restored = Approval::restore(&approval.checkpoint()).unwrap();
            prop_assert_eq!(&restored, &approval);
        }
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    assert!(Approval::restore(&[0xff, 0xff]).unwrap_err().contains("not the state of an approval"));
}
