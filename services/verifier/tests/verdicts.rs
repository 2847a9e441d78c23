//! What a stage is told, and when.

use cdflow_journal::{Aggregate as _, Input};
use cdflow_protocol::v1::{
    Basis, BeginPhase, EndVerification, ErrorClass, Outcome, TaskResult, VerdictKind, verification_signal,
};
use cdflow_verifier::Verification;

mod stage;
use stage::{ID, Process, Stage};

const MINUTE: i64 = 60_000;

#[test]
fn a_first_release_passes_on_guards_once_it_is_baked() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    assert_eq!(stage.until_answer(100, (200, 0), (0, 0)), Some(20));
    assert_eq!(stage.verdict().kind(), VerdictKind::Pass);
    assert_eq!(stage.verdict().basis(), Basis::Guards);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 passes at 100 % of the traffic with nothing to compare it with: 0 of 3,800 requests failed in 20 s, limit 5 %"
    );
    assert!(stage.collectors.is_empty(), "nothing is read any more");
}

#[test]
fn a_first_release_above_the_limit_fails_at_once() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    assert_eq!(stage.until_answer(100, (60, 6), (0, 0)), Some(3));
    assert_eq!(stage.verdict().kind(), VerdictKind::Fail);
    assert_eq!(stage.verdict().basis(), Basis::Guards);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 fails at 100 % of the traffic: 12 of 120 requests to it failed (10 %), the limit is 5 %"
    );
}

#[test]
fn a_first_release_with_too_few_requests_is_undecided() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, MINUTE));
    assert_eq!(stage.until_answer(60, (1, 0), (0, 0)), Some(60));
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 is undecided at 100 % of the traffic after 1 min: 59 requests, 100 are wanted"
    );
}

#[test]
fn a_release_worse_than_the_control_fails_as_soon_as_the_evidence_is_there() {
    let mut stage = Stage::with_control();
    stage.profile.max_error_rate = 0.5;
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    let seconds = stage.until_answer(600, (30, 1), (300, 2)).expect("a verdict");
    assert!(seconds < 20, "{seconds}");
    assert_eq!(stage.verdict().kind(), VerdictKind::Fail);
    assert_eq!(stage.verdict().basis(), Basis::Control);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 fails at 5 % of the traffic: 9 of 270 requests to it failed (3.3 %) against 36 of 5,400 (0.67 %) on v1.1.0 \
         in the same 9 s; odds 5.1 times as high (99 % confidence sequence 1.1 to 19.2)"
    );
    assert_eq!(stage.figure("compared, v1.2.0"), "9 of 270 failed (3.3 %)");
    assert_eq!(stage.figure("traffic"), "5 %");
}

#[test]
fn a_release_as_good_as_the_control_passes_each_weight_with_the_evidence_of_all() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    let first = stage.until_answer(600, (200, 1), (1_900, 10)).expect("a verdict");
    assert!((20..120).contains(&first), "{first}");
    assert_eq!(stage.verdict().kind(), VerdictKind::Pass);
    assert_eq!(stage.verdict().basis(), Basis::Control);
    assert!(
        stage
            .sentence()
            .contains("if its odds of failing were 2 times as high, it would look this good less than once in "),
        "{}",
        stage.sentence()
    );
    stage.begin(stage.phase("verify-25", 25, 10 * MINUTE));
    assert_eq!(stage.until_answer(600, (1_000, 5), (1_500, 8)), Some(20), "only the bake time is left");
    assert_eq!(stage.verdict().kind(), VerdictKind::Pass);
}

#[test]
fn a_release_that_breaks_at_a_later_weight_fails_there() {
    let mut stage = Stage::with_control();
    stage.profile.max_error_rate = 0.5;
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    stage.until_answer(600, (200, 1), (1_900, 10)).expect("a verdict");
    stage.begin(stage.phase("verify-25", 25, 10 * MINUTE));
    let seconds = stage.until_answer(600, (1_000, 25), (1_500, 8)).expect("a verdict");
    assert_eq!(stage.verdict().kind(), VerdictKind::Fail, "{}", stage.sentence());
    assert!(seconds < 10, "{seconds}");
}

#[test]
fn without_any_failure_the_limit_decides_and_it_says_so() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    assert_eq!(stage.until_answer(600, (50, 0), (475, 0)), Some(20));
    assert_eq!(stage.verdict().kind(), VerdictKind::Pass);
    assert_eq!(stage.verdict().basis(), Basis::Guards);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 passes at 5 % of the traffic: none of 950 requests to it failed in 20 s, nor did any of 18,050 on v1.1.0; \
         too few failures to compare, so the limit of 5 % decides"
    );
}

