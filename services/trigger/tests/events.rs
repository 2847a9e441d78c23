//! What is read from events, in both modes and from every version of CDEvents that is around.
#![allow(clippy::unwrap_used)]

use cdflow_pipeline::ArtifactEvent;
use cdflow_trigger::{Parts, json_data, published, traceparent};
use cloudevents::AttributesReader as _;
use serde_json::{Value, json};

/// `conformance/artifact_published.json` of CDEvents 0.4.1 has this shape and these values.
fn conformance(version: &str, event_version: &str, purl: &str) -> Value {
    json!({
        "context": {
            "version": version,
            "id": "271069a8-fc18-44f1-b38f-9d70a1695819",
            "chainId": "4c8cb7dd-3448-41de-8768-eec704e2829b",
            "source": "/event/source/123",
            "type": format!("dev.cdevents.artifact.published.{event_version}"),
            "timestamp": "2023-03-20T14:27:05.315384Z",
            "schemaUri": "https://myorg.com/schema/custom",
            "links": [{ "linkType": "RELATION", "linkKind": "TRIGGER", "target": { "contextId": "5328c37f" } }]
        },
        "subject": {
            "id": purl,
            "source": "/event/source/123",
            "type": "artifact",
            "content": { "user": "mybot-myapp", "sbom": { "uri": "https://sbom.repo/myorg/myapp.sbom" } }
        }
    })
}

const SHA: &str = "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427";

fn read(purl: &str) -> Result<ArtifactEvent, String> {
    published(Some(conformance("0.4.1", "0.2.0", purl))).map_err(|error| error.to_string())
}

#[test]
fn an_image_has_its_tag_as_version_and_its_digest_from_the_package_url() {
    for purl in [
        format!("pkg:oci/storefront@{SHA}?repository_url=registry.example.com/shop/storefront&tag=v1.2.0"),
        format!(
            "pkg:oci/storefront@{}?repository_url=https%3A%2F%2Fregistry.example.com/shop/storefront&tag=v1.2.0",
            SHA.replace(':', "%3A")
        ),
    ] {
        let read = read(&purl).unwrap();
        assert_eq!(
            read,
            ArtifactEvent {
                name: "storefront".into(),
                version: "v1.2.0".into(),
                digest: SHA.into(),
                location: format!("registry.example.com/shop/storefront@{SHA}"),
                repository: "registry.example.com/shop/storefront".into(),
            }
        );
    }
}

#[test]
fn an_archive_has_its_version_checksum_and_url() {
    let purl = format!(
        "pkg:generic/storefront@v1.0.0?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086,{SHA}&download_url=file:.cdflow/dist/storefront-v1.0.0.tar.gz"
    );
    assert_eq!(
        read(&purl).unwrap(),
        ArtifactEvent {
            name: "storefront".into(),
            version: "v1.0.0".into(),
            digest: SHA.into(),
            location: "file:.cdflow/dist/storefront-v1.0.0.tar.gz".into(),
            repository: String::new(),
        }
    );
}

#[test]
fn the_example_of_the_specification_has_a_version_and_nothing_else() {
    let read = read("pkg:golang/mygit.com/myorg/myapp@234fd47e07d1004f0aed9c").unwrap();
    assert_eq!((read.name.as_str(), read.version.as_str()), ("myapp", "234fd47e07d1004f0aed9c"));
    assert_eq!((read.digest.as_str(), read.location.as_str()), ("", ""));
}

#[test]
fn every_version_of_the_event_and_its_drafts_are_read() {
    for (version, event_version) in [
        ("0.3.0", "0.1.1"),
        ("0.4.0", "0.2.0"),
        ("0.4.1", "0.2.0"),
        ("0.5.0", "0.3.0"),
        ("0.5.0-draft", "0.3.0-draft"),
        ("0.9.0", "1.0.0"),
    ] {
        let data = conformance(version, event_version, &format!("pkg:oci/app@{SHA}?tag=v1"));
        assert_eq!(published(Some(data)).unwrap().version, "v1", "{version}");
    }
}

