//! The sentence and the figures of a verdict.

use cdflow_evidence::{CountTest, Counts, Outlook, Strike};
use cdflow_protocol::v1::{Basis, Figure, Verdict, VerdictKind};

use super::{
    increments::GONE_AFTER,
    judge::Rules,
    state::Phase,
    words::{confidence, duration, failed, in_brackets, interval, number, one_in, percent, ratio},
};

/// Why a verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reason {
    Guard(Strike),
    Silent,
    Worse,
    NotHarmful,
    Spotless,
    WithinLimit,
    WatchedToTheEnd,
    NothingRead,
    NoRequests,
    NotEnough,
}

pub(crate) struct Explanation<'a> {
    pub(crate) phase: &'a Phase,
    pub(crate) rules: &'a Rules,
    pub(crate) test: Option<&'a CountTest>,
    pub(crate) elapsed_ms: i64,
    pub(crate) covered_ms: i64,
}

impl Explanation<'_> {
    pub(crate) fn verdict(&self, kind: VerdictKind, basis: Basis, reason: Reason) -> Verdict {
        Verdict {
            kind: kind.into(),
            basis: basis.into(),
            sentence: self.sentence(reason),
            figures: self.figures(basis),
        }
    }

    fn sentence(&self, reason: Reason) -> String {
        let new = self.version(true);
        let when = self.when();
        let canary = self.phase.canary();
        let limit = percent(self.rules.guard.limit());
        match reason {
            Reason::Guard(Strike::Overall(counts)) => format!(
                "{new} fails {when}: {} requests to it failed{}, the limit is {limit}",
                failed(counts),
                in_brackets(counts)
            ),
            Reason::Guard(Strike::Lately(counts)) => format!(
                "{new} fails {when}: {} of its latest requests failed{}, the limit is {limit}",
                failed(counts),
                in_brackets(counts)
            ),
            Reason::Silent => {
                let because = if self.phase.canary_failure.is_empty() {
                    "it restarted each time".to_owned()
                } else {
                    self.phase.canary_failure.clone()
                };
                format!(
                    "{new} fails {when}: no instance of it could be read {GONE_AFTER} times in a row while {} could ({because})",
                    self.version(false)
                )
            }
            Reason::Worse => format!("{new} fails {when}: {}; {}", self.comparison(), self.odds()),
            Reason::NotHarmful => format!(
                "{new} passes {when}: {}; if its odds of failing were {} times as high, it would look this good less than once in {}",
                self.comparison(),
                ratio(self.rules.margins.harmful()),
                number(self.test.map_or(1.0, |test| test.pass_evidence().exp().min(1e9)) as u64)
            ),
            Reason::Spotless => {
                let other = self.phase.control();
                let other = if other.events() == 0 {
                    format!("nor did any of {} on {}", number(other.exposure()), self.version(false))
                } else {
                    format!("against {}{} on {}", failed(other), in_brackets(other), self.version(false))
                };
                format!(
                    "{new} passes {when}: none of {} requests to it failed in {}, {other}; too few failures to compare, so the limit of {limit} decides",
                    number(canary.exposure()),
                    self.elapsed()
                )
            }
            Reason::WithinLimit => format!(
                "{new} passes {when} with nothing to compare it with: {} requests failed{} in {}, limit {limit}",
                failed(canary),
                in_brackets(canary),
                self.elapsed()
            ),
            Reason::WatchedToTheEnd => match self.test.filter(|test| test.informative() > 0) {
                Some(_) => format!("{new} passes {when}: {}; {}", self.comparison(), self.odds()),
                None => format!(
                    "{new} passes {when} with nothing to compare it with: {} requests failed{} in {}, limit {limit}",
                    failed(canary),
                    in_brackets(canary),
                    self.elapsed()
                ),
            },
            Reason::NothingRead => {
                let because = if self.phase.canary_failure.is_empty() {
                    "no reading arrived: is a collector running for this pool?".to_owned()
                } else {
                    format!("the last reason was: {}", self.phase.canary_failure)
                };
                format!("{new} is undecided {when}: its counters could not be read in {}; {because}", self.elapsed())
            }
            Reason::NoRequests => format!(
                "{new} is undecided {when}: it counted no request in {}; does it get traffic, and is `{}` the right selector?",
                self.elapsed(),
                self.rules.profile.requests
            ),
            Reason::NotEnough => self.not_enough(),
        }
    }

    fn not_enough(&self) -> String {
        let (new, when, canary) = (self.version(true), self.when(), self.phase.canary());
        let profile = &self.rules.profile;
        let start = format!("{new} is undecided {when} after {}", self.elapsed());
        if self.phase.begin().watch {
            return format!(
                "{start}: it could be read only {} times in that time, one reading every {} was wanted",
                number(u64::from(self.phase.answered)),
                duration(profile.every_ms)
            );
        }
        let compared = self.test.filter(|test| self.phase.has_control() && test.strata() > 0);
        let ticks = if self.phase.has_control() { self.phase.compared } else { self.phase.ticks };
        let enough_requests = self.rules.guard.has_enough(canary)
            || compared.is_some_and(|test| self.rules.guard.has_enough(test.canary()));
        if ticks < profile.min_ticks {
            format!("{start}: {} scrape intervals with requests, {} are wanted", ticks, profile.min_ticks)
        } else if !enough_requests {
            format!("{start}: {} requests, {} are wanted", number(canary.exposure()), number(profile.min_requests))
        } else if compared.is_some() {
            let unseen = match self.outlook() {
                Some(smallest) => {
                    format!("; an effect below {} times the odds cannot be seen in this time", ratio(smallest))
                }
                None => String::new(),
            };
            format!("{start}: {}; {}{unseen}", self.comparison(), self.odds())
        } else {
            format!(
                "{start}: {} requests failed{}, and it had less than {} to show itself",
                failed(canary),
                in_brackets(canary),
                duration(profile.bake_ms)
            )
        }
    }

    /// "41 of 1,204 requests to it failed (3.4 %) against 118 of 22,310 (0.5 %) on v1.1.0 in the same 18 s".
    fn comparison(&self) -> String {
        let (canary, control) =
            self.test.map_or((Counts::default(), Counts::default()), |test| (test.canary(), test.control()));
        format!(
            "{} requests to it failed{} against {}{} on {} in the same {}",
            failed(canary),
            in_brackets(canary),
            failed(control),
            in_brackets(control),
            self.version(false),
            duration(self.covered_ms)
        )
    }

    /// "odds 6.7 times as high (99 % confidence sequence 3.9 to 11.2)".
    fn odds(&self) -> String {
        let Some(test) = self.test else { return String::new() };
        let alpha = self.rules.budget.alpha();
        let range = format!(
            "({} confidence sequence {})",
            confidence(alpha),
            interval(test.confidence_sequence(self.rules.budget))
        );
        match test.estimate() {
            None => "no request failed, so nothing can be said about the odds".into(),
            Some(odds) if odds.is_infinite() => format!("only {} had failures {range}", self.version(true)),
            Some(odds) => format!("odds {} times as high {range}", ratio(odds)),
        }
    }

    fn figures(&self, basis: Basis) -> Vec<Figure> {
        let begin = self.phase.begin();
        let profile = &self.rules.profile;
        let mut figures = Figures::default();
        let basis = match basis {
            Basis::Control => format!("control: {} in the same scrape intervals", self.version(false)),
            Basis::History => "history".into(),
            Basis::Guards | Basis::Unspecified => "guards: limits of the health profile".into(),
        };
        figures.add("basis", basis);
        figures.add("traffic", if begin.watch { "after promotion".into() } else { format!("{} %", begin.weight) });
        figures.add("time", format!("{} of at most {}", self.elapsed(), duration(begin.within_ms)));
        let counts = |counts: Counts| format!("{} failed{}", failed(counts), in_brackets(counts));
        figures.add(&format!("requests, {}", self.version(true)), counts(self.phase.canary()));
        if self.phase.has_control() {
            figures.add(&format!("requests, {}", self.version(false)), counts(self.phase.control()));
        }
        if let Some(test) = self.test.filter(|test| test.strata() > 0) {
            let alpha = self.rules.budget.alpha();
            figures.add(&format!("compared, {}", self.version(true)), counts(test.canary()));
            figures.add(&format!("compared, {}", self.version(false)), counts(test.control()));
            figures.add("odds ratio", test.estimate().map_or("unknown, nothing failed".into(), ratio));
            figures.add(
                &format!("{} confidence sequence", confidence(alpha)),
                interval(test.confidence_sequence(self.rules.budget)),
            );
            let share = if begin.watch { self.rules.budget.watch() } else { self.rules.budget.rollout() };
            figures.add(
                "chance of such harm by luck",
                format!("{}, fails at 1 in {}", one_in(test.fail_evidence()), number((1.0 / share).round() as u64)),
            );
            if !begin.watch {
                figures.add(
                    &format!("chance of such health with {} times the odds", ratio(self.rules.margins.harmful())),
                    format!(
                        "{}, passes at 1 in {}",
                        one_in(test.pass_evidence()),
                        number((1.0 / profile.beta).round() as u64)
                    ),
                );
            }
            let smallest = self.outlook().map_or("none".into(), |odds| format!("{} times the odds", ratio(odds)));
            figures.add("smallest effect seen in the whole time", smallest);
        }
        let intervals = format!(
            "{} read, {} with requests, {} compared, at least {} wanted",
            self.phase.readings, self.phase.ticks, self.phase.compared, profile.min_ticks
        );
        figures.add("scrape intervals", intervals);
        figures.add(
            "limit",
            format!("{} of at least {} requests", percent(profile.max_error_rate), number(profile.min_requests)),
        );
        if self.phase.restarts > 0 {
            figures.add(&format!("restarts, {}", self.version(true)), self.phase.restarts.to_string());
        }
        for (canary, failure) in [(true, &self.phase.canary_failure), (false, &self.phase.control_failure)] {
            if !failure.is_empty() {
                figures.add(&format!("last reading that failed, {}", self.version(canary)), failure.clone());
            }
        }
        figures.0
    }

    /// Smallest odds ratio that the traffic so far would show if it went on to the end of the phase.
    fn outlook(&self) -> Option<f64> {
        let budget = self.rules.budget;
        let threshold = if self.phase.begin().watch { budget.watch_threshold() } else { budget.rollout_threshold() };
        let whole = self.phase.begin().within_ms.max(self.elapsed_ms) as f64 / self.elapsed_ms.max(1) as f64;
        Outlook::of(self.phase.canary(), self.phase.control()).scaled(whole).detectable_odds_ratio(threshold)
    }

    fn when(&self) -> String {
        let begin = self.phase.begin();
        if begin.watch { "after promotion".into() } else { format!("at {} % of the traffic", begin.weight) }
    }

    fn elapsed(&self) -> String {
        duration(self.elapsed_ms)
    }

    fn version(&self, canary: bool) -> String {
        let instances =
            self.phase.begin().arms.iter().filter(|arm| arm.canary == canary).flat_map(|arm| &arm.instances);
        let named = instances.map(|instance| instance.version.as_str()).find(|version| !version.is_empty());
        named.unwrap_or(if canary { "the new release" } else { "the release before" }).to_owned()
    }
}

#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, name: &str, value: String) {
        self.0.push(Figure { name: name.to_owned(), value });
    }
}
