//! Weighted sums of processes, in logarithms.

/// `log(exp(a) + exp(b))`.
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// Log of the mean of `exp` of the terms.
pub(crate) fn log_mean(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = terms.clone().count();
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if count == 0 || top == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    top + libm::log(terms.map(|term| libm::exp(term - top)).sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_plus_something_is_something() {
        assert_eq!(log_add(f64::NEG_INFINITY, 2.0), 2.0);
        assert_eq!(log_add(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!((log_add(0.0, 0.0) - core::f64::consts::LN_2).abs() < 1e-15);
    }

    #[test]
    fn a_mean_of_huge_terms_does_not_overflow() {
        assert_eq!(log_mean([5_000.0, 5_000.0].into_iter()), 5_000.0);
        assert_eq!(log_mean([].into_iter()), f64::NEG_INFINITY);
    }
}
