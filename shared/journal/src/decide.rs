//! One decision, guarded: whatever an aggregate does, its neighbours go on (rule 12).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{Effect, Refusal, effect},
};
use prost::Message as _;

use crate::{Aggregate, Input, refuse};

/// What came of an input.
pub(crate) enum Outcome<A: Aggregate> {
    /// Nothing changes.
    Nothing,
    /// Events, already applied to `state`.
    Changed { state: A, events: Vec<A::Event>, effects: Vec<Effect> },
    /// The aggregate refuses it.
    Refused(Refusal),
    /// It cannot be decided by this code: kept for a person.
    Poison(Refusal),
}

/// Decides and applies, on a copy.
pub(crate) fn decide<A: Aggregate>(state: &A, id: &str, input: Input<A::Signal>, now: UnixMillis) -> Outcome<A> {
    let decision = match catch_unwind(AssertUnwindSafe(|| state.decide(id, input, now))) {
        Ok(Ok(decision)) => decision,
        Ok(Err(refusal)) => return Outcome::Refused(refusal),
        Err(panic) => return Outcome::Poison(refuse("panicked", describe("deciding", panic.as_ref()))),
    };
    if decision.events.is_empty() && decision.effects.is_empty() {
        return Outcome::Nothing;
    }
    for effect in &decision.effects {
        if let Err(reason) = can_leave(effect) {
            return Outcome::Poison(refuse("bad-effect", reason));
        }
    }
    match applied(state, &decision.events) {
        Ok(state) => Outcome::Changed { state, events: decision.events, effects: decision.effects },
        Err(reason) => Outcome::Poison(refuse("panicked", reason)),
    }
}

/// `state` after `events`, or why it cannot be had.
pub(crate) fn applied<A: Aggregate>(state: &A, events: &[A::Event]) -> Result<A, String> {
    catch_unwind(AssertUnwindSafe(|| {
        let mut next = state.clone();
        for event in events {
            next.apply(event);
        }
        next
    }))
    .map_err(|panic| describe("applying an event", panic.as_ref()))
}

/// `state` after stored events.
pub(crate) fn replayed<A: Aggregate>(state: &A, events: &[Vec<u8>]) -> Result<A, String> {
    let decoded: Result<Vec<_>, _> = events.iter().map(|event| A::Event::decode(event.as_slice())).collect();
    applied(state, &decoded.map_err(|error| format!("a stored event cannot be decoded: {error}"))?)
}

fn can_leave(effect: &Effect) -> Result<(), String> {
    match &effect.kind {
        Some(effect::Kind::Signal(send)) => {
            AggregateKind::from_token(&send.aggregate)
                .ok_or_else(|| format!("a signal to an unknown kind of aggregate, {:?}", send.aggregate))?;
            match &send.signal {
                Some(signal) if !signal.id.is_empty() && !signal.aggregate_id.is_empty() => Ok(()),
                _ => Err("a signal without id or receiver".into()),
            }
        }
        Some(effect::Kind::Task(task)) if task.id.is_empty() => Err("a task without id".into()),
        Some(_) => Ok(()),
        None => Err("an effect of a kind that this release does not know".into()),
    }
}

/// Fills in the trace that the effects belong to, where the aggregate has not set one.
pub(crate) fn trace_effects(effects: &mut [Effect], traceparent: &str) {
    for effect in effects {
        let slot = match &mut effect.kind {
            Some(effect::Kind::Task(task)) => &mut task.traceparent,
            Some(effect::Kind::Signal(send)) => match &mut send.signal {
                Some(signal) => &mut signal.traceparent,
                None => continue,
            },
            _ => continue,
        };
        if slot.is_empty() {
            traceparent.clone_into(slot);
        }
    }
}

/// The first trace that the effects name.
pub(crate) fn trace_of(effects: &[Effect]) -> Option<&str> {
    effects.iter().find_map(|effect| match &effect.kind {
        Some(effect::Kind::Task(task)) if !task.traceparent.is_empty() => Some(task.traceparent.as_str()),
        Some(effect::Kind::Signal(send)) => {
            send.signal.as_ref().map(|signal| signal.traceparent.as_str()).filter(|trace| !trace.is_empty())
        }
        _ => None,
    })
}

fn describe(what: &str, panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    format!("{what} panicked: {said}")
}
