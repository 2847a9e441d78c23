//! Everything that is there at one moment: the streams, two owners, two workers, the target, and what may still go wrong.
//!
//! Owners and workers are kept sorted and have no names, and so are the messages of each stream; states that differ
//! only in who is who, or in the order of messages that may be taken in any order, are therefore one state.

use crate::aggregates::{Commit, Effect, Event, Fold, Sequence, Signal, Step};
use crate::rules::Rules;
use crate::target::Target;

/// What may still go wrong or happen by chance. Each use takes one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Budget {
    /// An owner loses its memory.
    pub(crate) owner_crashes: u8,
    /// An owner's lease runs out although it lives, and later it goes on as if nothing had happened.
    pub(crate) owner_pauses: u8,
    /// A worker loses its memory.
    pub(crate) worker_crashes: u8,
    /// A worker's lease runs out although it lives, and later it goes on as if nothing had happened.
    pub(crate) worker_pauses: u8,
    /// TASKS, and the announcements with it, are gone.
    pub(crate) task_losses: u8,
    /// Step one runs out of time.
    pub(crate) timeouts: u8,
    /// Checkpoints that an owner may write.
    pub(crate) checkpoints: u8,
}

/// Where the first owner has got to when the model begins. The later ones are states of a run from the start; they leave
/// room for more faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The signal that starts the run is stored.
    #[default]
    Start,
    /// The run has started and the peer has answered; the task of step one has not gone out.
    Steps,
    /// The same, but the task of step one is in TASKS, and the journal has recorded that.
    Sent,
    /// Both steps are done; the question to the peer has not gone out.
    Peer,
}

impl Begin {
    /// The facts behind `Owner`, a commit each.
    fn facts(self) -> &'static [Event] {
        match self {
            Self::Start => &[],
            Self::Steps | Self::Sent => &[Event::Started, Event::PeerAnswered, Event::Answered],
            Self::Peer => &[Event::Started, Event::Done(Step::One), Event::Done(Step::Two)],
        }
    }

    /// The effect that has not gone out.
    fn unsent(self) -> Option<(Sequence, Effect)> {
        match self {
            Self::Start | Self::Sent => None,
            Self::Steps => Some((2, Effect::Task(Step::One))),
            Self::Peer => Some((2, Effect::Signal(Signal::Ask))),
        }
    }
}

/// A message of SIGNALS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Message {
    pub(crate) signal: Signal,
    /// Delivered and not yet acknowledged: the epoch of the consumer that waits for its ack.
    pub(crate) pending: Option<u8>,
    /// Epochs (a bit each) whose owner read a last sequence at or behind this message and has not been given it yet.
    pub(crate) before_last: u8,
}

/// A message of TASKS; there is at most one per subject, that is per step and dispatching commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Task {
    pub(crate) step: Step,
    pub(crate) dispatch: Sequence,
    /// How often it was delivered.
    pub(crate) deliveries: u8,
    /// A former owner sent it, with its successor's `Owner` in the journal. Only [`crate::invariants::NO_STEP_REPEATED`] looks at this.
    pub(crate) stray: bool,
}

/// An append on the wire whose sender is no more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LateAppend {
    pub(crate) expected: Sequence,
    pub(crate) commit: Commit,
}

/// A state at an acknowledged position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Checkpoint {
    pub(crate) sequence: Sequence,
    pub(crate) fold: Fold,
}

/// How far an owner has got with taking over, or with finding out what became of the tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// No lease, no memory.
    #[default]
    Idle,
    Leased,
    /// The consumers of former epochs are gone.
    ConsumersDeleted,
    /// `Owner{epoch}` is in the journal, and the journal is folded up to there.
    Fenced,
    /// May decide. Has read neither TASKS nor SIGNALS' last sequence.
    Reading,
    /// Knows what is neither in TASKS nor announced.
    TasksRead,
    /// Drains what SIGNALS held when its last sequence was read.
    Draining,
    /// Rule 4 turned round: has drained, reads TASKS only now.
    ReadingLate,
    Serving,
}

/// Decisions that wait for one append.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group {
    pub(crate) events: Vec<Event>,
    /// Signals to acknowledge afterwards, also those that changed nothing.
    pub(crate) signals: Vec<Signal>,
}

/// What became of an append; its sender may not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    OnTheWire,
    Stored,
    Refused,
}

/// The one append that an owner may have under way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flight {
    pub(crate) group: Group,
    pub(crate) dispatched_through: Sequence,
    pub(crate) fate: Fate,
}

/// An instance that owns the partition, wants to, or thinks it still does.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    pub(crate) phase: Phase,
    pub(crate) epoch: u8,
    /// The journal up to here is its committed state.
    pub(crate) committed: Sequence,
    /// Together with `group`: what it has applied and not stored, its speculative state.
    pub(crate) flight: Option<Flight>,
    pub(crate) group: Group,
    /// May be acknowledged.
    pub(crate) to_ack: Vec<Signal>,
    /// Effects of stored commits that have not gone out.
    pub(crate) unsent: Vec<(Sequence, Effect)>,
    /// A task that was neither in TASKS nor announced.
    pub(crate) missing: Option<(Step, Sequence)>,
    /// A task that was announced and not in TASKS: no message comes back when its worker dies.
    pub(crate) watched: Option<(Step, Sequence)>,
    /// The TASKS stream that it knows (its creation time).
    pub(crate) incarnation: u8,
}

/// How far a worker has got with its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Progress {
    Received,
    /// The target has the effect.
    InPlace,
    /// The result is in SIGNALS.
    ResultStored,
}

