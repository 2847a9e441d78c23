//! The two aggregates of the model and the fold of their history.
//!
//! The run does step one, then step two, and asks the peer while it works. It ends when step two is done and the peer
//! has answered. A step that runs out of time is given up, and step two (think of a rollback at the same target)
//! follows. Like every aggregate, both are correct when signals are permuted or doubled (rule 10): what a state does
//! not wait for changes nothing.

/// Position of a commit in the journal, from 1. A task is named by the sequence of the commit that dispatches it.
pub(crate) type Sequence = u8;

/// The two steps of the run. Both work on the same target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Step {
    One,
    Two,
}

/// An input, as stored in SIGNALS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Signal {
    /// From outside: start the run.
    Start,
    /// A worker has done the task which this commit dispatched.
    Result(Step, Sequence),
    /// From the run to the peer.
    Ask,
    /// From the peer to the run.
    Answer,
}

/// A fact. What it dispatches follows from the fact and the sequence of its commit, see [`Event::effects`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Event {
    /// An owner has taken the partition over; the fence of rule 2.
    Owner(u8),
    Started,
    Done(Step),
    /// Step one was given up.
    TimedOut,
    /// The task of this step had vanished (rules 4 and 5).
    DispatchedAgain(Step),
    PeerAnswered,
    Answered,
}

/// What leaves an owner once its cause is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Effect {
    Task(Step),
    Signal(Signal),
}

impl Event {
    /// The effects of a stored fact. They are derived, so a new owner finds the same ones (rule 3).
    pub(crate) fn effects(self) -> &'static [Effect] {
        match self {
            Event::Started => &[Effect::Task(Step::One), Effect::Signal(Signal::Ask)],
            Event::Done(Step::One) | Event::TimedOut => &[Effect::Task(Step::Two)],
            Event::DispatchedAgain(Step::One) => &[Effect::Task(Step::One)],
            Event::DispatchedAgain(Step::Two) => &[Effect::Task(Step::Two)],
            Event::PeerAnswered => &[Effect::Signal(Signal::Answer)],
            Event::Owner(_) | Event::Done(Step::Two) | Event::Answered => &[],
        }
    }
}

/// One message of the journal: the facts of several decisions (group commit).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Commit {
    /// Of the owner that appended it.
    pub(crate) epoch: u8,
    pub(crate) events: Vec<Event>,
    /// All effects of commits up to here have gone out (rule 3).
    pub(crate) dispatched_through: Sequence,
}

impl Commit {
    /// Whether this effect follows from this commit.
    pub(crate) fn causes(&self, effect: Effect) -> bool {
        self.events.iter().any(|event| event.effects().contains(&effect))
    }
}

/// State of the partition: both aggregates, and what the protocol itself keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fold {
    pub(crate) started: bool,
    /// The step under way and the commit that dispatched it last.
    pub(crate) awaiting: Option<(Step, Sequence)>,
    pub(crate) steps_done: bool,
    pub(crate) answered: bool,
    pub(crate) peer_answered: bool,
    pub(crate) epoch: u8,
    pub(crate) dispatched_through: Sequence,
    /// A fact did not fit the state before it: it took effect twice, or in a history that is not one.
    pub(crate) torn: bool,
}

impl Fold {
    /// The whole history.
    pub(crate) fn of(commits: &[Commit]) -> Self {
        Self::default().then(commits, 1)
    }

    /// This state and the commits from `first` on.
    pub(crate) fn then(mut self, commits: &[Commit], first: Sequence) -> Self {
        for (commit, sequence) in commits.iter().zip(first..) {
            self.torn |= commit.epoch < self.epoch;
            self.dispatched_through = commit.dispatched_through;
            for event in &commit.events {
                self.apply(*event, sequence);
            }
        }
        self
    }

    /// Folds one fact of the commit at `sequence`.
    pub(crate) fn apply(&mut self, event: Event, sequence: Sequence) {
        let fits = match event {
            Event::Owner(epoch) => epoch > std::mem::replace(&mut self.epoch, epoch),
            Event::Started => {
                self.awaiting = Some((Step::One, sequence));
                !std::mem::replace(&mut self.started, true)
            }
            Event::Done(Step::One) | Event::TimedOut => {
                let before = self.awaiting.replace((Step::Two, sequence));
                matches!(before, Some((Step::One, _)))
            }
            Event::Done(Step::Two) => {
                let before = self.awaiting.take();
                matches!(before, Some((Step::Two, _))) && !std::mem::replace(&mut self.steps_done, true)
            }
            Event::DispatchedAgain(step) => {
                let before = self.awaiting.replace((step, sequence));
                before.is_some_and(|(former, _)| former == step)
            }
            Event::PeerAnswered => !std::mem::replace(&mut self.peer_answered, true),
            Event::Answered => self.started && !std::mem::replace(&mut self.answered, true),
        };
        self.torn |= !fits;
    }

    /// What follows from a signal; `None` when it changes nothing here.
    pub(crate) fn decide(&self, signal: Signal) -> Option<Event> {
        match signal {
            Signal::Start => (!self.started).then_some(Event::Started),
            Signal::Result(step, sequence) => (self.awaiting == Some((step, sequence))).then_some(Event::Done(step)),
            Signal::Ask => (!self.peer_answered).then_some(Event::PeerAnswered),
            Signal::Answer => (self.started && !self.answered).then_some(Event::Answered),
        }
    }

    /// Nothing more will happen in the run.
    pub(crate) fn ended(&self) -> bool {
        self.steps_done && self.answered
    }
}
