//! The model as stateright sees it: what can happen in a state, and what comes of it.

use stateright::{Model, Property};

use crate::faults::{self, Fault};
use crate::invariants;
use crate::owner;
use crate::rules::Rules;
use crate::state::{Begin, Budget, State};
use crate::worker;

/// The protocol under some rules, with some faults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journal {
    pub(crate) rules: Rules,
    pub(crate) begin: Begin,
    pub(crate) budget: Budget,
}

impl Default for Journal {
    fn default() -> Self {
        Self { rules: Rules::ALL, begin: Begin::Start, budget: Budget::default() }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Owner(usize, owner::Act),
    Worker(usize, worker::Act),
    Fault(Fault),
}

impl Journal {
    /// What happens sooner or later if nothing else does.
    pub(crate) fn due(&self, state: &State) -> Vec<Action> {
        let owners = (0..2).flat_map(|index| {
            let acts = state.owners[index].acts(state, &self.rules);
            acts.into_iter().map(move |act| Action::Owner(index, act))
        });
        let workers =
            (0..2).flat_map(|index| worker::acts(index, state).into_iter().map(move |act| Action::Worker(index, act)));
        let aftermath = faults::aftermath(state, &self.rules).into_iter().map(Action::Fault);
        owners.chain(workers).chain(aftermath).collect()
    }

    /// What may happen.
    fn chances(&self, state: &State) -> Vec<Action> {
        let owners = (0..2).flat_map(|index| {
            let acts = state.owners[index].chances(state, &self.rules);
            acts.into_iter().map(move |act| Action::Owner(index, act))
        });
        owners.chain(faults::faults(state).into_iter().map(Action::Fault)).collect()
    }

    /// Nothing is due.
    pub(crate) fn rests(&self, state: &State) -> bool {
        self.due(state).is_empty()
    }
}

impl Model for Journal {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.begin, self.budget, &self.rules)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(self.due(state));
        actions.extend(self.chances(state));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Owner(index, act) => {
                let mut owner = std::mem::take(&mut state.owners[index]);
                owner.act(act, &mut state, &self.rules);
                state.owners[index] = owner;
            }
            Action::Worker(index, act) => worker::act(index, act, &mut state, &self.rules),
            Action::Fault(fault) => faults::happen(fault, &mut state, &self.rules),
        }
        state.normalize(&self.rules);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties()
    }
}
