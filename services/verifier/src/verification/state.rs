//! What a verification knows, in the form in which a checkpoint keeps it.
//!
//! Field numbers are part of the format: a checkpoint of an earlier release must stay readable.

use std::collections::BTreeMap;

use cdflow_evidence::{CountState, CountTest, Counts, Margins, Stratum};
use cdflow_protocol::v1::{BeginPhase, Task, VerdictGiven};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct State {
    /// What is being verified now, or was last.
    #[prost(message, optional, tag = "1")]
    pub(crate) phase: Option<Phase>,
    /// All verdicts, oldest first: a step that asks again is answered again.
    #[prost(message, repeated, tag = "2")]
    pub(crate) given: Vec<VerdictGiven>,
    /// The task that reads the counters, while it is wanted.
    #[prost(message, optional, tag = "3")]
    pub(crate) collector: Option<Task>,
    /// Collectors started so far, for their ids.
    #[prost(uint32, tag = "4")]
    pub(crate) collectors: u32,
    /// Set at the end: why.
    #[prost(string, optional, tag = "5")]
    pub(crate) ended: Option<String>,
    /// Evidence from all weights of the rollout.
    #[prost(message, optional, tag = "6")]
    pub(crate) rollout: Option<Evidence>,
    /// Evidence from the watch.
    #[prost(message, optional, tag = "7")]
    pub(crate) watch: Option<Evidence>,
    /// Phases of the rollout begun so far.
    #[prost(uint32, tag = "8")]
    pub(crate) rollout_phases: u32,
}

impl State {
    /// The verdict of an attempt of a step, if there is one.
    pub(crate) fn verdict_of(&self, step: &str, attempt: u32) -> Option<&VerdictGiven> {
        self.given.iter().find(|given| given.step_id == step && given.attempt == attempt)
    }

    /// The phase that still has no verdict.
    pub(crate) fn open_phase(&self) -> Option<&Phase> {
        let phase = self.phase.as_ref()?;
        let begin = phase.begin();
        (self.ended.is_none() && self.verdict_of(&begin.step_id, begin.attempt).is_none()).then_some(phase)
    }

    /// The evidence that the current phase adds to.
    pub(crate) fn evidence(&self) -> Option<&Evidence> {
        if self.phase.as_ref()?.begin().watch { self.watch.as_ref() } else { self.rollout.as_ref() }
    }
}

/// One weight of the rollout, or the watch.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Phase {
    #[prost(message, optional, tag = "1")]
    begin: Option<BeginPhase>,
    #[prost(int64, tag = "2")]
    pub(crate) began_ms: i64,
    /// By id.
    #[prost(btree_map = "string, message", tag = "3")]
    pub(crate) instances: BTreeMap<String, InstanceCounters>,
    /// Time of the latest reading, 0 before the first.
    #[prost(int64, tag = "4")]
    pub(crate) read_ms: i64,
    /// Time of the readings that the next stratum starts from.
    #[prost(int64, tag = "5")]
    pub(crate) stratum_from_ms: i64,
    /// All that was counted in this phase, complete intervals or not.
    #[prost(message, optional, tag = "6")]
    pub(crate) canary: Option<Tally>,
    #[prost(message, optional, tag = "7")]
    pub(crate) control: Option<Tally>,
    /// Two windows of the new release, each closed when it has enough requests for the guard.
    #[prost(message, optional, tag = "8")]
    pub(crate) closed_window: Option<Tally>,
    #[prost(message, optional, tag = "9")]
    pub(crate) open_window: Option<Tally>,
    /// Readings taken.
    #[prost(uint32, tag = "10")]
    pub(crate) readings: u32,
    /// Of these: with an answer of the new release.
    #[prost(uint32, tag = "11")]
    pub(crate) answered: u32,
    /// Of these: with requests of the new release.
    #[prost(uint32, tag = "12")]
    pub(crate) ticks: u32,
    /// Strata with requests on both sides.
    #[prost(uint32, tag = "13")]
    pub(crate) compared: u32,
    /// Readings in a row with an answer of the control and none of the new release.
    #[prost(uint32, tag = "14")]
    pub(crate) silent: u32,
    /// Restarts of the new release's processes.
    #[prost(uint32, tag = "15")]
    pub(crate) restarts: u32,
    /// Why an instance could not be read, the latest reason of each side.
    #[prost(string, tag = "16")]
    pub(crate) canary_failure: String,
    #[prost(string, tag = "17")]
    pub(crate) control_failure: String,
    /// Collectors that ended with an error.
    #[prost(uint32, tag = "18")]
    pub(crate) collector_failures: u32,
    /// Minute marks of the watch at which an onset was allowed.
    #[prost(uint32, tag = "19")]
    pub(crate) onsets: u32,
}

impl Phase {
    pub(crate) fn starting(begin: BeginPhase, began_ms: i64) -> Self {
        Self { begin: Some(begin), began_ms, ..Self::default() }
    }

    pub(crate) fn begin(&self) -> &BeginPhase {
        static NONE: std::sync::LazyLock<BeginPhase> = std::sync::LazyLock::new(BeginPhase::default);
        self.begin.as_ref().unwrap_or(&NONE)
    }

