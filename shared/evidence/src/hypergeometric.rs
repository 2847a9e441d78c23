//! How failures are split between two releases when neither is worse, and the transform of that law.

use crate::stirling::log_binomial;

/// Up to this width of the support the probabilities are kept and each transform is one polynomial. This power of the
/// largest odds ratio in use (1024) and of its inverse is far from overflow.
const SMALL: u64 = 64;

/// Number of failures of the new release in one interval, given both numbers of requests and all failures.
#[derive(Debug, Clone)]
pub struct Hypergeometric {
    canary: f64,
    control: f64,
    events: f64,
    low: u64,
    high: u64,
    /// Probabilities of `low..=high` where the support is small, else empty.
    probabilities: Vec<f64>,
}

impl Hypergeometric {
    /// `events` failures among `canary + control` requests. `None` where nothing can be learnt: without requests on
    /// one side, without failures, or where everything failed.
    pub fn new(canary: u64, control: u64, events: u64) -> Option<Self> {
        let all = canary.checked_add(control)?;
        if canary == 0 || control == 0 || events == 0 || events >= all {
            return None;
        }
        let mut law = Self {
            canary: canary as f64,
            control: control as f64,
            events: events as f64,
            low: events.saturating_sub(control),
            high: events.min(canary),
            probabilities: Vec::new(),
        };
        if law.high - law.low < SMALL {
            law.probabilities = law.small_support();
        }
        Some(law)
    }

    /// Fewest and most failures that the new release can have.
    pub fn support(&self) -> (u64, u64) {
        (self.low, self.high)
    }

    /// Log of the probability of `count`, which must lie in the support.
    pub fn log_probability(&self, count: u64) -> f64 {
        let all = self.canary + self.control;
        let p = self.events / all;
        let q = (all - self.events) / all;
        let count = count as f64;
        log_binomial(count, self.canary, p, q) + log_binomial(self.events - count, self.control, p, q)
            - log_binomial(self.events, all, p, q)
    }

    /// `log E[psi^K]`, with `log_psi = log(psi)`.
    pub fn log_transform(&self, log_psi: f64) -> f64 {
        if log_psi == 0.0 {
            return 0.0;
        }
        if self.probabilities.is_empty() { self.wide_transform(log_psi) } else { self.small_transform(log_psi) }
    }

    /// Ratio of the probabilities of `count + 1` and `count`.
    fn step(&self, count: f64) -> f64 {
        (self.events - count) * (self.canary - count) / ((count + 1.0) * (self.control - self.events + count + 1.0))
    }

    /// Where the law, tilted by `psi`, is largest: within one of the larger root of `psi * step(x) = 1`.
    fn mode(&self, psi: f64) -> u64 {
        let (n, m, k) = (self.canary, self.control, self.events);
        let a = psi - 1.0;
        let b = -((k + n + 2.0) * psi + m - k);
        let c = psi * (k + 1.0) * (n + 1.0);
        // The smaller root of `a x^2 + b x + c`, in the form that does not cancel, also for `a` near 0.
        let root = -2.0 * c / (b - libm::sqrt((b * b - 4.0 * a * c).max(0.0)));
        (libm::floor(root).max(0.0) as u64).clamp(self.low, self.high)
    }

    fn small_support(&self) -> Vec<f64> {
        let width = usize::try_from(self.high - self.low).unwrap_or(usize::MAX);
        let mode = usize::try_from(self.mode(1.0) - self.low).unwrap_or(0);
        let low = self.low as f64;
        let mut weights = vec![1.0; width + 1];
        for i in mode..width {
            weights[i + 1] = weights[i] * self.step(low + i as f64);
        }
        for i in (0..mode).rev() {
            weights[i] = weights[i + 1] / self.step(low + i as f64);
        }
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        weights
    }

    fn small_transform(&self, log_psi: f64) -> f64 {
        let psi = libm::exp(log_psi);
        let sum = self.probabilities.iter().rev().fold(0.0, |sum, p| sum * psi + p);
        log_psi * self.low as f64 + libm::log(sum)
    }

    /// Sums outwards from the mode of the tilted law, where all terms are at most 1, until they no longer count: some
    /// twenty standard deviations, whatever the size of the support.
    fn wide_transform(&self, log_psi: f64) -> f64 {
        const NEGLIGIBLE: f64 = 1e-18;
        let psi = libm::exp(log_psi);
        let mode = self.mode(psi);
        let mut sum = 1.0;
        let mut term = 1.0;
        let mut at = mode as f64;
        for _ in mode..self.high {
            term *= psi * self.step(at);
            sum += term;
            at += 1.0;
            if term < NEGLIGIBLE {
                break;
            }
        }
        term = 1.0;
        at = mode as f64;
        for _ in self.low..mode {
            at -= 1.0;
            term /= psi * self.step(at);
            sum += term;
            if term < NEGLIGIBLE {
                break;
            }
        }
        log_psi * mode as f64 + self.log_probability(mode) + libm::log(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brute_force(law: &Hypergeometric, log_psi: f64) -> f64 {
        let (low, high) = law.support();
        let terms: Vec<f64> = (low..=high).map(|j| law.log_probability(j) + log_psi * j as f64).collect();
        let top = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + libm::log(terms.iter().map(|t| libm::exp(t - top)).sum::<f64>())
    }

    #[test]
    fn both_ways_to_sum_agree_with_brute_force() {
        let cases = [
            (37, 50, 9),
            (1, 1, 1),
            (5, 300, 290),
            (64, 64, 64),
            (62, 1_000, 900),
            (400, 400, 400),
            (2_000, 90_000, 700),
            (50_000, 50_000, 50_000),
        ];
        for (canary, control, events) in cases {
            let law = Hypergeometric::new(canary, control, events).expect("informative");
            for psi in [0.001, 0.02, 0.5, 0.9, 1.1, 1.2, 3.0, 36.0, 1_024.0] {
                let log_psi = libm::log(psi);
                let exact = brute_force(&law, log_psi);
                let tolerance = 1e-10 * exact.abs().max(1.0);
                assert!((law.log_transform(log_psi) - exact).abs() < tolerance, "{canary} {control} {events} at {psi}");
                assert!(
                    (law.wide_transform(log_psi) - exact).abs() < tolerance,
                    "wide: {canary} {control} {events} at {psi}"
                );
            }
        }
    }

    #[test]
    fn the_transform_of_a_law_in_the_millions_is_near_its_normal_limit() {
        let law = Hypergeometric::new(300_000_000, 700_000_000, 1_000_000).expect("informative");
        let log_psi = 1e-4;
        let (mean, variance) = (300_000.0, 1_000_000.0 * 0.3 * 0.7 * 0.999);
        let normal = log_psi * mean + log_psi * log_psi * variance / 2.0;
        assert!((law.log_transform(log_psi) - normal).abs() < 1e-6);
    }

    #[test]
    fn an_interval_without_a_choice_teaches_nothing() {
        for (canary, control, events) in [(0, 5, 2), (5, 0, 2), (5, 5, 0), (5, 5, 10)] {
            assert!(Hypergeometric::new(canary, control, events).is_none());
        }
    }
}
