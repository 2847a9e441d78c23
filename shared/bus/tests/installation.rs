//! An installation on a real server.
#![allow(clippy::unwrap_used)]

use cdflow_bus::{Bus, Error, NewInstallation, Options, install};
use cdflow_protocol::{AggregateKind, PartitionCount, v1::Signal};
use cdflow_testkit::{NatsServer, SyncMode};

#[tokio::test]
async fn installing_twice_changes_nothing_and_another_partition_count_is_refused() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let options = Options::new(server.url(), "test");
    assert!(matches!(Bus::connect(&options).await, Err(Error::NotInstalled { .. })));

    let first = install(&options, &NewInstallation::default()).await.unwrap();
    assert_eq!(install(&options, &NewInstallation::default()).await.unwrap(), first);

    let other = NewInstallation { partitions: PartitionCount::new(4).unwrap(), ..Default::default() };
    assert!(matches!(install(&options, &other).await, Err(Error::Mismatch { .. })));
}

#[tokio::test]
async fn signals_survive_a_killed_server_and_are_stored_once() {
    let mut server = NatsServer::start(SyncMode::Always).await.unwrap();
    let options = Options::new(server.url(), "test");
    install(&options, &NewInstallation::default()).await.unwrap();
    let bus = Bus::connect(&options).await.unwrap();
    let signal = Signal { id: "a".into(), aggregate_id: "run".into(), ..Default::default() };
    bus.send_signals(AggregateKind::Run, vec![signal.clone()]).await.unwrap();

    server.kill().unwrap();
    let (again, restarted) =
        tokio::join!(bus.send_signals(AggregateKind::Run, vec![signal]), async { server.restart().await });
    restarted.unwrap();
    again.unwrap();

    let mut stream = bus.context().get_stream("SIGNALS").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test]
async fn configuration_is_replaced_only_from_the_revision_that_was_read() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let options = Options::new(server.url(), "test");
    install(&options, &NewInstallation::default()).await.unwrap();
    let store = Bus::connect(&options).await.unwrap().configuration().await.unwrap();
    assert_eq!(store.load("default").await.unwrap(), None);
    let first = store.replace("default", 0, "one".into()).await.unwrap();
    let second = store.replace("default", first, "two".into()).await.unwrap();
    assert!(matches!(store.replace("default", first, "late".into()).await, Err(Error::Conflict { .. })));
    assert_eq!(store.load("default").await.unwrap(), Some((second, "two".into())));
}

#[tokio::test]
async fn input_from_outside_is_refused_before_services_are() {
    let server = NatsServer::start(SyncMode::Default).await.expect("a server");
    let options = Options::new(server.url(), "test");
    install(&options, &NewInstallation { max_bytes: 1_000_000, ..Default::default() }).await.expect("installed");
    let bus = Bus::connect(&options).await.expect("connected");
    let signal = |id: usize| Signal { id: id.to_string(), payload: vec![1; 5_000], ..Default::default() };
    bus.send_outside_signals(AggregateKind::Run, vec![signal(0)]).await.expect("there is room");
    for id in 1..17 {
        bus.send_signals(AggregateKind::Run, vec![signal(id)]).await.expect("below 100,000 bytes");
    }
    // What was seen last counts for two seconds; another connection looks for itself.
    let outside = Bus::connect(&options).await.expect("connected");
    let refused = outside.send_outside_signals(AggregateKind::Run, vec![signal(17)]).await;
    assert!(matches!(refused, Err(Error::Full { stream: "SIGNALS" })), "{refused:?}");
    bus.send_signals(AggregateKind::Run, vec![signal(18)]).await.expect("services go on");
}
