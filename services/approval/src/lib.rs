//! Asks people, counts what they say and tells the run.
//!
//! # Promise
//! - A request ends exactly once: succeeded when every group has as many approvals as it must, rejected by the first
//!   rejection of a person who may decide, expired at its time, or withdrawn by the run. The run is told of every end,
//!   under the same signal id however often it is told.
//! - Who started the run cannot approve it, wherever others could ([`Approval`] has the rule).
//! - A decision that does not count is refused with a code and a sentence, and changes nothing.
//! - A crash in the middle loses nothing: a decision is acknowledged after it is stored, and the answer to the run is
//!   derived from what is stored and sent again by whoever takes over.
//!
//! The rules are pure code in [`Approval`]; [`run`] serves it on the bus.
//!
//! ```
//! use cdflow_approval::Approval;
//! use cdflow_journal::{Aggregate as _, Input};
//! use cdflow_protocol::v1::{ApprovalSignal, Decide, approval_signal::Kind};
//!
//! let decision = Decide { person: "ana".into(), groups: vec!["sre".into()], approve: true, ..Default::default() };
//! let signal = ApprovalSignal { kind: Some(Kind::Decide(decision)) };
//! let refusal = Approval::default().decide("run.stage.step", Input::Signal(signal), 0).unwrap_err();
//! assert_eq!(refusal.code, "unknown-approval");
//! ```

mod approval;
mod observe;
mod options;
mod quorum;
mod service;

pub use approval::{Approval, Ended, codes};
pub use options::Options;
pub use quorum::{GroupProgress, Vote};
pub use service::run;
