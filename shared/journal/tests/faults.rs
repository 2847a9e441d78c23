//! What the server does to an owner.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use cdflow_protocol::{AggregateKind, streams};
use cdflow_testkit::{NatsServer, SyncMode};
use support::{
    FakeWorker, Instance, Ledger, Peer, connect, eventually, everything, installed, options, order, proxy::Proxy, send,
    signal, until,
};

fn transfers(round: usize, count: usize) -> Vec<cdflow_protocol::v1::Signal> {
    let transfer = |i: usize| {
        let mut transfer = order("transfer", format!("{round}.{i}"), 1);
        transfer.to = format!("peer-{}", i % 5);
        signal(&format!("t{round}.{i}"), &format!("account-{}", i % 10), &transfer)
    };
    let work = |i: usize| {
        signal(&format!("w{round}.{i}"), &format!("account-{}", i % 10), &order("work", format!("{round}.{i}"), 0))
    };
    (0..count).flat_map(|i| [transfer(i), work(i)]).collect()
}

/// Fault: nats-server is killed again and again while signals are decided, tasks done and transfers sent. TASKS and
/// LEASES live in memory and come back empty each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_loses_no_signal_transfer_or_task() {
    let mut server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 2).await;
    let ledger = Instance::start::<Ledger>(&bus, options("ledger"));
    let peer = Instance::start::<Peer>(&connect(&server.url()).await, options("peer"));
    let worker = FakeWorker::start(&connect(&server.url()).await).await;
    let outside = connect(&server.url()).await;
    let sender = tokio::spawn(async move {
        for round in 0..40 {
            for chunk in transfers(round, 5).chunks(2) {
                send(&outside, AggregateKind::Run, chunk.to_vec()).await;
            }
        }
    });
    for pause in [300, 700, 500, 900] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.kill().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.restart().await.unwrap();
    }
    sender.await.unwrap();
    let all = until(&bus, "every transfer and task has happened once", |all| {
        all.sum("lock") == 200 && all.sum("run") == 0 && all.states.values().all(|state| state.tasks.is_empty())
    })
    .await;
    assert!(all.refused.is_empty(), "{:?}", all.refused);
    assert!(worker.done.lock().unwrap().len() >= 200);
    assert!(cdflow_journal::verify(&bus).await.unwrap().is_whole());
    ledger.stop().await;
    peer.stop().await;
}

/// Fault: the server stands still for longer than an append waits, so the answer to a stored append is lost. The same
/// bytes are sent again and recognised, nothing is stored twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_was_lost_in_a_stalled_server_is_stored_once() {
    let server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 1).await;
    let ledger = Instance::start::<Ledger>(&bus, options("ledger"));
    for round in 0..2 {
        let signals = (0..20).map(|i| signal(&format!("{round}.{i}"), "a", &order("add", format!("{round}.{i}"), 1)));
        for signal in signals {
            send(&bus, AggregateKind::Run, vec![signal]).await;
        }
        server.pause(Duration::from_millis(2_600)).await.unwrap();
    }
    let all = until(&bus, "all added", |all| all.sum("run") == 40).await;
    assert!(all.handled.values().all(|&times| times == 1), "{:?}", all.handled);
    ledger.stop().await;
}

/// Fault: the network swallows everything that the server answers, though it has stored the append. On 2.12 and later
/// the repetition is refused as a conflict (10071): the tail shows that it is ours.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_was_swallowed_by_the_network_counts_as_stored() {
    let server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 1).await;
    let proxy = Proxy::start(&server.url()).await;
    let ledger = Instance::start::<Ledger>(&connect(&proxy.url()).await, options("behind-the-proxy"));
    send(&bus, AggregateKind::Run, vec![signal("1", "a", &order("add", "1", 1))]).await;
    until(&bus, "the first", |all| all.sum("run") == 1).await;

    // From the next append on, the server hears the owner, and the owner hears nothing.
    proxy.swallow_answers_after("cdflow.journal.run.0");
    send(&bus, AggregateKind::Run, vec![signal("2", "a", &order("add", "2", 1))]).await;
    until(&bus, "the second is stored", |all| all.sum("run") == 2).await;
    send(&bus, AggregateKind::Run, vec![signal("3", "a", &order("add", "3", 1))]).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    proxy.pass_everything();
    proxy.cut();
    let all = until(&bus, "all three", |all| all.sum("run") == 3).await;
    assert_eq!(all.state("run", "a").seen.len(), 3);
    assert!(ledger.metrics.appends_repeated.get() > 0);
    assert_eq!(ledger.metrics.takeovers.get(), 1, "the owner never lost the partition");
    ledger.stop().await;
}

