//! The five verbs on real processes behind a real HAProxy, under a client that never stops asking; and executors on a
//! real NATS server.
#![allow(clippy::unwrap_used)]

mod crashes;
mod customers;
mod fencing;
mod installation;
mod refusals;
mod sequences;
mod site;
mod steps;
mod takeover;
