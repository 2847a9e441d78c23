//! A server, a journal written by hand, and consoles in this process.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use cdflow_access::{Access, KvTokens, TokenKind};
use cdflow_bus::{Bus, NewInstallation, Options as BusOptions};
use cdflow_console::{
    Options,
    api::{BASE, Problem, RunView},
};
use cdflow_pipeline::{Bundle, Configuration, SourceFile};
use cdflow_protocol::{
    AggregateKind, streams, subjects,
    v1::{Commit, Entry, Handled, Refusal, Signal, SignalBatch},
};
use cdflow_testkit::{NatsServer, SyncMode};
use prost::Message as _;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// When the stories of the tests begin: 23 November 2026, 14:00:00 UTC.
pub const T0: i64 = 1_795_442_400_000;

pub const PROJECT: &str = include_str!("project.yaml");

/// An installation with a project in it.
pub struct World {
    pub nats: NatsServer,
    pub bus: Bus,
    pub access: Access,
    pub directory: TempDir,
    pub journal: Journal,
}

impl World {
    pub async fn new() -> Self {
        let nats = NatsServer::start(SyncMode::Default).await.unwrap();
        let options = BusOptions::new(nats.url(), "test");
        cdflow_bus::install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        let access = Access::new(KvTokens::open(&bus).await.unwrap());
        let body = serde_json::to_vec(&bundle(PROJECT)).unwrap();
        bus.configuration().await.unwrap().replace("default", 0, body.into()).await.unwrap();
        let journal = Journal { bus: bus.clone(), ends: BTreeMap::new() };
        Self { nats, bus, access, directory: tempfile::tempdir().unwrap(), journal }
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("console.db")
    }

    pub async fn console(&self) -> Running {
        self.console_with(&[]).await
    }

    pub async fn console_with(&self, arguments: &[&str]) -> Running {
        Running::start(&self.nats.url(), &self.database(), arguments).await
    }

    /// A token of a person, as `cdflow login` gives one.
    pub async fn token(&self, person: &str) -> String {
        let hour = Some(Duration::from_secs(3_600));
        self.access.issue(TokenKind::Session, person, hour, now_ms()).await.unwrap().expose().to_owned()
    }
}

pub fn bundle(text: &str) -> Bundle {
    Configuration::parse([SourceFile::new("project.yaml", text)]).unwrap().bundle()
}

pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// Appends commits as an owner of a partition does, with the hash chain.
pub struct Journal {
    bus: Bus,
    ends: BTreeMap<String, (u64, Vec<u8>)>,
}

impl Journal {
    pub async fn append(&mut self, kind: AggregateKind, time_ms: i64, entries: Vec<Entry>) -> u64 {
        let subject = subjects::journal(kind, 0);
        let (previous_sequence, previous_hash) = self.ends.get(&subject).cloned().unwrap_or_default();
        let commit = Commit {
            incarnation: 1,
            epoch: 1,
            previous_sequence,
            previous_hash,
            time_ms,
            entries,
            ..Commit::default()
        };
        self.append_commit(&subject, &commit).await
    }

    /// As it is, whether it continues the chain or not.
    pub async fn append_commit(&mut self, subject: &str, commit: &Commit) -> u64 {
        let body = commit.encode_to_vec();
        let hash = Sha256::digest(&body).to_vec();
        let id = hex::encode(&hash);
        let sequence = self.bus.publish_stored(streams::JOURNAL, subject, &id, "", body.into()).await.unwrap();
        self.ends.insert(subject.to_owned(), (sequence, hash));
        sequence
    }

    /// Events of one aggregate.
    pub async fn events<E: prost::Message>(
        &mut self,
        kind: AggregateKind,
        id: &str,
        time_ms: i64,
        events: &[E],
    ) -> u64 {
        let events = events.iter().map(prost::Message::encode_to_vec).collect();
        let entry = Entry { aggregate_id: id.to_owned(), events, ..Entry::default() };
        self.append(kind, time_ms, vec![entry]).await
    }

