//! The commit in flight: closing a group, sending it, and what follows once it is stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use cdflow_protocol::v1::{Commit, effect};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{
    Aggregate, Error, Position, StoredEntry,
    append::{Failed, Tail, append, read_tail},
    checkpoint::{self, Snapshot, Written},
    commit::Group,
    dead_letter,
    dispatch::Batch,
    partition::{Ended, Happened, Partition},
};

/// A group that has been sent.
pub(crate) struct Flight<A: Aggregate> {
    group: Group<A>,
    time_ms: i64,
    dispatched_through: u64,
    bytes: u64,
    sent: Instant,
}

impl<A: Aggregate> Partition<A> {
    /// Sends the next group if none is in flight: a lone decision goes at once, everything decided meanwhile together.
    pub(crate) fn send_next(&mut self) -> Result<(), Error> {
        if self.flight.is_some() {
            return Ok(());
        }
        let group = match self.closed.pop_front() {
            Some(group) => group,
            None if self.open.entries.is_empty() => return Ok(()),
            None => std::mem::take(&mut self.open),
        };
        #[cfg(feature = "failpoints")]
        self.site.options.failpoints.reached(crate::Crash::BeforeAppend)?;
        self.send(group);
        Ok(())
    }

    /// Stores nothing but how far effects have gone out, so that a new owner does not send them again.
    pub(crate) fn record_dispatch(&mut self) {
        if self.flight.is_none() {
            self.send(Group::default());
        }
    }

    fn send(&mut self, group: Group<A>) {
        let time_ms = self.time.read(cdflow_protocol::wall_clock());
        let dispatched_through = self.dispatch.through(self.tail.sequence);
        let body: Bytes = group.entries.close(&Commit {
            incarnation: self.incarnation,
            epoch: self.epoch,
            previous_sequence: self.tail.sequence,
            previous_hash: self.tail.hash.clone(),
            time_ms,
            dispatched_through,
            min_reader: A::MIN_READER,
            entries: Vec::new(),
            takeover: None,
        });
        self.flight =
            Some(Flight { group, time_ms, dispatched_through, bytes: body.len() as u64, sent: Instant::now() });
        let (site, subject, expected) = (self.site.clone(), self.subject.clone(), self.tail.sequence);
        let id = format!("{}.{expected}", self.owner);
        self.work.spawn(async move {
            let context = site.bus.context();
            let metrics = &site.options.metrics;
            // The hash is computed while the bytes travel.
            let (result, hash) =
                tokio::join!(append(&site.journal, context, metrics, &subject, &id, expected, body.clone()), async {
                    Sha256::digest(&body).to_vec()
                });
            Happened::Appended { result, hash }
        });
    }

    /// The answer to the append in flight.
    pub(crate) fn appended(&mut self, result: Result<u64, Failed>, hash: Vec<u8>) -> Result<Option<Ended>, Error> {
        let Some(flight) = self.flight.take() else { return Ok(None) };
        match result {
            Ok(sequence) => {
                self.tail = Position { sequence, hash };
                self.stored(flight)?;
                Ok(None)
            }
            Err(Failed::Fenced { tail }) => {
                self.site.options.metrics.fenced.add(1);
                Ok(Some(Ended::Lost(format!("commit {tail} is not ours"))))
            }
            Err(Failed::TooLarge) => Err(Error::request(
                "append a commit",
                "the server takes only smaller messages than when this service connected; connect again",
            )),
        }
    }

