//! One rule each.

use cdflow_engine::{Run, run};
use cdflow_journal::{Aggregate, Input};
use cdflow_pipeline::plan::{Action, Stage, Step, Verb};
use cdflow_protocol::{
    trace,
    v1::{ErrorClass, Outcome, RunSignal, StartRun, effect, run_event::Kind, run_signal, task::Work},
};

use crate::{
    plans::{With, approve, canary, nothing, plan, script, stage, verb},
    world::{Message, RUN, Reply, World, acquire_of, cancel, roll_back},
};

fn one(steps: Vec<Step>) -> World {
    World::new(&plan(vec![stage("test", &[], steps)]))
}

fn prod() -> World {
    World::new(&plan(vec![canary("prod", &[], "prod-vms")])).live("prod-vms", "v1")
}

fn when(stage: Stage, condition: &str) -> Stage {
    Stage { condition: Some(condition.into()), ..stage }
}

fn start_times(world: &World, step: &str) -> Vec<i64> {
    let time = |event: &cdflow_protocol::v1::RunEvent| match &event.kind {
        Some(Kind::StepStarted(start)) if start.step_id == step => Some(start.time_ms),
        _ => None,
    };
    world.history.iter().filter_map(time).collect()
}

#[test]
fn a_step_is_tried_again_after_its_interval_as_often_as_it_says() {
    let world = one(vec![script("a", "x").tried(3, 7_000)]).reply("test/a", &[Reply::Fail(ErrorClass::Transient)]);
    let world = world.finish();
    let times = start_times(&world, "a");
    assert_eq!(times.len(), 3);
    assert!(times[1] - times[0] >= 7_000 && times[2] - times[1] >= 7_000, "{times:?}");
    assert_eq!(world.outcome(), Outcome::Failed);
}

#[test]
fn what_cannot_be_helped_by_trying_again_is_not_tried_again() {
    for class in [
        ErrorClass::Authentication,
        ErrorClass::Authorization,
        ErrorClass::Policy,
        ErrorClass::Input,
        ErrorClass::Configuration,
        ErrorClass::Verification,
        ErrorClass::ApprovalRejected,
    ] {
        let world = one(vec![script("a", "x").tried(3, 10)]).reply("test/a", &[Reply::Fail(class)]).finish();
        assert_eq!(world.attempts("a"), 1, "{class:?}");
    }
}

#[test]
fn a_result_that_was_refused_at_the_target_leads_to_an_attempt_with_a_higher_fence() {
    let world = prod().reply("prod/stage", &[Reply::Fail(ErrorClass::Fenced), Reply::Ok]).finish();
    assert_eq!((world.attempts("stage"), world.outcome()), (2, Outcome::Succeeded));
}

#[test]
fn an_attempt_that_takes_too_long_is_cancelled_and_its_late_result_ignored() {
    let slow = Step { timeout_ms: 60_000, ..script("a", "x").tried(2, 10) };
    let world = one(vec![slow]).reply("test/a", &[Reply::Silent, Reply::Ok]).finish();
    assert!(world.sent.iter().any(|e| matches!(&e.kind, Some(effect::Kind::CancelTask(c)) if c.id.ends_with("-a-1"))));
    assert_eq!((world.attempts("a"), world.outcome()), (2, Outcome::Succeeded));
}

#[test]
fn waiting_for_people_does_not_use_up_the_timeout_of_a_stage() {
    let with_timeout = |steps| Stage { timeout_ms: 10_000, ..stage("test", &[], steps) };
    let world = World::new(&plan(vec![with_timeout(vec![approve("ask"), nothing("a")])]));
    let world = world.reply("test/ask", &[Reply::Silent]).finish();
    assert_eq!(world.outcome(), Outcome::Expired, "after an hour, not after ten seconds");

    let world = World::new(&plan(vec![with_timeout(vec![nothing("a")])])).reply("test/a", &[Reply::Silent]);
    let world = world.finish();
    assert_eq!(world.step("test", "a").unwrap().1, "the stage took longer than its timeout of 10 s");
}

