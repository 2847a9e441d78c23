//! What can be seen at all with the traffic there is.

use crate::{Counts, FAIL_ALTERNATIVES};

/// Odds ratios above this are not worth telling apart.
const LARGEST: f64 = 1_000.0;

/// Traffic as it is expected or was, to say what a test of it can see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Requests of the new release.
    pub canary_requests: f64,
    /// Requests of the control.
    pub control_requests: f64,
    /// Share of requests that fail on the control, 0 to 1.
    pub error_rate: f64,
}

impl Outlook {
    /// Of traffic that was seen. A control without failures counts half a failure, so that the answer is a number.
    pub fn of(canary: Counts, control: Counts) -> Self {
        Self {
            canary_requests: canary.exposure() as f64,
            control_requests: control.exposure() as f64,
            error_rate: (control.events() as f64 + 0.5) / (control.exposure() as f64 + 1.0),
        }
    }

    /// The same traffic, `factor` times as much of it.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            canary_requests: self.canary_requests * factor,
            control_requests: self.control_requests * factor,
            ..self
        }
    }

    /// The smallest odds ratio above 1 whose expected evidence reaches `log_threshold` (the threshold of the fail
    /// side), the price of not knowing it beforehand included. `None` when even a thousandfold would not.
    ///
    /// Expected evidence is the information (Kullback-Leibler) of the split of failures between the two, an
    /// approximation that holds while failures are rare.
    pub fn detectable_odds_ratio(self, log_threshold: f64) -> Option<f64> {
        let wanted = log_threshold + libm::log(FAIL_ALTERNATIVES.len() as f64);
        let most = self.expected_evidence(LARGEST);
        if most.is_nan() || most < wanted {
            return None;
        }
        let (mut low, mut high) = (0.0, libm::log(LARGEST));
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if self.expected_evidence(libm::exp(middle)) >= wanted {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(libm::exp(high))
    }

    fn expected_evidence(self, psi: f64) -> f64 {
        let odds = self.error_rate / (1.0 - self.error_rate);
        let canary_failures = self.canary_requests * psi * odds / (1.0 + psi * odds);
        let control_failures = self.control_requests * self.error_rate;
        let failures = canary_failures + control_failures;
        let expected = self.canary_requests / (self.canary_requests + self.control_requests);
        let share = canary_failures / failures;
        failures * (share * libm::log(share / expected) + (1.0 - share) * libm::log((1.0 - share) / (1.0 - expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_traffic_shows_smaller_effects() {
        let outlook = Outlook { canary_requests: 600.0, control_requests: 11_400.0, error_rate: 0.005 };
        let little = outlook.detectable_odds_ratio(4.8).expect("detectable");
        let much = outlook.scaled(10.0).detectable_odds_ratio(4.8).expect("detectable");
        assert!(much < little && much > 1.0, "{much} {little}");
        assert!((3.0..8.0).contains(&little), "{little}");
    }

    #[test]
    fn without_traffic_nothing_can_be_seen() {
        let nothing = Outlook::of(Counts::default(), Counts::default());
        assert_eq!(nothing.detectable_odds_ratio(4.8), None);
        let few = Outlook { canary_requests: 3.0, control_requests: 5.0, error_rate: 0.001 };
        assert_eq!(few.detectable_odds_ratio(4.8), None);
    }
}
