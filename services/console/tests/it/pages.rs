//! Pages, as a browser without scripts gets them.

use cdflow_console::api::{Outcome, RunStatus, event};
use cdflow_protocol::{AggregateKind, v1};
use prost::Message as _;
use reqwest::{Client, StatusCode, redirect};

use crate::{
    story::Story,
    support::{World, server_sent_events},
};

#[tokio::test]
async fn a_run_looks_the_same_for_ever_in_three_states() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;

    story.asks("somebody-else").await;
    ana.run_when("1", |run| !run.approvals.is_empty()).await;
    insta::assert_snapshot!("run_waiting_for_approval", ana.page("/runs/1").await.text().await.unwrap());

    story.is_approved().await;
    story.stage_started("prod").await;
    let verify = story.first_verify("prod");
    story.does_until("prod", &verify).await;
    story.started("prod", &verify, 1).await;
    ana.run_when("1", |run| run.stages.last().unwrap().steps.iter().any(|step| step.id == verify && step.attempt == 1))
        .await;
    insta::assert_snapshot!("run_verifying", ana.page("/runs/1").await.text().await.unwrap());

    let failed = v1::StepFinished { outcome: v1::Outcome::Failed.into(), ..v1::StepFinished::default() };
    story.finished("prod", &verify, failed).await;
    story.rolls_back("prod", "v1.1.0 fails 3.4 % of requests, v1.0.0 0.2 %").await;
    story.ends(v1::Outcome::RolledBack, "v1.1.0 fails 3.4 % of requests, v1.0.0 0.2 %").await;
    ana.run_when("1", |run| run.status == RunStatus::Finished).await;
    insta::assert_snapshot!("run_rolled_back", ana.page("/runs/1").await.text().await.unwrap());
    console.stop().await;
}

#[tokio::test]
async fn only_who_can_decide_is_asked() {
    let mut world = World::new().await;
    let console = world.console().await;
    let (ana, bo) = (world.token("ana").await, world.token("bo").await);
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("bo").await;
    console.client(&ana).run_when("1", |run| !run.approvals.is_empty()).await;
    let asked = console.client(&ana).page("/runs/1").await.text().await.unwrap();
    assert!(asked.contains(r#"value="approve">Approve</button>"#));
    let not_asked = console.client(&bo).page("/runs/1").await.text().await.unwrap();
    assert!(!not_asked.contains("value=\"approve\"") && not_asked.contains("Can be decided by ana."));
    console.stop().await;
}

#[tokio::test]
async fn a_decision_on_the_page_needs_no_script() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("somebody-else").await;
    let (stage, ..) = story.approval();
    console.client(&token).run_when("1", |run| !run.approvals.is_empty()).await;
    let browser = Client::builder().redirect(redirect::Policy::none()).build().unwrap();
    let form = browser
        .post(console.url("/runs/1/approval"))
        .header("cookie", format!("cdflow-session={token}"))
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("stage={stage}&comment=go+on&decision=approve"))
        .send();
    let approval = async {
        let signal = world.journal.next_signal(AggregateKind::Approval).await;
        let decoded = v1::ApprovalSignal::decode(signal.payload.as_slice()).unwrap();
        let Some(v1::approval_signal::Kind::Decide(decision)) = decoded.kind else { panic!("{decoded:?}") };
        assert_eq!((decision.comment.as_str(), decision.channel.as_str()), ("go on", "page"));
        world.journal.handled(AggregateKind::Approval, &signal, Vec::new(), None).await;
    };
    let (answer, ()) = tokio::join!(form, approval);
    let answer = answer.unwrap();
    assert_eq!((answer.status(), answer.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/runs/1"));
    console.stop().await;
}

#[tokio::test]
async fn nothing_that_people_or_targets_write_becomes_markup() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let mut story = Story::begin(&mut world.journal).await;
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    story.stage_started("qa").await;
    story.started("qa", "lock", 1).await;
    story.waits("qa", "lock", evil).await;
    let more = v1::StepFinished { message: evil.into(), ..v1::StepFinished::default() };
    story.finished("qa", "lock", more).await;
    story.stage_ends("qa", v1::Outcome::Failed, evil).await;
    story.ends(v1::Outcome::Failed, evil).await;
    let run = console.client(&token).run_when("1", |run| run.status == RunStatus::Finished).await;
    assert_eq!((run.outcome, run.reason.as_str()), (Some(Outcome::Failed), evil));
    for path in ["/runs/1", "/"] {
        let page = console.client(&token).page(path).await.text().await.unwrap();
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{path}");
    }
    let live = console.client(&token).page("/runs/1/live").await;
    let events = server_sent_events(live).await;
    assert_eq!(events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [event::RUN, event::END]);
    assert!(!events[0].1.contains("<script>alert"));
    console.stop().await;
}

#[tokio::test]
async fn the_board_shows_services_environments_and_runs() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("somebody-else").await;
    console.client(&token).run_when("1", |run| !run.approvals.is_empty()).await;
    insta::assert_snapshot!("board", console.client(&token).page("/").await.text().await.unwrap());
    console.stop().await;
}
