//! The contract between services: messages, subjects, ids and headers.
//!
//! Messages are generated from `proto/cdflow/v1`. A field is never given another meaning and a number is never
//! used again: journals of earlier releases must stay readable.

pub mod ids;
pub mod streams;
pub mod subjects;
pub mod trace;

mod clock;
mod fence;
mod words;

/// Generated from `proto/cdflow/v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/cdflow.v1.rs"));
}

pub use clock::wall_clock;
pub use ids::{AggregateKind, Partition, PartitionCount};

/// Milliseconds since the Unix epoch; the only form in which time goes over the bus and into a decision.
pub type UnixMillis = i64;
