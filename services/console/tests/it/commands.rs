//! What people ask for, and what becomes of it.

use cdflow_console::api::{CommandAnswer, DecideApproval, RunStatus, StartDeployment, StartRun, StartedRun};
use cdflow_pipeline::plan::Plan;
use cdflow_protocol::{
    AggregateKind,
    v1::{
        ApprovalSignal, Refusal, RunRequested, RunSignal, TriggerEvent, TriggerSignal, approval_signal, run_command,
        run_signal, trigger_event, trigger_signal,
    },
};
use prost::Message as _;
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    story::{RUN_ID, Story},
    support::{T0, World, problem},
};

#[tokio::test]
async fn a_started_run_has_a_number_when_the_ledger_has_given_one() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let start = StartRun { pipeline: "shop".into(), version: Some("v1.1.0".into()), ..StartRun::default() };
    let asked = console.client(&token).post("/runs").json(&start).send();
    let ledger = async {
        let signal = world.journal.next_signal(AggregateKind::Trigger).await;
        assert_eq!(signal.aggregate_id, "default");
        let decoded = TriggerSignal::decode(signal.payload.as_slice()).unwrap();
        let Some(trigger_signal::Kind::RequestRun(request)) = decoded.kind else { panic!("{decoded:?}") };
        let plan: Plan = serde_json::from_slice(&request.plan).unwrap();
        assert_eq!((plan.pipeline.as_str(), plan.revision, plan.stages.len()), ("shop", 1, 3));
        assert_eq!(request.initiator.as_ref().unwrap().name, "ana");
        let requested = RunRequested {
            number: 12,
            run_id: request.run_id.clone(),
            pipeline: request.pipeline,
            version: request.version,
            initiator: request.initiator,
            cause: request.cause,
            time_ms: T0,
            ..RunRequested::default()
        };
        let event = TriggerEvent { kind: Some(trigger_event::Kind::RunRequested(requested)) };
        world.journal.handled(AggregateKind::Trigger, &signal, vec![event.encode_to_vec()], None).await;
        request.run_id
    };
    let (answer, run_id) = tokio::join!(asked, ledger);
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let started: StartedRun = answer.json().await.unwrap();
    assert_eq!(started, StartedRun { run_id, number: Some(12), path: "/runs/12".into() });
    let run = console.client(&token).run_when("12", |_| true).await;
    assert_eq!((run.status, run.cause.as_str()), (RunStatus::Requested, "started by ana"));
    console.stop().await;
}

#[tokio::test]
async fn what_does_not_compile_is_answered_with_reasons_and_starts_nothing() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let start = StartRun { pipeline: "shopp".into(), ..StartRun::default() };
    let (status, found) = problem(ana.post("/runs").json(&start).send().await.unwrap()).await;
    assert_eq!((status, found.code.as_str()), (422, "CDF-4106"));
    assert_eq!(found.diagnostics[0].code, "CDF-1101");
    assert!(found.diagnostics[0].help.contains("shop"), "{found:?}");
    let start =
        StartDeployment { service: "shop".into(), version: "v1".into(), environment: "pord".into(), run_id: None };
    let (status, found) = problem(ana.post("/deployments").json(&start).send().await.unwrap()).await;
    assert_eq!(status, 422);
    assert!(found.diagnostics[0].help.contains("prod"), "{found:?}");
    let (status, found) = problem(ana.post("/runs").body("{").send().await.unwrap()).await;
    assert_eq!((status, found.code.as_str()), (400, "CDF-4105"));
    let signals = world.bus.context().get_stream("SIGNALS").await.unwrap();
    assert_eq!(signals.cached_info().state.last_sequence, 0);
    console.stop().await;
}

#[tokio::test]
async fn a_decision_carries_who_their_groups_and_the_revision() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("somebody-else").await;
    let (stage, _, id) = story.approval();
    ana.run_when("1", |run| !run.approvals.is_empty()).await;
    let decide = DecideApproval { approve: true, comment: " looks good ".into(), stage: None };
    let asked = ana.post("/runs/1/approval").json(&decide).send();
    let approval = async {
        let signal = world.journal.next_signal(AggregateKind::Approval).await;
        assert_eq!(signal.aggregate_id, id);
        let decoded = ApprovalSignal::decode(signal.payload.as_slice()).unwrap();
        let Some(approval_signal::Kind::Decide(decision)) = decoded.kind else { panic!("{decoded:?}") };
        assert_eq!((decision.person.as_str(), &decision.groups[..]), ("ana", &["release-managers".to_owned()][..]));
        assert_eq!((decision.config_revision, decision.approve), (1, true));
        assert_eq!((decision.comment.as_str(), decision.channel.as_str()), ("looks good", "cli"));
        world.journal.handled(AggregateKind::Approval, &signal, Vec::new(), None).await;
    };
    let (answer, ()) = tokio::join!(asked, approval);
    let answer: CommandAnswer = answer.unwrap().json().await.unwrap();
    assert!(answer.handled, "{answer:?}");
    assert_eq!(answer.message, format!("ana approved run 1 (stage {stage})"));
    console.stop().await;
}

