//! Whole stages, many times: how often a healthy release is stopped, and how soon a bad one.

use cdflow_protocol::v1::VerdictKind;

mod stage;
use stage::Stage;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn failures(&mut self, requests: u64, rate: f64) -> u64 {
        (0..requests).filter(|_| self.unit() < rate).count() as u64
    }
}

/// A canary at 5, 25 and 50 % of 250 requests a second, five minutes at each weight, while the shared dependency has
/// a bad minute now and then. Seconds of traffic and the last verdict.
fn canary(seed: u64, alpha: f64, rate: f64, control_rate: f64) -> (u32, VerdictKind) {
    let mut random = Random(seed);
    let mut stage = Stage::with_control();
    stage.profile.alpha = alpha;
    stage.profile.max_error_rate = 0.9;
    let mut seconds = 0;
    for weight in [5, 25, 50] {
        stage.begin(stage.phase(&format!("verify-{weight}"), weight, 300_000));
        let answers = stage.answers.len();
        while stage.answers.len() == answers {
            seconds += 1;
            let worse = if (60..80).contains(&(seconds % 200)) { 5.0 } else { 1.0 };
            let new = (250.0 * f64::from(weight) / 100.0 * (0.5 + random.unit())) as u64;
            // Each of two instances.
            let old = (250.0 * f64::from(100 - weight) / 200.0 * (0.5 + random.unit())) as u64;
            let failed = (random.failures(new, rate * worse), random.failures(old, control_rate * worse));
            stage.second((new, failed.0), (old, failed.1));
        }
        if stage.verdict().kind() != VerdictKind::Pass {
            break;
        }
    }
    (seconds, stage.verdict().kind())
}

#[test]
fn healthy_releases_are_failed_no_more_often_than_alpha_and_nearly_all_pass() {
    let (runs, alpha) = (150, 0.05);
    let verdicts: Vec<VerdictKind> = (0..runs).map(|seed| canary(seed, alpha, 0.01, 0.01).1).collect();
    let share = |kind: VerdictKind| verdicts.iter().filter(|verdict| **verdict == kind).count() as f64 / runs as f64;
    let allowed = alpha + 3.0 * (alpha * (1.0 - alpha) / runs as f64).sqrt();
    assert!(share(VerdictKind::Fail) <= allowed, "failed: {}", share(VerdictKind::Fail));
    assert!(share(VerdictKind::Pass) >= 0.9, "passed: {}", share(VerdictKind::Pass));
}

#[test]
fn a_release_with_seven_times_the_failures_is_stopped_at_the_first_weight_within_seconds() {
    let mut delays: Vec<u32> = (0..60)
        .map(|seed| {
            let (seconds, verdict) = canary(1_000 + seed, 0.01, 0.07, 0.01);
            assert_eq!(verdict, VerdictKind::Fail);
            seconds
        })
        .collect();
    delays.sort_unstable();
    assert!(delays[30] <= 15, "median {}", delays[30]);
    assert!(delays[59] <= 40, "slowest {}", delays[59]);
}