#[test]
fn steps_see_what_earlier_steps_reported() {
    let mut second = script("b", "curl ${{ steps.a.outputs.url }} ${{ run.number }}");
    if let Action::Run { env, .. } = &mut second.action {
        env.insert("MODE".into(), "${{ inputs.mode }}".into());
    }
    let last =
        stage("after", &["test"], vec![script("c", "echo ${{ stages.test.outputs.url }} ${{ stages.test.outcome }}")]);
    let stages = vec![stage("test", &[], vec![script("a", "x"), second]), last];
    let world = World::new(&plan(stages)).reply("test/a", &[Reply::Output("url", "http://x")]).finish();
    let text = |step: &str| match world.task(step, 1).unwrap().work {
        Some(Work::Script(script)) => script,
        other => panic!("{other:?}"),
    };
    assert_eq!(text("b").script, "curl http://x 12");
    assert_eq!(text("c").script, "echo http://x succeeded");
    let env = text("b").environment;
    let names = ["MODE", "CDFLOW_RUN", "CDFLOW_RUN_NUMBER", "CDFLOW_STAGE", "CDFLOW_VERSION", "CDFLOW_STEP_KEY"];
    let values = ["full", RUN, "12", "test", "v2", &format!("{RUN}.test.b")];
    assert_eq!(names.map(|name| env[name].as_str()), values);
}

#[test]
fn a_template_that_cannot_be_filled_in_fails_the_step_and_says_where() {
    let world = one(vec![script("a", "x"), script("b", "set -e\ncurl ${{ steps.a.outputs.uri }}")]).finish();
    let (outcome, message) = world.step("test", "b").unwrap();
    assert_eq!(outcome, Outcome::Failed);
    assert!(message.starts_with("the script cannot be filled in: line 2: "), "{message}");
    assert!(world.log.contains("test/b failed (configuration)"), "{}", world.log);
}

#[test]
fn a_task_says_what_it_is_for() {
    let world = prod().finish();
    let task = world.task("shift-5", 1).unwrap();
    assert_eq!((task.worker.as_str(), task.pool.as_str()), ("executor", "dmz"));
    assert_eq!((task.reply_aggregate.as_str(), task.reply_id.as_str()), ("run", RUN));
    assert_eq!(task.step_key, format!("{RUN}.prod.shift-5"));
    let span = trace::step_span(RUN, "prod", "shift-5", 1);
    assert_eq!(task.traceparent, trace::traceparent("0192d0c07f3a7c118f000242ac120002", &span));
    let Some(Work::Verb(verb)) = task.work else { panic!() };
    assert_eq!(verb.release.unwrap().environment["RUN"], "12");
    assert_eq!(verb.previous.unwrap().version, "v1");
}

#[test]
fn nothing_is_changed_before_somebody_has_looked() {
    let mut blind = canary("prod", &[], "prod-vms");
    blind.steps.retain(|step| !matches!(step.action, Action::Verb { verb: Verb::Observe, .. }));
    let world = World::new(&plan(vec![blind])).live("prod-vms", "v1").finish();
    assert_eq!(world.outcome(), Outcome::Failed);
    assert!(world.step("prod", "stage").unwrap().1.contains("put an `observe` before the first change"));
}

#[test]
fn clean_up_steps_run_after_the_rollback() {
    let mut made = canary("prod", &[], "prod-vms");
    made.steps.extend([
        script("on-failure", "x").when("failure()"),
        script("on-rollback", "x").when("rolled_back()"),
        script("always", "x").when("always()"),
        script("on-success", "x"),
        verb("late-shift", Verb::Shift, 50).when("always()"),
    ]);
    let world = World::new(&plan(vec![made])).live("prod-vms", "v1");
    let world = world.reply("prod/verify-5", &[Reply::Fail(ErrorClass::Verification)]).finish();
    let outcome = |step: &str| world.step("prod", step).unwrap().0;
    for ran in ["on-failure", "on-rollback", "always"] {
        assert_eq!(outcome(ran), Outcome::Succeeded, "{ran}");
        assert!(start_times(&world, ran) > start_times(&world, "rollback-retire"));
    }
    assert_eq!(outcome("on-success"), Outcome::Skipped);
    assert_eq!(outcome("late-shift"), Outcome::Skipped, "the lock is gone");
    assert_eq!(world.outcome(), Outcome::RolledBack);
}

#[test]
fn a_failure_shows_through_skipped_stages() {
    let stages = vec![
        stage("a", &[], vec![nothing("1")]),
        stage("b", &["a"], vec![nothing("2")]),
        when(stage("c", &["b"], vec![nothing("3")]), "failure()"),
        when(stage("d", &["b"], vec![nothing("4")]), "always()"),
        when(stage("e", &["a"], vec![nothing("5")]), "rolled_back()"),
    ];
    let world = World::new(&plan(stages)).reply("a/1", &[Reply::Fail(ErrorClass::Script)]).finish();
    assert_eq!(world.stages(), "a=failed b=skipped e=skipped c=succeeded d=succeeded");
}

