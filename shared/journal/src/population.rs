//! The aggregates of one partition: live ones in memory, finished ones in compact form, older ones in the archive.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use cdflow_protocol::v1::{Effect, Entry, Stored};

use crate::{
    Aggregate,
    archive::ArchiveIndex,
    decide::{replayed, trace_of},
    timers::Timers,
};

/// An aggregate in memory.
pub(crate) struct Live<A> {
    /// With everything decided: what the next decision starts from.
    pub(crate) state: Arc<A>,
    /// With everything acknowledged; `None` until the first commit about it is. The same allocation as `state` while
    /// nothing is in flight.
    pub(crate) stored: Option<Arc<A>>,
    /// Decisions that are not stored yet.
    pub(crate) unstored: u32,
    /// Trace context of the first signal that had one.
    pub(crate) traceparent: String,
    /// Why its stored events cannot be applied by this release: it decides nothing.
    pub(crate) quarantine: Option<String>,
}

/// The final state of an aggregate that has left memory.
#[derive(Clone)]
pub(crate) struct Finished {
    pub(crate) state: Bytes,
    pub(crate) traceparent: String,
}

/// Where an aggregate is.
pub(crate) enum Place {
    /// In memory, or unknown and now begun in memory.
    Here,
    /// In this object of the archive.
    Archived(String),
}

pub(crate) struct Population<A> {
    pub(crate) live: HashMap<String, Live<A>>,
    pub(crate) finished: HashMap<String, Finished>,
    pub(crate) finished_bytes: usize,
    pub(crate) archive: ArchiveIndex,
    pub(crate) timers: Timers,
}

impl<A> Default for Population<A> {
    fn default() -> Self {
        Self {
            live: HashMap::new(),
            finished: HashMap::new(),
            finished_bytes: 0,
            archive: ArchiveIndex::default(),
            timers: Timers::default(),
        }
    }
}

impl<A: Aggregate> Population<A> {
    /// Brings an aggregate to life: from its final state, or as a new one.
    pub(crate) fn place(&mut self, id: &str) -> Place {
        if self.live.contains_key(id) {
            return Place::Here;
        }
        if let Some(finished) = self.finished.get(id).cloned() {
            self.revive(id, &finished);
            return Place::Here;
        }
        if let Some(object) = self.archive.find(id) {
            return Place::Archived(object.to_owned());
        }
        self.live.insert(id.to_owned(), Live::new());
        Place::Here
    }

    /// Puts a stored state in memory.
    pub(crate) fn revive(&mut self, id: &str, found: &Finished) {
        let live = match A::restore(&found.state) {
            Ok(state) => {
                let state = Arc::new(state);
                Live { stored: Some(state.clone()), state, traceparent: found.traceparent.clone(), ..Live::new() }
            }
            Err(reason) => Live { quarantine: Some(format!("its stored state: {reason}")), ..Live::new() },
        };
        self.live.insert(id.to_owned(), live);
    }

    /// After a segment of the archive was read for `id`: revives it from there, or begins it when only the hash was the
    /// same.
    pub(crate) fn loaded(&mut self, id: &str, found: Option<Finished>) {
        if self.live.contains_key(id) {
            return;
        }
        match found {
            Some(found) => self.revive(id, &found),
            None => {
                self.live.insert(id.to_owned(), Live::new());
            }
        }
    }

    /// Folds one stored entry, in recovery. The aggregate must be [`Place::Here`].
    pub(crate) fn fold(&mut self, entry: &Entry) {
        let Some(live) = self.live.get_mut(&entry.aggregate_id) else { return };
        if live.quarantine.is_none() && !entry.events.is_empty() {
            match replayed(live.state.as_ref(), &entry.events) {
                Ok(state) => {
                    live.state = Arc::new(state);
                    live.stored = Some(live.state.clone());
                }
                Err(reason) => {
                    tracing::error!(
                        aggregate = entry.aggregate_id,
                        reason,
                        "this aggregate is quarantined: this release cannot apply its events; its signals are refused"
                    );
                    live.quarantine = Some(reason);
                }
            }
        }
        live.note_trace(&entry.effects);
        self.settle(&entry.aggregate_id);
    }

    /// Moves an aggregate out of memory when nothing more will happen and everything about it is stored; sets its timer
    /// otherwise.
    pub(crate) fn settle(&mut self, id: &str) {
        let Some(live) = self.live.get(id) else { return };
        if live.quarantine.is_some() {
            self.timers.set(id, None);
            return;
        }
        if live.unstored > 0 {
            return;
        }
        match &live.stored {
            None => {
                // Nothing was ever stored about it: the next signal begins it again.
                self.live.remove(id);
                self.timers.set(id, None);
            }
            Some(state) if state.is_finished() => {
                let finished = Finished { state: state.checkpoint().into(), traceparent: live.traceparent.clone() };
                self.finished_bytes += finished.state.len();
                if let Some(before) = self.finished.insert(id.to_owned(), finished) {
                    self.finished_bytes -= before.state.len();
                }
                self.live.remove(id);
                self.timers.set(id, None);
            }
            Some(state) => {
                let deadline = state.deadline();
                self.timers.set(id, deadline);
            }
        }
    }

    /// What a segment of the archive takes over: forgotten here unless it has changed since.
    pub(crate) fn archived(&mut self, written: &BTreeMap<String, Finished>) {
        for (id, state) in written {
            if self.finished.get(id).is_some_and(|now| now.state == state.state) {
                self.finished_bytes -= state.state.len();
                self.finished.remove(id);
            }
        }
    }

    /// Every state that is stored, for a checkpoint.
    pub(crate) fn snapshot(&self) -> Vec<(String, Arc<A>, String)> {
        self.live
            .iter()
            .filter_map(|(id, live)| Some((id.clone(), live.stored.clone()?, live.traceparent.clone())))
            .collect()
    }

    /// Takes the live aggregates of a checkpoint.
    pub(crate) fn restore(&mut self, aggregates: Vec<Stored>) {
        for stored in aggregates {
            let found = Finished { state: stored.state.into(), traceparent: stored.traceparent };
            self.revive(&stored.aggregate_id, &found);
            self.settle(&stored.aggregate_id);
        }
    }

    pub(crate) fn quarantined(&self) -> usize {
        self.live.values().filter(|live| live.quarantine.is_some()).count()
    }
}

impl<A: Aggregate> Live<A> {
    fn new() -> Self {
        Self { state: Arc::default(), stored: None, unstored: 0, traceparent: String::new(), quarantine: None }
    }

    pub(crate) fn note_trace(&mut self, effects: &[Effect]) {
        if self.traceparent.is_empty()
            && let Some(trace) = trace_of(effects)
        {
            trace.clone_into(&mut self.traceparent);
        }
    }
}
