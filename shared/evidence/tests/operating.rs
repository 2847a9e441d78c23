//! How often it is wrong and how soon it is right, in worlds with swinging load, a shared outage and a ramp.

use cdflow_evidence::{Budget, CountTest, Margins, Stratum};

mod worlds;
use worlds::world;

const HEALTHY_RUNS: u64 = 2_000;

/// First interval at which the evidence is there.
fn first(strata: &[Stratum], mut test: CountTest, reached: impl Fn(&CountTest) -> bool) -> Option<usize> {
    strata.iter().position(|stratum| {
        test.push(*stratum);
        reached(&test)
    })
}

fn margins() -> Margins {
    Margins::against(2.0).expect("valid")
}

#[test]
fn healthy_releases_are_failed_no_more_often_than_the_budget_says() {
    for alpha in [0.05, 0.01] {
        let threshold = -f64::ln(alpha);
        let alarms = (0..HEALTHY_RUNS)
            .filter(|seed| {
                let strata = world(*seed, 200.0, |_| 1.0);
                first(&strata, CountTest::new(margins()), |test| test.fail_evidence() >= threshold).is_some()
            })
            .count();
        let rate = alarms as f64 / HEALTHY_RUNS as f64;
        let allowed = alpha + 3.0 * (alpha * (1.0 - alpha) / HEALTHY_RUNS as f64).sqrt();
        assert!(rate <= allowed, "alpha {alpha}: {rate} > {allowed}");
    }
}

#[test]
fn the_true_odds_ratio_is_left_out_of_the_confidence_sequence_no_more_often_than_it_says() {
    let (runs, alpha) = (400, 0.05);
    let misses = (0..runs)
        .filter(|seed| {
            let strata = world(10_000 + seed, 400.0, |_| 3.0);
            let budget = Budget::of(alpha).expect("valid");
            let left_out = |test: &CountTest| !test.confidence_sequence(budget).contains(3.0);
            first(&strata, CountTest::new(margins()), left_out).is_some()
        })
        .count();
    let allowed = alpha + 3.0 * (alpha * (1.0 - alpha) / runs as f64).sqrt();
    assert!(misses as f64 / runs as f64 <= allowed, "{misses} of {runs}");
}

#[test]
fn five_times_the_odds_are_found_in_every_run_and_soon() {
    let threshold = Budget::of(0.01).expect("valid").rollout_threshold();
    let mut delays: Vec<usize> = (0..300)
        .map(|seed| {
            let strata = world(20_000 + seed, 400.0, |_| 5.0);
            first(&strata, CountTest::new(margins()), |test| test.fail_evidence() >= threshold).unwrap_or(usize::MAX)
        })
        .collect();
    delays.sort_unstable();
    assert!(delays[299] < 120, "slowest: {}", delays[299]);
    assert!(delays[150] < 50, "median: {}", delays[150]);
}

#[test]
fn harm_that_begins_late_is_found_sooner_when_onsets_are_spread() {
    let threshold = Budget::of(0.01).expect("valid").watch_threshold();
    let (mut spread_total, mut plain_total) = (0, 0);
    for seed in 0..100 {
        let strata = world(30_000 + seed, 1_000.0, |tick| if tick < 90 { 1.0 } else { 5.0 });
        let plain = first(&strata, CountTest::new(margins()), |test| test.fail_evidence() >= threshold);
        let mut test = CountTest::with_onset(margins(), 0.5);
        let spread = strata.iter().enumerate().position(|(tick, stratum)| {
            if tick > 0 && tick % 6 == 0 {
                test.allow_onset(0.5 / 19.0);
            }
            test.push(*stratum);
            test.fail_evidence() >= threshold
        });
        spread_total += spread.unwrap_or(120);
        plain_total += plain.unwrap_or(120);
    }
    assert!(spread_total < plain_total, "spread {spread_total}, plain {plain_total}");
}

#[test]
fn healthy_releases_pass_and_harmful_ones_hardly_ever_do() {
    let enough = -f64::ln(0.05);
    let passes = |odds: f64, seeds: u64, requests: f64| {
        let passed = (0..300)
            .filter(|seed| {
                let strata = world(seeds + seed, requests, |_| odds);
                first(&strata, CountTest::new(margins()), |test| test.pass_evidence() >= enough).is_some()
            })
            .count();
        passed as f64 / 300.0
    };
    let healthy = passes(1.0, 40_000, 2_000.0);
    assert!(healthy >= 0.97, "healthy runs passed: {healthy}");
    let harmful = passes(2.0, 50_000, 2_000.0);
    assert!(harmful <= 0.05 + 3.0 * (0.05_f64 * 0.95 / 300.0).sqrt(), "harmful runs passed: {harmful}");
}
