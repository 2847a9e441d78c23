//! Ten thousand malformed events: each is answered with a record that the ledger takes, and nothing panics.
#![allow(clippy::unwrap_used)]

use cdflow_journal::{Aggregate as _, Input};
use cdflow_pipeline::{Configuration, init_example};
use cdflow_protocol::v1::{TriggerSignal, trigger_signal};
use cdflow_trigger::{
    Parts, TriggerLedger,
    intake::{self, CiMessage, Reading},
    releases::Applied,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

const SEED: u64 = 20_261_123;
const EVENTS: u64 = 10_000;
const MAX_BYTES: usize = 64 * 1_024;

fn example() -> Applied {
    let bundle = Configuration::parse(init_example()).unwrap().bundle();
    Applied::read(7, &serde_json::to_vec(&bundle).unwrap()).unwrap()
}

fn well_formed() -> Value {
    json!({
        "specversion": "1.0",
        "id": "4711",
        "source": "/ci/storefront",
        "type": "dev.cdevents.artifact.published.0.2.0",
        "time": "2026-11-23T06:00:00Z",
        "datacontenttype": "application/json",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data": {
            "context": {
                "version": "0.4.1", "id": "4711", "source": "/ci/storefront",
                "type": "dev.cdevents.artifact.published.0.2.0", "timestamp": "2026-11-23T06:00:00Z"
            },
            "subject": {
                "id": "pkg:generic/storefront@v1.0.0?checksum=sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427&download_url=https://example.com/storefront-v1.0.0.tar.gz",
                "content": { "user": "ci" }
            },
            "customData": { "version": "v1.0.0", "repository": "https://registry.example.com/shop/storefront" }
        }
    })
}

fn strange_value(random: &mut StdRng) -> Value {
    match random.random_range(0..9) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(1e308),
        3 => json!([]),
        4 => json!({ "id": [null] }),
        5 => json!("x".repeat(random.random_range(0..5_000))),
        6 => json!("\u{0}\u{202e}\r\nNats-Msg-Id: x"),
        7 => json!("pkg:oci/%ff%00@sha256:?&=&tag=%zz#../.."),
        _ => (0..random.random_range(1..200)).fold(json!(0), |inner, _| json!([inner])),
    }
}

/// Puts a strange value somewhere into a document, or takes something out of it.
fn bend(value: &mut Value, random: &mut StdRng) {
    match value {
        Value::Object(fields) if !fields.is_empty() && random.random_bool(0.85) => {
            let keys: Vec<_> = fields.keys().cloned().collect();
            let key = keys.choose(random).unwrap().clone();
            if random.random_bool(0.15) {
                fields.remove(&key);
            } else {
                bend(fields.get_mut(&key).unwrap(), random);
            }
        }
        other => *other = strange_value(random),
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..6) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.random()),
            4 => bytes.truncate(at),
            _ => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
        }
    }
}

fn headers(random: &mut StdRng) -> Vec<(String, String)> {
    let names = [
        "ce-specversion",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-time",
        "ce-subject",
        "ce-",
        "content-type",
        "traceparent",
        "CE-SpecVersion",
    ];
    let values = [
        "1.0",
        "0.3",
        "",
        "%",
        "%ff%fe",
        "/ci",
        "dev.cdevents.artifact.published.0.2.0",
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "text/plain",
        "2026-11-23T06:00:00Z",
        "ü",
    ];
    let mut headers = Vec::new();
    for name in names {
        if random.random_bool(0.7) {
            headers.push((name.to_owned(), (*values.choose(random).unwrap()).to_owned()));
        }
    }
    headers
}

#[test]
fn ten_thousand_malformed_events_are_answered_and_recorded() {
    let mut random = StdRng::seed_from_u64(SEED);
    let applied = example();
    let mut ledger = TriggerLedger::default();
    let mut readings = [0_u32; 3];
    for sequence in 1..=EVENTS {
        let mut event = well_formed();
        let mut sent = Vec::new();
        let kind = random.random_range(0..4);
        if kind == 0 {
            bend(&mut event, &mut random);
        }
        if kind == 1 {
            sent = headers(&mut random);
            event = event["data"].take();
            bend(&mut event, &mut random);
        }
        let mut body = serde_json::to_vec(&event).unwrap();
        if kind >= 2 {
            damage(&mut body, &mut random);
        }
        if random.random_bool(0.01) {
            body.resize(MAX_BYTES + 1, b' ');
        }
        let message = CiMessage {
            subject: "cdflow.ci.test",
            sequence,
            time_ms: 1_790_000_000_000,
            headers: sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            body: &body,
        };
        let configuration = random.random_bool(0.9).then_some(&applied);
        let (seen, reading) = intake::read(&message, "default", configuration, MAX_BYTES);

        let context = || format!("seed {SEED}, event {sequence}: {}", String::from_utf8_lossy(&body));
        assert!(!seen.source.is_empty() && !seen.event_id.is_empty(), "{}", context());
        assert!(seen.ignored_because.chars().count() <= 2_001, "{}", context());
        assert_eq!(reading == Reading::Starts, !seen.starts.is_empty(), "{}", context());
        assert!(!seen.starts.is_empty() || !seen.ignored_because.is_empty(), "{}", context());
        readings[reading as usize] += 1;
        let signal = TriggerSignal { kind: Some(trigger_signal::Kind::EventSeen(seen)) };
        let decision = ledger.decide("default", Input::Signal(signal), 5).unwrap_or_else(|refusal| {
            panic!("{}: {}", refusal.message, context());
        });
        decision.events.iter().for_each(|event| ledger.apply(event));
    }
    let [starts, ignored, malformed] = readings;
    assert!(starts > 100 && ignored > 100 && malformed > 5_000, "each way was gone: {readings:?}");
}

#[test]
fn a_deeply_nested_event_is_malformed_and_no_stack_overflow() {
    let body = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert!(Parts::new([], body.as_bytes()).event().unwrap_err().to_string().contains("recursion limit exceeded"));
    let headers = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/ci"), ("ce-type", "t")];
    assert!(Parts::new(headers, body.as_bytes()).event().unwrap_err().to_string().contains("recursion limit exceeded"));
}
