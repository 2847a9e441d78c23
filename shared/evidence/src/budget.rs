//! One allowance of false alarms for a whole stage.

use crate::InvalidInput;

/// Part of the budget that the rollout may use; the watch has the rest.
const ROLLOUT_SHARE: f64 = 0.8;

/// How a stage spends `alpha`, the probability of rolling back a release that is no worse.
///
/// The rollout, however many weights it has, is one process: its strata go into one [`crate::CountTest`], so one
/// threshold holds for all of them. The watch is a process of its own. By the union bound both together raise a false
/// alarm with a probability of at most `0.8 alpha + 0.2 alpha`. The rollout gets the larger part because that is where
/// a bad release should be found; the watch pays for it with `log 4` of evidence, a few more failed requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    alpha: f64,
}

impl Budget {
    /// # Errors
    /// `alpha` is not between 0 and 1.
    pub fn of(alpha: f64) -> Result<Self, InvalidInput> {
        if alpha > 0.0 && alpha < 1.0 {
            Ok(Self { alpha })
        } else {
            Err(InvalidInput::NotAProbability { name: "alpha", value: alpha })
        }
    }

    /// All of it.
    pub fn alpha(self) -> f64 {
        self.alpha
    }

    /// Part of the rollout.
    pub fn rollout(self) -> f64 {
        self.alpha * ROLLOUT_SHARE
    }

    /// Part of the watch.
    pub fn watch(self) -> f64 {
        self.alpha * (1.0 - ROLLOUT_SHARE)
    }

    /// Log evidence at which the rollout fails.
    pub fn rollout_threshold(self) -> f64 {
        -libm::log(self.rollout())
    }

    /// Log evidence at which the watch fails.
    pub fn watch_threshold(self) -> f64 {
        -libm::log(self.watch())
    }

    /// Log evidence of harm above which nothing passes, although it is not enough to fail: half of what `alpha` asks.
    pub fn doubt_threshold(self) -> f64 {
        -0.5 * libm::log(self.alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_whole() {
        let budget = Budget::of(0.01).expect("valid");
        assert!((budget.rollout() + budget.watch() - 0.01).abs() < 1e-15);
        assert!((libm::exp(budget.doubt_threshold()) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_budget_outside_of_zero_to_one_is_refused() {
        for alpha in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(Budget::of(alpha).is_err(), "{alpha}");
        }
    }
}