#[test]
fn a_skipped_stage_is_no_success_for_those_that_need_it() {
    let stages = vec![
        when(stage("a", &[], vec![nothing("1")]), "inputs.mode == 'fast'"),
        stage("b", &["a"], vec![nothing("2")]),
        when(stage("c", &["a"], vec![nothing("3")]), "!failure()"),
        when(stage("d", &["a"], vec![nothing("4")]), "success()"),
    ];
    let world = World::new(&plan(stages)).finish();
    assert_eq!(world.stages(), "a=skipped b=skipped d=skipped c=succeeded");
    assert_eq!(world.outcome(), Outcome::Succeeded);
}

#[test]
fn conditions_tell_a_rolled_back_stage_from_one_that_only_failed() {
    let stages = vec![
        canary("prod", &[], "prod-vms"),
        when(stage("tell", &["prod"], vec![nothing("1")]), "rolled_back()"),
        when(stage("page", &["prod"], vec![nothing("2")]), "failure() && !rolled_back()"),
    ];
    let world = World::new(&plan(stages)).live("prod-vms", "v1");
    let world = world.reply("prod/verify-5", &[Reply::Fail(ErrorClass::Verification)]).finish();
    assert_eq!(world.stages(), "prod=rolled-back page=skipped tell=succeeded");
}

#[test]
fn dependants_start_at_promotion_and_not_at_the_end_of_the_watch() {
    let stages = vec![canary("staging", &[], "staging-vms"), stage("tell", &["staging"], vec![nothing("1")])];
    let world = World::new(&plan(stages)).reply("staging/watch", &[Reply::Silent]).until("1");
    assert!(world.attempts("watch") == 0 || world.step("staging", "watch").is_none());
}

#[test]
fn a_cancelled_run_still_cleans_up_and_a_second_cancellation_stops_that() {
    let stages = || {
        vec![
            stage("test", &[], vec![nothing("slow"), script("clean", "x").when("always()")]),
            stage("next", &["test"], vec![nothing("2")]),
        ]
    };
    let world = World::new(&plan(stages())).reply("test/slow", &[Reply::Silent]).when("test/slow", cancel());
    let world = world.finish();
    assert_eq!((world.outcome(), world.stages().as_str()), (Outcome::Cancelled, "test=cancelled next=skipped"));
    assert_eq!(world.step("test", "clean").unwrap().0, Outcome::Succeeded);

    let world = World::new(&plan(stages())).reply("test/slow", &[Reply::Silent]).reply("test/clean", &[Reply::Silent]);
    let mut world = world.when("test/slow", cancel()).until("clean");
    world.under_way.push_back(cancel());
    assert!(world.turn() && world.turn() && world.step("test", "clean").is_none(), "that was the same cancellation");
    world.now += 10_000;
    world.under_way.push_back(cancel());
    assert_eq!(world.finish().step("test", "clean").unwrap().0, Outcome::Cancelled);
}

#[test]
fn a_worker_that_does_not_answer_a_cancellation_is_asked_for_a_minute() {
    let world = one(vec![nothing("a")]).reply("test/a", &[Reply::Deaf]).when("test/a", cancel()).finish();
    let asked = world.sent.iter().filter(|e| matches!(e.kind, Some(effect::Kind::CancelTask(_)))).count();
    assert!((25..=31).contains(&asked), "{asked}");
    assert_eq!(world.outcome(), Outcome::Cancelled);
}

#[test]
fn a_cancellation_that_overtakes_the_start_holds() {
    let mut world = one(vec![nothing("a")]);
    world.under_way.push_front(cancel());
    let world = world.finish();
    assert_eq!((world.outcome(), world.attempts("a")), (Outcome::Cancelled, 0));
}

#[test]
fn a_cancelled_approval_is_withdrawn() {
    let world = one(vec![approve("ask")]).reply("test/ask", &[Reply::Silent]).when("test/ask", cancel()).finish();
    assert!(world.log.contains("-> approval withdraw"), "{}", world.log);
}

#[test]
fn a_cancelled_run_leaves_the_queue_of_a_lock() {
    let lock = "storefront@prod-vms";
    let mut world = prod();
    world.under_way.push_front(Message::ToLock(lock.into(), acquire_of("other")));
    // The other run keeps the lock.
    world.turn();
    world.under_way.retain(|message| !matches!(message, Message::ToLock(..)));
    let mut world = world.until("lock");
    while !world.under_way.is_empty() {
        world.turn();
    }
    assert_eq!(world.locks[lock].waiting().count(), 1);
    insta::assert_snapshot!(explained(&world), @"prod/lock: the lock storefront@prod-vms, behind run 13; since 20; until the promotion or end of the run that holds it");
    world.under_way.push_back(cancel());
    while world.turn() {}
    assert_eq!((world.outcome(), world.locks[lock].waiting().count()), (Outcome::Cancelled, 0));
}