#[tokio::test]
async fn a_refusal_is_a_conflict_with_the_aggregates_own_code() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("bo").await;
    let bo = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("bo").await;
    let run = bo.run_when("1", |run| !run.approvals.is_empty()).await;
    assert_eq!(run.approvals[0].eligible, ["ana"], "who started it does not count while others can");
    let asked = bo.post("/runs/1/approval").json(&json!({ "approve": true })).send();
    let approval = async {
        let signal = world.journal.next_signal(AggregateKind::Approval).await;
        let refusal =
            Refusal { code: "initiator-excluded".into(), message: "bo started this run, so others decide".into() };
        world.journal.handled(AggregateKind::Approval, &signal, Vec::new(), Some(refusal)).await;
    };
    let (answer, ()) = tokio::join!(asked, approval);
    let (status, found) = problem(answer.unwrap()).await;
    assert_eq!((status, found.code.as_str()), (409, "initiator-excluded"));
    assert_eq!(found.detail, "bo started this run, so others decide");
    console.stop().await;
}

#[tokio::test]
async fn cancelling_names_who_and_why() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("bo").await;
    let bo = console.client(&token);
    Story::begin(&mut world.journal).await;
    bo.run_when("1", |_| true).await;
    let asked = bo.post("/runs/latest/cancel").json(&json!({ "reason": "wrong version" })).send();
    let run = async {
        let signal = world.journal.next_signal(AggregateKind::Run).await;
        assert_eq!(signal.aggregate_id, RUN_ID);
        let decoded = RunSignal::decode(signal.payload.as_slice()).unwrap();
        let Some(run_signal::Kind::Command(command)) = decoded.kind else { panic!("{decoded:?}") };
        let actor = command.actor.unwrap();
        assert_eq!((actor.kind.as_str(), actor.name.as_str()), ("person", "bo"));
        assert_eq!(command.reason, "wrong version");
        assert!(matches!(command.kind, Some(run_command::Kind::Cancel(_))));
        world.journal.handled(AggregateKind::Run, &signal, Vec::new(), None).await;
    };
    let (answer, ()) = tokio::join!(asked, run);
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    console.stop().await;
}

#[tokio::test]
async fn a_rollback_is_of_the_last_live_stage_unless_one_is_named() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;
    ana.run_when("1", |_| true).await;
    let (status, found) = problem(ana.post("/runs/1/rollback").json(&json!({})).send().await.unwrap()).await;
    assert_eq!((status, found.code.as_str()), (400, "CDF-4105"));
    let (status, _) = problem(ana.post("/runs/1/rollback").json(&json!({ "stage": "x" })).send().await.unwrap()).await;
    assert_eq!(status, 404);
    story.stage("qa").await;
    ana.run_when("1", |run| run.stages[0].promoted_ms.is_some()).await;
    let asked = ana.post("/runs/1/rollback").json(&json!({})).send();
    let run = async {
        let signal = world.journal.next_signal(AggregateKind::Run).await;
        let decoded = RunSignal::decode(signal.payload.as_slice()).unwrap();
        let Some(run_signal::Kind::Command(command)) = decoded.kind else { panic!("{decoded:?}") };
        let Some(run_command::Kind::RollBack(back)) = command.kind else { panic!("{command:?}") };
        assert_eq!(back.stage_id, "qa");
        world.journal.handled(AggregateKind::Run, &signal, Vec::new(), None).await;
    };
    let (answer, ()) = tokio::join!(asked, run);
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    console.stop().await;
}

#[tokio::test]
async fn a_command_that_nobody_handles_in_time_is_accepted_and_not_done() {
    let mut world = World::new().await;
    let console = world.console_with(&["--answer-seconds", "1"]).await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    Story::begin(&mut world.journal).await;
    ana.run_when("1", |_| true).await;
    let answer = ana.post("/runs/1/cancel").json(&json!({})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer: CommandAnswer = answer.json().await.unwrap();
    assert!(!answer.handled, "{answer:?}");
    let start = StartDeployment {
        service: "shop".into(),
        version: "v1".into(),
        environment: "qa".into(),
        run_id: Some("my-run".into()),
    };
    let answer = ana.post("/deployments").json(&start).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let started: StartedRun = answer.json().await.unwrap();
    assert_eq!(started, StartedRun { run_id: "my-run".into(), number: None, path: "/runs/my-run".into() });
    console.stop().await;
}

#[tokio::test]
async fn runs_that_are_not_there_are_not_found_by_any_command() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    for command in ["cancel", "rollback", "approval"] {
        let body = if command == "approval" { json!({ "approve": true }) } else { json!({}) };
        let answer = ana.post(&format!("/runs/99/{command}")).json(&body).send().await.unwrap();
        let (status, found) = problem(answer).await;
        assert_eq!((status, found.detail.as_str()), (404, "there is no run 99 in project default"), "{command}");
    }
    console.stop().await;
}
