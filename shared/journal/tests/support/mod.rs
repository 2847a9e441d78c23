//! A small aggregate with every kind of effect, the instances that run it, and a worker that counts what it does.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

pub mod proxy;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use cdflow_bus::{Bus, NewInstallation, Options, install};
use cdflow_journal::{
    Aggregate, Decision, Error, Input, JournalMetrics, JournalOptions, NoObserver, Observer, refuse, serve,
};
use cdflow_protocol::{
    AggregateKind, PartitionCount, UnixMillis, streams, subjects,
    v1::{
        Announcement, CancelTask, Commit, Effect, Fence, Publish, Refusal, SendSignal, Signal, SignalBatch, Task,
        effect,
    },
};
use cdflow_testkit::NatsServer;
use futures::StreamExt as _;
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An order to an account, and a fact about it.
#[derive(Clone, PartialEq, Message)]
pub struct Move {
    #[prost(string, tag = "1")]
    pub what: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(int64, tag = "3")]
    pub amount: i64,
    #[prost(string, tag = "4")]
    pub to: String,
    #[prost(bytes = "vec", tag = "5")]
    pub ballast: Vec<u8>,
}

pub fn order(what: &str, key: impl Into<String>, amount: i64) -> Move {
    Move { what: what.into(), key: key.into(), amount, ..Move::default() }
}

#[derive(Clone, PartialEq, Message)]
pub struct State {
    #[prost(int64, tag = "1")]
    pub sum: i64,
    #[prost(btree_map = "string, bool", tag = "2")]
    pub seen: BTreeMap<String, bool>,
    #[prost(btree_map = "string, int64", tag = "3")]
    pub tasks: BTreeMap<String, i64>,
    #[prost(bool, tag = "4")]
    pub closed: bool,
    #[prost(int64, optional, tag = "5")]
    pub deadline: Option<i64>,
    #[prost(int64, tag = "6")]
    pub ticks: i64,
}

/// An account of one kind; [`Ledger`] and [`Peer`] are two kinds of it.
fn decide(state: &State, id: &str, input: Input<Move>, now: UnixMillis) -> Result<Decision<Move>, Refusal> {
    let signal = match input {
        Input::Signal(signal) => signal,
        Input::Tick => {
            let due = state.deadline.is_some_and(|at| at <= now);
            let events = if due { vec![order("ticked", "", now)] } else { Vec::new() };
            return Ok(Decision { events, effects: Vec::new() });
        }
        Input::TaskLost(task) => {
            let attempt = state.tasks.get(&task).copied().unwrap_or(1) + 1;
            let key = format!("{}-{attempt}", task.rsplit_once('-').map_or(task.as_str(), |(stem, _)| stem));
            let mut retried = order("retried", key.clone(), attempt);
            retried.to = task;
            return Ok(Decision { events: vec![retried], effects: vec![task_effect(id, &key)] });
        }
    };
    if signal.what == "refuse" {
        return Err(refuse("no", "it was asked to refuse"));
    }
    if state.closed {
        return Err(refuse("closed", "the account is closed"));
    }
    assert!(signal.what != "panic", "it was asked to panic");
    let key = format!("{}/{}", signal.what, signal.key);
    if state.seen.contains_key(&key) {
        return Ok(Decision::nothing());
    }
    let effects = match signal.what.as_str() {
        "transfer" => {
            let payload = order("add", format!("{id}.{}", signal.key), signal.amount).encode_to_vec();
            let signal = Signal {
                id: format!("{id}.{}", signal.key),
                aggregate_id: signal.to.clone(),
                payload,
                ..Signal::default()
            };
            vec![Effect {
                kind: Some(effect::Kind::Signal(SendSignal { aggregate: "lock".into(), signal: Some(signal) })),
            }]
        }
        "work" => vec![task_effect(id, &format!("{}-1", signal.key))],
        "done" if !state.tasks.contains_key(&signal.key) => return Ok(Decision::nothing()),
        "cancel" => vec![Effect {
            kind: Some(effect::Kind::CancelTask(CancelTask {
                id: signal.key.clone(),
                worker: "executor".into(),
                pool: "default".into(),
                reason: "asked to".into(),
            })),
        }],
        "publish" => vec![Effect {
            kind: Some(effect::Kind::Publish(Publish {
                project: "default".into(),
                r#type: "dev.cdflow.test".into(),
                body: b"{}".to_vec(),
            })),
        }],
        _ => Vec::new(),
    };
    let mut event = signal;
    if event.what == "huge" {
        event.ballast = vec![7; usize::try_from(event.amount).unwrap()];
    }
    Ok(Decision { events: vec![event], effects })
}

fn task_effect(id: &str, task: &str) -> Effect {
    let task = Task {
        id: task.into(),
        worker: "executor".into(),
        pool: "default".into(),
        reply_aggregate: "run".into(),
        reply_id: id.into(),
        ..Task::default()
    };
    Effect { kind: Some(effect::Kind::Task(task)) }
}

