//! The statistics behind a verdict: is the new release worse than the one beside it?
//!
//! # What it promises
//! Counts of requests and of failed requests come in once for each scrape interval and release. Such an interval is a
//! **stratum**: inside it both releases saw the same load, the same season and the same outage, so if the new one is
//! no worse, how the failures are split between the two follows a hypergeometric law whatever the world was doing.
//! [`CountTest`] multiplies one likelihood ratio for each stratum. The result is *evidence* (an e-process): if the
//! release is no worse, its mean is at most 1 at every moment, so it ever reaches `1/alpha` with a probability of at
//! most `alpha` (Ville's inequality). One may look after every scrape and stop at any moment; nothing has to be
//! corrected for it.
//!
//! What this rests on: within one interval each request could have gone to either release. Clients that stick to one
//! release, or one bad machine, break it, and then the figures are too sure of themselves.
//!
//! # Crashes and replays
//! Nothing here does I/O, reads a clock or draws random numbers, and logarithms and exponentials come from `libm`. So
//! the same strata in the same order give the same bits on every machine, and state can be stored with
//! [`CountTest::state`] and taken up again with [`CountTest::resume`].
//!
//! ```
//! use cdflow_evidence::{Budget, CountTest, Counts, Margins, Stratum};
//!
//! let mut test = CountTest::new(Margins::against(2.0)?);
//! for _ in 0..20 {
//!     test.push(Stratum {
//!         canary: Counts::new(50, 3)?,
//!         control: Counts::new(950, 5)?,
//!     });
//! }
//! let budget = Budget::of(0.01)?;
//! assert!(test.fail_evidence() > budget.rollout_threshold());
//! let odds = test.confidence_sequence(budget);
//! assert!(odds.lower > 5.0 && odds.upper < 40.0);
//! # Ok::<(), cdflow_evidence::InvalidInput>(())
//! ```
//!
//! # Sources
//! Grünwald, de Heide and Koolen, "Safe testing", and Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics
//! and safe anytime-valid inference", for e-processes; Shin, Ramdas and Rinaldo, "E-detectors", for late onsets;
//! Robbins (1970) for confidence sequences by mixtures; Mantel and Haenszel (1959) for the estimate; Loader (2000),
//! "Fast and accurate computation of binomial probabilities", for the probabilities.

mod budget;
mod count;
mod guard;
mod hypergeometric;
mod interval;
mod mixture;
mod outlook;
mod stirling;

pub use budget::Budget;
pub use count::{CountState, CountTest, FAIL_ALTERNATIVES, Margins, PASS_ALTERNATIVES, Stratum};
pub use guard::{ErrorRateGuard, Strike};
pub use hypergeometric::Hypergeometric;
pub use interval::Interval;
pub use outlook::Outlook;

/// Largest number of requests of one release in one interval that is believed (a thousand million). More is a broken
/// counter; refusing it also bounds the work for one interval.
pub const MAX_EXPOSURE: u64 = 1_000_000_000;

/// Numbers that make no sense, with the sentence for a person.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidInput {
    /// More failures than requests.
    #[error("{events} of {exposure} requests failed: more failures than requests")]
    MoreEventsThanExposure {
        /// Requests.
        exposure: u64,
        /// Failed requests.
        events: u64,
    },
    /// More than [`MAX_EXPOSURE`].
    #[error("{exposure} requests in one interval: more than {MAX_EXPOSURE} are not believed")]
    TooMuchExposure {
        /// Requests.
        exposure: u64,
    },
    /// A budget or level outside 0 to 1.
    #[error("{name} is {value}: it must be above 0 and below 1")]
    NotAProbability {
        /// What it is called.
        name: &'static str,
        /// What it was.
        value: f64,
    },
    /// An odds ratio that leaves nothing to test.
    #[error("the harmful odds ratio is {value}: it must be a number above {above}")]
    HarmfulTooSmall {
        /// What it was.
        value: f64,
        /// The odds ratio that is still fine.
        above: f64,
    },
    /// Stored state of another shape.
    #[error("stored evidence does not fit: {0}")]
    State(&'static str),
}

/// Requests of one release, and how many of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    exposure: u64,
    events: u64,
}

impl Counts {
    /// `events` of `exposure` requests failed.
    ///
    /// # Errors
    /// More events than exposure.
    pub fn new(exposure: u64, events: u64) -> Result<Self, InvalidInput> {
        if events > exposure {
            return Err(InvalidInput::MoreEventsThanExposure { exposure, events });
        }
        Ok(Self { exposure, events })
    }

    /// Requests.
    pub fn exposure(self) -> u64 {
        self.exposure
    }

    /// Failed requests.
    pub fn events(self) -> u64 {
        self.events
    }

    /// Failed share, 0 to 1; `None` without requests.
    pub fn rate(self) -> Option<f64> {
        (self.exposure > 0).then(|| self.events as f64 / self.exposure as f64)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            exposure: self.exposure.saturating_add(other.exposure),
            events: self.events.saturating_add(other.events),
        }
    }
}
