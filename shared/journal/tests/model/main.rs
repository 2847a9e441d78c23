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
    for budget in [
        Budget { worker_crashes: 1, worker_pauses:1, ..none },
        Budget { timeouts: 1, worker_pauses:1, ..none },
        Budget { task_losses: 1, worker_crashes: 1, ..none },
        Budget { owner_crashes: 1, ..none },
        Budget { owner_pauses: 1, ..none },
        Budget { owner_crashes: 1, checkpoints: 2, ..none },
        Budget { task_losses: 1, worker_pauses: 1, ..none },
        Budget { task_losses: 1, timeouts: 1, ..none },
        Budget { owner_crashes: 1, timeouts: 1, ..none },
        Budget { owner_crashes: 1, worker_crashes: 1, ..none },
        Budget { owner_crashes: 1, task_losses: 1, ..none },
    ] {
        let t = std::time::Instant::now();
        let c = Journal { rules: Rules::ALL, budget }.checker().threads(2).target_state_count(3_000_000).spawn_bfs().join();
        eprintln!("{budget:?}: {} states {} unique depth {} {:?}", c.state_count(), c.unique_state_count(), c.max_depth(), t.elapsed());
        for (name, path) in c.discoveries() {
            eprintln!("  {name}:");
            for a in path.clone().into_actions() { eprintln!("    {a:?}"); }
            eprintln!(" {:?}", path.last_state());
        }
    }
}
