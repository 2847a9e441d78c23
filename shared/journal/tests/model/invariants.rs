//! The five invariants of `docs/protocol.md`.
//!
//! | invariant | guards |
//! |---|---|
//! | [`ONE_HISTORY`] | the conditional append, rule 2 |
//! | [`NO_SIGNAL_LOST`] | rule 1 |
//! | [`ONLY_COMMITTED_LEAVES`] and, at rest, [`EVERY_RUN_ENDS`] | rule 3 |
//! | [`FENCES_RISE`], [`NO_STEP_REPEATED`] | rules 6 and 2, 4, 5 |
//! | [`CHECKPOINT_AND_TAIL`], [`EVERY_RUN_ENDS`] | rules 14 and 2–5 |
//!
//! "Every effect arrives" and "every run ends" are about the end of all paths. Stateright's `eventually` overlooks cycles
//! and joins, so two other things are checked: where nothing can happen any more that must happen, all is well
//! ([`EVERY_RUN_ENDS`], in every state, whether or not the budget of faults is used up); and from every state such a rest
//! can be reached without further faults (`crate::ends`).

use stateright::{Model, Property};

use crate::aggregates::{Event, Fold};
use crate::model::Journal;
use crate::state::State;

/// (1) One history; each signal takes effect at most once. Every fact fits the state before it, and epochs never fall.
pub(crate) const ONE_HISTORY: &str = "one history, each signal takes effect at most once";
/// (2) A signal that was removed is in the journal or a no-op there.
pub(crate) const NO_SIGNAL_LOST: &str = "a removed signal is in the journal or a no-op there";
/// (3), first half.
pub(crate) const ONLY_COMMITTED_LEAVES: &str = "only committed effects leave";
/// (4) Fences at the target never fall, one applied effect per attempt.
pub(crate) const FENCES_RISE: &str = "fences at the target never fall, one applied effect per attempt";
/// (4) in the sense of rule 4: once a worker has stored a result within its lease, the step is not dispatched and done again.
/// Not for the result of a task that a former owner sent: nothing can show that task to a successor that has looked before.
pub(crate) const NO_STEP_REPEATED: &str = "a step with a stored result is not done again";
/// (5), first half.
pub(crate) const CHECKPOINT_AND_TAIL: &str = "checkpoint and tail are the full fold";
/// (3), second half, and (5), second half.
pub(crate) const EVERY_RUN_ENDS: &str = "every effect arrives and every run ends";

/// What the checker checks.
pub(crate) fn properties() -> Vec<Property<Journal>> {
    vec![
        Property::always(ONE_HISTORY, |_, state: &State| !state.history().torn),
        Property::always(NO_SIGNAL_LOST, |_, state: &State| !state.signal_lost),
        Property::always(ONLY_COMMITTED_LEAVES, |_, state: &State| !state.effect_without_cause),
        Property::always(FENCES_RISE, |_, state: &State| state.target.rising()),
        Property::always(NO_STEP_REPEATED, |_, state: &State| !state.target.repeated),
        Property::always(CHECKPOINT_AND_TAIL, |_, state: &State| state.recovered() == state.history()),
        Property::always(EVERY_RUN_ENDS, |model: &Journal, state: &State| !model.rests(state) || all_is_well(state)),
    ]
}

/// The run has ended and nothing is left over. With the run ended, the question to the peer and its answer have arrived,
/// and so have the tasks, but for those of which the run did not await a result any more.
pub(crate) fn all_is_well(state: &State) -> bool {
    state.history().ended()
        && state.signals.is_empty()
        && state.tasks.is_empty()
        && state.workers.iter().all(Option::is_none)
        && state.owners.iter().any(|owner| state.lease == Some(owner.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_with_a_fact_twice_is_torn() {
        let mut fold = Fold::default();
        fold.apply(Event::Started, 2);
        assert!(!fold.torn);
        fold.apply(Event::Started, 3);
        assert!(fold.torn);
    }

    #[test]
    fn a_run_that_has_not_ended_is_not_well() {
        let model = Journal::default();
        assert!(model.init_states().iter().all(|state| !all_is_well(state)));
    }
}