#[test]
fn a_watched_release_can_be_rolled_back_by_a_person() {
    let world = prod().reply("prod/watch", &[Reply::Silent]).when("prod/watch", roll_back("prod")).finish();
    assert_eq!((world.outcome(), world.stages().as_str()), (Outcome::RolledBack, "prod=rolled-back"));
}

#[test]
fn a_stage_that_has_ended_can_be_rolled_back_while_the_run_lives() {
    let stages = vec![canary("staging", &[], "vms"), stage("later", &["staging"], vec![approve("ask")])];
    let world = World::new(&plan(stages)).live("vms", "v1").reply("later/ask", &[Reply::Silent]).until("ask");
    let mut world = world;
    while world.stages().is_empty() {
        world.turn();
    }
    world.under_way.push_back(roll_back("staging"));
    world.under_way.push_back(roll_back("staging"));
    world.under_way.push_back(roll_back("later"));
    world.under_way.push_back(roll_back("prod"));
    let world = world.finish();
    assert_eq!(world.stages(), "staging=succeeded staging=rolled-back later=expired");
    let codes: Vec<_> = world.refusals.iter().map(|refusal| refusal.code.as_str()).collect();
    assert_eq!(codes, ["nothing-to-roll-back", "unknown-stage"]);
    assert_eq!(world.refusals[1].message, "the run has no stage `prod`; it has `staging`, `later`");
}

#[test]
fn what_was_approved_after_its_base_was_rolled_back_is_not_deployed() {
    let stages = vec![
        canary("staging", &[], "staging-vms"),
        stage("later", &["staging"], vec![approve("ask")]),
        canary("prod", &["later"], "prod-vms"),
        when(stage("tell", &["later"], vec![nothing("1")]), "rolled_back()"),
    ];
    let world = World::new(&plan(stages)).live("staging-vms", "v1").live("prod-vms", "v1");
    let world = world.when("later/ask", roll_back("staging")).finish();
    assert_eq!(world.stages(), "later=succeeded prod=skipped tell=succeeded staging=rolled-back");
    assert_eq!(world.outcome(), Outcome::RolledBack);
}

#[test]
fn a_deploy_stage_that_waits_for_people_gives_up_when_its_base_is_rolled_back() {
    let mut prod = canary("prod", &["staging"], "prod-vms");
    prod.steps.insert(0, approve("ask"));
    let world = World::new(&plan(vec![canary("staging", &[], "staging-vms"), prod]));
    let world = world.live("staging-vms", "v1").live("prod-vms", "v1").when("prod/ask", roll_back("staging")).finish();
    assert_eq!((world.outcome(), world.stages().as_str()), (Outcome::RolledBack, "prod=cancelled staging=rolled-back"));
    assert_eq!(world.step("prod", "observe").map(|(outcome, _)| outcome), Some(Outcome::Skipped));
}

#[test]
fn commands_for_a_run_that_has_ended_or_never_was_are_refused() {
    let mut world = prod().finish();
    for command in [cancel(), roll_back("prod")] {
        world.under_way.push_back(command);
    }
    while world.turn() {}
    assert!(world.refusals.iter().all(|refusal| refusal.code == "run-finished") && world.refusals.len() == 2);
    let Message::ToRun(signal) = roll_back("prod") else { panic!() };
    assert_eq!(Run::default().decide("r", Input::Signal(signal), 1).unwrap_err().code, "unknown-run");
}

#[test]
fn an_older_release_is_not_rolled_back_over_a_newer_one() {
    let world = prod().reply("prod/watch", &[Reply::Fail(ErrorClass::Verification)]);
    let lock = Message::ToLock("storefront@prod-vms".into(), acquire_of("newer"));
    let world = world.when("prod/rollback-lock", lock);
    let world = world.finish();
    assert_eq!(world.outcome(), Outcome::Failed);
    insta::assert_snapshot!(world.history.iter().rev().find_map(|event| match &event.kind {
        Some(Kind::RunFinished(end)) => Some(end.reason.clone()),
        _ => None,
    }).unwrap(), @"prod: `watch`: 3.4 % of requests fail, 0.2 % on v1; not rolled back, since it was superseded by run 13");
}

