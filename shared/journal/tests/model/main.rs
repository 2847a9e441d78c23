//! The journal protocol as a model that a machine checks. It can be read as the specification.
//!
//! One partition, one run of two steps and the peer that it asks, two owners, two workers, one target. Everything that may
//! happen in any order happens in every order; what may go wrong is limited by a budget per configuration, so that all states
//! are visited. With all rules on, every configuration holds all invariants; without any one of the rules 1–6 (and of what
//! the model showed to be part of them) the checker finds a counterexample, whose length the tests print.
//!
//! # Where to read what
//! | file | holds |
//! |---|---|
//! | `aggregates.rs` | the run, the peer, the fold of the journal (10) |
//! | `state.rs` | the streams and everything else that is there at one moment; JOURNAL's conditional append; acks |
//! | `owner.rs` | taking over (2), recovery (4, 5), decide, append (8), ack (1), send (3), checkpoint and trim (14) |
//! | `worker.rs` | receive, work, store the result, acknowledge the task, announce (5, 17) |
//! | `target.rs` | the fence (6) |
//! | `faults.rs` | crash, pause, late append, loss of TASKS |
//! | `rules.rs` | the switches |
//! | `invariants.rs`, `ends.rs` | what must hold, and that every run can end |
//!
//! # What the model leaves out
//! A journal that goes back (7), ids and the duplicate window (9: there is none here, so whatever is sent twice arrives twice),
//! full streams (11), poison (12), sizes (13), versions (15), several partitions (21), outside reads (22), secrets (23). Time
//! is only that a lease may run out and that step one may be given up (16, 17). The run does not ask its peer again: what
//! rule 3 sends again is enough here. A batch of acks is one action; a crash within it leaves messages that are delivered again
//! and change nothing, which a crash before it does too.
//!
//! # What the model showed
//! Beyond the sentences of rules 1–6, each with a test that takes it out:
//! - **2**: a taker that was paused must neither delete its successor's consumer nor create its own beside it
//!   ([`rules::Rules::newest_consumer_wins`]).
//! - **5**: also a *new* owner waits until a worker lease has passed since TASKS was created
//!   ([`rules::Rules::silence_before_reading`]); and one look is not enough: a task that is announced and not in TASKS is
//!   watched, since no message comes back when its worker dies ([`rules::Rules::watch_announcements`]).
//! - **14**: commits above `dispatched_through` are not trimmed ([`rules::Rules::trim_after_dispatch`]).
//! - **4, 6**: two ways remain in which a step is done twice, under rising fences: a worker dies after the result is stored
//!   and before the task is acknowledged (the redelivery has a higher fence); and a former owner sends a task after its
//!   successor has looked for it and dispatched again, and the former task is done first. Scripts are at least once for that
//!   reason too.

mod aggregates;
mod ends;
mod faults;
mod invariants;
mod model;
mod owner;
mod rules;
mod state;
mod target;
mod worker;

use invariants::{
    CHECKPOINT_AND_TAIL, EVERY_RUN_ENDS, FENCES_RISE, NO_SIGNAL_LOST, NO_STEP_REPEATED, ONE_HISTORY,
    ONLY_COMMITTED_LEAVES,
};
use model::Journal;
use rules::Rules;
use state::Begin::{self, Peer, Sent, Start, Steps};
use state::Budget;
use stateright::{Checker, HasDiscoveries, Model};

const NO_FAULT: Budget = Budget {
    owner_crashes: 0,
    owner_pauses: 0,
    worker_crashes: 0,
    worker_pauses: 0,
    task_losses: 0,
    timeouts: 0,
    checkpoints: 0,
};

/// Visits all states; every invariant holds in each.
fn holds(begin: Begin, budget: Budget) {
    let checker = Journal { rules: Rules::ALL, begin, budget }.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    eprintln!("{states} states, depth {depth}: from {begin:?} with {budget:?}");
    if let Some((invariant, path)) = checker.discoveries().into_iter().next() {
        panic!("\"{invariant}\" does not hold from {begin:?} with {budget:?}: {:#?}", path.into_actions());
    }
}

/// Without a rule, this invariant does not hold.
fn breaks(rule: &str, rules: Rules, begin: Begin, budget: Budget, invariant: &'static str) {
    let model = Journal { rules, begin, budget };
    let wanted = HasDiscoveries::AnyOf([invariant].into_iter().collect());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let states = checker.unique_state_count();
    let Some(path) = checker.discovery(invariant) else {
        panic!("without {rule}, \"{invariant}\" holds in all {states} states from {begin:?} with {budget:?}");
    };
    let actions = path.into_actions();
    eprintln!("without {rule}: not \"{invariant}\" after {} actions ({states} states)", actions.len());
    for action in actions {
        eprintln!("    {action:?}");
    }
}

