//! Checkpoints, finished aggregates, and aggregates that go wrong.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::{message::PublishMessage, stream};
use cdflow_journal::{Aggregate, Decision, Input, JournalOptions, Observer, Positions, Reader, StoredEntry, trim};
use cdflow_protocol::{
    AggregateKind, UnixMillis, streams, subjects,
    v1::{Refusal, Signal},
};
use cdflow_testkit::{NatsServer, SyncMode};
use support::{
    Instance, Ledger, Move, eventually, everything, installed, options, order, send, send_again, signal, until,
};

fn often(name: &str) -> JournalOptions {
    JournalOptions { checkpoint_every: 5, ..options(name) }
}

/// Keeps the newest state of each aggregate that the journal has told of.
#[derive(Default)]
struct States(Mutex<std::collections::BTreeMap<String, support::State>>);

impl Observer<Ledger> for States {
    fn stored(&self, entry: &StoredEntry<'_, Ledger>) {
        self.0.lock().unwrap().insert(entry.aggregate_id.to_owned(), entry.state.0.clone());
    }
}

/// Fault: the owner is killed again and again between checkpoints. What it knows after each takeover, from a checkpoint
/// and the tail, is what a fold of the whole journal gives.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_and_the_tail_are_the_full_fold() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    for round in 0..4 {
        let states = Arc::new(States::default());
        let owner = Instance::observed::<Ledger>(&bus, often("owner"), states.clone());
        eventually("owned", async || owner.metrics.partitions.get() == 1).await;
        for i in 0..23 {
            let signal = signal(
                &format!("{round}.{i}"),
                &format!("account-{}", i % 6),
                &order("add", format!("{round}.{i}"), 1),
            );
            send(&bus, AggregateKind::Run, vec![signal]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all = until(&bus, "the round", |all| all.sum("run") == (round + 1) * 23).await;
        eventually("all are told", async || {
            states.0.lock().unwrap().iter().all(|(id, state)| *state == all.state("run", id))
        })
        .await;
        eventually("checkpoints", async || owner.metrics.checkpoints.get() > 0).await;
        owner.kill().await;
    }
}

/// Rule 19: a finished aggregate leaves memory, at first in compact form, then to the object store. A late signal finds it
/// all the same, also after a takeover.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_aggregate_is_remembered_for_ever() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let owner = Instance::start::<Ledger>(&bus, often("first"));
    eventually("owned", async || owner.metrics.partitions.get() == 1).await;
    let mut signals = Vec::new();
    for i in 0..30 {
        let account = format!("account-{i}");
        signals.push(signal(&format!("a{i}"), &account, &order("add", "a", 1)));
        signals.push(signal(&format!("c{i}"), &account, &order("close", "c", 0)));
    }
    for two in signals.chunks(2) {
        send(&bus, AggregateKind::Run, two.to_vec()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until(&bus, "all closed", |all| all.states.len() == 30 && all.states.values().all(|state| state.closed)).await;
    eventually("all have left memory", async || owner.metrics.live.get() == 0).await;
    eventually("a checkpoint has them", async || owner.metrics.checkpoints.get() >= 2).await;
    owner.kill().await;
    let next = Instance::start::<Ledger>(&bus, often("second"));
    let late = |i: usize| signal(&format!("late{i}"), &format!("account-{i}"), &order("add", "late", 5));
    send(&bus, AggregateKind::Run, (0..30).map(late).collect()).await;
    let all = until(&bus, "all late signals are refused", |all| all.refused.len() == 30).await;
    assert!(all.refused.values().all(|refusal| refusal.code == "closed"), "{:?}", all.refused);
    assert_eq!(all.sum("run"), 30);
    next.stop().await;
}

/// Rule 12: signals that cannot be decoded, that make `decide` panic, whose events cannot be applied, or that are too large
/// to store are journaled as refused, kept, and acknowledged; their neighbours go on.
#[tokio::test(flavor = "multi_thread")]
async fn poison_is_refused_and_kept_and_its_neighbours_go_on() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let owner = Instance::start::<Ledger>(&bus, options("owner"));
    let garbage =
        Signal { id: "garbage".into(), aggregate_id: "a".into(), payload: vec![0xff; 9], ..Signal::default() };
    let signals = vec![
        signal("1", "a", &order("add", "1", 1)),
        garbage,
        signal("panic", "a", &order("panic", "p", 0)),
        signal("apply", "a", &order("panic-apply", "q", 0)),
        signal("huge", "a", &order("huge", "h", 700_000)),
        signal("refuse", "a", &order("refuse", "r", 0)),
        signal("2", "a", &order("add", "2", 1)),
    ];
    send(&bus, AggregateKind::Run, signals).await;
    let subject = subjects::signal(AggregateKind::Run, 0);
    bus.publish_stored(streams::SIGNALS, &subject, "not-a-batch", "", vec![0xff; 20].into()).await.unwrap();
    let all = until(&bus, "all are dealt with", |all| all.handled.len() == 8).await;
    assert_eq!(all.state("run", "a").sum, 2);
    let codes: Vec<_> = all.refused.iter().map(|(id, refusal)| (id.as_str(), refusal.code.as_str())).collect();
    assert!(
        codes.starts_with(&[("apply", "panicked"), ("garbage", "undecodable"), ("huge", "too-large")]),
        "{codes:?}"
    );
    assert!(codes.ends_with(&[("panic", "panicked"), ("refuse", "no")]), "{codes:?}");
    let dead = bus.context().get_stream(streams::DEAD).await.unwrap();
    eventually("the poison is kept", async || dead.get_info().await.unwrap().state.messages == 5).await;
    let queue = bus.context().get_stream(streams::SIGNALS).await.unwrap();
    eventually("nothing waits", async || queue.get_info().await.unwrap().state.messages == 0).await;
    owner.stop().await;
}

