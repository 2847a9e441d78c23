//! What the journal says, in CDEvents.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "shared with the test on a server")]

mod support;

use std::collections::BTreeSet;

use cdevents_sdk::CDEvent;
use cdflow_notifier::{Feed, FeedEvent};
use cdflow_protocol::{
    AggregateKind,
    v1::{Commit, Entry, Outcome},
};
use support::{RUN, commit, finished, observed, of_run, promoted, release, stage_finished, stage_started, started};

fn feed() -> Feed {
    Feed::new("cdflow", "https://cd.example.com/")
}

fn told(feed: &mut Feed, commits: &[Commit]) -> Vec<FeedEvent> {
    let kinds = std::iter::once(AggregateKind::Trigger).chain(std::iter::repeat(AggregateKind::Run));
    commits
        .iter()
        .zip(kinds)
        .zip(1..)
        .flat_map(|((commit, kind), sequence)| feed.told(kind, sequence, commit))
        .collect()
}

fn kinds(events: &[FeedEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.kind.strip_prefix("dev.cdevents.").unwrap().strip_suffix(".0.3.0").unwrap())
        .collect()
}

fn of_one_run(events: impl IntoIterator<Item = cdflow_protocol::v1::run_event::Kind>) -> Vec<FeedEvent> {
    feed().told(AggregateKind::Run, 1, &commit(vec![of_run(RUN, events)]))
}

#[test]
fn a_release_is_told_from_request_to_end() {
    let mut feed = feed();
    let events = told(&mut feed, &release(RUN));
    assert_eq!(
        kinds(&events),
        [
            "pipelinerun.queued",
            "pipelinerun.started",
            "taskrun.started",
            "service.deployed",
            "service.published",
            "taskrun.finished",
            "taskrun.started",
            "service.upgraded",
            "service.published",
            "service.rolledback",
            "taskrun.finished",
            "pipelinerun.finished",
        ]
    );
    assert_eq!(feed.live_runs(), 0, "nothing is kept of a run that has ended");
    let text: Vec<_> = events.iter().map(|event| serde_json::to_string_pretty(&event.body).unwrap()).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn every_event_is_a_cdevent_by_the_specification() {
    for event in told(&mut feed(), &release(RUN)) {
        let read: CDEvent = serde_json::from_value(event.body["data"].clone()).unwrap();
        assert_eq!((read.ty(), read.id().as_str()), (event.kind.as_str(), event.id.as_str()));
        assert_eq!(event.body["type"], event.kind);
        assert_eq!(event.body["source"], "/cdflow/cdflow/default");
        assert_eq!(event.body["id"], event.id);
    }
}

#[test]
fn ids_are_different_and_the_same_when_told_again() {
    let once = told(&mut feed(), &release(RUN));
    let ids: BTreeSet<_> = once.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), once.len());
    assert_eq!(told(&mut feed(), &release(RUN)), once);
}

#[test]
fn a_first_release_that_is_rolled_back_leaves_nothing() {
    let events = of_one_run([
        started(),
        stage_started("prod"),
        observed("prod", None),
        stage_finished("prod", Outcome::RolledBack, "too slow"),
    ]);
    assert_eq!(kinds(&events)[2..], ["service.removed", "taskrun.finished"]);
}

#[test]
fn the_first_look_says_what_was_live_before() {
    let events = of_one_run([
        started(),
        stage_started("prod"),
        observed("prod", Some("v1.1.0")),
        observed("prod", Some("v1.2.0")),
        promoted("prod"),
        stage_finished("prod", Outcome::RolledBack, "too slow"),
    ]);
    let back = events.iter().find(|event| event.kind.contains("rolledback")).unwrap();
    let artifact = back.body["data"]["subject"]["content"]["artifactId"].as_str().unwrap();
    assert!(artifact.starts_with("pkg:generic/storefront@v1.1.0?"), "{artifact}");
}

#[test]
fn every_outcome_has_one_of_the_four_words_and_the_exact_one() {
    let words: Vec<String> = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::RolledBack,
        Outcome::Skipped,
        Outcome::Ignored,
        Outcome::Cancelled,
        Outcome::Rejected,
        Outcome::Expired,
        Outcome::Superseded,
        Outcome::Unspecified,
    ]
    .into_iter()
    .map(|outcome| {
        let events = of_one_run([started(), finished(outcome, "because")]);
        let data = &events[1].body["data"];
        let (rough, errors) = (&data["subject"]["content"]["outcome"], &data["subject"]["content"]["errors"]);
        format!("{}: {rough}, errors {errors}", data["customData"]["outcome"].as_str().unwrap())
    })
    .collect();
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn what_is_not_known_is_left_out() {
    assert!(of_one_run([stage_started("dev"), finished(Outcome::Succeeded, "")]).is_empty(), "a run without its start");
    let garbage = Entry { aggregate_id: RUN.into(), events: vec![vec![0xff; 9]], ..Default::default() };
    assert!(feed().told(AggregateKind::Run, 1, &commit(vec![garbage.clone()])).is_empty());
    assert!(feed().told(AggregateKind::Trigger, 1, &commit(vec![garbage])).is_empty());
    let skipped = of_one_run([started(), stage_finished("dev", Outcome::Skipped, "")]);
    assert_eq!(kinds(&skipped), ["pipelinerun.started"], "a stage that never began");
}
