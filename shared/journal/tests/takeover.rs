//! Owners that come, go, crash, and wake up late.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use cdflow_journal::{Crash, Error};
use cdflow_protocol::{AggregateKind, streams, v1::Task};
use cdflow_testkit::{NatsServer, SyncMode};
use prost::Message as _;
use support::{
    FakeWorker, Instance, Ledger, Peer, connect, eventually, everything, installed, options, order, send, signal, until,
};
use tokio::time::Instant;

/// Fault: an owner is killed. Its partition is taken over within three seconds, and what it had stored counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_is_replaced_within_three_seconds_of_the_default_leases() {
    let server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 1).await;
    let defaults = || cdflow_journal::JournalOptions::new("owner");
    let first = Instance::start::<Ledger>(&bus, defaults());
    send(&bus, AggregateKind::Run, vec![signal("1", "a", &order("add", "1", 5))]).await;
    until(&bus, "the first signal", |all| all.sum("run") == 5).await;
    let second = Instance::start::<Ledger>(&connect(&server.url()).await, defaults());
    eventually("both live", async || second.metrics.partitions.get() + first.metrics.partitions.get() == 1).await;
    let (owner, other) = if first.metrics.partitions.get() == 1 { (first, second) } else { (second, first) };
    let killed = Instant::now();
    owner.kill().await;
    send(&bus, AggregateKind::Run, vec![signal("2", "a", &order("add", "2", 7))]).await;
    until(&bus, "the second signal", |all| all.sum("run") == 12).await;
    assert!(killed.elapsed() < Duration::from_secs(3), "took {:?}", killed.elapsed());
    assert_eq!(other.metrics.takeovers.get(), 1);
    other.stop().await;
}

/// Stopping in order hands over without waiting for a lease to run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_owner_hands_over_at_once() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 4).await;
    let slow = |name: &str| cdflow_journal::JournalOptions { lease: Duration::from_secs(60), ..options(name) };
    let first = Instance::start::<Ledger>(&bus, slow("first"));
    eventually("the first owns all", async || first.metrics.partitions.get() == 4).await;
    let second = Instance::start::<Ledger>(&bus, slow("second"));
    // Rendezvous hashing decides who owns what; whatever it is, after the stop the second owns all.
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.stop().await;
    let stopped = Instant::now();
    eventually("the second owns all", async || second.metrics.partitions.get() == 4).await;
    assert!(stopped.elapsed() < Duration::from_secs(2), "took {:?}", stopped.elapsed());
    second.stop().await;
}

/// Partitions are shared: several instances own different ones, and signals to all of them take effect once.
#[tokio::test(flavor = "multi_thread")]
async fn instances_share_the_partitions_while_they_come_and_go() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 8).await;
    let mut instances = vec![Instance::start::<Ledger>(&bus, options("i0"))];
    let mut expected = 0;
    for round in 0..6 {
        let signals = (0..100)
            .map(|i| signal(&format!("{round}.{i}"), &format!("a{i}"), &order("add", format!("{round}.{i}"), 1)))
            .collect();
        send(&bus, AggregateKind::Run, signals).await;
        expected += 100;
        match round % 3 {
            0 => instances.push(Instance::start::<Ledger>(&connect(&server.url()).await, options("in"))),
            1 => instances.push(Instance::start::<Ledger>(&bus, options("im"))),
            _ => instances.remove(0).kill().await,
        }
    }
    until(&bus, "every signal took effect once", |all| all.sum("run") == expected).await;
    eventually("all partitions have one owner", async || {
        instances.iter().map(|instance| instance.metrics.partitions.get()).sum::<u64>() == 8
    })
    .await;
    for instance in instances {
        instance.stop().await;
    }
}

/// Fault: an owner is paused beyond its lease, another takes over, the first wakes with decisions that it has not stored:
/// its append is refused, it drops the partition, and nothing of it takes effect twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_wakes_after_its_lease_is_fenced() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    // The paused owner runs on a runtime of its own, whose only thread is blocked.
    let url = server.url();
    let (block, blocked) = std::sync::mpsc::channel::<Duration>();
    let (started, wait) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bus = connect(&url).await;
            // It looks at leases so rarely that only the append can tell it.
            let unaware = cdflow_journal::JournalOptions { renew: Duration::from_secs(30), ..options("sleepy") };
            let sleepy = Instance::start::<Ledger>(&bus, unaware);
            eventually("owned", async || sleepy.metrics.partitions.get() == 1).await;
            send(&bus, AggregateKind::Run, vec![signal("0", "a", &order("add", "0", 1))]).await;
            eventually("decided", async || sleepy.metrics.signals.get() == 1).await;
            started.send(()).unwrap();
            // While this thread waits, nothing of the instance runs, as if the process were stopped.
            let pause = blocked.recv().unwrap();
            std::thread::sleep(pause);
            eventually("the wakened owner lost it", async || sleepy.metrics.partitions.get() == 0).await;
            let fenced = sleepy.metrics.fenced.get();
            sleepy.stop().await;
            fenced
        })
    });
    wait.await.unwrap();
    block.send(Duration::from_secs(6)).unwrap();
    let signals = (1..50).map(|i| signal(&i.to_string(), "a", &order("add", i.to_string(), 1))).collect();
    send(&bus, AggregateKind::Run, signals).await;
    let awake = Instance::start::<Ledger>(&bus, options("awake"));
    until(&bus, "the second owner decided all", |all| all.sum("run") == 50).await;
    assert_eq!(thread.join().unwrap(), 1, "the append of the wakened owner was refused");
    awake.stop().await;
    assert_eq!(everything(&bus).await.sum("run"), 50);
}

