//! Whole runs as golden files: what happens, in which order, and what is sent.

use cdflow_pipeline::{Configuration, Request, compile, init_example};
use cdflow_protocol::v1::{ErrorClass, Outcome};

use crate::{
    plans::{approve, canary, once, plan, script, stage},
    world::{Message, Reply, World, acquire_of, cancel},
};

const PROD: &str = "storefront@prod-vms";

fn prod() -> World {
    World::new(&plan(vec![canary("prod", &[], "prod-vms")]))
}

#[test]
fn a_canary_that_is_fine_is_promoted_and_watched() {
    let world = prod().live("prod-vms", "v1").finish();
    insta::assert_snapshot!(world.log);
    assert_eq!(world.targets[PROD].live.as_ref().unwrap().version, "v2");
}

#[test]
fn a_canary_that_fails_at_5_percent_is_taken_back() {
    let world = prod().live("prod-vms", "v1").reply("prod/verify-5", &[Reply::Fail(ErrorClass::Verification)]);
    let world = world.finish();
    insta::assert_snapshot!(world.log);
    assert_eq!(world.targets[PROD].serves(), crate::target::Target::with("v1").serves());
}

#[test]
fn a_first_release_that_fails_is_removed() {
    let world = prod().reply("prod/verify-5", &[Reply::Fail(ErrorClass::Verification)]).finish();
    insta::assert_snapshot!(world.log);
    assert_eq!(world.targets[PROD].serves(), crate::target::Target::default().serves());
}

#[test]
fn harm_while_watching_brings_the_old_release_back() {
    let world = prod().live("prod-vms", "v1").reply("prod/watch", &[Reply::Fail(ErrorClass::Verification)]);
    let world = world.finish();
    insta::assert_snapshot!(world.log);
    assert_eq!(world.targets[PROD].serves(), crate::target::Target::with("v1").serves());
}

#[test]
fn a_newer_release_ends_the_watch() {
    let world = prod().live("prod-vms", "v1").reply("prod/watch", &[Reply::Silent]);
    let world = world.when("prod/watch", Message::ToLock(PROD.into(), acquire_of("newer"))).finish();
    insta::assert_snapshot!(world.log);
    assert_eq!(world.outcome(), Outcome::Succeeded);
}

#[test]
fn a_rejected_approval_ends_the_run_before_production() {
    let stages = vec![stage("approve", &[], vec![approve("ask")]), canary("prod", &["approve"], "prod-vms")];
    let world = World::new(&plan(stages)).live("prod-vms", "v1");
    let world = world.reply("approve/ask", &[Reply::Fail(ErrorClass::ApprovalRejected)]).finish();
    insta::assert_snapshot!(world.log);
}

#[test]
fn a_run_cancelled_in_the_middle_of_a_verb_stops_it_and_goes_back() {
    let world = prod().live("prod-vms", "v1").reply("prod/shift-5", &[Reply::Silent]);
    let world = world.when("prod/shift-5", cancel()).finish();
    insta::assert_snapshot!(world.log);
}

#[test]
fn a_lost_verb_is_sent_again_with_a_new_id() {
    let world = prod().live("prod-vms", "v1").reply("prod/stage", &[Reply::Lost { done: true }, Reply::Ok]);
    insta::assert_snapshot!(world.finish().log);
}

#[test]
fn a_lost_script_is_repeated_unless_it_must_not_be() {
    let stages = vec![stage("test", &[], vec![script("smoke", "./smoke")]), stage("db", &[], vec![once("migrate")])];
    let lost = [Reply::Lost { done: false }, Reply::Ok];
    let world = World::new(&plan(stages)).reply("test/smoke", &lost).reply("db/migrate", &lost);
    insta::assert_snapshot!(world.finish().log);
}

#[test]
fn the_pipeline_of_cdflow_init_runs_to_its_end() {
    let configuration = Configuration::parse(init_example()).unwrap();
    let request = Request { pipeline: "storefront".into(), version: Some("v1.2.0".into()), ..Request::default() };
    let world = World::new(&compile(&configuration, &request).unwrap()).finish();
    insta::assert_snapshot!(world.log);
    assert_eq!(world.outcome(), Outcome::Succeeded);
}
