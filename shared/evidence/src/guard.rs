//! Limits that hold without a control: policy, not statistics.

use crate::{Counts, InvalidInput};

/// Log of one in a million: how surprising a short window must be at exactly the limit before it strikes.
const SURPRISE: f64 = 13.815_510_557_964_274;

/// A limit on the share of failed requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorRateGuard {
    limit: f64,
    min_requests: u64,
}

/// Why a guard struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// All requests together are above the limit.
    Overall(Counts),
    /// The latest requests are above the limit by more than chance.
    Lately(Counts),
}

impl ErrorRateGuard {
    /// More than `limit` (0 to 1) of at least `min_requests` requests must not fail.
    ///
    /// # Errors
    /// A limit outside of 0 to 1.
    pub fn new(limit: f64, min_requests: u64) -> Result<Self, InvalidInput> {
        if !(0.0..=1.0).contains(&limit) {
            return Err(InvalidInput::NotAProbability { name: "the highest error rate", value: limit });
        }
        Ok(Self { limit, min_requests: min_requests.max(1) })
    }

    /// The limit.
    pub fn limit(self) -> f64 {
        self.limit
    }

    /// Whether there are enough requests to say anything.
    pub fn has_enough(self, counts: Counts) -> bool {
        counts.exposure() >= self.min_requests
    }

    /// One strike is enough. `overall` is everything since traffic began; above the limit, with enough requests, it
    /// strikes. `lately` is a window at the end of it, so that an outage after hours of good service is not hidden by
    /// them. Many windows are looked at, so that one strikes only where, at a true rate of the limit, it would come up
    /// less than once in a million (Chernoff's bound).
    pub fn check(self, overall: Counts, lately: Counts) -> Option<Strike> {
        if self.has_enough(overall) && overall.rate().is_some_and(|rate| rate > self.limit) {
            return Some(Strike::Overall(overall));
        }
        (self.has_enough(lately) && self.is_beyond_chance(lately)).then_some(Strike::Lately(lately))
    }

    fn is_beyond_chance(self, counts: Counts) -> bool {
        let Some(rate) = counts.rate() else { return false };
        if rate <= self.limit {
            return false;
        }
        if self.limit == 0.0 {
            return true;
        }
        let fine = if rate < 1.0 { (1.0 - rate) * libm::log((1.0 - rate) / (1.0 - self.limit)) } else { 0.0 };
        counts.exposure() as f64 * (rate * libm::log(rate / self.limit) + fine) > SURPRISE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(exposure: u64, events: u64) -> Counts {
        Counts::new(exposure, events).expect("valid")
    }

    #[test]
    fn it_does_not_strike_before_there_are_enough_requests() {
        let guard = ErrorRateGuard::new(0.05, 100).expect("valid");
        assert_eq!(guard.check(counts(99, 99), counts(99, 99)), None);
        assert_eq!(guard.check(counts(100, 6), counts(0, 0)), Some(Strike::Overall(counts(100, 6))));
        assert_eq!(guard.check(counts(100, 5), counts(0, 0)), None);
    }

    #[test]
    fn a_late_outage_is_not_hidden_by_hours_of_good_service() {
        let guard = ErrorRateGuard::new(0.05, 100).expect("valid");
        let overall = counts(1_000_000, 200);
        assert_eq!(guard.check(overall, counts(150, 90)), Some(Strike::Lately(counts(150, 90))));
    }

    #[test]
    fn a_window_that_is_above_the_limit_by_chance_does_not_strike() {
        let guard = ErrorRateGuard::new(0.05, 100).expect("valid");
        assert_eq!(guard.check(counts(1_000_000, 200), counts(100, 9)), None);
    }

    #[test]
    fn a_limit_of_zero_strikes_at_the_first_failure() {
        let guard = ErrorRateGuard::new(0.0, 1).expect("valid");
        assert!(guard.check(counts(10, 1), counts(0, 0)).is_some());
        assert!(guard.check(counts(10, 0), counts(10, 0)).is_none());
    }

    #[test]
    fn a_limit_above_one_is_refused() {
        assert!(ErrorRateGuard::new(1.5, 1).is_err());
        assert!(ErrorRateGuard::new(f64::NAN, 1).is_err());
    }
}
