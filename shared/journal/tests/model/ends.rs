//! From every state, an end that is well can be reached without further faults.
//!
//! The invariants find states in which nothing is left to do and something is wrong. They do not find a livelock: processes
//! that are busy for ever. This does: it walks the whole graph, then goes back from the good ends along what happens
//! without faults; a state it does not come to has no way to a good end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use stateright::Model;

use crate::invariants::all_is_well;
use crate::model::Journal;
use crate::state::State;

/// Number of states, and one that has no way to a good end, if there is one.
pub(crate) fn dead_end(model: &Journal) -> (usize, Option<State>) {
    let mut numbers: HashMap<State, usize> = HashMap::new();
    let mut states: Vec<State> = Vec::new();
    let mut before: Vec<Vec<usize>> = Vec::new();
    let mut number = |state: State, states: &mut Vec<State>, before: &mut Vec<Vec<usize>>| match numbers.entry(state) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(new) => {
            states.push(new.key().clone());
            before.push(Vec::new());
            *new.insert(states.len() - 1)
        }
    };
    for state in model.init_states() {
        number(state, &mut states, &mut before);
    }
    let mut next = 0;
    while next < states.len() {
        let state = states[next].clone();
        let due = model.due(&state).len();
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        for (index, action) in actions.into_iter().enumerate() {
            let Some(after) = model.next_state(&state, action) else { continue };
            let after = number(after, &mut states, &mut before);
            if index < due {
                before[after].push(next);
            }
        }
        next += 1;
    }

    let good = |state: &State| model.rests(state) && all_is_well(state);
    let mut ends: Vec<usize> = (0..states.len()).filter(|index| good(&states[*index])).collect();
    let mut has_way = vec![false; states.len()];
    while let Some(index) = ends.pop() {
        if !std::mem::replace(&mut has_way[index], true) {
            ends.extend(before[index].iter().copied());
        }
    }
    let dead = has_way.iter().position(|has_way| !has_way);
    (states.len(), dead.map(|index| states[index].clone()))
}
