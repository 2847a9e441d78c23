//! From a percent of traffic to weights.

/// HAProxy takes 0 to 256.
const LARGEST: u32 = 256;
/// The weight of every instance when one release has all traffic.
pub(super) const ALONE: u32 = 100;

/// Weights of one instance of each of two releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    pub(super) new: u32,
    pub(super) old: u32,
}

/// Weights so that `new` instances together get `percent` of the traffic, and `old` instances the rest.
///
/// Of all pairs of whole weights the one with the smallest error is taken, and of equally good ones the smallest, since
/// a round of the router is then shortest. With up to 32 instances on each side the error stays below a tenth of
/// a percent point for shares from 5 to 95 % (a test shows it). A release without instances gets nothing, the other then all.
pub(super) fn weights(new: u32, old: u32, percent: u32) -> Weights {
    let percent = percent.min(100);
    if old == 0 || percent == 100 {
        return Weights { new: ALONE, old: 0 };
    }
    if new == 0 || percent == 0 {
        return Weights { new: 0, old: ALONE };
    }
    let mut best = (f64::INFINITY, Weights { new: 1, old: 1 });
    for new_weight in 1..=LARGEST {
        // The exact partner lies between two whole numbers.
        let exact = f64::from(new_weight * new * (100 - percent)) / f64::from(percent * old);
        for old_weight in [exact.floor(), exact.ceil()] {
            if old_weight < 1.0 || old_weight > f64::from(LARGEST) {
                continue;
            }
            let error = (share(new, f64::from(new_weight), old, old_weight) - f64::from(percent)).abs();
            if error + 1e-9 < best.0 {
                best = (error, Weights { new: new_weight, old: old_weight as u32 });
            }
        }
    }
    best.1
}

fn share(new: u32, new_weight: f64, old: u32, old_weight: f64) -> f64 {
    let new = f64::from(new) * new_weight;
    100.0 * new / (new + f64::from(old) * old_weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_shares_are_exact() {
        for (new, old, percent, expected) in [
            (1, 4, 5, (4, 19)),
            (1, 1, 50, (1, 1)),
            (1, 3, 25, (1, 1)),
            (2, 4, 50, (2, 1)),
            (4, 4, 5, (1, 19)),
            (1, 4, 1, (4, 99)),
        ] {
            let weights = weights(new, old, percent);
            assert_eq!((weights.new, weights.old), expected, "{new} new, {old} old, {percent} %");
        }
    }

    #[test]
    fn all_or_nothing() {
        assert_eq!(weights(1, 4, 100), Weights { new: 100, old: 0 });
        assert_eq!(weights(1, 4, 0), Weights { new: 0, old: 100 });
        assert_eq!(weights(3, 0, 5), Weights { new: 100, old: 0 });
    }

    proptest! {
        #[test]
        fn the_error_is_small_and_nobody_is_left_out(new in 1_u32..=32, old in 1_u32..=32, percent in 5_u32..=95) {
            let found = weights(new, old, percent);
            prop_assert!((1..=256).contains(&found.new) && (1..=256).contains(&found.old));
            let error = share(new, f64::from(found.new), old, f64::from(found.old)) - f64::from(percent);
            // Far apart counts leave little room: 32 against 1 at 95 % needs weights beyond 256.
            let room = f64::from(new.max(old)) / f64::from(new.min(old));
            prop_assert!(error.abs() < 0.1 || room > 12.0, "{found:?} is off by {error}");
        }
    }
}
