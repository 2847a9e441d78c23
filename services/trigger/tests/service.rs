//! From CI to the signal that starts a run, on a real server.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use cdflow_access::TokenKind;
use cdflow_protocol::v1::{RunSignal, run_signal};
use cdflow_trigger::{Authentication, Options};
use prost::Message as _;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use support::{Installed, digest, event, until};
use tokio_util::sync::CancellationToken;

const STRUCTURED: &str = "application/cloudevents+json";

#[tokio::test(flavor = "multi_thread")]
async fn an_event_over_http_starts_one_run_in_either_mode() {
    let installed = Installed::new().await;
    installed.apply_example().await;
    let trigger = installed.trigger(Authentication::Tokens).await;
    let token = installed.token(TokenKind::Ci).await;
    let post = || Client::new().post(format!("{}/v1/events", trigger.url)).bearer_auth(&token);

    let structured = post().header("content-type", STRUCTURED).body(event("4711", 1).to_string()).send().await.unwrap();
    assert_eq!(structured.status(), StatusCode::ACCEPTED);
    let answer: Value = serde_json::from_str(&structured.text().await.unwrap()).unwrap();
    assert_eq!((&answer["id"], &answer["source"], &answer["sequence"]), (&json!("4711"), &json!("/ci"), &json!(1)));
    assert_eq!(installed.record("4711").await.run_numbers, [1]);

    // The same event in binary mode is the same event.
    let binary = post()
        .header("ce-specversion", "1.0")
        .header("ce-id", "4711")
        .header("ce-source", "%2Fci")
        .header("ce-type", "dev.cdevents.artifact.published.0.2.0")
        .header("content-type", "application/json")
        .body(support::data(1).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(binary.status(), StatusCode::ACCEPTED);
    let answer: Value = serde_json::from_str(&binary.text().await.unwrap()).unwrap();
    assert_eq!(answer["sequence"], json!(1), "it was stored once");

    // Another event with the same digest says which run has it.
    let again = post().header("content-type", STRUCTURED).body(event("4712", 1).to_string()).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    let record = installed.record("4712").await;
    assert!(record.run_numbers.is_empty());
    assert_eq!(record.ignored_because, format!("pipeline storefront has released {} already, in run 1", digest(1)));

    let mut starts = Vec::new();
    until("the run hears of it", async || {
        starts = installed.signals().await.into_iter().filter(|signal| signal.id.ends_with(".start")).collect();
        !starts.is_empty()
    })
    .await;
    let [signal] = starts.as_slice() else { panic!("one run: {starts:?}") };
    let Some(run_signal::Kind::Start(start)) = RunSignal::decode(signal.payload.as_slice()).unwrap().kind else {
        panic!("not a start: {signal:?}")
    };
    assert_eq!((start.number, start.cause.as_str()), (1, "CI event artifact.published 4711"));
    let plan: cdflow_pipeline::plan::Plan = serde_json::from_slice(&start.plan).unwrap();
    assert_eq!(plan.artifact.unwrap().digest, digest(1));

    let metrics = reqwest::get(format!("{}/metrics", trigger.url)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("cdflow_trigger_events_total{outcome=\"starts\"} 2"), "{metrics}");
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_over_http_is_answered_with_a_problem() {
    let installed = Installed::new().await;
    let trigger = installed.trigger(Authentication::Tokens).await;
    let ci = installed.token(TokenKind::Ci).await;
    let person = installed.token(TokenKind::Token).await;
    let post = |token: &str, kind: &str, body: String| {
        let request = Client::new().post(format!("{}/v1/events", trigger.url)).header("content-type", kind).body(body);
        if token.is_empty() { request } else { request.bearer_auth(token) }
    };
    let good = event("1", 1).to_string();
    let mut answers = Vec::new();
    for (what, token, kind, body) in [
        ("no token", "", STRUCTURED, good.clone()),
        ("no cdflow token", "secret", STRUCTURED, good.clone()),
        ("the token of a person", person.as_str(), STRUCTURED, good.clone()),
        ("no event", ci.as_str(), "application/json", "{}".into()),
        ("no JSON", ci.as_str(), STRUCTURED, "{".into()),
        ("no id", ci.as_str(), STRUCTURED, json!({ "specversion": "1.0", "source": "/ci", "type": "t" }).to_string()),
        ("a batch", ci.as_str(), "application/cloudevents-batch+json", "[]".into()),
        ("too large", ci.as_str(), STRUCTURED, format!("{good}{}", " ".repeat(20_000))),
    ] {
        let answer = post(token, kind, body).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
        let status = answer.status();
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == StatusCode::UNAUTHORIZED, "{what}");
        let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(problem["status"], json!(status.as_u16()), "{what}");
        let text = |key: &str| problem[key].as_str().unwrap().to_owned();
        answers.push(format!("{what}: {status} {} {}: {}", text("code"), text("title"), text("detail")));
    }
    insta::assert_snapshot!(answers.join("\n"));
    assert!(installed.ledger().await.0.is_empty(), "nothing was stored");
    let metrics = reqwest::get(format!("{}/metrics", trigger.url)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("cdflow_trigger_events_total{outcome=\"refused\"} 8"), "{metrics}");
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_on_the_bus_are_recorded_whatever_they_are() {
    let installed = Installed::new().await;
    let trigger = installed.trigger(Authentication::None).await;
    installed.publish("cdflow.ci.jenkins", event("before", 1).to_string()).await;
    let record = installed.record("before").await;
    assert!(record.ignored_because.starts_with("project default has no configuration yet"), "{record:?}");

    installed.apply_example().await;
    installed.publish("cdflow.ci.jenkins", event("after", 2).to_string()).await;
    assert_eq!(installed.record("after").await.run_numbers, [1]);

    installed.publish("cdflow.ci.x", "garbage").await;
    installed.publish("cdflow.ci.x", vec![b'x'; 30_000]).await;
    until("both are recorded", async || installed.ledger().await.0.len() == 4).await;
    let reasons: Vec<_> = installed.ledger().await.0.into_iter().skip(2).map(|record| record.ignored_because).collect();
    assert!(reasons[0].starts_with("the event is malformed"), "{reasons:?}");
    assert_eq!(reasons[1], "the event has 30000 bytes, and at most 20000 are read");

    // Without authentication, on a loopback address, anybody here may publish.
    let answer = Client::new().post(format!("{}/v1/events", trigger.url)).header("content-type", STRUCTURED);
    let answer = answer.body(event("http", 3).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(installed.record("http").await.run_numbers, [2]);
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_instances_one_of_them_killed_every_event_starts_one_run() {
    const EVENTS: u32 = 60;
    let installed = Installed::new().await;
    installed.apply_example().await;
    let first = installed.trigger(Authentication::None).await;
    let second = installed.trigger(Authentication::None).await;
    let mut first = Some(first);
    for version in 1..=EVENTS {
        installed.publish("cdflow.ci.jenkins", event(&format!("e{version}"), version).to_string()).await;
        if version == EVENTS / 3
            && let Some(first) = first.take()
        {
            first.kill();
        }
    }
    // What the killed one held is delivered again when its acknowledgement is overdue.
    until("all are recorded", async || installed.ledger().await.0.len() as u32 == EVENTS).await;
    let (records, runs) = installed.ledger().await;
    let numbers: Vec<u64> = runs.iter().map(|run| run.number).collect();
    assert_eq!(numbers, (1..=runs.len() as u64).collect::<Vec<_>>());
    assert_eq!(records.iter().flat_map(|record| record.run_numbers.clone()).collect::<Vec<_>>(), numbers);
    let ids: BTreeSet<_> = records.iter().map(|record| record.event_id.as_str()).collect();
    assert_eq!((ids.len(), runs.len()), (EVENTS as usize, EVENTS as usize), "none is recorded twice");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_and_doubles_nothing() {
    const EVENTS: u32 = 30;
    let mut installed = Installed::new().await;
    installed.apply_example().await;
    let trigger = installed.trigger(Authentication::None).await;
    for version in 1..=EVENTS {
        installed.publish("cdflow.ci.jenkins", event(&format!("e{version}"), version).to_string()).await;
        if version % 10 == 0 {
            installed.restart_server().await;
        }
    }
    until("all are recorded", async || installed.ledger().await.0.len() as u32 >= EVENTS).await;
    let (records, runs) = installed.ledger().await;
    let ids: BTreeSet<_> = records.iter().map(|record| record.event_id.as_str()).collect();
    assert_eq!((ids.len(), records.len()), (EVENTS as usize, EVENTS as usize));
    assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), (1..=u64::from(EVENTS)).collect::<Vec<_>>());
    trigger.stop().await;
}

#[tokio::test]
async fn it_refuses_to_listen_to_the_world_without_authentication() {
    let options =
        Options { listen: "0.0.0.0:0".parse().unwrap(), authentication: Authentication::None, ..Options::default() };
    let bus = cdflow_bus::Options::new("nats://127.0.0.1:1", "test");
    let error = cdflow_trigger::run(options, bus, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with("CDF-6106: 0.0.0.0:0 is not a loopback address"), "{error}");
}