#[test]
fn a_comparison_without_enough_evidence_is_undecided_and_says_what_it_could_have_seen() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, MINUTE));
    stage.second((0, 0), (0, 0));
    stage.second((10, 1), (100, 1));
    assert_eq!(stage.until_answer(600, (10, 0), (100, 0)), Some(58));
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert_eq!(stage.verdict().basis(), Basis::Control);
    assert!(stage.sentence().contains("undecided at 5 % of the traffic after 1 min: 1 of 590"), "{}", stage.sentence());
    assert!(stage.sentence().ends_with("times the odds cannot be seen in this time"), "{}", stage.sentence());
}

#[test]
fn no_data_is_never_a_pass() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, MINUTE));
    stage.tick();
    assert!(stage.answers.is_empty(), "a tick before the deadline changes nothing");
    stage.tick_at_deadline();
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 is undecided at 5 % of the traffic: its counters could not be read in 1 min; no reading arrived: is a \
         collector running for this pool?"
    );

    let mut stage = Stage::first_release();
    stage.processes[0].failure = "http://x answered 404 Not Found".into();
    stage.begin(stage.phase("verify", 100, MINUTE));
    stage.until_answer(60, (10, 0), (0, 0)).expect("a verdict");
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert!(stage.sentence().ends_with("the last reason was: new-1: http://x answered 404 Not Found"));

    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, MINUTE));
    stage.until_answer(60, (0, 0), (0, 0)).expect("a verdict");
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert!(stage.sentence().contains("it counted no request"), "{}", stage.sentence());
}

#[test]
fn a_release_that_falls_silent_while_the_control_answers_fails() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    for _ in 0..5 {
        stage.second((10, 0), (100, 0));
    }
    stage.processes[0].failure = "connection refused".into();
    assert_eq!(stage.until_answer(10, (0, 0), (100, 0)), Some(3));
    assert_eq!(stage.verdict().kind(), VerdictKind::Fail);
    assert_eq!(
        stage.sentence(),
        "v1.2.0 fails at 5 % of the traffic: no instance of it could be read 3 times in a row while v1.1.0 could \
         (new-1: connection refused)"
    );
}

#[test]
fn when_both_fall_silent_nobody_is_blamed() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, MINUTE));
    stage.processes.iter_mut().for_each(|process| process.failure = "no route to host".into());
    assert_eq!(stage.until_answer(60, (0, 0), (0, 0)), Some(60));
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
}

#[test]
fn a_watch_passes_only_at_its_end() {
    let mut stage = Stage::first_release();
    stage.watch(2 * MINUTE);
    assert_eq!(stage.until_answer(200, (100, 0), (0, 0)), Some(120));
    assert_eq!(stage.verdict().kind(), VerdictKind::Pass);
    assert!(stage.sentence().starts_with("v1.2.0 passes after promotion with nothing to compare it with: 0 of 11,900"));
}

#[test]
fn a_watch_ends_on_time_also_without_a_reading_at_that_moment() {
    let mut stage = Stage::first_release();
    stage.watch(2 * MINUTE);
    for _ in 0..100 {
        stage.second((100, 0), (0, 0));
    }
    stage.tick_at_deadline();
    assert_eq!(stage.verdict().kind(), VerdictKind::Pass);
}

#[test]
fn a_watch_with_too_little_data_is_undecided() {
    let mut stage = Stage::first_release();
    stage.watch(2 * MINUTE);
    for _ in 0..30 {
        stage.second((100, 0), (0, 0));
    }
    stage.tick_at_deadline();
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert!(stage.sentence().contains("it could be read only 30 times in that time"), "{}", stage.sentence());
}

#[test]
fn a_watch_notices_an_outage_after_an_hour_of_good_service() {
    let mut stage = Stage::first_release();
    stage.watch(120 * MINUTE);
    for _ in 0..3_600 {
        stage.second((100, 0), (0, 0));
    }
    let seconds = stage.until_answer(100, (100, 60), (0, 0)).expect("a verdict");
    assert!(seconds <= 2, "{seconds}");
    assert!(stage.sentence().contains("of its latest requests failed"), "{}", stage.sentence());
}

#[test]
fn a_watch_beside_an_older_release_notices_harm_that_begins_late() {
    let mut stage = Stage::with_control();
    stage.profile.max_error_rate = 0.5;
    let phase = stage.phase("watch", 50, 30 * MINUTE);
    stage.begin(BeginPhase { watch: true, ..phase });
    for _ in 0..900 {
        stage.second((200, 1), (100, 1));
    }
    assert!(stage.answers.is_empty());
    let seconds = stage.until_answer(300, (200, 10), (100, 1)).expect("a verdict");
    assert_eq!(stage.verdict().kind(), VerdictKind::Fail, "{}", stage.sentence());
    assert!(seconds < 30, "{seconds}");
}

