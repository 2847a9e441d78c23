//! Is the new release worse than the one beside it? Collects counters, keeps the evidence, gives a verdict.
//!
//! # What it promises
//! - **One verdict for each question.** An engine asks with a `BeginPhase` for one weight of a rollout, or for the watch
//!   after promotion, as often as it likes, and is given one answer: pass, fail or inconclusive, with a sentence, the
//!   figures behind it, and its basis (a control, or limits when there is nothing to compare with).
//! - **As early as the evidence allows.** A stage has one budget `alpha` for failing a release that is no worse and one
//!   `beta` for passing one that is harmful, whatever the number of weights and however often it looks
//!   ([`cdflow_evidence`]).
//! - **No data is never a pass.** A release that falls silent while the control answers fails; when both are silent, or
//!   there were too few requests, the verdict is inconclusive.
//!
//! # A crash in the middle
//! [`Verification`] is a journaled aggregate: raw totals are stored as they were read and everything else is computed
//! from them, so another instance goes on from the same bits. A [collector] holds nothing that is not read again
//! at the next tick; the interval in which it was moved is one longer stratum, not a gap that is guessed at.
//!
//! ```
//! use cdflow_journal::{Aggregate as _, Input};
//! use cdflow_protocol::v1::{BeginPhase, VerificationSignal, verification_signal};
//! use cdflow_verifier::Verification;
//!
//! // A question that cannot be answered is answered at once, with the reason.
//! let begin = BeginPhase { step_id: "verify-5".into(), attempt: 1, ..BeginPhase::default() };
//! let signal = VerificationSignal { kind: Some(verification_signal::Kind::Begin(begin)) };
//! let decision = Verification::default().decide("run-1.prod", Input::Signal(signal), 0).expect("not refused");
//! assert_eq!((decision.events.len(), decision.effects.len()), (1, 1));
//! ```

pub mod collector;
mod observe;
mod options;
mod service;
mod verification;

pub use options::{Options, Role};
pub use service::run;
pub use verification::{COLLECTOR, Verification};
