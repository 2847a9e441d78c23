//! What a service writes to get an event-sourced aggregate: pure code.

use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{Effect, Refusal},
};

/// Something that survives every crash: state that changes only by stored events.
///
/// There is no I/O, clock or randomness inside: time and ids come in with the signal. So the same code runs in the
/// service, in a dry run, in property tests and in a simulator with a fake clock.
///
/// Signals may arrive in any order and more than once: `decide` must be correct all the same (a result of an attempt
/// that has ended, a second grant of a lock, and so on change nothing and are no error).
pub trait Aggregate: Default + Clone + Send + Sync + 'static {
    /// The kind, as in subjects.
    const KIND: AggregateKind;
    /// The newest [`version`](cdflow_protocol::v1::Signal::version) of a signal that this code understands; newer ones
    /// are delayed until a newer release decides them.
    const SIGNAL_VERSION: u32 = 1;
    /// Version of this code as a reader of its events. A commit that asks for more makes this instance give the
    /// partition back (rule 15 of the journal protocol).
    const READER_VERSION: u32 = 1;
    /// The oldest reader that understands the events which this code stores.
    const MIN_READER: u32 = 1;
    /// Inputs; versions of it that this code does not know are delayed.
    type Signal: prost::Message + Default;
    /// Facts. The meaning of a stored event never changes.
    type Event: prost::Message + Default + Clone;

    /// What follows from an input. Changes nothing: [`Aggregate::apply`] does.
    ///
    /// # Errors
    /// [`Refusal`] when the signal must have no effect and its sender should hear why. It is journaled.
    fn decide(&self, id: &str, input: Input<Self::Signal>, now: UnixMillis) -> Result<Decision<Self::Event>, Refusal>;

    /// Folds a stored event into the state. Never fails: an event that makes no sense changes nothing.
    fn apply(&mut self, event: &Self::Event);

    /// When to be sent [`Input::Tick`] at the latest.
    fn deadline(&self) -> Option<UnixMillis>;

    /// Ids of tasks that were sent and have no result yet. When one is neither in TASKS nor held by a worker,
    /// [`Input::TaskLost`] follows.
    fn outstanding_tasks(&self) -> Vec<String>;

    /// Nothing more will happen: may leave memory once its final state is stored.
    fn is_finished(&self) -> bool;

    /// State for a checkpoint; [`Aggregate::restore`] reads it back, also in later releases.
    fn checkpoint(&self) -> Vec<u8>;

    /// # Errors
    /// A sentence, when the bytes are not a state of this kind.
    fn restore(state: &[u8]) -> Result<Self, String>;
}

/// What an aggregate decides about.
#[derive(Debug, Clone, PartialEq)]
pub enum Input<S> {
    /// A signal, with its id and the time at which the stream took it.
    Signal(S),
    /// The deadline has passed, and all signals that were waiting have been decided.
    Tick,
    /// This task has vanished: no worker holds it and TASKS does not have it.
    TaskLost(String),
}

/// Events and effects that follow from one input; empty when nothing changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<E> {
    /// Oldest first.
    pub events: Vec<E>,
    /// Sent once the events are stored, at least once.
    pub effects: Vec<Effect>,
}

impl<E> Default for Decision<E> {
    fn default() -> Self {
        Self { events: Vec::new(), effects: Vec::new() }
    }
}

impl<E> Decision<E> {
    /// Nothing changes.
    pub fn nothing() -> Self {
        Self::default()
    }
}

/// A refusal with a stable code and a sentence for a person.
pub fn refuse(code: &str, message: impl Into<String>) -> Refusal {
    Refusal { code: code.into(), message: message.into() }
}
