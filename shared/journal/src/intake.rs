//! From a message of SIGNALS to decisions in the open group.

use std::sync::Arc;

use cdflow_protocol::{
    UnixMillis,
    v1::{Effect, Entry, Handled, Refusal, Signal},
};
use prost::Message as _;

use crate::{
    Aggregate, Input, archive,
    commit::{DeadLetter, Decided, EncodedEntry},
    decide::{Outcome, decide, trace_effects},
    inbox::{Content, Incoming, delay},
    partition::{Happened, Parked, Partition},
    population::{Finished, Place},
    refuse,
};

impl<A: Aggregate> Partition<A> {
    /// Decides every signal of a message. Its time is the message's, not the clock's: a result that waited while nobody
    /// owned the partition is not late (rule 16).
    pub(crate) fn receive(&mut self, incoming: Incoming) {
        let Incoming { acker, sequence, published, content } = incoming;
        let signals = match content {
            Content::Signals(signals) if signals.is_empty() => {
                if self.deliveries.begin(sequence, acker, 1).is_some() {
                    self.refuse_message(sequence, "an empty batch of signals", Vec::new().into());
                }
                return;
            }
            Content::Signals(signals) => signals,
            Content::Garbage { reason, body } => {
                if self.deliveries.begin(sequence, acker, 1).is_some() {
                    self.refuse_message(sequence, &format!("not a batch of signals: {reason}"), body);
                }
                return;
            }
        };
        if self.deliveries.begin(sequence, acker, signals.len()).is_none() {
            return;
        }
        let mut newer = 0;
        for signal in signals {
            if signal.version > A::SIGNAL_VERSION {
                newer += 1;
            } else {
                self.decide_signal(sequence, signal, published);
            }
        }
        if newer > 0 {
            // The rest of the message is decided again then, and changes nothing.
            self.site.options.metrics.delayed.add(newer);
            let ackers = self.deliveries.put_off(sequence);
            self.acks.spawn(async move {
                delay(ackers).await;
                Ok(())
            });
        }
        self.deliveries.seen(sequence);
    }

    /// A message without a readable signal.
    fn refuse_message(&mut self, sequence: u64, reason: &str, body: bytes::Bytes) {
        let id = format!("message.{sequence}");
        let refusal = refuse("undecodable", reason);
        let letter = DeadLetter {
            id: id.clone(),
            traceparent: String::new(),
            code: refusal.code.clone(),
            message: refusal.message.clone(),
            body,
        };
        self.handled(String::new(), id, Some(refusal));
        self.open.dead.push(letter);
        self.finish_signal(sequence);
        self.deliveries.seen(sequence);
    }

    fn decide_signal(&mut self, delivery: u64, signal: Signal, now: UnixMillis) {
        if let Some(waiting) = self.parked.get_mut(&signal.aggregate_id) {
            waiting.push(Parked { delivery, now, signal });
            return;
        }
        match self.population.place(&signal.aggregate_id) {
            Place::Here => self.decide_here(delivery, signal, now),
            Place::Archived(object) => {
                let id = signal.aggregate_id.clone();
                self.parked.insert(id.clone(), vec![Parked { delivery, now, signal }]);
                let site = self.site.clone();
                self.work.spawn(async move {
                    loop {
                        match archive::load(&site.store, &object, &id).await {
                            Ok(found) => return Happened::Loaded { id, found },
                            Err(error) => {
                                tracing::error!(%error, aggregate = id, "its signals wait until this can be read");
                                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                            }
                        }
                    }
                });
            }
        }
    }

    /// The aggregate that signals waited for has been read.
    pub(crate) fn unpark(&mut self, id: &str, found: Option<Finished>) {
        self.population.loaded(id, found);
        for Parked { delivery, now, signal } in self.parked.remove(id).unwrap_or_default() {
            self.population.place(id);
            self.decide_here(delivery, signal, now);
        }
    }

    fn decide_here(&mut self, delivery: u64, signal: Signal, now: UnixMillis) {
        let Signal { id: signal_id, aggregate_id, payload, traceparent, version } = signal;
        let outcome = match self.population.live.get_mut(&aggregate_id) {
            None => return,
            Some(live) => {
                if live.traceparent.is_empty() {
                    live.traceparent.clone_from(&traceparent);
                }
                match (&live.quarantine, A::Signal::decode(payload.as_slice())) {
                    (Some(reason), _) => Outcome::Poison(refuse("quarantined", reason.as_str())),
                    (None, Err(error)) => Outcome::Poison(refuse("undecodable", error.to_string())),
                    (None, Ok(input)) => decide(live.state.as_ref(), &aggregate_id, Input::Signal(input), now),
                }
            }
        };
        let poison = match outcome {
            Outcome::Changed { state, events, effects } => {
                self.change(&aggregate_id, state, events, effects, &traceparent, Some(&signal_id)).err()
            }
            Outcome::Nothing => {
                self.handled(aggregate_id.clone(), signal_id.clone(), None);
                None
            }
            Outcome::Refused(refusal) => {
                self.handled(aggregate_id.clone(), signal_id.clone(), Some(refusal));
                None
            }
            Outcome::Poison(refusal) => Some(refusal),
        };
        if let Some(refusal) = poison {
            tracing::error!(
                aggregate = aggregate_id,
                signal = signal_id,
                code = refusal.code,
                reason = refusal.message,
                "a signal cannot be decided: it is kept in the dead-letter stream"
            );
            let letter = DeadLetter {
                id: signal_id.clone(),
                traceparent: traceparent.clone(),
                code: refusal.code.clone(),
                message: refusal.message.clone(),
                body: Signal {
                    id: signal_id.clone(),
                    aggregate_id: aggregate_id.clone(),
                    payload,
                    traceparent,
                    version,
                }
                .encode_to_vec()
                .into(),
            };
            self.handled(aggregate_id.clone(), signal_id, Some(refusal));
            self.open.dead.push(letter);
        }
        self.finish_signal(delivery);
        self.population.settle(&aggregate_id);
    }

