//! Deciding, sending and deduplicating on a real server.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use cdflow_protocol::AggregateKind;
use cdflow_testkit::{NatsServer, SyncMode};
use support::{FakeWorker, Instance, Ledger, Peer, installed, options, order, send, send_again, signal, until};

#[tokio::test(flavor = "multi_thread")]
async fn signals_tasks_and_transfers_take_effect_once_though_each_is_sent_twice() {
    let server = NatsServer::start(SyncMode::Always).await.unwrap();
    let bus = installed(&server, 4).await;
    let ledger = Instance::start::<Ledger>(&bus, options("a"));
    let peer = Instance::start::<Peer>(&bus, options("a"));
    let worker = FakeWorker::start(&bus).await;
    let mut signals = Vec::new();
    for i in 0..200 {
        let account = format!("account-{}", i % 20);
        let mut transfer = order("transfer", format!("t{i}"), 3);
        transfer.to = format!("peer-{}", i % 7);
        signals.push(signal(&format!("a{i}"), &account, &order("add", format!("a{i}"), 10)));
        signals.push(signal(&format!("t{i}"), &account, &transfer));
        signals.push(signal(&format!("w{i}"), &account, &order("work", format!("w{i}"), 0)));
    }
    send(&bus, AggregateKind::Run, signals.clone()).await;
    for signal in signals.iter().step_by(3) {
        send_again(&bus, AggregateKind::Run, vec![signal.clone()]).await;
    }
    let all = until(&bus, "all money is where it belongs", |all| {
        all.sum("run") == 200 * (10 - 3 + 1)
            && all.sum("lock") == 600
            && signals.iter().step_by(3).all(|s| all.handled.get(&s.id) == Some(&2))
    })
    .await;
    assert!(all.states.values().all(|state| state.tasks.is_empty()));
    let done: BTreeMap<_, _> = worker.done.lock().unwrap().iter().cloned().collect();
    assert_eq!(done.len(), 200);
    assert!(ledger.metrics.commits.get() < 400, "{} commits", ledger.metrics.commits.get());
    ledger.stop().await;
    peer.stop().await;
}
