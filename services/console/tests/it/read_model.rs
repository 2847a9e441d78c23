//! What is projected, once and again.

use std::time::Duration;

use cdflow_console::{
    Database,
    api::{
        Board, Counted, Explanation, History, Outcome, RunList, RunStatus, RunView, StageStatus, StepStatus,
        TriggerLog, VerdictKind, event,
    },
    archived_commits,
};
use cdflow_protocol::{
    AggregateKind,
    ids::verification_id,
    subjects,
    v1::{
        self, Commit, EventRecorded, RunRequested, StepFinished, TriggerEvent, trigger_event::Kind as TriggerEventKind,
        verification_event,
    },
};
use futures::TryStreamExt as _;

use crate::{
    story::{RUN_ID, Story},
    support::{Running, T0, World, server_sent_events},
};

#[tokio::test]
async fn a_run_is_shown_as_its_events_say() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);

    let mut story = Story::begin(&mut world.journal).await;
    story.asks("somebody-else").await;
    let run = ana.run_when("1", |run| !run.approvals.is_empty()).await;
    assert_eq!((run.status, run.version.as_deref()), (RunStatus::Waiting, Some("v1.1.0")));
    assert_eq!(run.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    let qa = &run.stages[0];
    assert_eq!((qa.status, qa.outcome), (StageStatus::Finished, Some(Outcome::Succeeded)));
    assert_eq!(qa.previous.as_deref(), Some("v1.0.0"));
    assert_eq!(qa.url.as_deref(), Some("http://127.0.0.1:18082"));
    assert!(qa.steps.iter().any(|step| step.outputs.get("pages").is_some_and(|pages| pages == "3")));
    let waiting = &run.waiting[0];
    assert_eq!(waiting.what, "release-managers (0 of 1)");
    assert_eq!(waiting.released_by, "ana or bo: `cdflow approve 1`");

    let explanation: Explanation = ana.read("/runs/latest/explain").await;
    assert_eq!(explanation.summary, format!("run 1 waits in {} for release-managers (0 of 1)", waiting.stage));

    story.is_approved().await;
    story.fails_in_prod().await;
    let run = ana.run_when(RUN_ID, |run| run.status == RunStatus::Finished).await;
    assert_eq!(run.outcome, Some(Outcome::RolledBack));
    assert_eq!(run.approvals[0].outcome, Some(Outcome::Succeeded));
    let prod = run.stages.last().unwrap();
    assert_eq!((prod.outcome, prod.weight), (Some(Outcome::RolledBack), Some(0)));
    let verdicts: Vec<VerdictKind> =
        prod.steps.iter().filter_map(|step| step.verdict.as_ref()).map(|verdict| verdict.kind).collect();
    assert_eq!(verdicts, [VerdictKind::Fail]);
    assert!(prod.steps.iter().any(|step| step.status == StepStatus::Pending), "what was not reached stays pending");

    let list: RunList = ana.read("/runs?status=rolled-back&pipeline=shop").await;
    assert_eq!(list.runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1]);
    let none: RunList = ana.read("/runs?status=waiting").await;
    assert_eq!(none.runs, []);

    let history: History = ana.read("/runs/1/events").await;
    let decided = history.events.iter().find(|entry| entry.event == "approval-decided").unwrap();
    assert_eq!(decided.text, "ana approved: looks good <b>to me</b>");
    assert!(history.events.is_sorted_by_key(|entry| entry.sequence));
    console.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_is_shown_as_waiting_for_the_next() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let mut story = Story::begin(&mut world.journal).await;
    story.stage_started("qa").await;
    story.started("qa", "lock", 1).await;
    story.waits("qa", "lock", "behind run 7").await;
    // Asked again.
    story.waits("qa", "lock", "behind run 7").await;
    let ana = console.client(&token);
    let run = ana.run_when("1", |run| run.status == RunStatus::Waiting).await;
    let waiting = &run.waiting[0];
    assert_eq!((waiting.what.as_str(), waiting.since_ms), ("the lock, behind run 7", T0 + 3_000));

    story.does("qa", "lock").await;
    story.started("qa", "observe", 1).await;
    let more = StepFinished {
        outcome: v1::Outcome::Failed.into(),
        error_class: v1::ErrorClass::Connectivity.into(),
        message: "haproxy does not answer".into(),
        retry_at_ms: T0 + 60_000,
        ..StepFinished::default()
    };
    story.finished("qa", "observe", more).await;
    let retrying = |run: &RunView| run.stages[0].steps.iter().any(|step| step.status == StepStatus::Retrying);
    let run = ana.run_when("1", retrying).await;
    assert_eq!(run.waiting[0].what, "attempt 2 of 3");
    let step = run.stages[0].steps.iter().find(|step| step.id == "observe").unwrap();
    assert_eq!(step.error_class.as_deref(), Some("connectivity"));
    console.stop().await;
}

