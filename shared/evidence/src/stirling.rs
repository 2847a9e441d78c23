//! Binomial probabilities that stay exact for large numbers, after Loader (2000).

const HALF_LOG_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// Error of Stirling's approximation of `log n!`.
fn stirling_error(n: f64) -> f64 {
    if n <= 15.0 {
        if n == 0.0 {
            return 0.0;
        }
        return libm::lgamma(n + 1.0) - (n + 0.5) * libm::log(n) + n - HALF_LOG_TWO_PI;
    }
    let square = n * n;
    let mut sum = 1.0 / 1188.0;
    for coefficient in [1.0 / 1680.0, 1.0 / 1260.0, 1.0 / 360.0, 1.0 / 12.0] {
        sum = coefficient - sum / square;
    }
    sum / n
}

/// `x log(x / mean) + mean - x`, without cancellation where the two are close.
fn deviance(x: f64, mean: f64) -> f64 {
    let difference = x - mean;
    if libm::fabs(difference) < 0.1 * (x + mean) {
        let ratio = difference / (x + mean);
        let mut sum = difference * ratio;
        let mut term = 2.0 * x * ratio;
        let square = ratio * ratio;
        let mut odd = 3.0;
        loop {
            term *= square;
            let next = sum + term / odd;
            if next == sum {
                return next;
            }
            sum = next;
            odd += 2.0;
        }
    }
    x * libm::log(x / mean) + mean - x
}

/// Log of the probability of `x` successes in `n` trials at `p`, where `q = 1 - p`.
pub(crate) fn log_binomial(x: f64, n: f64, p: f64, q: f64) -> f64 {
    if x == 0.0 {
        return if n == 0.0 { 0.0 } else { n * log_complement(p, q) };
    }
    if x == n {
        return n * log_complement(q, p);
    }
    stirling_error(n)
        - stirling_error(x)
        - stirling_error(n - x)
        - deviance(x, n * p)
        - deviance(n - x, n * q)
        - HALF_LOG_TWO_PI
        + 0.5 * libm::log(n / (x * (n - x)))
}

/// `log(complement)`, from `p = 1 - complement` where that is the small one.
fn log_complement(p: f64, complement: f64) -> f64 {
    if p < 0.5 { libm::log1p(-p) } else { libm::log(complement) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_probabilities_sum_to_one() {
        for (n, p) in [(1.0, 0.3), (17.0, 0.5), (400.0, 0.01), (3_000.0, 0.97)] {
            let mut sum = 0.0;
            let mut x = 0.0;
            while x <= n {
                sum += libm::exp(log_binomial(x, n, p, 1.0 - p));
                x += 1.0;
            }
            assert!((sum - 1.0).abs() < 1e-12, "n {n}, p {p}: {sum}");
        }
    }

    #[test]
    fn stirling_error_has_no_step_where_the_series_begins() {
        let exact = libm::lgamma(16.001 + 1.0) - 16.501 * libm::log(16.001) + 16.001 - HALF_LOG_TWO_PI;
        assert!((stirling_error(16.001) - exact).abs() < 1e-13);
    }
}
