//! Durations and rates.

use std::time::Duration;

/// Durations of the same thing, many times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
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

/// What one measurement found.
#[derive(Debug, Clone)]
pub(crate) struct Throughput {
    pub(crate) runs: u32,
    pub(crate) steps: u32,
    pub(crate) elapsed: Duration,
    /// From the request to the end of each run.
    pub(crate) samples: Samples,
}

impl Throughput {
    pub(crate) fn runs_per_second(&self) -> f64 {
        f64::from(self.runs) / self.elapsed.as_secs_f64()
    }

    /// Duration of a run by its number of steps.
    pub(crate) fn per_step(&self, share: f64) -> Duration {
        self.samples.quantile(share) / self.steps.max(1)
    }
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
}