#[test]
fn a_newer_release_before_the_watch_begins_ends_it_too() {
    let mut made = canary("prod", &[], "prod-vms");
    let at = made.steps.iter().position(|step| step.id == "watch").unwrap();
    made.steps.insert(at, script("between", "x"));
    let world = World::new(&plan(vec![made])).live("prod-vms", "v1");
    let lock = "storefront@prod-vms".to_owned();
    let mut world = world.until("between");
    world.under_way.push_front(Message::ToLock(lock, acquire_of("newer")));
    let world = world.finish();
    assert_eq!((world.outcome(), world.attempts("watch")), (Outcome::Succeeded, 0));
    assert_eq!(world.step("prod", "watch").unwrap(), (Outcome::Superseded, "superseded by run 13".to_owned()));
}

#[test]
fn others_are_asked_again_under_the_same_id() {
    let world = one(vec![approve("ask")]).reply("test/ask", &[Reply::Silent]).finish();
    let ids: Vec<_> = world
        .sent
        .iter()
        .filter_map(|effect| match &effect.kind {
            Some(effect::Kind::Signal(sent)) => Some(&sent.signal.as_ref().unwrap().id),
            _ => None,
        })
        .filter(|id| id.ends_with(".request"))
        .collect();
    assert!((8..20).contains(&ids.len()), "{}", ids.len());
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[test]
fn a_plan_that_cannot_be_run_is_refused_with_the_reason() {
    let refused = |bytes: Vec<u8>| {
        let start = StartRun { plan: bytes, ..StartRun::default() };
        let signal = RunSignal { kind: Some(run_signal::Kind::Start(start)) };
        Run::default().decide("r", Input::Signal(signal), 1).unwrap_err()
    };
    let stages = |stages| refused(run::encode_plan(&plan(stages))).message;
    let circle = vec![stage("a", &["b"], vec![]), stage("b", &["a"], vec![])];
    assert_eq!(stages(circle), "stage `a` of the plan needs itself, directly or through others");
    assert_eq!(stages(vec![stage("a", &["x"], vec![])]), "stage `a` of the plan needs `x`, which is not in it");
    let twice = vec![stage("a", &[], vec![nothing("1"), nothing("1")])];
    assert_eq!(stages(twice), "stage `a` of the plan has two steps called `1`");
    assert_eq!(refused(b"{".to_vec()).code, "bad-plan");
}

#[test]
fn a_repeated_start_changes_nothing() {
    let mut world = one(vec![nothing("a")]);
    let start = world.under_way[0].clone();
    world.under_way.extend([start.clone(), start]);
    let world = world.finish();
    assert_eq!(world.attempts("a"), 1);
}

fn explained(world: &World) -> String {
    let waits = run::explain(&world.run, world.now + 60_000);
    let line = |w: run::Waiting| {
        let step = w.step.map_or(String::new(), |step| format!("/{step}"));
        format!("{}{step}: {}; since {}; until {}", w.stage, w.waits_for, w.since - 1_000_000, w.released_by)
    };
    waits.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn explain_says_what_a_run_waits_for() {
    let stages = vec![
        stage("ask", &[], vec![approve("ask")]),
        stage("test", &[], vec![Step { timeout_ms: 90_000, ..script("smoke", "x") }]),
        stage("flaky", &[], vec![script("again", "x").tried(2, 3_600_000)]),
        canary("prod", &["ask", "test"], "prod-vms"),
        Stage { needs: vec![], ..canary("qa", &[], "qa-vms") },
    ];
    let world = World::new(&plan(stages)).reply("ask/ask", &[Reply::Silent]).reply("test/smoke", &[Reply::Silent]);
    let world = world.reply("flaky/again", &[Reply::Fail(ErrorClass::Script)]).reply("qa/watch", &[Reply::Silent]);
    let mut world = world.until("watch");
    while !world.under_way.is_empty() {
        world.turn();
    }
    insta::assert_snapshot!(explained(&world), @r"
    ask/ask: approval by release-managers (1); since 10; until cdflow approve 12; expires in 58 min 59 s
    test/smoke: task 0192d0c0-7f3a-7c11-8f00-0242ac120002-test-smoke-1; since 10; until its result from an executor of pool `any`; given up in 29 s
    flaky/again: attempt 2 after attempt 1 failed: it did not work; since 60; until time, in 58 min 59 s
    prod: stages `ask`, `test`; since 10; until their promotion or end
    qa/watch: the end of the watch; since 170; until 1 h without a sign of harm, or a newer release
    ");
    assert_eq!(run::explain(&prod().finish().run, 0), []);
}
