//! A worker: takes a task, changes the target, stores the result, acknowledges the task.
//!
//! | action | rule |
//! |---|---|
//! | [`Act::Receive`] | TASKS delivers what nobody within its lease holds (17); the delivery count is part of the fence (6). The worker announces the task (5) |
//! | [`Act::Work`] | the target compares and sets the fence (6) |
//! | [`Act::StoreResult`] | the result is stored before the task is acknowledged or no longer announced (4, 5) |
//! | [`Act::Ack`] | removes the task |
//! | [`Act::Announce`] | after TASKS and the announcements vanished, within a worker lease (5) |
//! | [`Act::Stop`] | lost its contact, kills the step (17) |
//!
//! A worker whose lease has run out need not notice: it may also go on to the end, whenever it likes.

use crate::aggregates::Signal;
use crate::rules::Rules;
use crate::state::{Held, Progress, State, Task};
use crate::target::Reply;

/// A step of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Receive(Task),
    Work,
    StoreResult,
    Ack,
    Announce,
    Stop,
}

/// What the worker at `index` can do now.
pub(crate) fn acts(index: usize, state: &State) -> Vec<Act> {
    let Some(held) = state.workers[index] else {
        let free = state.tasks.iter().filter(|task| !state.in_good_hands(task));
        return free.map(|task| Act::Receive(*task)).collect();
    };
    let mut acts = vec![match held.progress {
        Progress::Received => Act::Work,
        Progress::InPlace => Act::StoreResult,
        Progress::ResultStored => Act::Ack,
    }];
    if !held.announced && !held.lease_expired && held.progress < Progress::ResultStored {
        acts.push(Act::Announce);
    }
    if held.lease_expired {
        acts.push(Act::Stop);
    }
    acts
}

/// The worker at `index` does it.
pub(crate) fn act(index: usize, act: Act, state: &mut State, rules: &Rules) {
    state.workers[index] = match (act, state.workers[index]) {
        (Act::Receive(task), None) => receive(task, state),
        (Act::Work, Some(held)) => work(held, state, rules),
        (Act::StoreResult, Some(held)) => {
            state.store_signal(Signal::Result(held.step, held.dispatch));
            let result = &mut state.results[held.step as usize];
            if *result == 0 && !held.lease_expired && !held.stray {
                *result = held.dispatch;
            }
            Some(Held { progress: Progress::ResultStored, announced: false, ..held })
        }
        (Act::Ack, Some(held)) => {
            state.remove_task(held);
            None
        }
        (Act::Announce, Some(held)) => Some(Held { announced: true, ..held }),
        (Act::Stop, Some(_)) => None,
        (_, other) => other,
    };
}

fn receive(task: Task, state: &mut State) -> Option<Held> {
    let stored = state.tasks.iter_mut().find(|stored| **stored == task)?;
    stored.deliveries += 1;
    Some(Held {
        step: task.step,
        dispatch: task.dispatch,
        delivery: stored.deliveries,
        progress: Progress::Received,
        announced: true,
        lease_expired: false,
        stray: task.stray,
    })
}

fn work(held: Held, state: &mut State, rules: &Rules) -> Option<Held> {
    let result = state.results[held.step as usize];
    let dispatched_in_vain = result != 0 && result < held.dispatch;
    let fence = (held.dispatch, held.delivery);
    match state.target.change(held.step, fence, rules.fence_per_target, dispatched_in_vain) {
        Reply::InPlace => Some(Held { progress: Progress::InPlace, ..held }),
        // Not acknowledged: if the other worker dies, the task must come back.
        Reply::Overtaken => None,
        Reply::Obsolete => {
            state.remove_task(held);
            None
        }
    }
}

impl State {
    /// TASKS takes an ack.
    fn remove_task(&mut self, held: Held) {
        self.tasks.retain(|task| (task.step, task.dispatch) != (held.step, held.dispatch));
    }
}
