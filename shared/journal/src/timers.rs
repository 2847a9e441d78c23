//! Deadlines of the live aggregates of a partition.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use cdflow_protocol::UnixMillis;

/// One deadline for each id.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(UnixMillis, String)>>,
    armed: HashMap<String, UnixMillis>,
}

impl Timers {
    /// Sets, moves or (`None`) clears the deadline of an id.
    pub(crate) fn set(&mut self, id: &str, deadline: Option<UnixMillis>) {
        match deadline {
            Some(deadline) if self.armed.get(id) == Some(&deadline) => {}
            Some(deadline) => {
                self.armed.insert(id.to_owned(), deadline);
                self.heap.push(Reverse((deadline, id.to_owned())));
                if self.heap.len() > 2 * self.armed.len() + 64 {
                    self.rebuild();
                }
            }
            None => {
                self.armed.remove(id);
            }
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&mut self) -> Option<UnixMillis> {
        while let Some(Reverse((deadline, id))) = self.heap.peek() {
            if self.armed.get(id) == Some(deadline) {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out every id whose deadline is not after `now`, earliest first.
    pub(crate) fn take_due(&mut self, now: UnixMillis) -> Vec<String> {
        let mut due = Vec::new();
        while self.next().is_some_and(|deadline| deadline <= now) {
            if let Some(Reverse((_, id))) = self.heap.pop() {
                self.armed.remove(&id);
                due.push(id);
            }
        }
        due
    }

    fn rebuild(&mut self) {
        self.heap = self.armed.iter().map(|(id, &deadline)| Reverse((deadline, id.clone()))).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_heap_agrees_with_a_plain_map(
            steps in prop::collection::vec((0_u8..6, prop::option::of(0_i64..50), 0_i64..50), 0..300),
        ) {
            let mut timers = Timers::default();
            let mut plain: BTreeMap<String, i64> = BTreeMap::new();
            for (id, deadline, now) in steps {
                let id = id.to_string();
                timers.set(&id, deadline);
                match deadline {
                    Some(deadline) => { plain.insert(id, deadline); }
                    None => { plain.remove(&id); }
                }
                prop_assert_eq!(timers.next(), plain.values().min().copied());
                let mut due = timers.take_due(now);
                due.sort();
                let expected: Vec<String> =
                    plain.iter().filter(|(_, d)| **d <= now).map(|(id, _)| id.clone()).collect();
                plain.retain(|_, deadline| *deadline > now);
                prop_assert_eq!(due, expected);
                prop_assert!(timers.heap.len() <= 2 * timers.armed.len() + 66);
            }
        }
    }
}