fn apply(state: &mut State, event: &Move) {
    assert!(event.what != "panic-apply", "an event that cannot be applied");
    state.seen.insert(format!("{}/{}", event.what, event.key), true);
    match event.what.as_str() {
        "add" => state.sum += event.amount,
        "transfer" => state.sum -= event.amount,
        "work" => {
            state.tasks.insert(format!("{}-1", event.key), 1);
        }
        "retried" => {
            state.tasks.remove(&event.to);
            state.tasks.insert(event.key.clone(), event.amount);
        }
        "done" => {
            state.tasks.remove(&event.key);
            state.sum += 1;
        }
        "close" => state.closed = true,
        "deadline" => state.deadline = Some(event.amount),
        "ticked" => {
            state.deadline = None;
            state.ticks += 1;
        }
        _ => {}
    }
}

macro_rules! account {
    ($name:ident, $kind:expr) => {
        #[derive(Clone, Default, Debug, PartialEq)]
        pub struct $name(pub State);

        impl Aggregate for $name {
            const KIND: AggregateKind = $kind;
            type Signal = Move;
            type Event = Move;

            fn decide(&self, id: &str, input: Input<Move>, now: UnixMillis) -> Result<Decision<Move>, Refusal> {
                decide(&self.0, id, input, now)
            }
            fn apply(&mut self, event: &Move) {
                apply(&mut self.0, event);
            }
            fn deadline(&self) -> Option<UnixMillis> {
                self.0.deadline
            }
            fn outstanding_tasks(&self) -> Vec<String> {
                self.0.tasks.keys().cloned().collect()
            }
            fn is_finished(&self) -> bool {
                self.0.closed
            }
            fn checkpoint(&self) -> Vec<u8> {
                self.0.encode_to_vec()
            }
            fn restore(state: &[u8]) -> Result<Self, String> {
                State::decode(state).map(Self).map_err(|error| error.to_string())
            }
        }
    };
}

account!(Ledger, AggregateKind::Run);
account!(Peer, AggregateKind::Lock);

/// A connection to a fresh installation. `RUST_LOG` shows what the journal says meanwhile.
pub async fn installed(server: &NatsServer, partitions: u32) -> Bus {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let options = Options::new(server.url(), "test");
    let new = NewInstallation { partitions: PartitionCount::new(partitions).unwrap(), ..Default::default() };
    install(&options, &new).await.unwrap();
    Bus::connect(&options).await.unwrap()
}

pub async fn connect(url: &str) -> Bus {
    Bus::connect(&Options::new(url, "test")).await.unwrap()
}

/// One instance of a service.
pub struct Instance {
    pub metrics: Arc<JournalMetrics>,
    pub stop: CancellationToken,
    pub serving: JoinHandle<Result<(), Error>>,
}

impl Instance {
    pub fn start<A: Aggregate>(bus: &Bus, options: JournalOptions) -> Self {
        Self::observed::<A>(bus, options, Arc::new(NoObserver))
    }

    pub fn observed<A: Aggregate>(bus: &Bus, options: JournalOptions, observer: Arc<dyn Observer<A>>) -> Self {
        let (metrics, stop) = (options.metrics.clone(), CancellationToken::new());
        let serving = tokio::spawn(serve::<A>(bus.clone(), options, observer, stop.clone()));
        Self { metrics, stop, serving }
    }

    /// As SIGKILL does: nothing is finished or released.
    pub async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// Quick leases, so that tests are.
pub fn options(name: &str) -> JournalOptions {
    JournalOptions {
        lease: Duration::from_millis(1_000),
        renew: Duration::from_millis(150),
        worker_lease: Duration::from_secs(2),
        ..JournalOptions::new(name)
    }
}

pub fn signal(id: &str, account: &str, order: &Move) -> Signal {
    Signal {
        id: id.into(),
        aggregate_id: account.into(),
        payload: order.encode_to_vec(),
        version: 1,
        ..Signal::default()
    }
}

pub async fn send(bus: &Bus, kind: AggregateKind, signals: Vec<Signal>) {
    bus.send_signals(kind, signals).await.unwrap();
}

/// Sends past the server's duplicate window, as a sender does that comes back much later.
pub async fn send_again(bus: &Bus, kind: AggregateKind, signals: Vec<Signal>) {
    let id = format!("again-{}", uuid::Uuid::now_v7());
    let partition = bus.installation().partitions.of(&signals[0].aggregate_id);
    let body = SignalBatch { signals }.encode_to_vec();
    bus.publish_stored(streams::SIGNALS, &subjects::signal(kind, partition), &id, "", body.into()).await.unwrap();
}

/// Everything in JOURNAL, folded the simplest way, in stream order.
pub struct Everything {
    pub commits: Vec<(u64, String, Commit)>,
    pub states: BTreeMap<(String, String), State>,
    /// How often each signal id was handled.
    pub handled: HashMap<String, usize>,
    pub refused: BTreeMap<String, Refusal>,
}

pub async fn everything(bus: &Bus) -> Everything {
    let mut stream = bus.context().get_stream(streams::JOURNAL).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut all =
        Everything { commits: Vec::new(), states: BTreeMap::new(), handled: HashMap::new(), refused: BTreeMap::new() };
    for sequence in state.first_sequence..=state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        let commit = Commit::decode(message.payload).unwrap();
        let subject = message.subject.to_string();
        let kind = subject.split('.').nth(2).unwrap().to_owned();
        for entry in &commit.entries {
            if !entry.events.is_empty() {
                let state = all.states.entry((kind.clone(), entry.aggregate_id.clone())).or_default();
                for event in &entry.events {
                    let event = Move::decode(event.as_slice()).unwrap();
                    if event.what != "panic-apply" {
                        apply(state, &event);
                    }
                }
            }
            for handled in &entry.handled {
                *all.handled.entry(handled.signal_id.clone()).or_default() += 1;
                if let Some(refusal) = &handled.refusal {
                    all.refused.insert(handled.signal_id.clone(), refusal.clone());
                }
            }
        }
        all.commits.push((sequence, subject, commit));
    }
    all
}

