//! The target: compares and sets the fence, and has effects.
//!
//! Rule 6. A fence is (journal sequence of the dispatching commit, delivery count); the incarnation is left out because
//! the journal of the model never goes back (rule 7). A higher fence is set and its effect applied. An equal one finds its
//! effect in place (`observe`). A lower one is refused.

use crate::aggregates::{Sequence, Step};

/// (sequence of the dispatching commit, delivery count).
pub(crate) type Fence = (Sequence, u8);

/// What a worker hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Applied now, or found in place.
    InPlace,
    /// A later delivery of the same task was here: another worker is at it.
    Overtaken,
    /// A later dispatch was here: the run has gone on.
    Obsolete,
}

/// What both steps change.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    /// Highest fence. The first is per target; without rule 6 there is one per step.
    fences: [Fence; 2],
    /// Fences with which something was applied, in that order.
    applied: Vec<Fence>,
    /// A step was dispatched and applied again after a worker had stored its result within its lease.
    pub(crate) repeated: bool,
}

impl Target {
    /// A worker arrives with its fence.
    pub(crate) fn change(&mut self, step: Step, fence: Fence, per_target: bool, dispatched_in_vain: bool) -> Reply {
        let highest = if per_target { &mut self.fences[0] } else { &mut self.fences[step as usize] };
        if fence > *highest {
            *highest = fence;
            self.applied.push(fence);
            self.repeated |= dispatched_in_vain;
            Reply::InPlace
        } else if fence == *highest {
            Reply::InPlace
        } else if fence.0 < highest.0 {
            Reply::Obsolete
        } else {
            Reply::Overtaken
        }
    }

    /// What was applied came with rising fences, hence also once per fence.
    pub(crate) fn rising(&self) -> bool {
        self.applied.is_sorted_by(|earlier, later| earlier < later)
    }
}