/// Fault: the same, cut by cut, under load.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_at_any_moment_lose_and_double_nothing() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 2).await;
    let proxy = Proxy::start(&server.url()).await;
    let ledger = Instance::start::<Ledger>(&connect(&proxy.url()).await, options("behind-the-proxy"));
    let peer = Instance::start::<Peer>(&bus, options("peer"));
    let _worker = FakeWorker::start(&bus).await;
    for round in 0..12 {
        send(&bus, AggregateKind::Run, transfers(round, 10)).await;
        tokio::time::sleep(Duration::from_millis(37 * (round as u64 % 4))).await;
        proxy.cut();
    }
    until(&bus, "every transfer and task has happened once", |all| {
        all.sum("lock") == 120 && all.sum("run") == 0 && all.states.values().all(|state| state.tasks.is_empty())
    })
    .await;
    ledger.stop().await;
    peer.stop().await;
}

/// Fault: TASKS is wiped while tasks wait in it and nobody holds them. Each comes back as `TaskLost`, once a worker lease
/// of silence has passed, and its new attempt has a higher fence.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_vanish_from_tasks_are_noticed() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let ledger = Instance::start::<Ledger>(&bus, options("ledger"));
    let signals = (0..10).map(|i| signal(&format!("w{i}"), "a", &order("work", format!("w{i}"), 0))).collect();
    send(&bus, AggregateKind::Run, signals).await;
    let tasks = bus.context().get_stream(streams::TASKS).await.unwrap();
    eventually("all tasks wait", async || tasks.get_info().await.unwrap().state.messages == 10).await;
    let before = everything(&bus).await.commits.last().unwrap().0;
    tasks.purge().await.unwrap();
    eventually("all tasks are sent again", async || tasks.get_info().await.unwrap().state.messages == 10).await;
    assert_eq!(ledger.metrics.tasks_lost.get(), 10);
    let worker = FakeWorker::start(&bus).await;
    until(&bus, "all done", |all| all.sum("run") == 10).await;
    for (task, fence) in worker.done.lock().unwrap().iter() {
        assert!(task.ends_with("-2") && fence.sequence > before, "{task} {fence:?}");
    }
    ledger.stop().await;
}

/// Fault: TASKS is lost and made anew, unnoticed by an owner that has listened for long. Whoever held a task of the TASKS
/// before may be silent and still within its lease: nothing is called lost before the new TASKS is a lease old.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_lost_while_tasks_is_younger_than_a_worker_lease() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let ledger = Instance::start::<Ledger>(&bus, options("ledger"));
    send(&bus, AggregateKind::Run, vec![signal("w", "a", &order("work", "w", 0))]).await;
    let sent = async || bus.ensure_tasks().await.unwrap().get_info().await.unwrap().state.messages == 1;
    eventually("the task waits", sent).await;
    // By now nobody has announced it for more than a lease.
    tokio::time::sleep(Duration::from_secs(3)).await;
    bus.context().delete_stream(streams::TASKS).await.unwrap();
    let created = bus.ensure_tasks().await.unwrap().cached_info().created.unix_timestamp_nanos();
    eventually("it is sent again", sent).await;
    assert_eq!(ledger.metrics.tasks_lost.get(), 1);
    let last = everything(&bus).await.commits.last().unwrap().2.time_ms;
    assert!(i128::from(last) >= created / 1_000_000 + 2_000, "decided at {last}, TASKS is of {created}");
    ledger.stop().await;
}

/// A task that waits in TASKS, or that a worker announces, is not lost, however long it takes.
#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_wait_are_left_alone() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let ledger = Instance::start::<Ledger>(&bus, options("ledger"));
    send(&bus, AggregateKind::Run, vec![signal("w", "a", &order("work", "w", 0))]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(ledger.metrics.tasks_lost.get(), 0);
    assert_eq!(ledger.metrics.outstanding.get(), 1);
    ledger.stop().await;
}
