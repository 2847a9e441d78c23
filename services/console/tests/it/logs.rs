//! Output of steps.

use cdflow_console::api::{LogLine, event};
use cdflow_protocol::{streams, subjects, v1};
use prost::Message as _;

use crate::{
    story::{RUN_ID, Story},
    support::{World, problem, server_sent_events},
};

async fn write(world: &World, stage: &str, step: &str, number: u64, text: &str) {
    let line = v1::LogLine {
        run_id: RUN_ID.into(),
        stage_id: stage.into(),
        step_id: step.into(),
        attempt: 1,
        number,
        text: text.into(),
        ..v1::LogLine::default()
    };
    let subject = subjects::log(RUN_ID, stage, step);
    let id = uuid::Uuid::now_v7().to_string();
    world.bus.publish_stored(streams::LOGS, &subject, &id, "", line.encode_to_vec().into()).await.unwrap();
}

fn lines(events: &[(String, String)]) -> Vec<String> {
    let lines = events.iter().filter(|(name, _)| name == event::LINE);
    lines.map(|(_, data)| serde_json::from_str::<LogLine>(data).unwrap().text).collect()
}

#[tokio::test]
async fn what_is_there_is_read_to_the_end_each_line_once() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    Story::begin(&mut world.journal).await;
    ana.run_when("1", |_| true).await;
    let nothing = server_sent_events(ana.get("/runs/1/logs").send().await.unwrap()).await;
    assert_eq!(nothing.last().unwrap().0, event::END);
    write(&world, "qa", "step-1", 0, "one").await;
    write(&world, "qa", "step-1", 1, "two <script>").await;
    write(&world, "qa", "step-1", 1, "two <script>").await;
    write(&world, "prod", "stage", 0, "elsewhere").await;
    let all = server_sent_events(ana.get("/runs/1/logs").send().await.unwrap()).await;
    assert_eq!(lines(&all), ["one", "two <script>", "elsewhere"]);
    let one = ana.get("/runs/1/logs?stage=qa&step=step-1").send().await.unwrap();
    assert_eq!(lines(&server_sent_events(one).await), ["one", "two <script>"]);
    let text = ana.page("/runs/1/log.txt?stage=qa&step=step-1").await;
    assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(text.text().await.unwrap(), "one\ntwo <script>\n");
    assert_eq!(problem(ana.get("/runs/1/logs?step=x").send().await.unwrap()).await.0, 400);
    console.stop().await;
}

#[tokio::test]
async fn who_follows_gets_lines_as_they_come_until_the_run_has_ended() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;
    ana.run_when("1", |_| true).await;
    let answer = ana.get("/runs/1/logs?follow=true").send().await.unwrap();
    let following = tokio::spawn(server_sent_events(answer));
    story.stage("qa").await;
    story.ends(v1::Outcome::Succeeded, "").await;
    // Behind the end of the run: a worker's last lines can be.
    write(&world, "qa", "step-1", 0, "late").await;
    let events = following.await.unwrap();
    assert_eq!(lines(&events), ["late"]);
    assert_eq!(events.last().unwrap().0, event::END);
    console.stop().await;
}
