//! What becomes of an event: pure.
#![allow(clippy::unwrap_used)]

use cdflow_pipeline::{Configuration, SourceFile, init_example, plan::Plan};
use cdflow_protocol::v1::EventSeen;
use cdflow_trigger::{
    intake::{self, CiMessage, Reading},
    releases::Applied,
};
use serde_json::{Value, json};

const SHA: &str = "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn applied(configuration: &Configuration) -> Applied {
    Applied::read(7, &serde_json::to_vec(&configuration.bundle()).unwrap()).unwrap()
}

fn example() -> Applied {
    applied(&Configuration::parse(init_example()).unwrap())
}

fn event(purl: &str) -> Value {
    json!({
        "specversion": "1.0", "id": "4711", "source": "/ci/storefront",
        "type": "dev.cdevents.artifact.published.0.2.0",
        "data": { "context": {}, "subject": { "id": purl, "content": {} } }
    })
}

fn read_with(event: &Value, headers: &[(&str, &str)], applied: Option<&Applied>) -> (EventSeen, Reading) {
    let body = serde_json::to_vec(event).unwrap();
    let message = CiMessage {
        subject: "cdflow.ci.jenkins",
        sequence: 3,
        time_ms: 1_790_000_000_000,
        headers: headers.to_vec(),
        body: &body,
    };
    intake::read(&message, "default", applied, 10_000)
}

fn read(event: &Value, applied: Option<&Applied>) -> (EventSeen, Reading) {
    read_with(event, &[], applied)
}

fn storefront(version: &str) -> Value {
    event(&format!("pkg:generic/storefront@{version}?checksum={SHA}"))
}

#[test]
fn an_artifact_of_the_pipelines_service_starts_it_with_a_compiled_plan() {
    let (seen, reading) = read(&storefront("v1.0.0"), Some(&example()));
    assert_eq!((reading, seen.ignored_because.as_str()), (Reading::Starts, ""));
    assert_eq!((seen.subject.as_str(), seen.digest.as_str(), seen.config_revision), ("storefront v1.0.0", SHA, 7));
    let [start] = seen.starts.as_slice() else { panic!("one pipeline: {:?}", seen.starts) };
    assert_eq!((start.pipeline.as_str(), start.version.as_str()), ("storefront", "v1.0.0"));
    assert_eq!(start.cause, "CI event artifact.published 4711");
    let initiator = start.initiator.as_ref().unwrap();
    assert_eq!((initiator.kind.as_str(), initiator.name.as_str()), ("ci", "/ci/storefront"));
    let plan: Plan = serde_json::from_slice(&start.plan).unwrap();
    let artifact = plan.artifact.unwrap();
    assert_eq!((plan.project.as_str(), plan.revision), ("default", 7));
    assert_eq!((artifact.version.as_str(), artifact.digest.as_str()), ("v1.0.0", SHA));
    assert_eq!(plan.event["subject"]["id"], json!(format!("pkg:generic/storefront@v1.0.0?checksum={SHA}")));
}

#[test]
fn the_run_id_follows_from_event_and_pipeline() {
    let (first, _) = read(&storefront("v1.0.0"), Some(&example()));
    let (again, _) = read(&storefront("v1.0.0"), Some(&example()));
    assert_eq!(first.starts[0].run_id, again.starts[0].run_id);
    assert_eq!(first.starts[0].run_id, intake::run_id("/ci/storefront", "4711", "storefront"));
    assert_ne!(intake::run_id("a", "bc", "p"), intake::run_id("ab", "c", "p"));
    assert_ne!(intake::run_id("a", "b", "cp"), intake::run_id("a", "bc", "p"));
}

#[test]
fn the_trace_of_the_event_goes_on_and_else_that_of_the_message() {
    let mut traced = storefront("v1.0.0");
    traced["traceparent"] = json!(TRACE);
    let of_message = TRACE.replace("4bf9", "aaaa");
    let headers = [("traceparent", of_message.as_str())];
    assert_eq!(read_with(&traced, &headers, Some(&example())).0.traceparent, TRACE);
    assert_eq!(read_with(&storefront("v1.0.0"), &headers, Some(&example())).0.traceparent, of_message);
    assert_eq!(read_with(&storefront("v1.0.0"), &[("traceparent", "no")], Some(&example())).0.traceparent, "");
}

#[test]
fn an_event_that_starts_nothing_says_why() {
    let mut of_another_type = storefront("v1.0.0");
    of_another_type["type"] = json!("dev.cdevents.artifact.packaged.0.2.0");
    let empty = applied(&Configuration::parse(Vec::<SourceFile>::new()).unwrap());
    let mut large = storefront("v1.0.0");
    large["data"]["customData"] = json!("x".repeat(10_000));
    let reasons: Vec<String> = [
        read(&of_another_type, Some(&example())),
        read(&storefront("v1.0.0"), None),
        read(&storefront("v1.0.0"), Some(&empty)),
        read(&event("pkg:generic/warehouse@v1.0.0"), Some(&example())),
        read(&storefront("1.0.0"), Some(&example())),
        read(&storefront("v1%2F..%2F.."), Some(&example())),
        read(&event("storefront"), Some(&example())),
        read(&json!({ "id": 4 }), Some(&example())),
        read(&large, Some(&example())),
    ]
    .into_iter()
    .map(|(seen, reading)| {
        assert!(seen.starts.is_empty());
        format!("{reading:?} ({}): {}", seen.subject, seen.ignored_because)
    })
    .collect();
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn a_malformed_event_is_known_by_its_place_in_the_stream() {
    let (seen, reading) = read(&json!([]), Some(&example()));
    assert_eq!(reading, Reading::Malformed);
    assert_eq!((seen.source.as_str(), seen.event_id.as_str()), ("nats:cdflow.ci.jenkins", "3@1790000000000"));
}

#[test]
fn a_configuration_that_cannot_be_read_is_no_reason_to_drop_events() {
    assert!(Applied::read(7, b"{").unwrap_err().to_string().starts_with("CDF-6107"));
    let newer = json!({"documents": [{"kind": "Hologram", "name": "x", "file": "x.yaml", "line": 1, "text": "kind: Hologram\nname: x\n"}]});
    let error = Applied::read(7, &serde_json::to_vec(&newer).unwrap()).unwrap_err().to_string();
    assert!(error.contains("CDF-6107") && error.contains("Hologram"), "{error}");
}
