//! What goes wrong, as often as the budget says.
//!
//! Nothing forces a process to take its next step, so every pause is in the model already: all others may go on for any time
//! between two steps of one. What makes a pause dangerous is that the lease runs out meanwhile. [`Fault::PauseOwner`] and
//! [`Fault::PauseWorker`] are that moment; the process wakes with its next step, with the memory it had.
//!
//! | action | rule |
//! |---|---|
//! | [`Fault::CrashOwner`] | 1–4: memory gone, its append may be on the wire |
//! | [`Fault::PauseOwner`] | 1, 2, 6: lives on as a former owner |
//! | [`Fault::LateAppend`] | 2: what a dead owner had on the wire reaches JOURNAL |
//! | [`Fault::ReturnPending`] | 2: messages of a former consumer come back late (only where rule 2 is off; otherwise it is deleted) |
//! | [`Fault::CrashWorker`], [`Fault::PauseWorker`] | 6, 17: the task is delivered again |
//! | [`Fault::LoseTasks`] | 5: TASKS and the announcements, both in memory, are gone |

use crate::rules::Rules;
use crate::state::{Held, Phase, State};

/// Something that happens to the processes or the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    CrashOwner(usize),
    PauseOwner(usize),
    LateAppend(usize),
    ReturnPending,
    CrashWorker(usize),
    PauseWorker(usize),
    LoseTasks,
}

/// What takes nothing from the budget: it follows from an earlier fault, sooner or later.
pub(crate) fn aftermath(state: &State, rules: &Rules) -> Vec<Fault> {
    let mut faults: Vec<_> = (0..state.late.len()).map(Fault::LateAppend).collect();
    if !rules.takeover_order && state.signals.iter().any(|message| is_stranded(message.pending, state)) {
        faults.push(Fault::ReturnPending);
    }
    faults
}

/// What may go wrong now.
pub(crate) fn faults(state: &State) -> Vec<Fault> {
    let mut faults = Vec::new();
    let budget = &state.budget;
    for (index, owner) in state.owners.iter().enumerate().filter(|(_, owner)| owner.phase != Phase::Idle) {
        if budget.owner_crashes > 0 {
            faults.push(Fault::CrashOwner(index));
        }
        if budget.owner_pauses > 0 && state.lease == Some(owner.epoch) {
            faults.push(Fault::PauseOwner(index));
        }
    }
    for (index, held) in state.workers.iter().enumerate().filter_map(|(index, held)| Some((index, held.as_ref()?))) {
        if budget.worker_crashes > 0 {
            faults.push(Fault::CrashWorker(index));
        }
        if budget.worker_pauses > 0 && !held.lease_expired {
            faults.push(Fault::PauseWorker(index));
        }
    }
    if budget.task_losses > 0 {
        faults.push(Fault::LoseTasks);
    }
    faults
}

fn is_stranded(pending: Option<u8>, state: &State) -> bool {
    pending.is_some() && pending != state.lease
}

/// It happens.
pub(crate) fn happen(fault: Fault, state: &mut State, rules: &Rules) {
    match fault {
        Fault::CrashOwner(index) => {
            state.budget.owner_crashes -= 1;
            let mut owner = std::mem::take(&mut state.owners[index]);
            state.lease = state.lease.filter(|epoch| *epoch != owner.epoch);
            owner.drop_partition(state);
        }
        Fault::PauseOwner(_) => {
            state.budget.owner_pauses -= 1;
            state.lease = None;
        }
        Fault::LateAppend(index) => {
            let late = state.late.remove(index);
            state.append(late.expected, late.commit, rules.conditional_append);
        }
        Fault::ReturnPending => {
            let lease = state.lease;
            for message in state.signals.iter_mut().filter(|message| message.pending != lease) {
                message.pending = None;
            }
        }
        Fault::CrashWorker(index) => {
            state.budget.worker_crashes -= 1;
            state.workers[index] = None;
        }
        Fault::PauseWorker(index) => {
            state.budget.worker_pauses -= 1;
            state.workers[index] =
                state.workers[index].map(|held| Held { announced: false, lease_expired: true, ..held });
        }
        Fault::LoseTasks => {
            state.budget.task_losses -= 1;
            state.incarnation += 1;
            state.tasks.clear();
            for held in state.workers.iter_mut().flatten() {
                held.announced = false;
            }
        }
    }
}
