//! One interval at a time, enumerated: what the theory says holds to the last digits.

use cdflow_evidence::{Budget, CountState, CountTest, Counts, FAIL_ALTERNATIVES, Hypergeometric, Margins, Stratum};
use proptest::prelude::*;

fn counts(exposure: u64, events: u64) -> Counts {
    Counts::new(exposure, events).expect("valid")
}

/// Mean of `value` over the splits of `events` when the odds ratio is `psi`.
fn mean_under(psi: f64, canary: u64, control: u64, events: u64, value: impl Fn(Stratum) -> f64) -> f64 {
    let law = Hypergeometric::new(canary, control, events).expect("informative");
    let (low, high) = law.support();
    let log_psi = psi.ln();
    (low..=high)
        .map(|k| {
            let probability = (law.log_probability(k) + log_psi * k as f64 - law.log_transform(log_psi)).exp();
            probability * value(Stratum { canary: counts(canary, k), control: counts(control, events - k) })
        })
        .sum()
}

fn evidence(margins: Margins, stratum: Stratum, side: impl Fn(&CountTest) -> f64) -> f64 {
    let mut test = CountTest::new(margins);
    test.push(stratum);
    side(&test).exp()
}

#[test]
fn the_reference_value_for_a_margin_of_one_fifth_comes_out() {
    // selfcheck.py: 37 and 50 requests, 9 failures, odds ratios 1.5, 3 and 10 against a margin of 1.2, under odds 1.
    let mean = mean_under(1.0, 37, 50, 9, |stratum| {
        let law = Hypergeometric::new(37, 50, 9).expect("informative");
        let likelihood = |psi: f64| psi.ln() * stratum.canary.events() as f64 - law.log_transform(psi.ln());
        [1.5, 3.0, 10.0].iter().map(|psi| (likelihood(*psi) - likelihood(1.2)).exp() / 3.0).sum()
    });
    assert!((mean - 0.717_815_837_137_668_5).abs() < 1e-12, "{mean}");
}

proptest! {
    #[test]
    fn evidence_against_a_release_at_the_margin_has_mean_one_and_less_below(
        canary in 1_u64..60, control in 1_u64..60, share in 0.01_f64..0.99, tolerated in 1.0_f64..1.5, below in 0.1_f64..1.0,
    ) {
        let events = ((canary + control) as f64 * share) as u64;
        prop_assume!(events > 0 && events < canary + control);
        let margins = Margins::new(tolerated, 2.0).expect("valid");
        let fail = |stratum| evidence(margins, stratum, CountTest::fail_evidence);
        let at_margin = mean_under(tolerated, canary, control, events, fail);
        prop_assert!((at_margin - 1.0).abs() < 1e-9, "{at_margin}");
        let inside = mean_under(tolerated * below, canary, control, events, fail);
        prop_assert!(inside <= 1.0 + 1e-9, "{inside}");
    }

    #[test]
    fn evidence_for_a_harmful_release_has_mean_one_at_the_margin_and_less_above(
        canary in 1_u64..60, control in 1_u64..60, share in 0.01_f64..0.99, harmful in 1.1_f64..4.0, above in 1.0_f64..10.0,
    ) {
        let events = ((canary + control) as f64 * share) as u64;
        prop_assume!(events > 0 && events < canary + control);
        let margins = Margins::against(harmful).expect("valid");
        let pass = |stratum| evidence(margins, stratum, CountTest::pass_evidence);
        let at_margin = mean_under(harmful, canary, control, events, pass);
        prop_assert!((at_margin - 1.0).abs() < 1e-9, "{at_margin}");
        let beyond = mean_under(harmful * above, canary, control, events, pass);
        prop_assert!(beyond <= 1.0 + 1e-9, "{beyond}");
    }

    #[test]
    fn spreading_the_onsets_keeps_the_mean_at_one(
        canary in 1_u64..40, control in 1_u64..40, events in 1_u64..30, mass in 0.0_f64..1.0, later in 0.0_f64..1.0,
    ) {
        prop_assume!(events < canary + control);
        let margins = Margins::against(2.0).expect("valid");
        let mean = mean_under(1.0, canary, control, events, |first| mean_under(1.0, canary, control, events, |second| {
            let mut test = CountTest::with_onset(margins, mass);
            test.push(first);
            test.allow_onset(later);
            test.push(second);
            test.fail_evidence().exp()
        }));
        prop_assert!((mean - 1.0).abs() < 1e-8, "{mean}");
    }

    #[test]
    fn any_strata_give_numbers_and_state_that_comes_back_bit_for_bit(
        strata in prop::collection::vec((0_u64..2_000_000, 0.0_f64..=1.0, 0_u64..2_000_000, 0.0_f64..=1.0), 0..12),
    ) {
        let mut test = CountTest::new(Margins::against(2.0).expect("valid"));
        for (canary, bad, control, worse) in strata {
            let stratum = Stratum {
                canary: counts(canary, (canary as f64 * bad) as u64),
                control: counts(control, (control as f64 * worse) as u64),
            };
            let mut resumed = CountTest::resume(test.state().clone()).expect("own state");
            test.push(stratum);
            resumed.push(stratum);
            prop_assert_eq!(resumed.fail_evidence().to_bits(), test.fail_evidence().to_bits());
            prop_assert_eq!(&resumed, &test);
            prop_assert!(!test.fail_evidence().is_nan() && !test.pass_evidence().is_nan());
            let interval = test.confidence_sequence(Budget::of(0.01).expect("valid"));
            prop_assert!(interval.lower < interval.upper, "{:?}", interval);
        }
    }
}