#[test]
fn a_step_that_asks_again_is_answered_again_and_never_starts_again() {
    let mut stage = Stage::first_release();
    let phase = stage.phase("verify", 100, 10 * MINUTE);
    stage.begin(phase.clone());
    let events = stage.events.len();
    stage.begin(phase.clone());
    assert_eq!(stage.events.len(), events, "a repeated question changes nothing");
    stage.until_answer(100, (200, 0), (0, 0)).expect("a verdict");
    let events = stage.events.len();
    stage.begin(phase);
    assert_eq!(stage.events.len(), events);
    assert_eq!(stage.answers.len(), 2);
    assert_eq!(stage.answers[0], stage.answers[1]);
}

#[test]
fn a_new_phase_stops_the_collector_of_the_one_before() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    assert_eq!(stage.collectors[0].id, "run-1-prod-collect-verify-5-1");
    stage.begin(stage.phase("verify-25", 25, 10 * MINUTE));
    let ids: Vec<_> = stage.collectors.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["run-1-prod-collect-verify-25-2"]);
    assert_eq!(stage.verification.outstanding_tasks(), ids);
}

#[test]
fn readings_of_an_earlier_collector_are_not_taken() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    let old = stage.readings();
    stage.begin(stage.phase("verify-25", 25, 10 * MINUTE));
    stage.now += 1_000;
    let events = stage.events.len();
    stage.signal(verification_signal::Kind::Readings(old));
    assert_eq!(stage.events.len(), events);
}

#[test]
fn a_lost_collector_is_replaced_and_the_evidence_stays() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    for _ in 0..10 {
        stage.second((200, 0), (0, 0));
    }
    let lost = stage.collectors.remove(0).id;
    stage.input(Input::TaskLost(lost.clone()));
    stage.input(Input::TaskLost(lost));
    assert_eq!(stage.collectors.len(), 1, "replaced once");
    assert_eq!(stage.until_answer(100, (200, 0), (0, 0)), Some(10));
}

#[test]
fn a_collector_that_cannot_work_ends_the_phase_with_its_reason() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    stage.task_result(TaskResult {
        task_id: stage.collectors[0].id.clone(),
        outcome: Outcome::Failed.into(),
        error_class: ErrorClass::Configuration.into(),
        message: "the selector `x{` cannot be read".into(),
        ..TaskResult::default()
    });
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert_eq!(stage.sentence(), "undecided: counters cannot be read: the selector `x{` cannot be read");
}

#[test]
fn a_collector_that_keeps_failing_is_not_started_for_ever() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    for _ in 0..50 {
        let Some(task) = stage.collectors.pop() else { break };
        stage.task_result(TaskResult {
            task_id: task.id,
            outcome: Outcome::Failed.into(),
            error_class: ErrorClass::Transient.into(),
            message: "out of sockets".into(),
            ..TaskResult::default()
        });
    }
    assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
    assert!(stage.sentence().ends_with("out of sockets"));
}

#[test]
fn the_end_stops_everything_and_stays() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    stage.end();
    stage.end();
    assert!(stage.collectors.is_empty());
    assert!(stage.verification.is_finished());
    assert_eq!(stage.verification.deadline(), None);
    stage.begin(stage.phase("verify-25", 25, 10 * MINUTE));
    assert!(stage.collectors.is_empty());
}

#[test]
fn an_end_that_overtakes_the_beginning_wins() {
    let mut stage = Stage::with_control();
    stage.signal(verification_signal::Kind::End(EndVerification { reason: "cancelled".into() }));
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    assert!(stage.collectors.is_empty());
    assert!(stage.verification.is_finished());
}

#[test]
fn a_phase_that_cannot_be_judged_is_answered_at_once() {
    let ask = |change: fn(&mut BeginPhase)| {
        let mut stage = Stage::with_control();
        let mut phase = stage.phase("verify-5", 5, 10 * MINUTE);
        change(&mut phase);
        stage.begin(phase);
        assert_eq!(stage.verdict().kind(), VerdictKind::Inconclusive);
        assert!(stage.collectors.is_empty());
        stage.sentence().to_owned()
    };
    assert!(
        ask(|phase| phase.profile = b"{}".to_vec())
            .starts_with("undecided: the health profile in the plan cannot be read")
    );
    assert_eq!(ask(|phase| phase.arms.clear()), "undecided: there is no instance of the new release to read");
    assert_eq!(ask(|phase| phase.within_ms = 0), "undecided: there is no time to verify in: `within` is 0 ms");
    let with_alpha = |phase: &mut BeginPhase| {
        let mut profile = stage::profile();
        profile.alpha = 1.0;
        phase.profile = serde_json::to_vec(&profile).expect("JSON");
    };
    let mut stage = Stage::with_control();
    let mut phase = stage.phase("verify-5", 5, 10 * MINUTE);
    with_alpha(&mut phase);
    stage.begin(phase);
    assert_eq!(stage.sentence(), "undecided: the health profile `web`: alpha is 1: it must be above 0 and below 1");
}

