//! CI events in, run requests out.
//!
//! # Promise
//! - An event that was stored on `cdflow.ci.>` is recorded exactly once, with the runs that it started or the reason why
//!   it started none; also one that is malformed.
//! - A run starts once for each event and pipeline, and once for each digest and pipeline. Runs of a project are numbered
//!   1, 2, 3, … without a gap ([`TriggerLedger`] has the rules).
//! - Over HTTP, 202 means stored. Whoever hears nothing sends the same event again: it is taken once.
//! - A crash in the middle loses nothing: a message of CI is acknowledged after the signal to the ledger is stored, and
//!   the ledger knows a signal that comes twice.
//!
//! # The way of an event
//! `http` (or any publisher to `cdflow.ci.>`) → stream `CI` → `consumer`, which reads the event ([`Parts`],
//! [`published`]), asks the configuration which pipelines it starts and compiles their plans → signal `EventSeen` →
//! [`TriggerLedger`] → signal `StartRun` to each run.
//!
//! ```
//! use cdflow_trigger::Parts;
//! use cloudevents::AttributesReader as _;
//!
//! let body = br#"{"specversion":"1.0","id":"4711","source":"/ci","type":"dev.cdevents.artifact.published.0.2.0"}"#;
//! let event = Parts::new([("content-type", "application/cloudevents+json")], body).event()?;
//! assert_eq!(event.id(), "4711");
//! # Ok::<(), cdflow_trigger::Malformed>(())
//! ```

mod artifact;
mod cloud_event;
mod consumer;
mod counts;
mod http;
pub mod intake;
mod ledger;
mod observe;
mod options;
pub mod releases;
mod service;

pub use artifact::{PUBLISHED, Unreadable, published};
pub use cloud_event::{Malformed, Parts, json_data, traceparent};
pub use ledger::{TriggerLedger, codes};
pub use options::{Authentication, Options};
pub use service::run;
