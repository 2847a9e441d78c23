//! The stratified count test.

use crate::{
    Budget, Counts, Hypergeometric, Interval, InvalidInput, MAX_EXPOSURE,
    interval::LATTICE_LEN,
    mixture::{log_add, log_mean},
};

/// Odds ratios, as multiples of the tolerated one, that the fail side looks for.
pub const FAIL_ALTERNATIVES: [f64; 7] = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0];

/// Odds ratios that the pass side looks for; those that are not below the harmful one are left out.
pub const PASS_ALTERNATIVES: [f64; 5] = [0.5, 0.8, 1.0, 1.2, 1.5];

/// Both releases in one scrape interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stratum {
    /// The new release.
    pub canary: Counts,
    /// The release it is compared with.
    pub control: Counts,
}

/// Which odds ratios are fine, and which must be excluded before a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margins {
    tolerated: f64,
    harmful: f64,
}

impl Margins {
    /// Anything above "as good as the control" is a reason to fail, `harmful` and above must be excluded to pass.
    ///
    /// # Errors
    /// `harmful` is not a number above 1.
    pub fn against(harmful: f64) -> Result<Self, InvalidInput> {
        Self::new(1.0, harmful)
    }

    /// The fail side has the null "odds ratio at most `tolerated`", the pass side "at least `harmful`".
    ///
    /// # Errors
    /// Not `1 <= tolerated < harmful < infinity`.
    pub fn new(tolerated: f64, harmful: f64) -> Result<Self, InvalidInput> {
        if !(tolerated >= 1.0 && harmful > tolerated && harmful.is_finite()) {
            return Err(InvalidInput::HarmfulTooSmall { value: harmful, above: tolerated.max(1.0) });
        }
        Ok(Self { tolerated, harmful })
    }

    /// See [`Margins::new`].
    pub fn tolerated(self) -> f64 {
        self.tolerated
    }

    /// See [`Margins::new`].
    pub fn harmful(self) -> f64 {
        self.harmful
    }
}

/// Everything a [`CountTest`] knows, to be stored by its owner as it is (the bits of the numbers matter).
#[derive(Debug, Clone, PartialEq)]
pub struct CountState {
    /// Margin of the fail side.
    pub tolerated: f64,
    /// Margin of the pass side.
    pub harmful: f64,
    /// For each of [`FAIL_ALTERNATIVES`]: log of the sum over onsets of mass times likelihood ratio.
    pub fail: Vec<f64>,
    /// Mass of onsets that are still to come.
    pub unspent: f64,
    /// For each alternative of the pass side: log of the likelihood ratio.
    pub pass: Vec<f64>,
    /// Log likelihood at the odds ratios that the confidence sequence looks at.
    pub likelihood: Vec<f64>,
    /// Mantel-Haenszel sums: concordant and discordant.
    pub concordant: f64,
    /// See above.
    pub discordant: f64,
    /// Strata pushed, those that teach nothing included.
    pub strata: u64,
    /// Strata with failures and with requests on both sides.
    pub informative: u64,
    /// Totals of the new release.
    pub canary: (u64, u64),
    /// Totals of the control.
    pub control: (u64, u64),
}

/// Evidence from all strata so far, for and against the new release.
///
/// All evidence is a natural logarithm: 0 is none, `log(100)` is "one such in a hundred if the release were no worse".
#[derive(Debug, Clone, PartialEq)]
pub struct CountTest {
    margins: Margins,
    state: CountState,
}

impl CountTest {
    /// Looks for harm from the first stratum on.
    pub fn new(margins: Margins) -> Self {
        Self::with_onset(margins, 1.0)
    }

    /// Looks for harm from the first stratum on with `mass` of the weight; the rest waits for
    /// [`CountTest::allow_onset`]. Costs `log(1 / mass)` of evidence when the harm is there at once.
    pub fn with_onset(margins: Margins, mass: f64) -> Self {
        let mut test = Self {
            margins,
            state: CountState {
                tolerated: margins.tolerated,
                harmful: margins.harmful,
                fail: vec![f64::NEG_INFINITY; FAIL_ALTERNATIVES.len()],
                unspent: 1.0,
                pass: vec![0.0; pass_alternatives(margins).count()],
                likelihood: vec![0.0; LATTICE_LEN],
                concordant: 0.0,
                discordant: 0.0,
                strata: 0,
                informative: 0,
                canary: (0, 0),
                control: (0, 0),
            },
        };
        test.allow_onset(mass);
        test
    }

    /// From the next stratum on harm may begin that was not there before: a new weight, a new minute of a watch. When
    /// onsets come, and with how much mass, must not depend on the counts of strata to come. No more is spent than is
    /// left of 1.
    pub fn allow_onset(&mut self, mass: f64) {
        let spent = mass.clamp(0.0, self.state.unspent);
        if spent > 0.0 {
            let log_spent = libm::log(spent);
            for sum in &mut self.state.fail {
                *sum = log_add(*sum, log_spent);
            }
            self.state.unspent -= spent;
        }
    }

