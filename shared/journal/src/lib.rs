//! Event-sourced aggregates on JetStream.

mod aggregate;

pub use aggregate::{Aggregate, Decision, Input, refuse};
