//! Confidence sequences for the odds ratio.

use crate::{Budget, mixture::log_mean};

/// Points at which the log likelihood is kept: odds ratios from 1/1024 to 1024 in steps of a quarter of a doubling.
pub(crate) const LATTICE_LEN: usize = 81;

/// The 41 of them in the middle, 1/32 to 32, are those that can be excluded.
const CANDIDATES: std::ops::RangeInclusive<usize> = 20..=60;

/// Alternatives to a candidate, in steps: about 1.2, 1.4, 2, 2.8, 4.8, 9.5 and 32 times as high.
const OFFSETS: [usize; 7] = [1, 2, 4, 6, 9, 13, 20];

/// Parts into which a step is cut to find the end of the interval.
const PARTS: usize = 16;

/// Logarithms of the odds ratios of the lattice.
pub(crate) fn lattice() -> impl Iterator<Item = f64> {
    (0..LATTICE_LEN).map(log_point)
}

fn log_point(index: usize) -> f64 {
    log_odds(index, 0.0)
}

fn log_odds(index: usize, parts: f64) -> f64 {
    (index as f64 + parts - (LATTICE_LEN / 2) as f64) * 0.25 * core::f64::consts::LN_2
}

/// Odds ratios that are not excluded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// 0 when nothing from 1/32 up is excluded.
    pub lower: f64,
    /// Infinite when nothing up to 32 is excluded.
    pub upper: f64,
}

impl Interval {
    /// From the log likelihood on the lattice. An odds ratio is excluded when the evidence that the true one is higher
    /// reaches `1 / rollout share`, or that it is lower `1 / watch share`, of the budget. The lower end thus asks as
    /// much as the verdict does: a release that fails from its first requests on has a lower end above 1.
    pub(crate) fn of(log_likelihood: &[f64], budget: Budget) -> Self {
        let mirrored: Vec<f64> = log_likelihood.iter().rev().copied().collect();
        Self {
            lower: lower_end(log_likelihood, budget.rollout_threshold()).map_or(0.0, libm::exp),
            upper: lower_end(&mirrored, budget.watch_threshold()).map_or(f64::INFINITY, |end| libm::exp(-end)),
        }
    }

    /// Whether an odds ratio is not excluded.
    pub fn contains(&self, odds_ratio: f64) -> bool {
        (self.lower..=self.upper).contains(&odds_ratio)
    }
}

/// Logarithm of the highest odds ratio below which all are excluded. `None` when not even the lowest candidate is.
fn lower_end(log_likelihood: &[f64], threshold: f64) -> Option<f64> {
    let evidence = |index: usize| {
        let here = log_likelihood[index];
        log_mean(OFFSETS.iter().map(|offset| log_likelihood[index + offset] - here))
    };
    let excluded = CANDIDATES.take_while(|index| evidence(*index) >= threshold).last()?;
    if excluded == *CANDIDATES.end() {
        return Some(log_point(excluded));
    }
    let parts = (1..PARTS)
        .map(|part| part as f64 / PARTS as f64)
        .take_while(|part| least_evidence(log_likelihood, excluded, *part) >= threshold)
        .last();
    Some(log_odds(excluded, parts.unwrap_or(0.0)))
}

/// A bound from below for the evidence against the point `part` (0 to 1) of the way from `index` to the next.
///
/// The log likelihood is concave in the logarithm of the odds ratio. Between two points of the lattice it lies above
/// the line through both and below the lines through the pairs of points on either side.
fn least_evidence(log_likelihood: &[f64], index: usize, part: f64) -> f64 {
    let at = |index: usize| log_likelihood[index];
    let from_below = at(index) + part * (at(index) - at(index - 1));
    let from_above = at(index + 1) - (1.0 - part) * (at(index + 2) - at(index + 1));
    let most_here = from_below.min(from_above);
    log_mean(OFFSETS.iter().map(|offset| {
        let there = index + offset;
        let beyond = (there + 1).min(LATTICE_LEN - 1);
        at(there) + part * (at(beyond) - at(there)) - most_here
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::of(0.01).expect("valid")
    }

    #[test]
    fn without_data_nothing_is_excluded() {
        assert_eq!(Interval::of(&[0.0; LATTICE_LEN], budget()), Interval { lower: 0.0, upper: f64::INFINITY });
    }

    #[test]
    fn the_ends_are_close_to_those_of_the_continuous_likelihood_and_never_inside() {
        // A parabola: the evidence against any point is known, on the lattice or not.
        let (top, curvature) = (libm::log(3.0), 8.0);
        let likelihood = |x: f64| -curvature * (x - top) * (x - top);
        let values: Vec<f64> = lattice().map(likelihood).collect();
        let interval = Interval::of(&values, budget());
        let step = 0.25 * core::f64::consts::LN_2;
        let evidence = |x: f64, side: f64| {
            log_mean(OFFSETS.iter().map(|offset| likelihood(x + side * step * *offset as f64) - likelihood(x)))
        };
        let (lower, upper) = (libm::log(interval.lower), libm::log(interval.upper));
        assert!(evidence(lower, 1.0) >= budget().rollout_threshold(), "{interval:?}");
        assert!(evidence(lower + 0.05, 1.0) < budget().rollout_threshold(), "{interval:?}");
        assert!(evidence(upper, -1.0) >= budget().watch_threshold(), "{interval:?}");
        assert!(evidence(upper - 0.05, -1.0) < budget().watch_threshold(), "{interval:?}");
    }

    #[test]
    fn beyond_the_candidates_the_interval_is_open() {
        let values: Vec<f64> = lattice().map(|x| 5.0 * x).collect();
        let interval = Interval::of(&values, budget());
        assert!((interval.lower - 32.0).abs() < 1e-9);
        assert_eq!(interval.upper, f64::INFINITY);
    }
}