    /// Takes one scrape interval. Above [`MAX_EXPOSURE`] requests on a side it is left out: such a counter is broken.
    pub fn push(&mut self, stratum: Stratum) {
        let Stratum { canary, control } = stratum;
        if canary.exposure() > MAX_EXPOSURE || control.exposure() > MAX_EXPOSURE {
            return;
        }
        let state = &mut self.state;
        state.strata += 1;
        add(&mut state.canary, canary);
        add(&mut state.control, control);
        let events = canary.events() + control.events();
        let Some(law) = Hypergeometric::new(canary.exposure(), control.exposure(), events) else { return };
        state.informative += 1;

        let observed = canary.events() as f64;
        let likelihood = |log_psi: f64| log_psi * observed - law.log_transform(log_psi);

        let tolerated = libm::log(self.margins.tolerated);
        let base = likelihood(tolerated);
        for (sum, psi) in state.fail.iter_mut().zip(FAIL_ALTERNATIVES) {
            *sum += likelihood(tolerated + libm::log(psi)) - base;
        }
        let base = likelihood(libm::log(self.margins.harmful));
        for (sum, psi) in state.pass.iter_mut().zip(pass_alternatives(self.margins)) {
            *sum += likelihood(libm::log(psi)) - base;
        }
        for (sum, log_psi) in state.likelihood.iter_mut().zip(crate::interval::lattice()) {
            *sum += likelihood(log_psi);
        }

        let all = (canary.exposure() + control.exposure()) as f64;
        let failed_and_fine = |a: Counts, b: Counts| a.events() as f64 * (b.exposure() - b.events()) as f64 / all;
        state.concordant += failed_and_fine(canary, control);
        state.discordant += failed_and_fine(control, canary);
    }

    /// Log evidence that the new release fails more than is tolerated. If it does not, this ever reaches
    /// `log(1 / alpha)` with a probability of at most `alpha`.
    pub fn fail_evidence(&self) -> f64 {
        let unspent = if self.state.unspent > 0.0 { libm::log(self.state.unspent) } else { f64::NEG_INFINITY };
        log_add(log_mean(self.state.fail.iter().copied()), unspent)
    }

    /// Log evidence that the new release is less than harmful. If it is harmful, this ever reaches `log(1 / beta)`
    /// with a probability of at most `beta`.
    pub fn pass_evidence(&self) -> f64 {
        log_mean(self.state.pass.iter().copied())
    }

    /// Odds ratios that the data do not exclude. The true one, if it is the same in all strata, is in all of these
    /// intervals at once with a probability of at least `1 - alpha`: one may look as often as one likes. Four fifths of
    /// `alpha` go to the lower end, as in a verdict.
    pub fn confidence_sequence(&self, budget: Budget) -> Interval {
        Interval::of(&self.state.likelihood, budget)
    }

    /// The Mantel-Haenszel estimate of the odds ratio: `None` without failures, infinite when only the new release
    /// has any.
    pub fn estimate(&self) -> Option<f64> {
        let CountState { concordant, discordant, .. } = self.state;
        (concordant > 0.0 || discordant > 0.0).then(|| concordant / discordant)
    }

    /// Totals of the new release.
    pub fn canary(&self) -> Counts {
        totals(self.state.canary)
    }

    /// Totals of the control.
    pub fn control(&self) -> Counts {
        totals(self.state.control)
    }

    /// Strata pushed.
    pub fn strata(&self) -> u64 {
        self.state.strata
    }

    /// Strata that could teach something: failures, and requests on both sides.
    pub fn informative(&self) -> u64 {
        self.state.informative
    }

    /// What to store.
    pub fn state(&self) -> &CountState {
        &self.state
    }

    /// Goes on from stored state.
    ///
    /// # Errors
    /// The state has another shape: it was stored by a release with other alternatives.
    pub fn resume(state: CountState) -> Result<Self, InvalidInput> {
        let margins = Margins::new(state.tolerated, state.harmful)?;
        if state.fail.len() != FAIL_ALTERNATIVES.len() {
            return Err(InvalidInput::State("another number of alternatives on the fail side"));
        }
        if state.pass.len() != pass_alternatives(margins).count() {
            return Err(InvalidInput::State("another number of alternatives on the pass side"));
        }
        if state.likelihood.len() != LATTICE_LEN {
            return Err(InvalidInput::State("another set of odds ratios"));
        }
        if state.canary.1 > state.canary.0 || state.control.1 > state.control.0 {
            return Err(InvalidInput::State("more failures than requests"));
        }
        let numbers = state.fail.iter().chain(&state.pass).chain(&state.likelihood);
        if numbers.chain([&state.unspent, &state.concordant, &state.discordant]).any(|number| number.is_nan()) {
            return Err(InvalidInput::State("not a number"));
        }
        Ok(Self { margins, state })
    }
}

fn pass_alternatives(margins: Margins) -> impl Iterator<Item = f64> {
    PASS_ALTERNATIVES.into_iter().filter(move |psi| *psi < margins.harmful)
}

fn add(total: &mut (u64, u64), counts: Counts) {
    total.0 = total.0.saturating_add(counts.exposure());
    total.1 = total.1.saturating_add(counts.events());
}

fn totals((exposure, events): (u64, u64)) -> Counts {
    Counts { exposure, events }
}