    fn stored(&mut self, flight: Flight<A>) -> Result<(), Error> {
        let Flight { group, time_ms, dispatched_through, bytes, sent } = flight;
        let Group { entries, decided, acks, dead, signals, resent_through } = group;
        let sequence = self.tail.sequence;
        let metrics = self.site.options.metrics.clone();
        metrics.commits.add(1);
        metrics.entries.add(entries.count());
        metrics.signals.add(signals);
        metrics.bytes.add(bytes);
        metrics.append_micros.add(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        metrics.dead_letters.add(dead.len() as u64);
        self.last_commit = Instant::now();
        self.commits_since_checkpoint += 1;
        self.dispatch.recorded = self.dispatch.recorded.max(dispatched_through);
        #[cfg(feature = "failpoints")]
        self.site.options.failpoints.reached(crate::Crash::AfterAppend)?;

        let mut effects = Vec::new();
        for mut decision in decided {
            if let Some(live) = self.population.live.get_mut(&decision.aggregate_id) {
                live.unstored -= 1;
                if !decision.events.is_empty() {
                    live.stored = Some(decision.state.clone());
                }
            }
            if !decision.events.is_empty() {
                self.site.tell(&StoredEntry {
                    aggregate_id: &decision.aggregate_id,
                    partition: self.number,
                    state: decision.state.as_ref(),
                    events: &decision.events,
                    effects: &decision.effects,
                    time: time_ms,
                    sequence,
                    traceparent: &decision.traceparent,
                });
            }
            effects.append(&mut decision.effects);
            let id = decision.aggregate_id;
            drop(decision.state);
            self.population.settle(&id);
        }
        if let Some(through) = resent_through {
            self.dispatch.resent(through);
        }
        if !effects.is_empty() {
            for effect in &effects {
                if let Some(effect::Kind::CancelTask(cancel)) = &effect.kind {
                    self.cancelling.insert(cancel.id.clone(), cancel.clone());
                }
            }
            self.dispatch.last_with_effects = sequence;
            self.undispatched += 1;
            // The dispatcher ends only with this partition.
            let _ = self.dispatcher.send(Batch { incarnation: self.incarnation, sequence, effects });
        }
        if !acks.is_empty() || !dead.is_empty() {
            let site = self.site.clone();
            let subject = cdflow_protocol::subjects::dead_letter(A::KIND, self.number);
            self.acks.spawn(async move {
                for letter in dead {
                    dead_letter::store(&site.bus, &subject, letter).await;
                }
                #[cfg(feature = "failpoints")]
                site.options.failpoints.reached(crate::Crash::BeforeAck)?;
                for acker in acks {
                    if let Err(error) = acker.ack().await {
                        tracing::debug!(%error, "acknowledging signals");
                    }
                }
                Ok(())
            });
        }
        self.checkpoint_if_due();
        Ok(())
    }

    fn checkpoint_if_due(&mut self) {
        let options = &self.site.options;
        let due = self.commits_since_checkpoint >= options.checkpoint_every
            || self.population.finished_bytes >= options.finished_bytes;
        // A quarantined aggregate has events that are not in its state: the journal must be kept whole for it.
        if !due || self.checkpointing || self.population.quarantined() > 0 {
            return;
        }
        self.checkpointing = true;
        self.commits_since_checkpoint = 0;
        let snapshot = Snapshot {
            position: self.tail.clone(),
            time_ms: self.time.read(cdflow_protocol::wall_clock()),
            incarnation: self.incarnation,
            epoch: self.epoch,
            dispatched_through: self.dispatch.through(self.tail.sequence),
            live: self.population.snapshot(),
            finished: self.population.finished.clone().into_iter().collect::<BTreeMap<_, _>>(),
            segments: self.population.archive.segments(),
            cancelling: self.cancelling.values().cloned().collect(),
        };
        let (site, partition, slot) = (self.site.clone(), self.number, self.slot);
        self.work.spawn(async move {
            Happened::Checkpointed(checkpoint::write(&site.store, partition, slot, snapshot, &site.options).await)
        });
    }

    pub(crate) fn checkpointed(&mut self, result: Result<Written, Error>) -> Result<(), Error> {
        self.checkpointing = false;
        match result {
            Ok(Written { slot, position, finished, segment }) => {
                tracing::debug!(kind = %A::KIND, partition = self.number, %position, "checkpoint");
                self.slot = slot.other();
                if let Some(segment) = segment {
                    self.population.archive.push(segment);
                }
                self.population.archived(&finished);
                Ok(())
            }
            #[cfg(feature = "failpoints")]
            Err(error @ Error::Crashed(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a checkpoint was not written, the older ones stay");
                Ok(())
            }
        }
    }

    /// After a reconnect: the server may have lost what it had acknowledged (rule 7).
    pub(crate) fn check_tail(&mut self) {
        let (site, subject, ours) = (self.site.clone(), self.subject.clone(), self.tail.clone());
        self.work.spawn(async move {
            loop {
                match read_tail(&site.journal, &subject).await {
                    Ok(found) => return Happened::TailRead { ours, found },
                    Err(error) => {
                        tracing::debug!(%error, "after a reconnect");
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    }
                }
            }
        });
    }

    pub(crate) fn compare_tail(&self, ours: &Position, found: Option<Tail>) -> Result<Option<Ended>, Error> {
        // With an append on its way, its answer tells.
        if *ours != self.tail || self.flight.is_some() {
            return Ok(None);
        }
        let found = found.map_or_else(Position::start, |tail| Position::of(tail.sequence, &tail.body));
        if found == *ours {
            return Ok(None);
        }
        if found.sequence > ours.sequence {
            return Ok(Some(Ended::Lost(format!("commit {found} is not ours"))));
        }
        Err(Error::went_back(
            A::KIND,
            self.number,
            ours,
            format!("commit {ours} was stored and acknowledged, now the last one is {found}"),
        ))
    }
}
