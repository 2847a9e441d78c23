//! A trigger on a real server.

use std::{net::SocketAddr, time::Duration};

use cdflow_access::{Access, KvTokens, TokenKind};
use cdflow_bus::{Bus, NewInstallation, Options as BusOptions};
use cdflow_pipeline::{Configuration, init_example};
use cdflow_protocol::{
    streams,
    v1::{Commit, EventRecorded, RunRequested, Signal, SignalBatch, TriggerEvent, trigger_event::Kind},
};
use cdflow_testkit::{NatsServer, SyncMode, free_port};
use cdflow_trigger::{Authentication, Options, intake};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server with an installation and the example's configuration.
pub(crate) struct Installed {
    pub(crate) bus: Bus,
    pub(crate) access: Access,
    options: BusOptions,
    server: NatsServer,
}

impl Installed {
    pub(crate) async fn new() -> Self {
        let server = NatsServer::start(SyncMode::Always).await.unwrap();
        let options = BusOptions::new(server.url(), "test");
        cdflow_bus::install(&options, &NewInstallation::default()).await.unwrap();
        let bus = Bus::connect(&options).await.unwrap();
        let access = Access::new(KvTokens::open(&bus).await.unwrap());
        Self { bus, access, options, server }
    }

    /// Kills the server and starts it again on the same store.
    pub(crate) async fn restart_server(&mut self) {
        self.server.kill().unwrap();
        self.server.restart().await.unwrap();
    }

    pub(crate) async fn apply_example(&self) {
        let bundle = Configuration::parse(init_example()).unwrap().bundle();
        let store = self.bus.configuration().await.unwrap();
        store.replace("default", 0, serde_json::to_vec(&bundle).unwrap().into()).await.unwrap();
    }

    pub(crate) async fn token(&self, kind: TokenKind) -> String {
        self.access.issue(kind, "jenkins", None, 1).await.unwrap().expose().to_owned()
    }

    /// A trigger that is ready.
    pub(crate) async fn trigger(&self, authentication: Authentication) -> Trigger {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let options = Options { listen: http, authentication, max_event_bytes: 20_000, ..Options::default() };
        let stop = CancellationToken::new();
        let task = tokio::spawn(cdflow_trigger::run(options, self.options.clone(), stop.clone()));
        let trigger = Trigger { url: format!("http://{http}"), stop, task };
        until("the trigger is ready", async || {
            reqwest::get(format!("{}/readyz", trigger.url)).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        trigger
    }

    pub(crate) async fn publish(&self, subject: &str, body: impl Into<Vec<u8>>) {
        let body: Vec<u8> = body.into();
        let id = intake::message_id(subject, &String::from_utf8_lossy(&body));
        self.bus.publish_stored(streams::CI, subject, &id, "", body.into()).await.unwrap();
    }

    /// Events of the ledger, in the order of the journal.
    pub(crate) async fn ledger(&self) -> (Vec<EventRecorded>, Vec<RunRequested>) {
        let (mut records, mut runs) = (Vec::new(), Vec::new());
        for body in self.messages(streams::JOURNAL).await {
            for entry in Commit::decode(body.as_slice()).unwrap().entries {
                assert_eq!(entry.aggregate_id, "default");
                for event in entry.events {
                    match TriggerEvent::decode(event.as_slice()).unwrap().kind.unwrap() {
                        Kind::EventRecorded(record) => records.push(record),
                        Kind::RunRequested(run) => runs.push(run),
                    }
                }
            }
        }
        (records, runs)
    }

    /// Waits for the record of an event.
    pub(crate) async fn record(&self, event_id: &str) -> EventRecorded {
        let mut found = None;
        until("the event is recorded", async || {
            found = self.ledger().await.0.into_iter().find(|record| record.event_id == event_id);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Signals that wait for runs: nobody takes them here.
    pub(crate) async fn signals(&self) -> Vec<Signal> {
        let batches = self.messages(streams::SIGNALS).await;
        batches.iter().flat_map(|body| SignalBatch::decode(body.as_slice()).unwrap().signals).collect()
    }

    async fn messages(&self, stream: &str) -> Vec<Vec<u8>> {
        let mut stream = self.bus.context().get_stream(stream).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        let mut bodies = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            // A gap is a signal that somebody has taken.
            if let Ok(message) = stream.get_raw_message(sequence).await {
                bodies.push(message.payload.to_vec());
            }
        }
        bodies
    }
}

pub(crate) struct Trigger {
    pub(crate) url: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Trigger {
    /// As a killed process: nothing is finished.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap().unwrap();
    }
}

pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// A digest that belongs to `version` alone.
pub(crate) fn digest(version: u32) -> String {
    format!("sha256:{version:064x}")
}

pub(crate) fn data(version: u32) -> Value {
    json!({
        "context": { "version": "0.4.1" },
        "subject": { "id": format!("pkg:generic/storefront@v{version}?checksum={}", digest(version)), "content": {} }
    })
}

pub(crate) fn event(id: &str, version: u32) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/ci",
        "type": "dev.cdevents.artifact.published.0.2.0", "data": data(version)
    })
}
