//! Event-sourced aggregates on JetStream.

mod aggregate;
mod append;
mod archive;
mod chain;
mod checkpoint;
mod commit;
mod dead_letter;
mod decide;
mod dispatch;
mod error;
#[cfg(feature = "failpoints")]
mod failpoint;
mod flight;
mod history;
mod inbox;
mod intake;
mod lease;
mod metrics;
mod observer;
mod options;
mod partition;
mod population;
mod reader;
mod rendezvous;
mod restore;
mod service;
mod takeover;
mod tasks;
mod time;
mod timers;
mod trim;
mod upkeep;
mod verify;

pub use aggregate::{Aggregate, Decision, Input, refuse};
pub use chain::{Position, Positions};
pub use dead_letter::{REFUSAL_CODE, REFUSAL_MESSAGE};
pub use error::Error;
#[cfg(feature = "failpoints")]
pub use failpoint::{Crash, Failpoints};
pub use metrics::{Count, JournalMetrics};
pub use observer::{NoObserver, Observer, StoredEntry};
pub use options::JournalOptions;
pub use reader::{ReadCommit, Reader};
pub use restore::{ArchivedCommit, Restored, restore};
pub use service::serve;
pub use trim::trim;
pub use verify::{Break, PartitionReport, Report, verify, verify_with};