#[test]
fn a_restart_gives_no_stratum_and_its_failures_still_count_for_the_limit() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    for _ in 0..5 {
        stage.second((100, 0), (100, 0));
    }
    stage.processes[0].restart();
    stage.second((40, 38), (100, 0));
    assert_eq!(stage.verdict().kind(), VerdictKind::Fail);
    assert_eq!(stage.verdict().basis(), Basis::Guards);
    assert_eq!(stage.figure("compared, v1.2.0"), "0 of 400 failed");
    assert_eq!(stage.figure("restarts, v1.2.0"), "1");
    assert!(stage.sentence().contains("38 of 440 requests to it failed"), "{}", stage.sentence());
}

#[test]
fn a_stratum_waits_for_every_instance_and_then_covers_the_same_time_for_all() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    stage.second((10, 0), (100, 0));
    stage.processes[1].failure = "timeout".into();
    stage.second((10, 0), (100, 0));
    stage.second((10, 0), (100, 0));
    stage.processes[1].failure.clear();
    stage.second((10, 0), (100, 0));
    stage.tick_at_deadline();
    assert_eq!(stage.figure("compared, v1.2.0"), "0 of 30 failed");
    assert_eq!(stage.figure("compared, v1.1.0"), "0 of 600 failed");
    assert_eq!(stage.figure("last reading that failed, v1.1.0"), "old-1: timeout");
}

#[test]
fn an_instance_that_is_gone_does_not_hold_up_the_rest() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    stage.processes[1].failure = "timeout".into();
    for _ in 0..5 {
        stage.second((10, 0), (100, 0));
    }
    stage.processes[2].failure = "timeout".into();
    stage.tick_at_deadline();
    assert_eq!(stage.figure("compared, v1.1.0"), "0 of 400 failed");
}

#[test]
fn counters_that_fall_without_a_restart_are_readings_out_of_order() {
    let mut stage = Stage::with_control();
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    stage.second((10, 0), (100, 0));
    stage.second((10, 0), (100, 0));
    stage.processes[0].requests -= 5;
    stage.second((0, 0), (100, 0));
    stage.processes[0].requests += 5;
    stage.second((10, 0), (100, 0));
    stage.tick_at_deadline();
    assert_eq!(stage.figure("compared, v1.2.0"), "0 of 20 failed");
    assert_eq!(stage.figure("compared, v1.1.0"), "0 of 600 failed");
    assert_eq!(stage.figure("restarts, v1.2.0"), "missing");
}

#[test]
fn a_process_that_does_not_say_when_it_started_has_restarted_when_its_counters_fall() {
    let mut stage = Stage::first_release();
    stage.processes[0].started = 0.0;
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    stage.second((100, 0), (0, 0));
    stage.second((100, 0), (0, 0));
    stage.processes[0].requests = 0;
    stage.second((30, 0), (0, 0));
    stage.tick_at_deadline();
    assert_eq!(stage.figure("requests, v1.2.0"), "0 of 130 failed");
    assert_eq!(stage.figure("restarts, v1.2.0"), "1");
}

#[test]
fn a_counter_that_jumps_beyond_belief_is_a_failed_reading() {
    let mut stage = Stage::first_release();
    stage.begin(stage.phase("verify", 100, 10 * MINUTE));
    stage.second((100, 0), (0, 0));
    stage.second((u64::from(u32::MAX), 0), (0, 0));
    stage.tick_at_deadline();
    assert_eq!(stage.figure("requests, v1.2.0"), "0 of 0 failed");
    assert!(stage.figure("last reading that failed, v1.2.0").contains("which is not believed"));
}

#[test]
fn many_instances_on_both_sides_are_summed() {
    let mut stage = Stage::with_control();
    stage.processes.push(Process::new("new-2", true));
    stage.begin(stage.phase("verify-5", 5, 10 * MINUTE));
    stage.second((10, 0), (100, 0));
    stage.second((10, 0), (100, 0));
    stage.tick_at_deadline();
    assert_eq!(stage.figure("compared, v1.2.0"), "0 of 20 failed");
    assert_eq!(stage.figure("compared, v1.1.0"), "0 of 200 failed");
}

#[test]
fn damaged_checkpoints_are_refused() {
    assert!(Verification::restore(b"\xff\xff\xff").is_err());
    assert_eq!(Verification::restore(&Verification::default().checkpoint()), Ok(Verification::default()));
    let mut stage = Stage::with_control();
    assert!(stage.verification.decide(ID, Input::Signal(Default::default()), stage.now).is_err());
    stage.begin(stage.phase("verify-5", 5, MINUTE));
    assert_eq!(Verification::restore(&stage.verification.checkpoint()).as_ref(), Ok(&stage.verification));
}
