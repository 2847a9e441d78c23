//! Which instance should own which partition: the highest hash of (instance, partition) wins, so that an instance that
//! comes or goes moves only the partitions that it gains or loses.

use cdflow_protocol::Partition;
use sha2::{Digest as _, Sha256};

/// The best of `candidates` for a partition.
pub(crate) fn winner<'a>(candidates: impl IntoIterator<Item = &'a str>, partition: Partition) -> Option<&'a str> {
    candidates.into_iter().max_by_key(|instance| (score(instance, partition), *instance))
}

fn score(instance: &str, partition: Partition) -> u64 {
    let mut hash = Sha256::new();
    hash.update(partition.to_be_bytes());
    hash.update(instance.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_the_partitions_of_an_instance_that_left_move(
            mut names in prop::collection::btree_set("[a-z]{1,6}", 2..8),
            gone in any::<prop::sample::Index>(),
        ) {
            let before: Vec<_> = (0..64).map(|p| winner(names.iter().map(String::as_str), p).map(str::to_owned)).collect();
            let gone = gone.get(&names.iter().cloned().collect::<Vec<_>>()).clone();
            names.remove(&gone);
            for (p, owner) in before.into_iter().enumerate() {
                if owner.as_deref() != Some(gone.as_str()) {
                    let now = winner(names.iter().map(String::as_str), u32::try_from(p).expect("small"));
                    prop_assert_eq!(now, owner.as_deref());
                }
            }
        }
    }

    #[test]
    fn partitions_spread_over_instances() {
        let names = ["a", "b", "c", "d"];
        let of_a = (0..400).filter(|&p| winner(names, p) == Some("a")).count();
        assert!((60..140).contains(&of_a), "{of_a}");
    }
}