/// From every state a good end can be reached.
fn ends(begin: Begin, budget: Budget) {
    let (states, dead) = ends::dead_end(&Journal { rules: Rules::ALL, begin, budget });
    eprintln!("{states} states have a way to a good end: from {begin:?} with {budget:?}");
    assert_eq!(dead, None, "this state has no way to a good end");
}

#[test]
fn a_run_holds_all_invariants_without_faults() {
    holds(Start, NO_FAULT);
}

#[test]
fn a_worker_may_crash_and_pause() {
    holds(Start, Budget { worker_crashes: 1, ..NO_FAULT });
    holds(Steps, Budget { worker_crashes: 1, worker_pauses: 1, ..NO_FAULT });
    holds(Steps, Budget { worker_pauses: 1, timeouts: 1, ..NO_FAULT });
}

#[test]
fn tasks_may_vanish() {
    holds(Start, Budget { task_losses: 1, ..NO_FAULT });
    holds(Steps, Budget { task_losses: 1, worker_crashes: 1, ..NO_FAULT });
    holds(Steps, Budget { task_losses: 1, worker_pauses: 1, ..NO_FAULT });
    holds(Steps, Budget { task_losses: 1, timeouts: 1, ..NO_FAULT });
    holds(Steps, Budget { task_losses: 2, ..NO_FAULT });
}

#[test]
fn an_owner_may_crash() {
    holds(Peer, Budget { owner_crashes: 2, ..NO_FAULT });
    holds(Steps, Budget { owner_crashes: 1, timeouts: 1, ..NO_FAULT });
    holds(Sent, Budget { owner_crashes: 1, worker_crashes: 1, ..NO_FAULT });
    holds(Sent, Budget { owner_crashes: 1, task_losses: 1, ..NO_FAULT });
}

#[test]
fn an_owner_may_pause_and_wake_as_a_former_owner() {
    holds(Peer, Budget { owner_pauses: 1, ..NO_FAULT });
    holds(Sent, Budget { owner_pauses: 1, timeouts: 1, ..NO_FAULT });
    holds(Sent, Budget { owner_pauses: 1, task_losses: 1, ..NO_FAULT });
}

#[test]
fn a_new_owner_may_begin_at_a_checkpoint_of_a_trimmed_journal() {
    holds(Peer, Budget { owner_crashes: 2, checkpoints: 2, ..NO_FAULT });
    holds(Sent, Budget { owner_crashes: 1, checkpoints: 2, ..NO_FAULT });
}

#[test]
fn every_run_can_end_from_every_state() {
    ends(Start, NO_FAULT);
    ends(Steps, Budget { worker_crashes: 1, worker_pauses: 1, ..NO_FAULT });
    ends(Steps, Budget { task_losses: 1, worker_pauses: 1, ..NO_FAULT });
    ends(Steps, Budget { task_losses: 1, timeouts: 1, ..NO_FAULT });
    ends(Peer, Budget { owner_pauses: 1, ..NO_FAULT });
    ends(Peer, Budget { owner_crashes: 1, checkpoints: 2, ..NO_FAULT });
}

#[test]
#[ignore = "minutes and several GB: cargo test -p cdflow-journal --release --test model -- --ignored"]
fn two_faults_together_with_more_interleavings() {
    holds(Sent, Budget { owner_pauses: 1, worker_pauses: 1, ..NO_FAULT });
    holds(Peer, Budget { owner_pauses: 1, owner_crashes: 1, ..NO_FAULT });
    holds(Steps, Budget { owner_crashes: 1, worker_pauses: 1, ..NO_FAULT });
    holds(Steps, Budget { owner_crashes: 1, worker_crashes: 1, ..NO_FAULT });
    holds(Steps, Budget { owner_crashes: 1, task_losses: 1, ..NO_FAULT });
    holds(Steps, Budget { owner_crashes: 1, checkpoints: 2, ..NO_FAULT });
    holds(Steps, Budget { owner_pauses: 1, ..NO_FAULT });
}

#[test]
#[ignore = "long and many GB: cargo test -p cdflow-journal --release --test model -- --ignored"]
fn a_former_owner_and_lost_tasks_or_time_together() {
    holds(Steps, Budget { owner_pauses: 1, timeouts: 1, ..NO_FAULT });
    holds(Steps, Budget { owner_pauses: 1, task_losses: 1, ..NO_FAULT });
}