    /// A signal that was dealt with.
    pub async fn handled(&mut self, kind: AggregateKind, signal: &Signal, events: Vec<Vec<u8>>, no: Option<Refusal>) {
        let handled = vec![Handled { signal_id: signal.id.clone(), refusal: no }];
        let entry = Entry { aggregate_id: signal.aggregate_id.clone(), events, handled, ..Entry::default() };
        self.append(kind, now_ms(), vec![entry]).await;
    }

    /// The next signal for an aggregate kind, as its owner would take it.
    pub async fn next_signal(&self, kind: AggregateKind) -> Signal {
        let stream = self.bus.context().get_stream(streams::SIGNALS).await.unwrap();
        let subject = subjects::signal(kind, 0);
        for _ in 0..500 {
            if let Ok(message) = stream.get_last_raw_message_by_subject(&subject).await {
                stream.delete_message(message.sequence).await.unwrap();
                let mut signals = SignalBatch::decode(message.payload.as_ref()).unwrap().signals;
                assert_eq!(signals.len(), 1);
                return signals.remove(0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no signal on {subject} within 10 s");
    }
}

/// A console in this process.
pub struct Running {
    pub address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

impl Running {
    pub async fn start(nats: &str, database: &Path, arguments: &[&str]) -> Self {
        let database = database.to_str().unwrap();
        let given = ["console", "--database", database, "--listen", "127.0.0.1:0"];
        let options = <Arguments as clap::Parser>::parse_from(given.iter().chain(arguments)).options;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let bus = BusOptions::new(nats, "console");
        let task = tokio::spawn(cdflow_console::serve(options, bus, listener, stop.clone()));
        let running = Self { address, stop, task: Some(task) };
        for _ in 0..500 {
            if let Ok(answer) = reqwest::get(running.url("/healthz")).await
                && answer.status() == StatusCode::OK
            {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the console does not answer within 10 s: {:?}", running.end().await);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn client(&self, token: &str) -> Person<'_> {
        Person { console: self, token: token.to_owned(), http: Client::new() }
    }

    /// What `serve` returned.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let task = self.task.take().unwrap();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("ends within 20 s").unwrap()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.end().await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Somebody with a token.
pub struct Person<'c> {
    console: &'c Running,
    token: String,
    http: Client,
}

impl Person<'_> {
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.console.url(&format!("{BASE}{path}"))).bearer_auth(&self.token)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.console.url(&format!("{BASE}{path}"))).bearer_auth(&self.token)
    }

    pub fn put(&self, path: &str) -> RequestBuilder {
        self.http.put(self.console.url(&format!("{BASE}{path}"))).bearer_auth(&self.token)
    }

    /// A page, as a browser asks for it.
    pub async fn page(&self, path: &str) -> Response {
        let cookie = format!("cdflow-session={}", self.token);
        self.http.get(self.console.url(path)).header("cookie", cookie).send().await.unwrap()
    }

    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.get(path).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// The run, as soon as it is as it should be.
    pub async fn run_when(&self, run: &str, condition: impl Fn(&RunView) -> bool) -> RunView {
        let mut last = None;
        for _ in 0..500 {
            let answer = self.get(&format!("/runs/{run}")).send().await.unwrap();
            if answer.status() == StatusCode::OK {
                let view: RunView = answer.json().await.unwrap();
                if condition(&view) {
                    return view;
                }
                last = Some(view);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("run {run} is not as it should be within 10 s: {last:#?}");
    }
}

/// What went wrong, and with which status.
pub async fn problem(answer: Response) -> (u16, Problem) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.status, status);
    (status, problem)
}

/// The events of a stream of server-sent events, until it ends.
pub async fn server_sent_events(answer: Response) -> Vec<(String, String)> {
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = tokio::time::timeout(Duration::from_secs(20), answer.text()).await.expect("ends").unwrap();
    text.split("\n\n")
        .filter_map(|block| {
            let field = |name: &str| {
                let lines = block.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim_start);
                lines.collect::<Vec<_>>().join("\n")
            };
            let event = field("event:");
            (!event.is_empty()).then(|| (event, field("data:")))
        })
        .collect()
}
