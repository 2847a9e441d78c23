//! Seeded worlds to test in: load that swings, shared outages, ramps.

use cdflow_evidence::{Counts, Stratum};

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }

    /// Exact, in time proportional to the result: the gaps between successes are geometric.
    pub(crate) fn binomial(&mut self, trials: u64, p: f64) -> u64 {
        if p >= 1.0 {
            return trials;
        }
        let (mut successes, mut at) = (0, 0.0);
        loop {
            at += (self.unit().ln() / (1.0 - p).ln()).floor() + 1.0;
            if at > trials as f64 {
                return successes;
            }
            successes += 1;
        }
    }
}

/// A hundred and twenty intervals. Load swings, the share of the new release grows in four steps, and a tenth of the
/// time everything fails ten times as often on both sides. `odds` is what the new release does on top of it.
pub(crate) fn world(seed: u64, requests: f64, odds: impl Fn(usize) -> f64) -> Vec<Stratum> {
    let mut random = Random::seeded(seed);
    let outage = (random.next() % 108) as usize;
    (0..120)
        .map(|tick| {
            let load = requests * (1.0 + 0.5 * random.unit());
            let share = [0.05, 0.1, 0.25, 0.5][tick / 30];
            let canary = (load * share) as u64;
            let control = (load * (1.0 - share)) as u64;
            let base = if (outage..outage + 12).contains(&tick) { 0.05 } else { 0.005 };
            let worse = odds(tick) * base / (1.0 - base);
            let canary_failures = random.binomial(canary, worse / (1.0 + worse));
            let control_failures = random.binomial(control, base);
            Stratum {
                canary: Counts::new(canary, canary_failures).expect("valid"),
                control: Counts::new(control, control_failures).expect("valid"),
            }
        })
        .collect()
}
