//! Runs and locks in a simulated world: executors, people and the verifier that answer, fail, repeat themselves and
//! get lost.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod every_step;
mod locks;
mod nonsense;
mod plans;
mod properties;
mod rules;
mod stories;
mod target;
mod world;