/// Rule 12: a signal of a newer version waits for a release that knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_of_a_newer_version_is_delayed_and_never_dropped() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let owner = Instance::start::<Ledger>(&bus, options("owner"));
    let newer = Signal { version: 2, ..signal("newer", "a", &order("add", "newer", 100)) };
    send(&bus, AggregateKind::Run, vec![signal("1", "a", &order("add", "1", 1)), newer]).await;
    until(&bus, "the old one", |all| all.sum("run") == 1).await;
    eventually("the newer one was delayed", async || owner.metrics.delayed.get() > 0).await;
    let queue = bus.context().get_stream(streams::SIGNALS).await.unwrap();
    assert_eq!(queue.get_info().await.unwrap().state.messages, 1);
    assert!(!everything(&bus).await.handled.contains_key("newer"));
    owner.stop().await;
}

macro_rules! variant {
    ($name:ident, $($constant:ident = $value:expr),*; $forget:expr) => {
        /// A ledger of another release.
        #[derive(Clone, Default)]
        struct $name(Ledger);

        impl Aggregate for $name {
            const KIND: AggregateKind = AggregateKind::Run;
            $(const $constant: u32 = $value;)*
            type Signal = Move;
            type Event = Move;

            fn decide(&self, id: &str, input: Input<Move>, now: UnixMillis) -> Result<Decision<Move>, Refusal> {
                self.0.decide(id, input, now)
            }
            fn apply(&mut self, event: &Move) {
                assert!(event.key != $forget, "this release cannot apply it");
                self.0.apply(event);
            }
            fn deadline(&self) -> Option<UnixMillis> {
                self.0.deadline()
            }
            fn outstanding_tasks(&self) -> Vec<String> {
                self.0.outstanding_tasks()
            }
            fn is_finished(&self) -> bool {
                self.0.is_finished()
            }
            fn checkpoint(&self) -> Vec<u8> {
                self.0.checkpoint()
            }
            fn restore(state: &[u8]) -> Result<Self, String> {
                Ledger::restore(state).map(Self)
            }
        }
    };
}

variant!(Newer, SIGNAL_VERSION = 2, READER_VERSION = 2, MIN_READER = 2; "");
variant!(Forgetful, SIGNAL_VERSION = 1; "bad");

/// Rule 15: an owner that is too old for what a newer release has stored gives the lease back, and the newer one gets it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_too_old_leaves_the_partition_to_a_newer_one() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 2).await;
    let newer = Instance::start::<Newer>(&bus, options("newer"));
    let signals = (0..20).map(|i| signal(&i.to_string(), &format!("a{i}"), &order("add", "x", 1)));
    send(&bus, AggregateKind::Run, signals.collect()).await;
    until(&bus, "decided by the newer release", |all| all.sum("run") == 20).await;
    newer.stop().await;
    let older = Instance::start::<Ledger>(&bus, options("older"));
    tokio::time::sleep(Duration::from_millis(800)).await;
    send(
        &bus,
        AggregateKind::Run,
        (20..40).map(|i| signal(&i.to_string(), &format!("a{i}"), &order("add", "x", 1))).collect(),
    )
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(everything(&bus).await.sum("run"), 20);
    let newer = Instance::start::<Newer>(&bus, options("newer"));
    until(&bus, "decided when the newer release is back", |all| all.sum("run") == 40).await;
    older.stop().await;
    newer.stop().await;
}

