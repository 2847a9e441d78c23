//! Partition time: never goes back, whatever the clocks of its owners do (rule 16).

use cdflow_protocol::UnixMillis;

/// max(last commit, clock).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PartitionTime(UnixMillis);

impl PartitionTime {
    /// Time that a stored commit has journaled.
    pub(crate) fn journaled(&mut self, time: UnixMillis) {
        self.0 = self.0.max(time);
    }

    /// The time now, when the clock says `wall`; what is read once is never undercut later.
    pub(crate) fn read(&mut self, wall: UnixMillis) -> UnixMillis {
        self.journaled(wall);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn partition_time_never_goes_back(steps in prop::collection::vec((any::<bool>(), any::<i64>()), 1..50)) {
            let mut time = PartitionTime::default();
            let mut last = i64::MIN;
            for (journaled, value) in steps {
                if journaled {
                    time.journaled(value);
                }
                let now = time.read(if journaled { i64::MIN } else { value });
                prop_assert!(now >= last && now >= value);
                last = now;
            }
        }
    }
}
