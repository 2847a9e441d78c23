//! Durations and rates.

use std::time::Duration;

/// Durations of the same thing, many times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest duration that `share` (0 to 1) of all do not exceed; zero without samples.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the samples")]
        let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Throughput {
    pub(crate) elapsed: Duration,
    /// From the request to the end of each run.
    pub(crate) runs: Samples,
    /// From the commit that starts a step to the commit that ends it.
    pub(crate) steps: Samples,
}

impl Throughput {
    pub(crate) fn merge(&mut self, other: Self) {
        self.elapsed += other.elapsed;
        self.runs.merge(other.runs);
        self.steps.merge(other.steps);
    }

    pub(crate) fn runs_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.runs.len() as f64 / seconds } else { 0.0 }
    }
}

/// Slope of the line through points by least squares; zero without two different abscissas.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
        (above + (x - mean_x) * (y - mean_y), below + (x - mean_x) * (x - mean_x))
    });
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantile(0.5), Duration::ZERO);
        for ms in [5, 1, 4, 2, 3] {
            samples.add(Duration::from_millis(ms));
        }
        assert_eq!(samples.quantile(0.5), Duration::from_millis(3));
        assert_eq!(samples.quantile(0.99), Duration::from_millis(5));
    }

    #[test]
    fn rounds_add_up() {
        let round = || {
            let mut runs = Samples::default();
            (0..50).for_each(|_| runs.add(Duration::from_millis(10)));
            Throughput { elapsed: Duration::from_secs(1), runs, steps: Samples::default() }
        };
        assert!(Throughput::default().runs_per_second().abs() < f64::EPSILON);
        let mut both = round();
        both.merge(round());
        assert!((both.runs_per_second() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_slope_ignores_what_is_there_anyway() {
        assert!((slope(&[(0.0, 100.0), (10.0, 130.0), (20.0, 160.0)]) - 3.0).abs() < 1e-9);
        assert!(slope(&[(1.0, 5.0)]).abs() < f64::EPSILON);
    }
}
