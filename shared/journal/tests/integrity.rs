//! Reading, verifying and restoring a journal.
#![allow(clippy::unwrap_used)]

mod support;

use std::{convert::Infallible, time::Duration};

use async_nats::jetstream::{message::PublishMessage, stream::Config};
use cdflow_bus::Bus;
use cdflow_journal::{ArchivedCommit, Error, JournalOptions, Positions, Reader, restore, verify, verify_with};
use cdflow_protocol::{AggregateKind, streams, v1::Commit};
use cdflow_testkit::{NatsServer, SyncMode};
use prost::Message as _;
use support::{FakeWorker, Instance, Ledger, Peer, everything, installed, options, order, send, signal, until};

async fn archive(bus: &Bus) -> (Vec<ArchivedCommit>, Positions) {
    let count = everything(bus).await.commits.len();
    let mut reader = Reader::open(bus.clone(), "archive", Positions::new()).await.unwrap();
    let mut archived = Vec::new();
    while archived.len() < count {
        let commit = reader.next().await.unwrap();
        archived.push(commit.archived());
        commit.ack().await;
    }
    (archived, reader.positions().clone())
}

fn stream_of(
    archived: &[ArchivedCommit],
) -> impl Fn() -> futures::stream::Iter<std::vec::IntoIter<Result<ArchivedCommit, Infallible>>> {
    let commits: Vec<_> = archived.iter().cloned().map(Ok).collect();
    move || futures::stream::iter(commits.clone())
}

/// Empties JOURNAL and writes these bodies at the same sequences, as a damaged or truncated disk would show them.
async fn tamper(bus: &Bus, bodies: &[ArchivedCommit]) {
    let stream = bus.context().get_stream(streams::JOURNAL).await.unwrap();
    let config = Config { first_sequence: Some(bodies[0].sequence), ..stream.cached_info().config.clone() };
    bus.context().delete_stream(streams::JOURNAL).await.unwrap();
    bus.context().create_stream(config).await.unwrap();
    for commit in bodies {
        let subject = cdflow_protocol::subjects::journal(commit.kind, commit.partition);
        let message = PublishMessage::build().payload(commit.body.clone());
        bus.context().send_publish(subject, message).await.unwrap().await.unwrap();
    }
}

async fn some_history(bus: &Bus, prefix: &str, count: i64) {
    let peer = Instance::start::<Peer>(bus, options("peer"));
    let ledger = Instance::start::<Ledger>(bus, JournalOptions { checkpoint_every: 4, ..options("ledger") });
    let before = everything(bus).await.sum("lock");
    for i in 0..count {
        let mut transfer = order("transfer", format!("{prefix}{i}"), 1);
        transfer.to = "peer".into();
        send(bus, AggregateKind::Run, vec![signal(&format!("{prefix}{i}"), "a", &transfer)]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until(bus, "all transferred", |all| all.sum("lock") == before + count).await;
    ledger.stop().await;
    peer.stop().await;
}

/// Fault: nats-server is killed while a projection reads. It goes on, and has every commit once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_survives_restarts_of_the_server() {
    let mut server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 2).await;
    let ledger = Instance::start::<Ledger>(&bus, options("ledger"));
    let _worker = FakeWorker::start(&bus).await;
    let mut reader = Reader::open(bus.clone(), "projection", Positions::new()).await.unwrap();
    let read = tokio::spawn(async move {
        let mut sequences = Vec::new();
        loop {
            let commit = reader.next().await.unwrap();
            sequences.push(commit.sequence);
            // Some acknowledgements are lost with the connection.
            commit.ack().await;
            if commit.commit.entries.iter().any(|entry| entry.aggregate_id == "end") {
                return sequences;
            }
        }
    });
    for round in 0..3 {
        for i in 0..30 {
            let key = format!("{round}.{i}");
            send(&bus, AggregateKind::Run, vec![signal(&key, &format!("a{i}"), &order("add", key.clone(), 1))]).await;
        }
        server.kill().unwrap();
        server.restart().await.unwrap();
    }
    until(&bus, "all", |all| all.sum("run") == 90).await;
    send(&bus, AggregateKind::Run, vec![signal("end", "end", &order("add", "end", 1))]).await;
    let sequences = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
    let expected: Vec<u64> = everything(&bus).await.commits.iter().map(|(sequence, _, _)| *sequence).collect();
    assert_eq!(sequences, expected[..sequences.len()]);
    ledger.stop().await;
}

/// Fault: one byte of an old commit has changed. Verify says where, a reader stops there, and no owner decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_commit_is_found_and_nobody_decides_on_it() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    some_history(&bus, "t", 10).await;
    assert!(verify(&bus).await.unwrap().is_whole());
    let (archived, _) = archive(&bus).await;
    let mut damaged = archived.clone();
    let victim = damaged.iter().position(|commit| commit.kind == AggregateKind::Run).unwrap() + 2;
    let kind = damaged[victim].kind;
    let mut commit = Commit::decode(damaged[victim].body.clone()).unwrap();
    commit.time_ms += 1;
    damaged[victim].body = commit.encode_to_vec().into();
    tamper(&bus, &damaged).await;

    let report = verify(&bus).await.unwrap();
    assert_eq!(report.breaks.len(), 1, "{report:?}");
    assert!(report.breaks[0].kind == kind && report.breaks[0].sequence > damaged[victim].sequence, "{report:?}");

    let mut reader = Reader::open(bus.clone(), "projection", Positions::new()).await.unwrap();
    let error = loop {
        match reader.next().await {
            Ok(commit) => commit.ack().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::WentBack { .. }) && error.to_string().contains("cdflow journal restore"), "{error}");
}