#[tokio::test]
async fn a_comparison_shows_what_it_has_counted_so_far() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let mut story = Story::begin(&mut world.journal).await;
    story.stage_started("prod").await;
    let verify = story.first_verify("prod");
    story.does_until("prod", &verify).await;
    story.started("prod", &verify, 1).await;
    let reading = |canary, requests, errors| v1::Reading {
        instance_id: if canary { "new" } else { "old" }.into(),
        canary,
        requests,
        errors,
        ..v1::Reading::default()
    };
    let taken = |readings| {
        verification_event::Kind::Readings(v1::ReadingsTaken {
            readings: Some(v1::Readings { readings, time_ms: T0, ..v1::Readings::default() }),
            time_ms: T0,
        })
    };
    let phase = v1::BeginPhase {
        run_id: RUN_ID.into(),
        stage_id: "prod".into(),
        step_id: verify.clone(),
        weight: 5,
        ..v1::BeginPhase::default()
    };
    let events = [
        verification_event::Kind::Began(v1::PhaseBegan { phase: Some(phase), time_ms: T0 }),
        taken(vec![reading(true, 0.0, 0.0), reading(false, 7_000.0, 70.0)]),
        taken(vec![reading(true, 1_204.0, 41.0), reading(false, 25_411.0, 107.0)]),
    ]
    .map(|kind| v1::VerificationEvent { kind: Some(kind) });
    let id = verification_id(RUN_ID, "prod");
    world.journal.events(AggregateKind::Verification, &id, T0, &events).await;
    let evidence = |run: &RunView| run.stages.last()?.steps.iter().find(|step| step.id == verify)?.evidence;
    let run = console.client(&token).run_when("1", |run| evidence(run).is_some()).await;
    let found = evidence(&run).unwrap();
    assert_eq!(found.canary, Counted { requests: 1_204, errors: 41 });
    assert_eq!(found.control, Some(Counted { requests: 18_411, errors: 37 }));
    let page = console.client(&token).page("/runs/1").await.text().await.unwrap();
    assert!(page.contains("<dt>errors, v1.1.0</dt><dd>41 of 1,204 (3.4 %)</dd>"));
    assert!(page.contains("<dt>errors, v1.0.0</dt><dd>37 of 18,411 (0.2 %)</dd>"));
    console.stop().await;
}

#[tokio::test]
async fn the_board_shows_what_is_live_and_what_is_on_its_way() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("somebody-else").await;
    ana.run_when("1", |run| !run.approvals.is_empty()).await;
    let board: Board = ana.read("/board").await;
    assert_eq!(
        (&board.services[..], &board.environments[..]),
        (&["shop".into()][..], &["qa".into(), "prod".into()][..])
    );
    let cell = |board: &Board, environment: &str| {
        board.cells.iter().find(|cell| cell.environment == environment).unwrap().clone()
    };
    let qa = cell(&board, "qa");
    assert_eq!((qa.version.as_deref(), qa.previous.as_deref(), qa.run), (Some("v1.1.0"), Some("v1.0.0"), Some(1)));
    let coming = &cell(&board, "prod").on_its_way[0];
    assert_eq!((coming.run, coming.here), (1, false));
    assert_eq!(coming.waiting_for.as_deref(), Some("release-managers (0 of 1)"));

    story.is_approved().await;
    story.stage_started("prod").await;
    story.does_until("prod", "retire").await;
    ana.run_when("1", |run| run.status == RunStatus::Watching || run.stages.last().unwrap().promoted_ms.is_some())
        .await;
    let prod = cell(&ana.read("/board").await, "prod");
    assert_eq!((prod.version.as_deref(), prod.rolled_back), (Some("v1.1.0"), false));
    assert!(prod.on_its_way.is_empty());

    story.rolls_back("prod", "it got worse").await;
    story.ends(v1::Outcome::RolledBack, "it got worse").await;
    ana.run_when("1", |run| run.status == RunStatus::Finished).await;
    let prod = cell(&ana.read("/board").await, "prod");
    assert_eq!((prod.version.as_deref(), prod.rolled_back), (Some("v1.0.0"), true));
    assert_eq!(prod.previous.as_deref(), Some("v1.1.0"));
    console.stop().await;
}

