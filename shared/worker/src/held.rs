//! The tasks that this worker is at, until their results are stored.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_nats::Subject;
use cdflow_protocol::v1::Fence;

use crate::context::{StopReason, TaskContext};

/// How many finished tasks are remembered, to recognise one that is delivered again.
const REMEMBERED: usize = 16_384;

#[derive(Default)]
pub(crate) struct Held {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tasks: HashMap<String, Holding>,
    finished: HashMap<String, Dispatch>,
    finished_order: VecDeque<String>,
}

struct Holding {
    context: TaskContext,
    /// The highest fence under which the task was handed to this worker.
    fence: Fence,
    /// Where to acknowledge, for each delivery: a task that was sent again after TASKS got lost has two.
    deliveries: Vec<Subject>,
}

/// One sending of a task by the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dispatch {
    incarnation: u64,
    sequence: u64,
}

impl Dispatch {
    fn of(fence: &Fence) -> Self {
        Self { incarnation: fence.incarnation, sequence: fence.sequence }
    }
}

/// What to do with a delivered task.
pub(crate) enum Admission {
    /// Begin.
    Start,
    /// This worker is at it already; the delivery has been noted.
    Underway,
    /// Its result is stored: acknowledge this delivery.
    Finished,
    /// A run of it that must stop has not ended yet: hand this delivery back for a moment.
    Stopping,
}

impl Held {
    /// Every change under the lock is complete in itself, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery in.
    pub(crate) fn admit(&self, id: &str, context: &TaskContext, delivery: Subject) -> Admission {
        let mut inner = self.lock();
        if inner.finished.get(id) == Some(&Dispatch::of(&context.fence)) {
            return Admission::Finished;
        }
        if let Some(holding) = inner.tasks.get_mut(id) {
            if matches!(holding.context.reason(), Some(StopReason::LeaseLost | StopReason::ShuttingDown)) {
                return Admission::Stopping;
            }
            holding.fence = holding.fence.max(context.fence);
            holding.deliveries.push(delivery);
            return Admission::Underway;
        }
        let holding = Holding { context: context.clone(), fence: context.fence, deliveries: vec![delivery] };
        inner.tasks.insert(id.to_owned(), holding);
        Admission::Start
    }

    /// The fence to report under.
    pub(crate) fn fence(&self, id: &str) -> Option<Fence> {
        self.lock().tasks.get(id).map(|holding| holding.fence)
    }

    /// Its result is stored: lets it go, and returns what there is to acknowledge.
    pub(crate) fn finish(&self, id: &str) -> Vec<Subject> {
        let mut inner = self.lock();
        let Some(holding) = inner.tasks.remove(id) else { return Vec::new() };
        if inner.finished.insert(id.to_owned(), Dispatch::of(&holding.fence)).is_none() {
            inner.finished_order.push_back(id.to_owned());
            if inner.finished_order.len() > REMEMBERED
                && let Some(oldest) = inner.finished_order.pop_front()
            {
                inner.finished.remove(&oldest);
            }
        }
        holding.deliveries
    }

    /// Where to answer for one task.
    pub(crate) fn deliveries_of(&self, id: &str) -> Vec<Subject> {
        self.lock().tasks.get(id).map(|holding| holding.deliveries.clone()).unwrap_or_default()
    }

    /// Lets it go without a result: it is left to a further delivery.
    pub(crate) fn give_up(&self, id: &str) {
        self.lock().tasks.remove(id);
    }

    /// Asks one task to stop; whether it is held here.
    pub(crate) fn stop(&self, id: &str, reason: StopReason) -> bool {
        let inner = self.lock();
        let holding = inner.tasks.get(id);
        if let Some(holding) = holding {
            holding.context.stop(reason);
        }
        holding.is_some()
    }

    /// Asks all tasks to stop; how many there are.
    pub(crate) fn stop_all(&self, reason: &StopReason) -> usize {
        let inner = self.lock();
        inner.tasks.values().for_each(|holding| holding.context.stop(reason.clone()));
        inner.tasks.len()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.lock().tasks.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().tasks.is_empty()
    }

    /// What the server must hear of, to leave the tasks with this worker.
    pub(crate) fn deliveries(&self) -> Vec<Subject> {
        self.lock().tasks.values().filter_map(|holding| holding.deliveries.last().cloned()).collect()
    }
}