/// Fault: the file of the stream ends early, as one flipped bit on a single server makes it. The checkpoint and the
/// projection have seen more: verify tells, and neither goes on. The archive brings everything back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tail_stops_everything_until_the_archive_is_restored() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    some_history(&bus, "t", 25).await;
    let before = everything(&bus).await;
    let (archived, positions) = archive(&bus).await;
    let cut = archived.len() / 3;
    tamper(&bus, &archived[..cut]).await;

    let report = verify(&bus).await.unwrap();
    assert!(!report.is_whole() && report.breaks[0].reason.contains("a checkpoint has seen"), "{report:?}");
    assert!(verify_with(&bus, &positions).await.unwrap().breaks.len() > report.breaks.len());
    let projection = Reader::open(bus.clone(), "projection", positions.clone()).await.err().unwrap();
    assert!(matches!(projection, Error::WentBack { .. }), "{projection}");
    let owner = Instance::start::<Ledger>(&bus, options("ledger"));
    let stopped = tokio::time::timeout(Duration::from_secs(10), owner.serving).await.unwrap().unwrap().unwrap_err();
    assert!(stopped.to_string().starts_with("CDF-3001"), "{stopped}");

    let refused = restore(&bus, stream_of(&archived), false).await.unwrap_err();
    assert!(matches!(refused, Error::NotEmpty { .. }), "{refused}");
    let restored = restore(&bus, stream_of(&archived), true).await.unwrap();
    assert_eq!((restored.commits, restored.incarnation), (archived.len() as u64, 2));
    assert_eq!(restored.positions, positions);
    assert!(verify_with(&bus, &positions).await.unwrap().is_whole());
    assert_eq!(everything(&bus).await.commits, before.commits);

    // The projection goes on where it was, and so does the owner, with a higher incarnation.
    let mut reader = Reader::open(bus.clone(), "projection", positions).await.unwrap();
    let worker = FakeWorker::start(&bus).await;
    some_history(&bus, "after", 3).await;
    assert!(reader.next().await.unwrap().commit.incarnation == 2);
    let owner = Instance::start::<Ledger>(&bus, options("ledger"));
    send(&bus, AggregateKind::Run, vec![signal("w", "a", &order("work", "w", 0))]).await;
    until(&bus, "worked", |all| all.handled.keys().any(|id| id.starts_with("w-1"))).await;
    assert!(worker.done.lock().unwrap().iter().all(|(_, fence)| fence.incarnation == 2));
    owner.stop().await;
}

/// A restore checks the whole archive before it touches anything, and refuses while services run.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_cannot_succeed_changes_nothing() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    some_history(&bus, "t", 10).await;
    let (mut archived, _) = archive(&bus).await;
    let running = Instance::start::<Ledger>(&bus, options("running"));
    support::eventually("it runs", async || running.metrics.partitions.get() == 1).await;
    let refused = restore(&bus, stream_of(&archived), true).await.unwrap_err();
    assert!(matches!(&refused, Error::InUse { instances } if instances.contains("running")), "{refused}");
    running.stop().await;

    let gone = archived.remove(4);
    let refused = restore(&bus, stream_of(&archived), true).await.unwrap_err();
    assert!(matches!(refused, Error::Archive { sequence, .. } if sequence > gone.sequence), "{refused}");
    assert!(verify(&bus).await.unwrap().is_whole());
    assert_eq!(bus.read_installation().await.unwrap().incarnation, 1);
}

/// Fault: the machine dies in the middle of a restore. Nobody decides on half a journal; the next try completes it.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_is_completed_by_the_next() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    some_history(&bus, "t", 10).await;
    let (archived, positions) = archive(&bus).await;
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let broken = || {
        // The second reading, which writes, ends in the middle.
        let second = reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
        let end = if second { archived.len() / 2 } else { archived.len() };
        let mut commits: Vec<Result<ArchivedCommit, String>> = archived[..end].iter().cloned().map(Ok).collect();
        if second {
            commits.push(Err("the power went out".into()));
        }
        futures::stream::iter(commits)
    };
    restore(&bus, broken, true).await.unwrap_err();
    let owner = Instance::start::<Ledger>(&bus, options("early"));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(owner.metrics.takeovers.get(), 0);
    owner.stop().await;
    let restored = restore(&bus, stream_of(&archived), false).await.unwrap();
    assert_eq!(restored.incarnation, 3);
    assert!(verify_with(&bus, &positions).await.unwrap().is_whole());
}