/// A task in the hands of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Held {
    pub(crate) step: Step,
    pub(crate) dispatch: Sequence,
    pub(crate) delivery: u8,
    pub(crate) progress: Progress,
    pub(crate) announced: bool,
    pub(crate) lease_expired: bool,
    /// As in [`Task`].
    pub(crate) stray: bool,
}

/// The world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The whole history; what was trimmed is still here for the invariants, nobody else looks below `first`.
    pub(crate) journal: Vec<Commit>,
    /// The oldest commit that the stream still holds.
    pub(crate) first: Sequence,
    /// Older, newer.
    pub(crate) checkpoints: [Checkpoint; 2],
    pub(crate) late: Vec<LateAppend>,
    pub(crate) signals: Vec<Message>,
    pub(crate) tasks: Vec<Task>,
    /// How often TASKS was created anew.
    pub(crate) incarnation: u8,
    /// Epochs (a bit each) that have a consumer on SIGNALS.
    pub(crate) consumers: u8,
    /// The epoch that holds the lease.
    pub(crate) lease: Option<u8>,
    pub(crate) last_epoch: u8,
    pub(crate) owners: [Owner; 2],
    pub(crate) workers: [Option<Held>; 2],
    pub(crate) target: Target,
    pub(crate) budget: Budget,
    /// A signal was removed that the journal does not have and that would change something.
    pub(crate) signal_lost: bool,
    /// An effect left that no stored commit causes.
    pub(crate) effect_without_cause: bool,
    /// By step: the dispatch of which a worker stored the result within its lease, 0 before that. Not of tasks that a
    /// former owner sent behind its successor's back.
    pub(crate) results: [Sequence; 2],
}

impl State {
    /// The first owner serves.
    pub(crate) fn new(begin: Begin, budget: Budget, rules: &Rules) -> Self {
        let facts = [Event::Owner(1)].into_iter().chain(begin.facts().iter().copied());
        let unsent = begin.unsent();
        let sent = unsent.map_or(Sequence::MAX, |(sequence, _)| sequence - 1);
        let commit = |(event, before): (Event, Sequence)| Commit {
            epoch: 1,
            events: vec![event],
            dispatched_through: before.min(sent),
        };
        let journal: Vec<_> = facts.zip(0..).map(commit).collect();
        let mut state = Self {
            journal,
            first: 1,
            checkpoints: Default::default(),
            late: Vec::new(),
            signals: Vec::new(),
            tasks: Vec::new(),
            incarnation: 0,
            consumers: 1 << 1,
            lease: Some(1),
            last_epoch: 1,
            owners: Default::default(),
            workers: [None, None],
            target: Target::default(),
            budget,
            signal_lost: false,
            effect_without_cause: false,
            results: [0; 2],
        };
        state.owners[0] = Owner {
            phase: Phase::Serving,
            epoch: 1,
            committed: state.tail(),
            unsent: unsent.into_iter().collect(),
            ..Owner::default()
        };
        match begin {
            Begin::Start => state.store_signal(Signal::Start),
            Begin::Sent => state.tasks.push(Task { step: Step::One, dispatch: 2, deliveries: 0, stray: false }),
            Begin::Steps | Begin::Peer => {}
        }
        state.normalize(rules);
        state
    }

    /// Last sequence of the journal.
    pub(crate) fn tail(&self) -> Sequence {
        Sequence::try_from(self.journal.len()).unwrap_or(Sequence::MAX)
    }

    /// The truth.
    pub(crate) fn history(&self) -> Fold {
        Fold::of(&self.journal)
    }

    /// What a new owner folds: the newer checkpoint and the commits behind it that are still there.
    pub(crate) fn recovered(&self) -> Fold {
        let Checkpoint { sequence, fold } = self.checkpoints[1];
        let from = self.first.max(sequence + 1);
        fold.then(&self.journal[usize::from(from) - 1..], from)
    }

    /// SIGNALS takes a message. There is no duplicate window in the model: receivers deduplicate in their state (rule 3).
    pub(crate) fn store_signal(&mut self, signal: Signal) {
        self.signals.push(Message { signal, pending: None, before_last: 0 });
    }

    /// SIGNALS takes an ack of `epoch`; nothing waits for one whose consumer is gone.
    pub(crate) fn acknowledge(&mut self, epoch: u8, signal: Signal) {
        let waits = |message: &Message| message.signal == signal && message.pending == Some(epoch);
        if let Some(index) = self.signals.iter().position(waits) {
            self.signals.remove(index);
            self.signal_lost |= self.history().decide(signal).is_some();
        }
    }

    /// JOURNAL takes an append on the condition that `expected` is its tail.
    pub(crate) fn append(&mut self, expected: Sequence, commit: Commit, conditional: bool) -> bool {
        let stored = expected == self.tail() || !conditional;
        if stored {
            self.journal.push(commit);
        }
        stored
    }

    /// Whether a worker within its lease has this delivery of the task in its hands.
    pub(crate) fn in_good_hands(&self, task: &Task) -> bool {
        self.workers.iter().flatten().any(|held| {
            (held.step, held.dispatch, held.delivery) == (task.step, task.dispatch, task.deliveries)
                && !held.lease_expired
        })
    }

    /// Puts what has no order into one, and forgets appends that can only be refused.
    pub(crate) fn normalize(&mut self, rules: &Rules) {
        let tail = self.tail();
        self.late.retain(|late| late.expected == tail || !rules.conditional_append);
        self.owners.sort();
        self.workers.sort();
        self.signals.sort();
        self.tasks.sort();
        self.late.sort();
    }
}