    pub(crate) fn deadline_ms(&self) -> i64 {
        self.began_ms.saturating_add(self.begin().within_ms)
    }

    /// Whether some instance of the release to compare with can get requests.
    pub(crate) fn has_control(&self) -> bool {
        let begin = self.begin();
        begin.weight < 100 && begin.arms.iter().any(|arm| !arm.canary && !arm.instances.is_empty())
    }

    pub(crate) fn canary(&self) -> Counts {
        counts(self.canary.as_ref())
    }

    pub(crate) fn control(&self) -> Counts {
        counts(self.control.as_ref())
    }

    /// The latest requests of the new release.
    pub(crate) fn lately(&self) -> Counts {
        counts(self.closed_window.as_ref()).plus(counts(self.open_window.as_ref()))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InstanceCounters {
    /// As last read.
    #[prost(message, optional, tag = "1")]
    pub(crate) last: Option<Totals>,
    /// What the next stratum starts from; unset while the instance has no part in it.
    #[prost(message, optional, tag = "2")]
    pub(crate) base: Option<Totals>,
    /// Readings in a row without an answer.
    #[prost(uint32, tag = "3")]
    pub(crate) misses: u32,
}

/// Counters of one process since its start.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Totals {
    #[prost(uint64, tag = "1")]
    pub(crate) requests: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) errors: u64,
    /// Unix seconds, 0 if unknown.
    #[prost(double, tag = "3")]
    pub(crate) started: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Tally {
    #[prost(uint64, tag = "1")]
    pub(crate) requests: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) errors: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
    }

    /// A failed request is a request: where the selectors disagree, there were at least as many as failed.
    pub(crate) fn counts(self) -> Counts {
        Counts::new(self.requests.max(self.errors), self.errors).unwrap_or_default()
    }
}

fn counts(tally: Option<&Tally>) -> Counts {
    tally.copied().unwrap_or_default().counts()
}

/// A [`CountTest`] as stored, and how much time its strata cover.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Evidence {
    #[prost(double, tag = "1")]
    tolerated: f64,
    #[prost(double, tag = "2")]
    harmful: f64,
    #[prost(double, repeated, tag = "3")]
    fail: Vec<f64>,
    #[prost(double, tag = "4")]
    unspent: f64,
    #[prost(double, repeated, tag = "5")]
    pass: Vec<f64>,
    #[prost(double, repeated, tag = "6")]
    likelihood: Vec<f64>,
    #[prost(double, tag = "7")]
    concordant: f64,
    #[prost(double, tag = "8")]
    discordant: f64,
    #[prost(uint64, tag = "9")]
    strata: u64,
    #[prost(uint64, tag = "10")]
    informative: u64,
    #[prost(message, optional, tag = "11")]
    canary: Option<Tally>,
    #[prost(message, optional, tag = "12")]
    control: Option<Tally>,
    /// Time that the strata cover, in milliseconds.
    #[prost(int64, tag = "13")]
    pub(crate) covered_ms: i64,
}

impl Evidence {
    pub(crate) fn starting(margins: Margins, onset_mass: f64) -> Self {
        Self::from_test(&CountTest::with_onset(margins, onset_mass), 0)
    }

    pub(crate) fn allow_onset(&mut self, mass: f64) {
        if let Ok(mut test) = self.test() {
            test.allow_onset(mass);
            *self = Self::from_test(&test, self.covered_ms);
        }
    }

    pub(crate) fn push(&mut self, stratum: Stratum, covered_ms: i64) {
        if let Ok(mut test) = self.test() {
            test.push(stratum);
            *self = Self::from_test(&test, self.covered_ms.saturating_add(covered_ms));
        }
    }

    /// # Errors
    /// When this was stored by a release with other alternatives: the verification starts over.
    pub(crate) fn test(&self) -> Result<CountTest, cdflow_evidence::InvalidInput> {
        let pair = |tally: Option<Tally>| tally.map_or((0, 0), |tally| (tally.requests, tally.errors));
        CountTest::resume(CountState {
            tolerated: self.tolerated,
            harmful: self.harmful,
            fail: self.fail.clone(),
            unspent: self.unspent,
            pass: self.pass.clone(),
            likelihood: self.likelihood.clone(),
            concordant: self.concordant,
            discordant: self.discordant,
            strata: self.strata,
            informative: self.informative,
            canary: pair(self.canary),
            control: pair(self.control),
        })
    }

    fn from_test(test: &CountTest, covered_ms: i64) -> Self {
        let state = test.state().clone();
        let tally = |(requests, errors)| Some(Tally { requests, errors });
        Self {
            tolerated: state.tolerated,
            harmful: state.harmful,
            fail: state.fail,
            unspent: state.unspent,
            pass: state.pass,
            likelihood: state.likelihood,
            concordant: state.concordant,
            discordant: state.discordant,
            strata: state.strata,
            informative: state.informative,
            canary: tally(state.canary),
            control: tally(state.control),
            covered_ms,
        }
    }
}
