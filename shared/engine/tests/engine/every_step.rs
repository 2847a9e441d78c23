//! For every step of every kind: fail it, repeat its answer, lose it, say nothing. The rules that hold for each run that
//! has ended are checked at the end of each (`World::assert_sound`).

use cdflow_pipeline::plan::{Action, Plan, Step};
use cdflow_protocol::v1::{ErrorClass, Outcome};

use crate::{
    plans::{approve, canary, nothing, once, plan, script, stage, step},
    world::{Reply, World},
};

fn all_kinds() -> Plan {
    let timed = |step: Step| Step { timeout_ms: 60_000, ..step };
    let before = vec![
        timed(script("test", "./test")),
        timed(once("migrate")),
        timed(nothing("nothing")),
        step("pause", Action::Wait { duration_ms: 1_000 }),
        approve("ask"),
    ];
    plan(vec![stage("before", &[], before), canary("prod", &["before"], "prod-vms")])
}

fn steps(rollback: bool) -> Vec<(String, Action)> {
    let plan = all_kinds();
    let of_stage = |stage: &cdflow_pipeline::plan::Stage| {
        let steps = if rollback { stage.rollback.clone() } else { stage.steps.clone() };
        steps.into_iter().map(|step| (format!("{}/{}", stage.id, step.id), step.action)).collect::<Vec<_>>()
    };
    plan.stages.iter().flat_map(of_stage).collect()
}

fn is_task(action: &Action) -> bool {
    matches!(action, Action::Verb { .. } | Action::Run { .. } | Action::Nothing { .. })
}

fn is_answered(action: &Action) -> bool {
    is_task(action) || matches!(action, Action::Approve { .. } | Action::Verify { .. } | Action::Watch { .. })
}

fn world(first: bool) -> World {
    let world = World::new(&all_kinds());
    if first { world } else { world.live("prod-vms", "v1") }
}

fn name(step: &str) -> &str {
    step.split_once('/').unwrap().1
}

#[test]
fn a_step_that_fails_ends_the_run_in_order() {
    for first in [true, false] {
        for (step, _) in steps(false).iter().filter(|(_, action)| is_answered(action)) {
            let world = world(first).reply(step, &[Reply::Fail(ErrorClass::Authorization)]).finish();
            assert_ne!(world.outcome(), Outcome::Succeeded, "{step}");
            assert_eq!(world.attempts(name(step)), 1, "{step} must not be tried again");
        }
    }
}

#[test]
fn a_step_whose_answer_comes_twice_goes_on_once() {
    for first in [true, false] {
        let plain = world(first).finish();
        for (step, _) in steps(false).iter().filter(|(_, action)| is_task(action)) {
            let world = world(first).reply(step, &[Reply::Twice(Box::new(Reply::Ok))]).finish();
            assert_eq!(world.history.len(), plain.history.len(), "{step}");
        }
    }
}

#[test]
fn a_step_that_is_lost_is_done_again_or_fails_if_it_must_not_be() {
    for done in [true, false] {
        for (step, action) in steps(false).iter().filter(|(_, action)| is_task(action)) {
            let world = world(false).reply(step, &[Reply::Lost { done }, Reply::Lost { done }, Reply::Ok]).finish();
            let once = matches!(action, Action::Run { repeat_on_crash: false, .. });
            assert_eq!(world.attempts(name(step)), if once { 1 } else { 3 }, "{step}");
            assert_eq!(world.outcome(), if once { Outcome::Failed } else { Outcome::Succeeded }, "{step}");
        }
    }
}

#[test]
fn a_step_that_kills_every_worker_is_given_up() {
    for (step, _) in steps(false).iter().filter(|(_, action)| is_task(action)) {
        let world = world(false).reply(step, &[Reply::Lost { done: false }]).finish();
        assert!(world.attempts(name(step)) <= 26, "{step}");
        assert_ne!(world.outcome(), Outcome::Succeeded);
    }
}

#[test]
fn a_step_that_nobody_answers_is_given_up_in_time() {
    for first in [true, false] {
        for (step, _) in steps(false).iter().filter(|(_, action)| is_answered(action)) {
            for reply in [Reply::Silent, Reply::Deaf] {
                let world = world(first).reply(step, &[reply]).finish();
                assert_ne!(world.outcome(), Outcome::Succeeded, "{step}");
            }
        }
    }
}

fn failing(first: bool) -> World {
    world(first).reply("prod/verify-5", &[Reply::Fail(ErrorClass::Verification)])
}

#[test]
fn a_step_of_the_rollback_that_fails_stops_it_and_asks_for_a_person() {
    for (step, action) in steps(true).iter().filter(|(_, action)| is_task(action)) {
        let Action::Verb { verb, .. } = action else { continue };
        let world = failing(false).reply(step, &[Reply::Fail(ErrorClass::Infrastructure)]).finish();
        assert_eq!(world.outcome(), Outcome::Failed, "{step} ({verb:?})");
        assert!(world.log.contains("a person has to look"), "{}", world.log);
        assert_eq!(world.attempts(name(step)), 1);
    }
}

#[test]
fn a_step_of_the_rollback_that_is_lost_or_repeated_changes_nothing_in_the_end() {
    for first in [true, false] {
        for (step, _) in steps(true).iter().filter(|(_, action)| is_task(action)) {
            for reply in [Reply::Lost { done: true }, Reply::Lost { done: false }, Reply::Twice(Box::new(Reply::Ok))] {
                let world = failing(first).reply(step, &[reply, Reply::Ok]).finish();
                assert_eq!(world.outcome(), Outcome::RolledBack, "{step}");
            }
        }
    }
}