    /// Decides about something that is not a signal. Returns whether anything changed.
    pub(crate) fn decide_input(&mut self, id: &str, input: Input<A::Signal>, now: UnixMillis) -> bool {
        let Some(live) = self.population.live.get(id) else { return false };
        if live.quarantine.is_some() {
            return false;
        }
        match decide(live.state.as_ref(), id, input, now) {
            Outcome::Nothing => false,
            Outcome::Changed { state, events, effects } => match self.change(id, state, events, effects, "", None) {
                Ok(()) => true,
                Err(refusal) => {
                    tracing::error!(aggregate = id, reason = refusal.message, "a tick cannot be stored");
                    false
                }
            },
            Outcome::Refused(refusal) | Outcome::Poison(refusal) => {
                tracing::error!(aggregate = id, code = refusal.code, reason = refusal.message, "a tick was refused");
                false
            }
        }
    }

    /// Puts a decision in the open group and goes on from it.
    fn change(
        &mut self,
        id: &str,
        state: A,
        events: Vec<A::Event>,
        mut effects: Vec<Effect>,
        traceparent: &str,
        signal_id: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(live) = self.population.live.get_mut(id) else { return Ok(()) };
        trace_effects(&mut effects, if traceparent.is_empty() { &live.traceparent } else { traceparent });
        let mut entry = Entry {
            aggregate_id: id.to_owned(),
            events: events.iter().map(prost::Message::encode_to_vec).collect(),
            effects,
            handled: signal_id.map(|id| Handled { signal_id: id.to_owned(), refusal: None }).into_iter().collect(),
        };
        let encoded = EncodedEntry::new(&entry);
        if encoded.len() > self.limit {
            return Err(refuse(
                "too-large",
                format!("what follows from it takes {} bytes, a commit holds {}", encoded.len(), self.limit),
            ));
        }
        let state = Arc::new(state);
        live.state = state.clone();
        live.unstored += 1;
        let (traceparent, deadline) = (live.traceparent.clone(), state.deadline());
        self.population.timers.set(id, deadline);
        self.push(&encoded);
        self.open.decided.push(Decided {
            aggregate_id: id.to_owned(),
            state,
            events,
            effects: std::mem::take(&mut entry.effects),
            traceparent,
        });
        Ok(())
    }

    /// Puts an effect that was decided before into the open group, to be sent under a new fence.
    pub(crate) fn dispatch_again(&mut self, id: &str, effect: Effect) {
        let Some(live) = self.population.live.get_mut(id) else { return };
        live.unstored += 1;
        let (state, traceparent) = (live.state.clone(), live.traceparent.clone());
        let mut entry = Entry { aggregate_id: id.to_owned(), effects: vec![effect], ..Entry::default() };
        self.push(&EncodedEntry::new(&entry));
        self.open.decided.push(Decided {
            aggregate_id: id.to_owned(),
            state,
            events: Vec::new(),
            effects: std::mem::take(&mut entry.effects),
            traceparent,
        });
    }

    /// Journals that a signal changed nothing: nothing is acknowledged without an append (rule 1).
    fn handled(&mut self, aggregate_id: String, signal_id: String, refusal: Option<Refusal>) {
        if refusal.is_some() {
            self.site.options.metrics.refused.add(1);
        }
        let handled = vec![Handled { signal_id, refusal }];
        self.push(&EncodedEntry::new(&Entry { aggregate_id, handled, ..Entry::default() }));
    }

    fn push(&mut self, entry: &EncodedEntry) {
        if !self.open.fits(entry, self.limit) {
            self.closed.push_back(std::mem::take(&mut self.open));
        }
        self.open.entries.push(entry);
    }

    /// The signal's entry is in the open group: with it, its message may be acknowledged.
    fn finish_signal(&mut self, delivery: u64) {
        self.open.signals += 1;
        let mut ackers = self.deliveries.decided(delivery);
        self.open.acks.append(&mut ackers);
    }
}
