//! Tells the world what happens: the public feed of CDEvents on `cdflow.events.<project>.<type>`.
//!
//! # Promise
//! - What is in the journal appears in the feed, in the order of the journal. Events are CloudEvents 1.0 in JSON that
//!   carry CDEvents 0.5; the journal's own format stays private.
//! - An event is stored once, and its id follows from its place in the journal. How far the feed has come is read from
//!   the feed itself, so a crash anywhere, however long ago, loses nothing and doubles nothing. Two instances at the
//!   same time publish the same ids within moments, and the server keeps one of each.
//! - A subscriber that is slow or gone holds up nobody.
//!
//! # What is told
//! | in the journal | in the feed |
//! |---|---|
//! | a run is requested, starts, ends | `pipelinerun.queued`, `pipelinerun.started`, `pipelinerun.finished` |
//! | a stage starts, ends | `taskrun.started`, `taskrun.finished` |
//! | a deploy stage is promoted | `service.deployed` where nothing was live, else `service.upgraded`; then `service.published` where users reach it under a URL |
//! | a deploy stage was rolled back | `service.rolledback`, or `service.removed` where nothing had been live |
//!
//! CDEvents know four outcomes; `customData.outcome` has the exact one, beside project, run, stage and a link to the run.
//!
//! # State
//! Events of a run need what its first event said (project, pipeline, environments). [`Feed`] keeps that for live runs.
//! After a start it is built anew by reading the journal from its beginning, and what the feed has already is left out.
//! Runs whose beginning was trimmed from the journal are told no further. An empty feed (nothing happened for as long as
//! `EVENTS` keeps events) begins with what is not older than that.

mod feed;
mod options;
mod service;
mod told;

pub use feed::{Feed, FeedEvent};
pub use options::Options;
pub use service::run;
