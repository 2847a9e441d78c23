//! Model of the journal protocol, checked by machine.
mod aggregates;
mod faults;
mod invariants;
mod model;
mod owner;
mod rules;
mod state;
mod target;
mod worker;

use stateright::{Checker, Model};
use model::Journal;
use rules::Rules;
use state::Budget;

#[test]
fn explore() {
    let none = Budget::default();
    use state::Begin::*;
    for (begin, budget) in [
        (Start, Budget { ..none }),
        (Start, Budget { owner_crashes: 1, ..none }),
        (Start, Budget { owner_pauses: 1, ..none }),
        (Steps, Budget { owner_pauses: 1, owner_crashes: 1, ..none }),
        (Peer, Budget { owner_pauses: 1, owner_crashes: 1, ..none }),
        (Start, Budget { worker_crashes: 1,  ..none }),
        (Steps, Budget { worker_crashes: 1, worker_pauses:1, ..none }),
        (Steps, Budget { timeouts: 1, worker_pauses:1, ..none }),
        (Start, Budget { task_losses: 1, ..none }),
        (Steps, Budget { task_losses: 1, worker_crashes: 1, ..none }),
        (Steps, Budget { task_losses: 1, worker_pauses: 1, ..none }),
        (Steps, Budget { task_losses: 1, timeouts: 1, ..none }),
        (Steps, Budget { owner_crashes: 1, timeouts: 1, ..none }),
        (Steps, Budget { owner_pauses: 1, timeouts: 1, ..none }),
        (Steps, Budget { owner_crashes: 1, worker_crashes: 1, ..none }),
        (Steps, Budget { owner_crashes: 1, worker_pauses: 1, ..none }),
        (Steps, Budget { owner_crashes: 1, task_losses: 1, ..none }),
        (Steps, Budget { owner_pauses: 1, task_losses: 1, ..none }),
        (Start, Budget { owner_crashes: 1, checkpoints: 2, ..none }),
    ] {
        let t = std::time::Instant::now();
        let c = Journal { rules: Rules::ALL, begin, budget }.checker().threads(2).target_state_count(3_000_000).spawn_bfs().join();
        eprintln!("{begin:?} {budget:?}: {} states {} unique depth {} {:?}", c.state_count(), c.unique_state_count(), c.max_depth(), t.elapsed());
        for (name, path) in c.discoveries() {
            eprintln!("  {name}:");
            for a in path.clone().into_actions() { eprintln!("    {a:?}"); }
            eprintln!(" {:?}", path.last_state());
        }
    }
}