#[test]
fn an_interval_that_teaches_nothing_changes_no_evidence() {
    let mut test = CountTest::new(Margins::against(2.0).expect("valid"));
    for (canary, control) in [((0, 0), (100, 3)), ((100, 3), (0, 0)), ((100, 0), (100, 0)), ((5, 5), (7, 7))] {
        test.push(Stratum { canary: counts(canary.0, canary.1), control: counts(control.0, control.1) });
    }
    assert_eq!(test.fail_evidence(), 0.0);
    assert_eq!(test.pass_evidence(), 0.0);
    assert_eq!((test.strata(), test.informative()), (4, 0));
}

#[test]
fn the_estimate_is_infinite_when_only_the_new_release_fails() {
    let mut test = CountTest::new(Margins::against(2.0).expect("valid"));
    assert_eq!(test.estimate(), None);
    test.push(Stratum { canary: counts(100, 3), control: counts(100, 0) });
    assert_eq!(test.estimate(), Some(f64::INFINITY));
    test.push(Stratum { canary: counts(100, 3), control: counts(100, 2) });
    let estimate = test.estimate().expect("failures");
    assert!((2.9..3.3).contains(&estimate), "{estimate}");
}

#[test]
fn state_of_another_shape_is_refused() {
    let good = CountTest::new(Margins::against(2.0).expect("valid")).state().clone();
    let broken = [
        CountState { fail: vec![0.0; FAIL_ALTERNATIVES.len() - 1], ..good.clone() },
        CountState { pass: Vec::new(), ..good.clone() },
        CountState { likelihood: vec![0.0], ..good.clone() },
        CountState { harmful: 0.5, ..good.clone() },
        CountState { canary: (1, 2), ..good.clone() },
        CountState { unspent: f64::NAN, ..good.clone() },
    ];
    for state in broken {
        assert!(CountTest::resume(state).is_err());
    }
    assert!(CountTest::resume(good).is_ok());
}

#[test]
fn a_counter_that_jumps_beyond_belief_is_left_out() {
    let mut test = CountTest::new(Margins::against(2.0).expect("valid"));
    test.push(Stratum { canary: counts(2_000_000_000, 7), control: counts(100, 0) });
    assert_eq!(test.strata(), 0);
}
