//! Event-sourced aggregates on JetStream.
//!
//! A service writes an [`Aggregate`]: pure code that decides about signals and folds events. [`serve`] runs it: it
//! shares the partitions of the kind with other instances, stores what is decided, and sends what follows.
//!
//! # Promise
//! - A signal that was stored takes effect exactly once, or is refused visibly: journaled with a code and a sentence,
//!   and kept in the dead-letter stream when it could not be decided at all.
//! - Nothing leaves an owner before its cause is stored; everything that follows from a stored commit eventually leaves,
//!   at least once, under the same id each time.
//! - A partition has one history. Who has lost it (paused, cut off, replaced) cannot append, whatever it believes: every
//!   append names the sequence it continues. Leases only spare two owners the fight.
//! - State is what the journal says: a checkpoint and the tail are the full fold. A stream that has lost or changed what
//!   was stored is noticed by its hash chain, and nothing is decided on it until [`restore`].
//!
//! # What a crash does
//! | the owner dies | what is stored | what the next owner does |
//! |---|---|---|
//! | before the append | nothing | gets the signals again and decides them |
//! | after the append, or its answer is lost | the commit | sends its effects (`dispatched_through` says from where), gets the signals again; aggregates change nothing the second time |
//! | while effects leave | the commit and some effects | sends all of them again under the same ids; a task only if it is neither in TASKS, nor held by a worker, nor has a result, and then in a commit of its own, with a higher fence |
//! | before the acknowledgement | the commit | gets the signals again; they change nothing |
//! | in a takeover | at most an `Owner` commit | reads on and takes over with the next epoch |
//! | while it writes a checkpoint | perhaps final states that nobody names | starts from the older checkpoint |
//!
//! A restart of nats-server empties TASKS and LEASES, which live in memory: owners keep their partitions, tasks that are
//! nowhere come back to their aggregates as [`Input::TaskLost`] after a worker lease of silence. A full stream, a server
//! that is away and an answer that does not come are waited for; the partition keeps what it has decided and takes no more
//! than a group or two.
//!
//! # Memory
//! Live aggregates once (states in flight share their allocation with the stored ones), at most 2,000 unacknowledged
//! messages of signals for each partition, final states up to [`JournalOptions::finished_bytes`] until a checkpoint moves
//! them to the object store, and about 30 bytes for each aggregate that has ever finished.
//!
//! # Example
//! ```
//! use cdflow_journal::{Aggregate, Decision, Input};
//! use cdflow_protocol::{AggregateKind, UnixMillis, v1::{ApprovalEvent, ApprovalSignal, Refusal}};
//!
//! /// Counts decisions, whatever they are.
//! #[derive(Clone, Default)]
//! struct Counter(u64);
//!
//! impl Aggregate for Counter {
//!     const KIND: AggregateKind = AggregateKind::Approval;
//!     type Signal = ApprovalSignal;
//!     type Event = ApprovalEvent;
//!
//!     fn decide(&self, _: &str, input: Input<ApprovalSignal>, _: UnixMillis) -> Result<Decision<ApprovalEvent>, Refusal> {
//!         let events = match input {
//!             Input::Signal(_) => vec![ApprovalEvent::default()],
//!             Input::Tick | Input::TaskLost(_) => Vec::new(),
//!         };
//!         Ok(Decision { events, effects: Vec::new() })
//!     }
//!     fn apply(&mut self, _: &ApprovalEvent) {
//!         self.0 += 1;
//!     }
//!     fn deadline(&self) -> Option<UnixMillis> {
//!         None
//!     }
//!     fn outstanding_tasks(&self) -> Vec<String> {
//!         Vec::new()
//!     }
//!     fn is_finished(&self) -> bool {
//!         false
//!     }
//!     fn checkpoint(&self) -> Vec<u8> {
//!         self.0.to_be_bytes().to_vec()
//!     }
//!     fn restore(state: &[u8]) -> Result<Self, String> {
//!         state.try_into().map(|bytes| Self(u64::from_be_bytes(bytes))).map_err(|_| "eight bytes are expected".into())
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use cdflow_journal::{JournalOptions, NoObserver, serve};
//!
//! let bus = cdflow_bus::Bus::connect(&cdflow_bus::Options::new("nats://127.0.0.1:4222", "approval")).await?;
//! let stop = tokio_util::sync::CancellationToken::new();
//! serve::<Counter>(bus, JournalOptions::new("approval-1"), Arc::new(NoObserver), stop).await?;
//! # Ok(())
//! # }
//! ```

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
pub use trim::{Trimmed, trim};
pub use verify::{Break, PartitionReport, Report, verify, verify_with};