impl Everything {
    pub fn state(&self, kind: &str, id: &str) -> State {
        self.states.get(&(kind.into(), id.into())).cloned().unwrap_or_default()
    }

    pub fn sum(&self, kind: &str) -> i64 {
        self.states.iter().filter(|((k, _), _)| k == kind).map(|(_, state)| state.sum).sum()
    }
}

/// Waits until a condition on the folded journal holds.
pub async fn until(bus: &Bus, what: &str, condition: impl Fn(&Everything) -> bool) -> Everything {
    let begun = tokio::time::Instant::now();
    loop {
        let all = everything(bus).await;
        if condition(&all) {
            return all;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "never came true: {what}; {} commits, refused {:?}, states {:?}",
            all.commits.len(),
            all.refused,
            all.states.iter().map(|(k, v)| (k.1.clone(), v.sum, v.tasks.clone())).take(8).collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for a condition that needs no journal.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(40), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A worker that does nothing but say so, and notes each task with its fence.
pub struct FakeWorker {
    pub done: Arc<Mutex<Vec<(String, Fence)>>>,
    pub cancelled: Arc<Mutex<Vec<String>>>,
    running: Vec<JoinHandle<()>>,
}

impl FakeWorker {
    pub async fn start(bus: &Bus) -> Self {
        let done: Arc<Mutex<Vec<(String, Fence)>>> = Arc::default();
        let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let cancelled: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut cancels = bus.client().subscribe(subjects::cancellations("executor", "default")).await.unwrap();
        let work = {
            let (bus, done, held) = (bus.clone(), done.clone(), held.clone());
            tokio::spawn(async move {
                loop {
                    let config = pull::Config {
                        durable_name: Some("executor-default".into()),
                        filter_subject: subjects::tasks_of("executor", "default"),
                        ack_policy: AckPolicy::Explicit,
                        ack_wait: Duration::from_secs(2),
                        ..pull::Config::default()
                    };
                    let Ok(stream) = bus.context().get_stream_no_info(streams::TASKS).await else { continue };
                    let Ok(consumer) = stream.create_consumer(config).await else {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    };
                    let Ok(mut messages) = consumer
                        .stream()
                        .expires(Duration::from_secs(2))
                        .heartbeat(Duration::from_millis(500))
                        .messages()
                        .await
                    else {
                        continue;
                    };
                    while let Some(message) = messages.next().await {
                        let Ok(message) = message else { break };
                        let task = Task::decode(message.payload.clone()).unwrap();
                        held.lock().unwrap().insert(task.id.clone());
                        done.lock().unwrap().push((task.id.clone(), task.fence.unwrap()));
                        let result = signal(
                            &format!("{}.{}", task.id, task.fence.unwrap().sequence),
                            &task.reply_id,
                            &order("done", task.id.clone(), 1),
                        );
                        while bus.send_signals(AggregateKind::Run, vec![result.clone()]).await.is_err() {}
                        held.lock().unwrap().remove(&task.id);
                        let _ = message.ack().await;
                    }
                }
            })
        };
        let announce = {
            let (bus, held) = (bus.clone(), held.clone());
            tokio::spawn(async move {
                loop {
                    let task_ids = held.lock().unwrap().iter().cloned().collect();
                    let body = Announcement { instance: "fake".into(), task_ids }.encode_to_vec();
                    let _ = bus.client().publish(subjects::announcements("executor", "default"), body.into()).await;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            })
        };
        let hear = {
            let cancelled = cancelled.clone();
            tokio::spawn(async move {
                while let Some(message) = cancels.next().await {
                    cancelled.lock().unwrap().push(CancelTask::decode(message.payload).unwrap().id);
                }
            })
        };
        Self { done, cancelled, running: vec![work, announce, hear] }
    }
}

impl Drop for FakeWorker {
    fn drop(&mut self) {
        for task in &self.running {
            task.abort();
        }
    }
}
