//! The order of fences.

use std::cmp::Ordering;

use crate::v1::Fence;

impl Fence {
    /// Whether a target that has seen `self` must refuse `other`.
    pub fn refuses(&self, other: &Fence) -> bool {
        other < self
    }

    fn key(&self) -> (u64, u64, u64) {
        (self.incarnation, self.sequence, self.delivery)
    }
}

impl PartialOrd for Fence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fence {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(incarnation: u64, sequence: u64, delivery: u64) -> Fence {
        Fence { incarnation, sequence, delivery }
    }

    #[test]
    fn a_later_incarnation_beats_any_sequence() {
        assert!(fence(2, 1, 1).refuses(&fence(1, 900, 9)));
    }

    #[test]
    fn a_redelivery_beats_the_delivery_before_and_not_itself() {
        assert!(fence(1, 5, 2).refuses(&fence(1, 5, 1)));
        assert!(!fence(1, 5, 2).refuses(&fence(1, 5, 2)));
    }
}