#[test]
fn custom_data_win_over_the_package_url() {
    let mut data = conformance("0.4.1", "0.2.0", "pkg:generic/app@1");
    data["customData"] = json!({
        "version": "v2", "digest": SHA, "location": "https://a/b.tar.gz", "repository": "https://r/app", "other": 1
    });
    let read = published(Some(data)).unwrap();
    assert_eq!(
        read,
        ArtifactEvent {
            name: "app".into(),
            version: "v2".into(),
            digest: SHA.into(),
            location: "https://a/b.tar.gz".into(),
            repository: "r/app".into(),
        }
    );
}

#[test]
fn what_cannot_be_released_says_what_was_expected() {
    let messages = [
        read("storefront v1").unwrap_err(),
        read("pkg:generic/app").unwrap_err(),
        read("pkg:generic/app@v1?checksum=sha256:12").unwrap_err(),
        published(None).unwrap_err().to_string(),
        published(Some(json!({"subject": {"id": "pkg:generic/app@v1"}}))).unwrap_err().to_string(),
        published(Some(json!({"context": {}, "subject": {}}))).unwrap_err().to_string(),
        read(&format!("pkg:generic/app@{}", "v".repeat(3_000))).unwrap_err(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

fn envelope() -> Value {
    json!({
        "specversion": "1.0",
        "id": "4711",
        "source": "/ci/storefront",
        "type": "dev.cdevents.artifact.published.0.2.0",
        "time": "2026-11-23T06:00:00Z",
        "datacontenttype": "application/json",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data": conformance("0.4.1", "0.2.0", "pkg:generic/app@v1")
    })
}

#[test]
fn both_modes_tell_the_same() {
    let structured = serde_json::to_vec(&envelope()).unwrap();
    let data = serde_json::to_vec(&envelope()["data"]).unwrap();
    let structured = Parts::new([("Content-Type", "application/cloudevents+json; charset=UTF-8")], &structured);
    let binary = Parts::new(
        [
            ("ce-specversion", "1.0"),
            ("Ce-Id", "4711"),
            ("CE-Source", "%2Fci/storefront"),
            ("ce-type", "dev.cdevents.artifact.published.0.2.0"),
            ("ce-time", "2026-11-23T06:00:00Z"),
            ("ce-traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("content-type", "application/json"),
        ],
        &data,
    );
    assert!(structured.claims_to_be_an_event() && binary.claims_to_be_an_event());
    let (structured, binary) = (structured.event().unwrap(), binary.event().unwrap());
    assert_eq!(structured, binary);
    assert_eq!((structured.source().as_str(), structured.id()), ("/ci/storefront", "4711"));
    assert_eq!(traceparent(&binary), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(json_data(&binary), json_data(&structured));
}

#[test]
fn a_message_without_headers_is_a_structured_event() {
    let body = serde_json::to_vec(&envelope()).unwrap();
    let parts = Parts::new([], &body);
    assert!(!parts.claims_to_be_an_event());
    assert_eq!(parts.event().unwrap().id(), "4711");
}

#[test]
fn a_malformed_event_says_what_was_wrong_and_expected() {
    let error = |headers: &[(&str, &str)], body: &Value| {
        let body = serde_json::to_vec(body).unwrap();
        Parts::new(headers.iter().copied(), &body).event().unwrap_err().to_string()
    };
    let with = |field: &str, value: Value| {
        let mut event = envelope();
        event[field] = value;
        event
    };
    let messages = [
        error(&[], &json!([])),
        error(&[], &json!({"specversion": "1.0", "id": "1", "source": "/ci"})),
        error(&[], &with("specversion", json!("7"))),
        error(&[], &with("id", json!(""))),
        error(&[], &with("source", json!("x".repeat(600)))),
        error(&[], &with("time", json!("yesterday"))),
        error(&[("content-type", "application/cloudevents-batch+json")], &json!([])),
        error(&[("ce-specversion", "1.0"), ("ce-id", "1")], &json!({})),
        error(&[("ce-specversion", "0.3")], &json!({})),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_trace_context_of_the_wrong_form_is_left_out() {
    for wrong in ["", "00-xyz", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01\r\nx: y"] {
        let mut event = envelope();
        event["traceparent"] = json!(wrong);
        let body = serde_json::to_vec(&event).unwrap();
        assert_eq!(traceparent(&Parts::new([], &body).event().unwrap()), "");
    }
}