#[tokio::test]
async fn ci_events_are_kept_with_what_they_started_or_why_not() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let recorded = |id: &str, runs: &[u64], because: &str| {
        TriggerEventKind::EventRecorded(EventRecorded {
            source: "https://ci.example.com".into(),
            event_id: id.into(),
            subject: "shop v1.1.0".into(),
            run_numbers: runs.to_vec(),
            ignored_because: because.into(),
            time_ms: T0,
            ..EventRecorded::default()
        })
    };
    let requested = TriggerEventKind::RunRequested(RunRequested {
        number: 1,
        run_id: RUN_ID.into(),
        pipeline: "shop".into(),
        version: "v1.1.0".into(),
        time_ms: T0,
        ..RunRequested::default()
    });
    let events = [recorded("1", &[1], ""), requested, recorded("2", &[], "seen before")];
    let events = events.map(|kind| TriggerEvent { kind: Some(kind) });
    world.journal.events(AggregateKind::Trigger, "default", T0, &events).await;
    let ana = console.client(&token);
    let run = ana.run_when("1", |_| true).await;
    assert_eq!((run.status, run.version.as_deref()), (RunStatus::Requested, Some("v1.1.0")));
    let log: TriggerLog = ana.read("/trigger/log").await;
    let shown: Vec<_> = log.entries.iter().map(|entry| (entry.event_id.as_str(), &entry.runs[..])).collect();
    assert_eq!(shown, [("2", &[][..]), ("1", &[1][..])]);
    assert_eq!(log.entries[0].ignored_because, "seen before");
    console.stop().await;
}

#[tokio::test]
async fn a_watcher_gets_whole_snapshots_until_the_run_has_ended() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let ana = console.client(&token);
    let mut story = Story::begin(&mut world.journal).await;
    ana.run_when("1", |_| true).await;
    let answer = ana.get("/runs/1/watch").send().await.unwrap();
    let watching = tokio::spawn(server_sent_events(answer));
    story.asks("somebody-else").await;
    story.is_approved().await;
    story.fails_in_prod().await;
    let events = watching.await.unwrap();
    let (last, runs) = events.split_last().unwrap();
    assert_eq!(last.0, event::END);
    let views: Vec<RunView> = runs.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(views.last().unwrap().outcome, Some(Outcome::RolledBack));
    assert!(views.is_sorted_by_key(|view| view.sequence));
    console.stop().await;
}

#[tokio::test]
async fn a_deleted_database_is_built_again_from_the_journal() {
    let mut world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let mut story = Story::begin(&mut world.journal).await;
    story.asks("somebody-else").await;
    story.is_approved().await;
    story.fails_in_prod().await;
    let ended = |run: &RunView| run.status == RunStatus::Finished;
    let before = console.client(&token).run_when("1", ended).await;
    let history: History = console.client(&token).read("/runs/1/events").await;
    console.stop().await;

    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", world.database().display()));
    }
    let console = world.console().await;
    let ana = console.client(&token);
    assert_eq!(ana.run_when("1", ended).await, before);
    assert_eq!(ana.read::<History>("/runs/1/events").await, history);
    console.stop().await;
}

#[tokio::test]
async fn a_console_that_starts_again_goes_on_where_it_was() {
    let mut world = World::new().await;
    let token = world.token("ana").await;
    let console = world.console().await;
    let mut story = Story::begin(&mut world.journal).await;
    console.client(&token).run_when("1", |_| true).await;
    console.stop().await;
    story.asks("somebody-else").await;
    let console = world.console().await;
    console.client(&token).run_when("1", |run| !run.approvals.is_empty()).await;
    console.stop().await;
}

