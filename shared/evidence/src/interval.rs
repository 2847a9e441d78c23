//! Confidence sequences for the odds ratio.

use crate::mixture::log_mean;

/// Points of the grid: odds ratios from 1/32 to 32 in steps of a quarter of a doubling.
pub(crate) const GRID_LEN: usize = 41;

/// Logarithms of the odds ratios of the grid.
pub(crate) fn grid() -> impl Iterator<Item = f64> {
    (0..GRID_LEN).map(log_point)
}

fn log_point(index: usize) -> f64 {
    (index as f64 - 20.0) * 0.25 * core::f64::consts::LN_2
}

/// Odds ratios that are not excluded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// 0 when nothing below is excluded.
    pub lower: f64,
    /// Infinite when nothing above is excluded.
    pub upper: f64,
}

impl Interval {
    /// From the log likelihood on the grid: what stays is every odds ratio whose likelihood is at least `alpha` times
    /// the mean likelihood of the grid (for the true one, the inverse of that ratio is a martingale of mean 1).
    ///
    /// The log likelihood is concave in the logarithm of the odds ratio, so that between two points it lies below the
    /// lines through the pairs of points on either side. The ends of the interval are where those lines cross: never
    /// inside of the true ends, and close to them.
    pub(crate) fn of(log_likelihood: &[f64], alpha: f64) -> Self {
        let floor = log_mean(log_likelihood.iter().copied()) + libm::log(alpha);
        let inside = |index: &usize| log_likelihood.get(*index).is_some_and(|value| *value >= floor);
        let (Some(first), Some(last)) =
            ((0..log_likelihood.len()).find(inside), (0..log_likelihood.len()).rev().find(inside))
        else {
            // Only when alpha is 1 or more: the best point is never below the mean.
            return Self { lower: 0.0, upper: f64::INFINITY };
        };
        let points: Vec<(f64, f64)> = log_likelihood.iter().enumerate().map(|(i, y)| (log_point(i), *y)).collect();
        let lower = if first == 0 { 0.0 } else { libm::exp(crossing(&points, first, floor)) };
        let upper = if last + 1 == points.len() {
            f64::INFINITY
        } else {
            // The same, seen in a mirror.
            let mirrored: Vec<(f64, f64)> = points.iter().rev().map(|(x, y)| (-x, *y)).collect();
            libm::exp(-crossing(&mirrored, points.len() - 1 - last, floor))
        };
        Self { lower, upper }
    }

    /// Whether an odds ratio is not excluded.
    pub fn contains(&self, odds_ratio: f64) -> bool {
        (self.lower..=self.upper).contains(&odds_ratio)
    }
}

/// Where an upper bound of the concave function crosses `floor` between the points `first - 1` (below it) and `first`.
fn crossing(points: &[(f64, f64)], first: usize, floor: f64) -> f64 {
    let outer = points[first - 1].0;
    let inner = points[first].0;
    let along = |a: (f64, f64), b: (f64, f64)| {
        let slope = (b.1 - a.1) / (b.0 - a.0);
        if slope > 0.0 { a.0 + (floor - a.1) / slope } else { outer }
    };
    let from_inside = points.get(first + 1).map_or(outer, |next| along(points[first], *next));
    let from_outside = if first >= 2 { along(points[first - 2], points[first - 1]) } else { outer };
    from_inside.max(from_outside).clamp(outer, inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_data_nothing_is_excluded() {
        assert_eq!(Interval::of(&[0.0; GRID_LEN], 0.05), Interval { lower: 0.0, upper: f64::INFINITY });
    }

    #[test]
    fn the_ends_enclose_those_of_the_continuous_likelihood_closely() {
        // A parabola: the exact ends are known.
        let (top, curvature) = (libm::log(3.0), 8.0);
        let values: Vec<f64> = grid().map(|x| -curvature * (x - top) * (x - top)).collect();
        let interval = Interval::of(&values, 0.01);
        let reach = libm::sqrt(-(log_mean(values.iter().copied()) + libm::log(0.01)) / curvature);
        let (lower, upper) = (libm::exp(top - reach), libm::exp(top + reach));
        assert!(interval.lower <= lower && interval.lower > lower * 0.97, "{interval:?} for {lower}");
        assert!(interval.upper >= upper && interval.upper < upper * 1.03, "{interval:?} for {upper}");
    }

    #[test]
    fn beyond_the_grid_the_interval_is_open() {
        let values: Vec<f64> = grid().map(|x| 5.0 * x).collect();
        let interval = Interval::of(&values, 0.01);
        assert!(interval.lower > 1.0);
        assert_eq!(interval.upper, f64::INFINITY);
    }
}
