//! Collects evidence and gives verdicts.

pub mod collector;
mod verification;

pub use verification::{COLLECTOR, Verification};
