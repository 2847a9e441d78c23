//! From the journal to subscribers, on a real server.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "shared with the test of the feed")]

mod support;

use std::time::Duration;

use cdflow_bus::{Bus, NewInstallation, Options as BusOptions};
use cdflow_journal::Position;
use cdflow_notifier::Options;
use cdflow_protocol::{AggregateKind, streams, subjects, v1::Commit};
use cdflow_testkit::{NatsServer, SyncMode};
use prost::Message as _;
use serde_json::Value;
use support::{RUN, release};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

struct Installed {
    bus: Bus,
    options: BusOptions,
    /// Last commits of `trigger` and `run`.
    tails: [Position; 2],
    _server: NatsServer,
}

impl Installed {
    async fn new() -> Self {
        let server = NatsServer::start(SyncMode::Default).await.unwrap();
        let options = BusOptions::new(server.url(), "test");
        cdflow_bus::install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        Self { bus, options, tails: [Position::start(), Position::start()], _server: server }
    }

    fn serve(&self) -> (JoinHandle<anyhow::Result<()>>, CancellationToken) {
        let stop = CancellationToken::new();
        (tokio::spawn(cdflow_notifier::run(Options::default(), self.options.clone(), stop.clone())), stop)
    }

    /// Appends a commit as an owner would: chained to the one before.
    async fn append(&mut self, kind: AggregateKind, commit: Commit) {
        let tail = &mut self.tails[usize::from(kind == AggregateKind::Run)];
        let time_ms = now();
        let commit = Commit { previous_sequence: tail.sequence, previous_hash: tail.hash.clone(), time_ms, ..commit };
        let body = commit.encode_to_vec();
        let subject = subjects::journal(kind, 0);
        let sent = self.bus.context().publish(subject, body.clone().into()).await.unwrap().await.unwrap();
        *tail = Position::of(sent.sequence, &body);
    }

    async fn release(&mut self, run_id: &str, commits: impl std::ops::RangeBounds<usize>) {
        for (index, commit) in release(run_id).into_iter().enumerate() {
            if commits.contains(&index) {
                let kind = if index == 0 { AggregateKind::Trigger } else { AggregateKind::Run };
                self.append(kind, commit).await;
            }
        }
    }

    /// Subjects and bodies of the feed, as soon as there are `count`.
    async fn feed(&self, count: u64) -> Vec<(String, Value)> {
        let mut stream = self.bus.context().get_stream(streams::EVENTS).await.unwrap();
        let begun = tokio::time::Instant::now();
        while stream.info().await.unwrap().state.messages < count {
            assert!(begun.elapsed() < PATIENCE, "fewer than {count} events");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut events = Vec::new();
        for sequence in 1..=stream.info().await.unwrap().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            events.push((message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap()));
        }
        events
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_appears_in_the_feed_of_its_project_in_order() {
    let mut installed = Installed::new().await;
    let (service, stop) = installed.serve();
    installed.release(RUN, ..).await;
    let feed = installed.feed(12).await;
    let subjects: Vec<&str> = feed.iter().map(|(subject, _)| subject.as_str()).collect();
    assert_eq!(subjects[0], "cdflow.events.default.dev.cdevents.pipelinerun.queued.0.3.0");
    assert_eq!(subjects[11], "cdflow.events.default.dev.cdevents.pipelinerun.finished.0.3.0");
    let ids: Vec<&str> = feed.iter().map(|(_, event)| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids[..2], ["1-1-0-0", "1-2-0-0"]);
    assert_eq!(feed[11].1["data"]["customData"]["run"]["link"], format!("http://127.0.0.1:7700/runs/{RUN}"));
    stop.cancel();
    tokio::time::timeout(PATIENCE, service).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_run_it_goes_on_and_tells_nothing_twice() {
    let mut installed = Installed::new().await;
    let (service, _) = installed.serve();
    installed.release(RUN, ..3).await;
    let before = installed.feed(7).await;
    service.abort();
    // What happens while nobody tells is told later, by somebody who has not seen the start.
    installed.release(RUN, 3..).await;
    installed.release("0191-run", ..).await;
    // The feed must know by itself what it has: the server's memory of ids is of no help after two minutes.
    forget_ids(&installed).await;
    let (_service, stop) = installed.serve();
    let after = installed.feed(24).await;
    assert_eq!(after[..7], before);
    let mut ids: Vec<&str> = after.iter().map(|(_, event)| event["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), after.len()), (24, 24));
    let finished = after.iter().filter(|(subject, _)| subject.contains("pipelinerun.finished")).count();
    assert_eq!(finished, 2);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_tell_once() {
    let mut installed = Installed::new().await;
    let (_first, stop_first) = installed.serve();
    let (_second, stop_second) = installed.serve();
    for run in 0..5 {
        installed.release(&format!("run-{run}"), ..).await;
    }
    installed.feed(60).await;
    // Both have told everything when one more is told.
    installed.release("last", ..).await;
    let feed = installed.feed(72).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(installed.feed(72).await.len(), feed.len());
    stop_first.cancel();
    stop_second.cancel();
}

#[tokio::test]
async fn it_refuses_a_console_that_links_could_not_lead_to() {
    let options = Options { console_url: "console.example.com".into(), ..Options::default() };
    let bus = BusOptions::new("nats://127.0.0.1:1", "test");
    let error = cdflow_notifier::run(options, bus, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with("CDF-6201: the console URL \"console.example.com\""), "{error}");
}

/// Shortens the duplicate window and lets it pass.
async fn forget_ids(installed: &Installed) {
    let stream = installed.bus.context().get_stream(streams::EVENTS).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.duplicate_window = Duration::from_millis(100);
    installed.bus.context().update_stream(config).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
}