/// Rule 12: when stored events of one aggregate cannot be applied, that one is quarantined: its signals are refused
/// visibly, no checkpoint forgets its events, and a release that can apply them has everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_apply_quarantines_that_aggregate_alone() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let good = Instance::start::<Ledger>(&bus, options("good"));
    let signals = vec![
        signal("1", "sick", &order("add", "ok", 1)),
        signal("2", "sick", &order("add", "bad", 2)),
        signal("3", "well", &order("add", "ok", 3)),
    ];
    send(&bus, AggregateKind::Run, signals).await;
    until(&bus, "stored", |all| all.sum("run") == 6).await;
    good.stop().await;

    let bad = Instance::start::<Forgetful>(&bus, JournalOptions { checkpoint_every: 1, ..options("bad") });
    send(
        &bus,
        AggregateKind::Run,
        vec![signal("4", "sick", &order("add", "4", 4)), signal("5", "well", &order("add", "5", 5))],
    )
    .await;
    let all = until(&bus, "dealt with", |all| all.handled.len() == 5).await;
    assert_eq!(all.refused["4"].code, "quarantined");
    assert_eq!((all.state("run", "sick").sum, all.state("run", "well").sum), (3, 8));
    eventually("it is counted", async || bad.metrics.quarantined.get() == 1).await;
    assert_eq!(bad.metrics.checkpoints.get(), 0);
    bad.stop().await;

    let fixed = Instance::start::<Ledger>(&bus, options("fixed"));
    send(&bus, AggregateKind::Run, vec![signal("6", "sick", &order("add", "6", 6))]).await;
    until(&bus, "the fixed release goes on", |all| all.state("run", "sick").sum == 9).await;
    fixed.stop().await;
}

/// Rule 16: while nobody owned the partition, a signal came in time and the deadline passed. The signal counts first.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_waited_is_decided_before_the_tick_that_is_due() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let owner = Instance::start::<Ledger>(&bus, options("first"));
    let soon = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis())
        .unwrap()
        + 1_500;
    send(&bus, AggregateKind::Run, vec![signal("1", "a", &order("deadline", "1", soon))]).await;
    until(&bus, "armed", |all| all.state("run", "a").deadline.is_some()).await;
    owner.kill().await;
    send(&bus, AggregateKind::Run, vec![signal("2", "a", &order("add", "2", 1))]).await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let next = Instance::start::<Ledger>(&bus, options("second"));
    let all = until(&bus, "ticked", |all| all.state("run", "a").ticks == 1).await;
    let what: Vec<String> = all
        .commits
        .iter()
        .flat_map(|(_, _, commit)| &commit.entries)
        .flat_map(|entry| &entry.events)
        .map(|event| <Move as prost::Message>::decode(event.as_slice()).unwrap().what)
        .collect();
    assert_eq!(what, ["deadline", "add", "ticked"]);
    assert!(all.commits.iter().map(|(_, _, commit)| commit.time_ms).is_sorted(), "partition time goes back");
    next.stop().await;
}

/// Plain messages get lost: a worker is asked to stop a task until the task has ended, also by the next owner.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_repeated_until_the_task_has_ended() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let owner = Instance::start::<Ledger>(&bus, often("first"));
    // No worker takes the task.
    let mut cancels = bus.client().subscribe(subjects::cancellations("executor", "default")).await.unwrap();
    send(
        &bus,
        AggregateKind::Run,
        vec![signal("1", "a", &order("work", "w", 0)), signal("2", "a", &order("cancel", "w-1", 0))],
    )
    .await;
    let heard = async |cancels: &mut async_nats::Subscriber| {
        tokio::time::timeout(Duration::from_secs(5), futures::StreamExt::next(cancels)).await.is_ok()
    };
    for _ in 0..3 {
        assert!(heard(&mut cancels).await, "asked again");
    }
    owner.kill().await;
    let next = Instance::start::<Ledger>(&bus, often("second"));
    for _ in 0..3 {
        assert!(heard(&mut cancels).await, "asked again by the next owner");
    }
    send(&bus, AggregateKind::Run, vec![signal("3", "a", &order("done", "w-1", 0))]).await;
    until(&bus, "done", |all| all.sum("run") == 1).await;
    eventually("nobody asks any more", async || {
        tokio::time::timeout(Duration::from_millis(2_500), futures::StreamExt::next(&mut cancels)).await.is_err()
    })
    .await;
    next.stop().await;
}