#[tokio::test]
async fn two_consoles_on_one_database_project_everything_once() {
    let mut world = World::new().await;
    let token = world.token("ana").await;
    let (first, second) = (world.console().await, world.console().await);
    for number in 1..=20_u64 {
        let id = format!("01930000-0000-7000-8000-{number:012}");
        let mut story = Story::begin_as(&mut world.journal, &id, number, "v1.1.0", T0).await;
        story.stage("qa").await;
        story.ends(v1::Outcome::Succeeded, "").await;
    }
    let ended = |run: &RunView| run.status == RunStatus::Finished;
    let of_first = first.client(&token).run_when("20", ended).await;
    let of_second = second.client(&token).run_when("20", ended).await;
    assert_eq!(of_first, of_second);
    let list: RunList = second.client(&token).read("/runs?limit=100&status=succeeded").await;
    assert_eq!(list.runs.len(), 20);
    first.stop().await;
    second.stop().await;

    let database = Database::open(&world.database()).await.unwrap();
    let archived: Vec<_> = archived_commits(database.pool()).try_collect().await.unwrap();
    let stream = world.bus.context().get_stream("JOURNAL").await.unwrap();
    assert_eq!(archived.len() as u64, stream.cached_info().state.messages);
    let message = stream.get_raw_message(archived[7].sequence).await.unwrap();
    assert_eq!(archived[7].body, message.payload, "byte for byte, so that it can be restored");
    database.close().await;
}

#[tokio::test]
async fn a_journal_that_does_not_continue_stops_the_console_and_says_what_to_do() {
    let mut world = World::new().await;
    let token = world.token("ana").await;
    let console = world.console().await;
    Story::begin(&mut world.journal).await;
    console.client(&token).run_when("1", |_| true).await;
    let stranger = Commit { previous_sequence: 1, previous_hash: vec![1; 32], ..Commit::default() };
    world.journal.append_commit(&subjects::journal(AggregateKind::Run, 0), &stranger).await;
    let error = console.end().await.unwrap_err().to_string();
    assert!(error.contains("cdflow journal"), "{error}");
}

#[tokio::test]
async fn a_console_outlives_a_restart_of_the_server() {
    let mut world = World::new().await;
    let token = world.token("ana").await;
    let console = world.console().await;
    let mut story = Story::begin(&mut world.journal).await;
    console.client(&token).run_when("1", |_| true).await;
    world.nats.kill().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.nats.restart().await.unwrap();
    story.asks("somebody-else").await;
    console.client(&token).run_when("1", |run| !run.approvals.is_empty()).await;
    let ready = reqwest::get(console.url("/readyz")).await.unwrap();
    assert!(ready.status().is_success(), "{}", ready.text().await.unwrap());
    console.stop().await;
}

#[tokio::test]
async fn a_full_catch_up_is_quick_enough_for_a_thousand_runs() {
    let mut world = World::new().await;
    let token = world.token("ana").await;
    // As an owner under load writes them: many runs in one commit.
    let mut story = Story::begin(&mut world.journal).await;
    story.stage("qa").await;
    let entries: Vec<v1::Entry> = (2..=1_000_u64)
        .map(|number| {
            let started = v1::RunStarted {
                number,
                plan: serde_json::to_vec(&story.plan).unwrap(),
                time_ms: T0,
                ..v1::RunStarted::default()
            };
            let event = v1::RunEvent { kind: Some(v1::run_event::Kind::RunStarted(started)) };
            v1::Entry {
                aggregate_id: format!("01930000-0000-7000-8000-{number:012}"),
                events: vec![prost::Message::encode_to_vec(&event)],
                ..v1::Entry::default()
            }
        })
        .collect();
    for chunk in entries.chunks(50) {
        world.journal.append(AggregateKind::Run, T0, chunk.to_vec()).await;
    }
    let console: Running = world.console().await;
    let list = console.client(&token).run_when("1000", |_| true).await;
    assert_eq!(list.number, 1_000);
    console.stop().await;
}