/// Fault: the owner crashes at each step of a commit's life; the next owner finishes what was begun. Every signal takes
/// effect once, every effect arrives, every task is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_of_a_commit_loses_and_doubles_nothing() {
    let server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 1).await;
    let peer = Instance::start::<Peer>(&bus, options("peer"));
    let worker = FakeWorker::start(&bus).await;
    let mut expected = 0;
    let mut round = 0;
    for point in [
        Crash::BeforeAppend,
        Crash::AfterAppend,
        Crash::AfterDispatch,
        Crash::BeforeAck,
        Crash::InTakeover,
        Crash::InCheckpoint,
    ] {
        for nth in [1, 2, 3] {
            round += 1;
            let mut crashing = options("crashing");
            crashing.checkpoint_every = 2;
            crashing.failpoints.arm(point, if point == Crash::InTakeover { 1 } else { nth });
            let owner = Instance::start::<Ledger>(&bus, crashing);
            // Message by message until the crash, so that there are several commits.
            let mut i = 0;
            while !owner.serving.is_finished() {
                assert!(i < 300, "{point:?} {nth} was never reached");
                let key = format!("{round}.{i}");
                let mut transfer = order("transfer", key.clone(), 2);
                transfer.to = "peer".into();
                send(&bus, AggregateKind::Run, vec![signal(&format!("t{key}"), "a", &transfer)]).await;
                send(&bus, AggregateKind::Run, vec![signal(&format!("w{key}"), "a", &order("work", key, 0))]).await;
                i += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            expected += i;
            let crashed = owner.serving.await;
            assert!(matches!(&crashed, Ok(Err(Error::Crashed(at))) if *at == point), "{point:?} {nth}: {crashed:?}");
        }
    }
    let last = Instance::start::<Ledger>(&bus, options("last"));
    let all = until(&bus, "everything has happened once", |all| {
        all.sum("lock") == 2 * expected
            && all.sum("run") == expected - 2 * expected
            && all.states.values().all(|s| s.tasks.is_empty())
    })
    .await;
    assert!(all.refused.is_empty(), "{:?}", all.refused);
    let mut tasks: Vec<_> = worker.done.lock().unwrap().iter().map(|(task, _)| task.clone()).collect();
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len() as i64, expected);
    assert!(cdflow_journal::verify(&bus).await.unwrap().is_whole());
    // Rule 3: the journal is told that everything has gone out, though nothing else happens.
    until(&bus, "the dispatch is recorded", |all| {
        let ours = || all.commits.iter().filter(|(_, subject, _)| subject == "cdflow.journal.run.0");
        let with_effects = ours().rfind(|(_, _, commit)| commit.entries.iter().any(|entry| !entry.effects.is_empty()));
        let recorded = ours().map(|(_, _, commit)| commit.dispatched_through).max();
        recorded >= with_effects.map(|(sequence, _, _)| *sequence)
    })
    .await;
    last.stop().await;
    peer.stop().await;
}

/// Fault: the owner stores a decision and dies before its task leaves. The next owner sends it, in a commit of its own:
/// whatever the former owner might still send when it wakes has a lower fence, and a target refuses it (rule 6).
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_dispatched_again_has_a_higher_fence() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let crashing = options("crashing");
    crashing.failpoints.arm(Crash::AfterAppend, 1);
    let owner = Instance::start::<Ledger>(&bus, crashing);
    send(&bus, AggregateKind::Run, vec![signal("w", "a", &order("work", "w", 0))]).await;
    assert!(matches!(owner.serving.await.unwrap(), Err(Error::Crashed(Crash::AfterAppend))));
    let decided = everything(&bus).await.commits.last().unwrap().0;
    let worker = FakeWorker::start(&bus).await;
    let next = Instance::start::<Ledger>(&bus, options("next"));
    until(&bus, "done", |all| all.sum("run") == 1).await;
    let done = worker.done.lock().unwrap().clone();
    assert!(done.len() == 1 && done[0].0 == "w-1" && done[0].1.sequence > decided, "{done:?} after {decided}");
    next.stop().await;
}

/// Fault: the owner dies right after its task has left, and TASKS is lost with it: the script may be running somewhere,
/// and nothing knows of it any more. The task goes again, marked, so that nobody takes it for the first sending.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_may_have_been_begun_is_marked_when_it_is_sent_again() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let crashing = options("crashing");
    crashing.failpoints.arm(Crash::AfterDispatch, 1);
    let owner = Instance::start::<Ledger>(&bus, crashing);
    send(&bus, AggregateKind::Run, vec![signal("w", "a", &order("work", "w", 0))]).await;
    assert!(matches!(owner.serving.await.unwrap(), Err(Error::Crashed(Crash::AfterDispatch))));
    let sent = async || {
        let tasks = bus.context().get_stream(streams::TASKS).await.ok()?;
        let message = tasks.get_last_raw_message_by_subject("cdflow.task.*.*.w-1").await.ok()?;
        Some(Task::decode(message.payload).unwrap())
    };
    assert!(!sent().await.expect("it has left").resent, "the first sending");

    bus.context().delete_stream(streams::TASKS).await.unwrap();
    let next = Instance::start::<Ledger>(&bus, options("next"));
    eventually("sent again", async || sent().await.is_some_and(|task| task.resent)).await;
    let worker = FakeWorker::start(&bus).await;
    until(&bus, "done", |all| all.sum("run") == 1).await;
    assert_eq!(worker.done.lock().unwrap().len(), 1);
    next.stop().await;
}