/// Rule 14: trimming keeps what the older checkpoint and the archive need; a new owner goes on from a checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_journal_is_taken_over_from_its_checkpoint() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let owner = Instance::start::<Ledger>(&bus, often("first"));
    eventually("owned", async || owner.metrics.partitions.get() == 1).await;
    for i in 0..40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        send(&bus, AggregateKind::Run, vec![signal(&i.to_string(), "a", &order("add", i.to_string(), 1))]).await;
    }
    until(&bus, "all", |all| all.sum("run") == 40).await;
    eventually("two checkpoints", async || owner.metrics.checkpoints.get() >= 2).await;
    let mut reader = Reader::open(bus.clone(), "archive", Positions::new()).await.unwrap();
    assert_eq!(trim(&bus, reader.positions(), 0).await.unwrap().commits, 0, "nothing is archived yet");
    let all = everything(&bus).await;
    for _ in &all.commits {
        reader.next().await.unwrap().ack().await;
    }
    assert_eq!(trim(&bus, reader.positions(), 1_000).await.unwrap().commits, 0, "they are to be kept");
    let behind = Reader::open(bus.clone(), "behind", Positions::new()).await.unwrap();
    let behind = begun(behind).await;
    assert_eq!(trim(&bus, reader.positions(), 0).await.unwrap().commits, 0, "somebody still reads them");
    drop(behind);
    eventually("it is gone", async || trim(&bus, reader.positions(), 0).await.unwrap().commits > 10).await;
    owner.kill().await;
    let next = Instance::start::<Ledger>(&bus, often("second"));
    // A repeated signal shows that the state is there: it changes nothing.
    send_again(&bus, AggregateKind::Run, vec![signal("0", "a", &order("add", "0", 1))]).await;
    send(&bus, AggregateKind::Run, vec![signal("new", "a", &order("add", "new", 1))]).await;
    let all = until(&bus, "decided after the trim", |all| all.handled.contains_key("new")).await;
    assert!(all.commits[0].2.previous_sequence > 0);
    let last = reader_to_the_end(&mut reader).await;
    assert!(last > all.commits[0].0);
    next.stop().await;
    let report = cdflow_journal::verify_with(&bus, reader.positions()).await.unwrap();
    assert!(report.is_whole() && report.partitions[0].trimmed, "{report:?}");
}

/// A reader that has a commit in hand and has not acknowledged it.
async fn begun(mut reader: Reader) -> Reader {
    reader.next().await.unwrap();
    reader
}

/// JOURNAL is full: that is said and counted, a trim makes room, though commits were to be kept, and the owner goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_is_visible_and_a_trim_makes_room() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let journal = bus.context().get_stream(streams::JOURNAL).await.unwrap();
    let config = stream::Config { max_bytes: 100_000, ..journal.cached_info().config.clone() };
    bus.context().update_stream(config).await.unwrap();
    let owner = Instance::start::<Ledger>(&bus, often("owner"));
    let mut sent = 0;
    while owner.metrics.appends_refused_full.get() == 0 {
        assert!(sent < 1_000, "it never filled");
        let mut order = order("add", sent.to_string(), 1);
        order.ballast = vec![1; 5_000];
        send(&bus, AggregateKind::Run, vec![signal(&sent.to_string(), "a", &order)]).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut reader = Reader::open(bus.clone(), "archive", Positions::new()).await.unwrap();
    reader_to_the_end(&mut reader).await;
    let trimmed = trim(&bus, reader.positions(), 1_000_000).await.unwrap();
    assert!(trimmed.commits > 0 && !trimmed.pressed, "{trimmed:?}");
    eventually("all are decided", async || {
        reader_to_the_end(&mut reader).await;
        trim(&bus, reader.positions(), 1_000_000).await.unwrap();
        owner.metrics.signals.get() >= sent
    })
    .await;
    owner.stop().await;
}

async fn reader_to_the_end(reader: &mut Reader) -> u64 {
    let mut last = 0;
    while let Ok(commit) = tokio::time::timeout(Duration::from_secs(1), reader.next()).await {
        let commit = commit.unwrap();
        commit.ack().await;
        last = commit.sequence;
    }
    last
}

/// Rule 11: SIGNALS is full. The owner still decides and acknowledges; nothing is stuck.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_of_signals_drains() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let bus = installed(&server, 1).await;
    let queue = bus.context().get_stream(streams::SIGNALS).await.unwrap();
    let config = stream::Config { max_bytes: 200_000, ..queue.cached_info().config.clone() };
    bus.context().update_stream(config).await.unwrap();
    let mut sent = 0;
    loop {
        let mut order = order("add", sent.to_string(), 1);
        order.ballast = vec![1; 5_000];
        let body = cdflow_protocol::v1::SignalBatch { signals: vec![signal(&sent.to_string(), "a", &order)] };
        let message = PublishMessage::build().payload(prost::Message::encode_to_vec(&body).into());
        let subject = subjects::signal(AggregateKind::Run, 0);
        if bus.context().send_publish(subject, message).await.unwrap().await.is_err() {
            break;
        }
        sent += 1;
    }
    let owner = Instance::start::<Ledger>(&bus, options("owner"));
    until(&bus, "the queue is decided", |all| all.sum("run") == sent).await;
    eventually("nothing waits", async || queue.get_info().await.unwrap().state.messages == 0).await;
    owner.stop().await;
}
