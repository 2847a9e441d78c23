//! The rules by which evidence becomes a verdict.

use cdflow_evidence::{Budget, CountTest, ErrorRateGuard, InvalidInput, Margins};
use cdflow_pipeline::plan::Profile;
use cdflow_protocol::{
    UnixMillis,
    v1::{Basis, BeginPhase, Verdict, VerdictKind},
};

use super::{
    explain::{Explanation, Reason},
    increments::GONE_AFTER,
    state::{Phase, State},
};

/// Collectors of one phase that may end with an error before it is given up.
pub(crate) const PATIENCE_WITH_COLLECTORS: u32 = 10;

/// A profile whose numbers have been checked.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) profile: Profile,
    pub(crate) budget: Budget,
    pub(crate) margins: Margins,
    pub(crate) guard: ErrorRateGuard,
}

impl Rules {
    /// # Errors
    /// A sentence: what is wrong with what was asked.
    pub(crate) fn of(begin: &BeginPhase) -> Result<Self, String> {
        let profile: Profile = serde_json::from_slice(&begin.profile)
            .map_err(|error| format!("the health profile in the plan cannot be read: {error}"))?;
        let checked = Self::checked(profile.clone())
            .map_err(|error| format!("the health profile `{}`: {error}", profile.name))?;
        if profile.every_ms <= 0 {
            return Err(format!(
                "the health profile `{}`: the scrape interval is {} ms, it must be above 0",
                profile.name, profile.every_ms
            ));
        }
        if begin.within_ms <= 0 {
            return Err(format!("there is no time to verify in: `within` is {} ms", begin.within_ms));
        }
        if !begin.arms.iter().any(|arm| arm.canary && !arm.instances.is_empty()) {
            return Err("there is no instance of the new release to read".into());
        }
        Ok(checked)
    }

    fn checked(profile: Profile) -> Result<Self, InvalidInput> {
        if !(profile.beta > 0.0 && profile.beta < 1.0) {
            return Err(InvalidInput::NotAProbability { name: "beta", value: profile.beta });
        }
        Ok(Self {
            budget: Budget::of(profile.alpha)?,
            margins: Margins::against(profile.harmful_odds_ratio)?,
            guard: ErrorRateGuard::new(profile.max_error_rate, profile.min_requests)?,
            profile,
        })
    }

    fn pass_threshold(&self) -> f64 {
        -self.profile.beta.ln()
    }
}

/// A verdict for the open phase of `state`, if it is time for one.
pub(crate) fn judge(state: &State, rules: &Rules, now: UnixMillis) -> Option<Verdict> {
    let phase = state.open_phase()?;
    let test = state.evidence().and_then(|evidence| evidence.test().ok());
    let case = Case { phase, rules, test: test.as_ref(), elapsed_ms: now - phase.began_ms };
    let (kind, basis, reason) = case.decide()?;
    let covered_ms = state.evidence().map_or(0, |evidence| evidence.covered_ms);
    Some(
        Explanation { phase, rules, test: test.as_ref(), elapsed_ms: case.elapsed_ms, covered_ms }
            .verdict(kind, basis, reason),
    )
}

/// A verdict for a phase that cannot be judged at all.
pub(crate) fn hopeless(sentence: impl Into<String>) -> Verdict {
    Verdict {
        kind: VerdictKind::Inconclusive.into(),
        basis: Basis::Guards.into(),
        sentence: sentence.into(),
        figures: Vec::new(),
    }
}

struct Case<'a> {
    phase: &'a Phase,
    rules: &'a Rules,
    test: Option<&'a CountTest>,
    elapsed_ms: i64,
}

type Ruling = (VerdictKind, Basis, Reason);

impl Case<'_> {
    fn decide(&self) -> Option<Ruling> {
        self.harm().or_else(|| if self.phase.begin().watch { self.end_of_watch() } else { self.rollout() })
    }

    fn harm(&self) -> Option<Ruling> {
        if let Some(strike) = self.rules.guard.check(self.phase.canary(), self.phase.lately()) {
            return Some((VerdictKind::Fail, Basis::Guards, Reason::Guard(strike)));
        }
        if self.phase.silent >= GONE_AFTER {
            return Some((VerdictKind::Fail, Basis::Guards, Reason::Silent));
        }
        let budget = self.rules.budget;
        let threshold = if self.phase.begin().watch { budget.watch_threshold() } else { budget.rollout_threshold() };
        let harmful = self.test.is_some_and(|test| test.fail_evidence() >= threshold);
        harmful.then_some((VerdictKind::Fail, Basis::Control, Reason::Worse))
    }

    fn rollout(&self) -> Option<Ruling> {
        let pass = if self.phase.has_control() { self.pass_by_control() } else { self.pass_by_guards() };
        pass.or_else(|| self.is_over().then(|| self.undecided()))
    }

    fn pass_by_control(&self) -> Option<Ruling> {
        let test = self.test?;
        if !self.is_baked(self.phase.compared) || test.fail_evidence() > self.rules.budget.doubt_threshold() {
            return None;
        }
        if test.pass_evidence() >= self.rules.pass_threshold() && self.rules.guard.has_enough(test.canary()) {
            return Some((VerdictKind::Pass, Basis::Control, Reason::NotHarmful));
        }
        // Without failures there is nothing to compare, however long one waits. With failures of the control only,
        // the comparison may still say something until time is up.
        let spotless = self.phase.canary().events() == 0 && test.canary().events() == 0;
        let nothing_to_compare = self.phase.control().events() == 0 && test.control().events() == 0;
        (spotless && (nothing_to_compare || self.is_over()) && self.rules.guard.has_enough(self.phase.canary()))
            .then_some((VerdictKind::Pass, Basis::Guards, Reason::Spotless))
    }

    fn pass_by_guards(&self) -> Option<Ruling> {
        (self.is_baked(self.phase.ticks) && self.rules.guard.has_enough(self.phase.canary())).then_some((
            VerdictKind::Pass,
            Basis::Guards,
            Reason::WithinLimit,
        ))
    }

    fn end_of_watch(&self) -> Option<Ruling> {
        if !self.is_over() {
            return None;
        }
        let expected = self.phase.begin().within_ms / self.rules.profile.every_ms.max(1);
        let seen_half_of_it = i64::from(self.phase.answered) * 2 >= expected;
        if self.phase.canary().exposure() == 0 || !seen_half_of_it {
            return Some(self.undecided());
        }
        let compared = self.test.is_some_and(|test| test.informative() > 0);
        let basis = if compared { Basis::Control } else { Basis::Guards };
        Some((VerdictKind::Pass, basis, Reason::WatchedToTheEnd))
    }

    fn undecided(&self) -> Ruling {
        let basis = if self.phase.has_control() { Basis::Control } else { Basis::Guards };
        let reason = if self.phase.readings == 0 || self.phase.answered == 0 {
            Reason::NothingRead
        } else if self.phase.canary().exposure() == 0 {
            Reason::NoRequests
        } else {
            Reason::NotEnough
        };
        (VerdictKind::Inconclusive, basis, reason)
    }

    fn is_over(&self) -> bool {
        self.elapsed_ms >= self.phase.begin().within_ms
    }

    fn is_baked(&self, ticks: u32) -> bool {
        self.elapsed_ms >= self.rules.profile.bake_ms && ticks >= self.rules.profile.min_ticks
    }
}
