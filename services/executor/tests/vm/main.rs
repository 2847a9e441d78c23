//! The five verbs on real processes behind a real HAProxy, under a client that never stops asking.
#![allow(clippy::unwrap_used)]

mod crashes;
mod customers;
mod fencing;
mod refusals;
mod sequences;
mod site;