#[test]
#[ignore = "long and many GB: cargo test -p cdflow-journal --release --test model -- --ignored"]
fn a_whole_run_with_a_crash_or_a_former_owner() {
    holds(Start, Budget { owner_crashes: 1, ..NO_FAULT });
    holds(Start, Budget { owner_pauses: 1, ..NO_FAULT });
}

#[test]
fn without_rule_1_a_signal_is_lost() {
    let rules = Rules { no_ack_without_append: false, ..Rules::ALL };
    breaks("rule 1", rules, Steps, Budget { owner_crashes: 1, timeouts: 1, ..NO_FAULT }, NO_SIGNAL_LOST);
}

#[test]
fn without_rule_2_a_new_owner_overlooks_a_result() {
    let rules = Rules { takeover_order: false, ..Rules::ALL };
    breaks("rule 2", rules, Sent, Budget { owner_crashes: 1, ..NO_FAULT }, NO_STEP_REPEATED);
}

#[test]
fn without_rule_3_a_run_waits_for_ever() {
    let rules = Rules { dispatch_recorded: false, ..Rules::ALL };
    breaks("rule 3", rules, Peer, Budget { owner_crashes: 1, ..NO_FAULT }, EVERY_RUN_ENDS);
}

#[test]
fn without_rule_4_a_step_with_a_stored_result_is_done_again() {
    let rules = Rules { recovery_order: false, ..Rules::ALL };
    breaks("rule 4", rules, Sent, Budget { owner_crashes: 1, ..NO_FAULT }, NO_STEP_REPEATED);
}

#[test]
fn without_rule_5_a_run_waits_for_ever() {
    let rules = Rules { tasks_can_vanish: false, ..Rules::ALL };
    breaks("rule 5", rules, Steps, Budget { task_losses: 1, ..NO_FAULT }, EVERY_RUN_ENDS);
}

#[test]
fn without_rule_6_a_step_that_was_given_up_overwrites_the_next_one() {
    let rules = Rules { fence_per_target: false, ..Rules::ALL };
    breaks("rule 6", rules, Steps, Budget { timeouts: 1, ..NO_FAULT }, FENCES_RISE);
}

#[test]
fn without_the_condition_of_the_append_there_are_two_histories() {
    let rules = Rules { conditional_append: false, ..Rules::ALL };
    breaks("the conditional append", rules, Peer, Budget { owner_pauses: 1, ..NO_FAULT }, ONE_HISTORY);
}

#[test]
fn without_waiting_for_the_append_an_effect_leaves_without_its_cause() {
    let rules = Rules { effects_follow_the_commit: false, ..Rules::ALL };
    breaks("waiting for the append", rules, Start, NO_FAULT, ONLY_COMMITTED_LEAVES);
}

#[test]
fn with_unacknowledged_state_in_a_checkpoint_the_fold_differs() {
    let rules = Rules { checkpoints_acknowledged: false, ..Rules::ALL };
    let budget = Budget { checkpoints: 1, ..NO_FAULT };
    breaks("acknowledged state alone in checkpoints", rules, Start, budget, CHECKPOINT_AND_TAIL);
}

#[test]
fn without_care_for_newer_consumers_a_partition_stands_still() {
    let rules = Rules { newest_consumer_wins: false, ..Rules::ALL };
    let budget = Budget { owner_pauses: 1, owner_crashes: 1, ..NO_FAULT };
    breaks("care for newer consumers", rules, Peer, budget, EVERY_RUN_ENDS);
}

#[test]
fn without_silence_a_new_owner_overlooks_a_worker() {
    let rules = Rules { silence_before_reading: false, ..Rules::ALL };
    let budget = Budget { owner_crashes: 1, task_losses: 1, ..NO_FAULT };
    breaks("silence before reading", rules, Steps, budget, NO_STEP_REPEATED);
}

#[test]
fn without_watching_announcements_a_run_waits_for_ever() {
    let rules = Rules { watch_announcements: false, ..Rules::ALL };
    let budget = Budget { task_losses: 1, worker_crashes: 1, ..NO_FAULT };
    breaks("watching announcements", rules, Steps, budget, EVERY_RUN_ENDS);
}

#[test]
fn with_trimming_before_dispatch_an_effect_never_arrives() {
    let rules = Rules { trim_after_dispatch: false, ..Rules::ALL };
    let budget = Budget { owner_crashes: 2, checkpoints: 2, ..NO_FAULT };
    breaks("dispatch before trimming", rules, Peer, budget, EVERY_RUN_ENDS);
}
