//! Tells the world what happens: the public feed of CDEvents on `cdflow.events.<project>.<type>`.
//!
//! # Promise
//! - What is in the journal appears in the feed, in the order of the journal. Events are CloudEvents 1.0 in JSON that
//!   carry CDEvents 0.5; the journal's own format stays private.
//! - An event has the same id however often it is told, and it is stored once within the two minutes in which the server
//!   knows ids. A crash in the middle of a commit tells that commit again; if it is longer ago, subscribers drop what they
//!   know by `source` and `id`, as CloudEvents asks them to.
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
//! After a start it is built anew by reading the runs' journal from its beginning to where this service had come; runs
//! whose beginning is no longer in the stream are told no further, with a warning.
//!
//! One instance tells; run a second one only to take over.

mod feed;

pub use feed::{Feed, FeedEvent};
