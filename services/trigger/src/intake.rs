//! From a message on `cdflow.ci.>` to what the ledger is told: pure, and total. Whatever comes in, an [`EventSeen`] comes
//! out, so nothing that CI sends is lost without a record of why.

use cdflow_protocol::v1::{Actor, EventSeen, RequestRun};
use cloudevents::{AttributesReader as _, Event};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    PUBLISHED, Parts,
    artifact::{published, shorten},
    cloud_event::{is_traceparent, json_data, traceparent},
    releases::{Applied, Starts},
};

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 2_000;

/// A message of the stream `CI`.
#[derive(Debug, Clone)]
pub struct CiMessage<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its stream sequence.
    pub sequence: u64,
    /// When the stream took it, Unix milliseconds.
    pub time_ms: i64,
    /// All headers.
    pub headers: Vec<(&'a str, &'a str)>,
    /// Its payload.
    pub body: &'a [u8],
}

/// What became of an event, for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Asks for at least one run.
    Starts,
    /// Well-formed, and starts nothing.
    Ignored,
    /// Malformed or too large.
    Malformed,
}

/// Reads a message and asks the configuration what it starts.
pub fn read(
    message: &CiMessage<'_>,
    project: &str,
    applied: Option<&Applied>,
    max_bytes: usize,
) -> (EventSeen, Reading) {
    let config_revision = applied.map_or(0, |applied| applied.revision);
    let parts = Parts::new(message.headers.iter().copied(), message.body);
    let event = match message.body.len() {
        length if length > max_bytes => Err(format!("the event has {length} bytes, and at most {max_bytes} are read")),
        _ => parts.event().map_err(|error| format!("the event is malformed: {error}")),
    };
    match event {
        Ok(event) => {
            let header = message.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
            let (seen, reading) = judge(&event, project, applied);
            let traceparent = match traceparent(&event) {
                none if none.is_empty() => header.map(|(_, value)| *value).filter(|value| is_traceparent(value)),
                _ => None,
            };
            let traceparent = traceparent.map_or_else(|| seen.traceparent.clone(), ToOwned::to_owned);
            (EventSeen { config_revision, traceparent, received_ms: message.time_ms, ..seen }, reading)
        }
        Err(reason) => {
            // It has no identity of its own that could be trusted: its place in the stream is one.
            let seen = EventSeen {
                source: format!("nats:{}", shorten(message.subject)),
                event_id: format!("{}@{}", message.sequence, message.time_ms),
                subject: "malformed event".into(),
                ignored_because: reason_of(&reason),
                config_revision,
                received_ms: message.time_ms,
                ..Default::default()
            };
            (seen, Reading::Malformed)
        }
    }
}

fn judge(event: &Event, project: &str, applied: Option<&Applied>) -> (EventSeen, Reading) {
    let mut seen = EventSeen {
        source: event.source().clone(),
        event_id: event.id().to_owned(),
        r#type: event.ty().to_owned(),
        subject: shorten(event.subject().unwrap_or("")),
        traceparent: traceparent(event),
        ..Default::default()
    };
    if !event.ty().starts_with(PUBLISHED) {
        seen.ignored_because =
            reason_of(&format!("only events of type {PUBLISHED}* start pipelines, not {}", event.ty()));
        return (seen, Reading::Ignored);
    }
    let data = json_data(event);
    let artifact = match published(data.clone()) {
        Ok(artifact) => artifact,
        Err(error) => {
            seen.ignored_because = reason_of(&format!("the event cannot be used: {error}"));
            return (seen, Reading::Malformed);
        }
    };
    seen.subject = shorten(&format!("{} {}", artifact.name, artifact.version));
    seen.digest = artifact.digest.clone();
    let Some(applied) = applied else {
        seen.ignored_because = reason_of(&format!(
            "project {project} has no configuration yet: `cdflow apply DIR`, then publish under a new id"
        ));
        return (seen, Reading::Ignored);
    };
    let Starts { plans, reasons } = applied.starts(project, &artifact, data.unwrap_or_default());
    seen.starts = plans
        .into_iter()
        .map(|start| RequestRun {
            run_id: run_id(&seen.source, &seen.event_id, &start.pipeline),
            pipeline: start.pipeline,
            version: artifact.version.clone(),
            plan: start.plan,
            initiator: Some(Actor { kind: "ci".into(), name: seen.source.clone() }),
            cause: format!("CI event artifact.published {}", seen.event_id),
            traceparent: String::new(),
        })
        .collect();
    seen.ignored_because = reason_of(&reasons.join("; "));
    let reading = if seen.starts.is_empty() { Reading::Ignored } else { Reading::Starts };
    (seen, reading)
}

/// Id of the run that an event starts: the same each time, so that asking twice starts one run.
pub fn run_id(source: &str, event_id: &str, pipeline: &str) -> String {
    const RUNS: Uuid = Uuid::from_u128(0x6f1d_3a52_8c0e_5b7a_9d44_1c2e_73f0_ab19);
    // Lengths keep ("a", "bc") and ("ab", "c") apart.
    let name = format!("{}:{source}{}:{event_id}{pipeline}", source.len(), event_id.len());
    Uuid::new_v5(&RUNS, name.as_bytes()).to_string()
}

/// Id under which an event is stored and told to the ledger: one for each pair of source and id.
pub fn message_id(source: &str, event_id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((source.len() as u64).to_be_bytes());
    hash.update(source.as_bytes());
    hash.update(event_id.as_bytes());
    format!("ci.{}", hex::encode(&hash.finalize()[..16]))
}

fn reason_of(text: &str) -> String {
    match text.char_indices().nth(LONGEST_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
