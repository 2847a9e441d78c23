//! An owner: takes the partition over, decides, appends, acknowledges, sends.
//!
//! | action | rule |
//! |---|---|
//! | [`Act::TakeLease`], [`Act::DeleteConsumers`], [`Act::Fence`], [`Act::CreateConsumer`] | 2, in this order |
//! | [`Act::ReadTasks`], [`Act::ReadLastSignal`], [`Act::Drained`] | 4, in this order; the wait before reading is 5 |
//! | [`Act::Reconcile`] | 5: TASKS has another creation time, or an announced task that TASKS does not have is announced no longer |
//! | [`Act::Decide`] | deliver and decide; any undelivered message (10) |
//! | [`Act::Tick`] | the deadline of step one |
//! | [`Act::Arrive`], [`Act::Learn`] | conditional append, on the wire from the decision on; it arrives late or never; the reply is lost or read from the leader (8) |
//! | [`Act::Confirm`] | 1: the read that stands for an append |
//! | [`Act::Ack`] | 1, 11 |
//! | [`Act::Send`] | 3 |
//! | [`Act::Notice`] | a former owner finds out and drops the partition |
//! | [`Act::Checkpoint`], [`Act::Trim`] | 14 |
//!
//! Deliver and decide are one action. Between the two nothing of an owner's own state changes that another order of
//! actions would not also give, and a crash in between leaves a message that is delivered and not acknowledged, as a
//! crash right after the decision does.

use crate::aggregates::{Commit, Effect, Event, Fold, Sequence, Step};
use crate::rules::Rules;
use crate::state::{Checkpoint, Fate, Flight, LateAppend, Message, Owner, Phase, State, Task};

/// A step of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    TakeLease,
    DeleteConsumers,
    Fence,
    CreateConsumer,
    ReadTasks,
    ReadLastSignal,
    Drained,
    Reconcile,
    Decide(Message),
    Tick,
    Arrive,
    Learn,
    Confirm,
    Ack,
    Send(Sequence, Effect),
    Notice,
    Checkpoint,
    Trim,
}

impl Owner {
    /// Sequence that the group will have when everything before it is stored.
    fn next(&self) -> Sequence {
        self.committed + 1 + Sequence::from(self.flight.is_some())
    }

    /// Committed state and, on top, what is applied and not stored.
    fn speculative(&self, state: &State) -> Fold {
        let mut fold = self.fold(state);
        if let Some(flight) = &self.flight {
            flight.group.events.iter().for_each(|event| fold.apply(*event, self.committed + 1));
        }
        self.group.events.iter().for_each(|event| fold.apply(*event, self.next()));
        fold
    }

    /// Committed state.
    fn fold(&self, state: &State) -> Fold {
        Fold::of(&state.journal[..usize::from(self.committed)])
    }

    /// Up to which commit all effects have gone out.
    fn dispatched_through(&self) -> Sequence {
        self.unsent.iter().map(|(sequence, _)| sequence - 1).min().unwrap_or(self.committed)
    }

    fn decides(&self) -> bool {
        self.phase >= Phase::Reading
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase == phase
    }

    /// What this owner can do now.
    pub(crate) fn acts(&self, state: &State, rules: &Rules) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut may = |act, condition| {
            if condition {
                acts.push(act);
            }
        };
        if self.is(Phase::Idle) {
            may(Act::TakeLease, state.lease.is_none());
            return acts;
        }
        let leads = state.lease == Some(self.epoch);
        may(Act::Notice, !leads);
        may(Act::DeleteConsumers, self.is(Phase::Leased));
        may(Act::Fence, self.is(Phase::ConsumersDeleted));
        may(Act::CreateConsumer, self.is(Phase::Fenced));
        let silence = !rules.silence_before_reading || state.all_announced();
        may(Act::ReadTasks, silence && self.is(if rules.recovery_order { Phase::Reading } else { Phase::ReadingLate }));
        may(Act::ReadLastSignal, self.is(if rules.recovery_order { Phase::TasksRead } else { Phase::Reading }));
        may(Act::Drained, self.is(Phase::Draining) && self.has_drained(state));
        let other_stream = self.is(Phase::Serving) && self.incarnation != state.incarnation;
        let left_alone = self.is(Phase::Serving)
            && self.watched.is_some_and(|(step, sequence)| {
                self.fold(state).awaiting == self.watched && !state.sees(step, sequence)
            });
        may(Act::Reconcile, (other_stream && rules.tasks_can_vanish) || (left_alone && rules.watch_announcements));

        match &self.flight {
            Some(flight) if flight.fate == Fate::OnTheWire => may(Act::Arrive, true),
            Some(_) => may(Act::Learn, true),
            None => may(Act::Confirm, !self.group.signals.is_empty()),
        }
        may(Act::Ack, !self.to_ack.is_empty());
        if let Some((sequence, signal)) = self.unsent.iter().find(|(_, effect)| matches!(effect, Effect::Signal(_))) {
            may(Act::Send(*sequence, *signal), self.decides());
        }
        if let Some((sequence, task)) = self.unsent.iter().find(|(_, effect)| matches!(effect, Effect::Task(_))) {
            may(Act::Send(*sequence, *task), self.is(Phase::Serving));
        }
        if self.decides() && state.consumers & (1 << self.epoch) != 0 {
            let mut before = None;
            for message in state.signals.iter().filter(|message| message.pending.is_none()) {
                may(Act::Decide(*message), before.replace(message) != Some(message));
            }
        }
        acts
    }

    /// What this owner can do now and need not.
    pub(crate) fn chances(&self, state: &State, rules: &Rules) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.decides()
            && state.budget.timeouts > 0
            && matches!(self.speculative(state).awaiting, Some((Step::One, _)))
        {
            acts.push(Act::Tick);
        }
        if self.decides() && state.budget.checkpoints > 0 && self.committed > state.checkpoints[1].sequence {
            acts.push(Act::Checkpoint);
        }
        if self.decides() && self.trim_to(state, rules) > state.first {
            acts.push(Act::Trim);
        }
        acts
    }

    /// The oldest commit that must stay.
    fn trim_to(&self, state: &State, rules: &Rules) -> Sequence {
        let mut behind = state.checkpoints[0].sequence;
        if rules.trim_after_dispatch {
            behind = behind.min(self.fold(state).dispatched_through);
        }
        (behind + 1).min(state.tail())
    }

    /// Nothing that was stored before the read waits for this owner's consumer.
    fn has_drained(&self, state: &State) -> bool {
        !state.signals.iter().any(|message| message.pending.is_none() && message.before_last & (1 << self.epoch) != 0)
    }

    /// Does it.
    pub(crate) fn act(&mut self, act: Act, state: &mut State, rules: &Rules) {
        match act {
            Act::TakeLease => {
                state.last_epoch += 1;
                state.lease = Some(state.last_epoch);
                self.epoch = state.last_epoch;
                self.phase = if rules.takeover_order { Phase::Leased } else { Phase::ConsumersDeleted };
            }
            Act::DeleteConsumers => {
                let below = if rules.newest_consumer_wins { self.epoch } else { u8::MAX };
                state.delete_consumers(below);
                self.phase = Phase::ConsumersDeleted;
            }
            Act::Fence => self.fence(state, rules),
            Act::CreateConsumer => self.create_consumer(state, rules),
            Act::ReadTasks => self.read_tasks(state, rules),
            Act::ReadLastSignal => self.read_last_signal(state),
            Act::Drained if rules.recovery_order => self.dispatch_missing(state, rules),
            Act::Drained => self.phase = Phase::ReadingLate,
            Act::Reconcile => self.phase = Phase::Reading,
            Act::Decide(message) => self.decide(message, state, rules),
            Act::Tick => {
                state.budget.timeouts -= 1;
                self.group.events.push(Event::TimedOut);
                self.append(rules);
            }
            Act::Arrive => self.arrive(state, rules),
            Act::Learn => self.learn(state, rules),
            Act::Confirm if self.committed == state.tail() => {
                self.to_ack.append(&mut self.group.signals);
                self.to_ack.sort();
            }
            Act::Confirm | Act::Notice => self.drop_partition(state),
            Act::Ack => {
                for signal in std::mem::take(&mut self.to_ack) {
                    state.acknowledge(self.epoch, signal);
                }
            }
            Act::Send(sequence, effect) => self.send(sequence, effect, state),
            Act::Checkpoint => {
                state.budget.checkpoints -= 1;
                state.checkpoints.swap(0, 1);
                state.checkpoints[1] = Checkpoint { sequence: self.committed, fold: self.checkpointed(state, rules) };
            }
            Act::Trim => state.first = self.trim_to(state, rules),
        }
    }

    /// Rule 14: acknowledged state only.
    fn checkpointed(&self, state: &State, rules: &Rules) -> Fold {
        if rules.checkpoints_acknowledged { self.fold(state) } else { self.speculative(state) }
    }

    /// Rule 2: appends `Owner{epoch}`, reading on at each conflict until it is the tail or a newer owner is there.
    fn fence(&mut self, state: &mut State, rules: &Rules) {
        let fold = state.recovered();
        if fold.epoch > self.epoch {
            return self.drop_partition(state);
        }
        if rules.takeover_order {
            let dispatched_through = fold.dispatched_through;
            let events = vec![Event::Owner(self.epoch)];
            state.journal.push(Commit { epoch: self.epoch, events, dispatched_through });
        }
        self.committed = state.tail();
        self.incarnation = state.incarnation;
        self.phase = Phase::Fenced;
        if rules.dispatch_recorded {
            let from = state.first.max(fold.dispatched_through + 1);
            for (commit, sequence) in state.journal[usize::from(from) - 1..].iter().zip(from..) {
                self.cause(sequence, &commit.events);
            }
        }
    }

    /// Rule 2: SIGNALS, a work queue, refuses a second consumer. A former owner that was slower than its successor may have
    /// created one since: an older one is deleted, before a newer one this owner gives up.
    fn create_consumer(&mut self, state: &mut State, rules: &Rules) {
        if rules.takeover_order && rules.newest_consumer_wins {
            if state.consumers >> self.epoch != 0 {
                return self.drop_partition(state);
            }
            state.delete_consumers(self.epoch);
        }
        state.consumers |= 1 << self.epoch;
        self.phase = Phase::Reading;
    }

    /// Rule 4, first half: what is neither in TASKS nor announced. Tasks of which this owner does not know whether they
    /// went out are sent again under the same id, unless they are seen here (rule 3).
    fn read_tasks(&mut self, state: &mut State, rules: &Rules) {
        self.incarnation = state.incarnation;
        self.unsent.retain(|(sequence, effect)| match effect {
            Effect::Task(step) => !state.sees(*step, *sequence),
            Effect::Signal(_) => true,
        });
        let awaiting = if rules.recovery_order { self.fold(state).awaiting } else { self.speculative(state).awaiting };
        self.watched = awaiting.filter(|(step, sequence)| !state.has_task(*step, *sequence));
        self.missing = awaiting.filter(|(step, sequence)| {
            *sequence <= self.committed
                && !state.sees(*step, *sequence)
                && !self.unsent.contains(&(*sequence, Effect::Task(*step)))
        });
        if rules.recovery_order {
            self.phase = Phase::TasksRead;
        } else {
            self.dispatch_missing(state, rules);
        }
    }

    /// Rule 4, second half: the last sequence of SIGNALS.
    fn read_last_signal(&mut self, state: &mut State) {
        for message in state.signals.iter_mut().filter(|message| message.pending.is_none()) {
            message.before_last |= 1 << self.epoch;
        }
        self.phase = Phase::Draining;
    }

    /// Rule 6: dispatching again is itself a commit.
    fn dispatch_missing(&mut self, state: &State, rules: &Rules) {
        self.phase = Phase::Serving;
        let missing = self.missing.take();
        if let Some((step, _)) = missing.filter(|_| missing == self.speculative(state).awaiting) {
            self.group.events.push(Event::DispatchedAgain(step));
            self.append(rules);
        }
    }

    fn decide(&mut self, message: Message, state: &mut State, rules: &Rules) {
        let Some(delivered) = state.signals.iter_mut().find(|stored| **stored == message) else { return };
        delivered.pending = Some(self.epoch);
        delivered.before_last = 0;
        match self.speculative(state).decide(message.signal) {
            Some(event) => self.group.events.push(event),
            None if rules.no_ack_without_append => {}
            None => return state.acknowledge(self.epoch, message.signal),
        }
        self.group.signals.push(message.signal);
        self.group.signals.sort();
        self.append(rules);
    }

    /// Group commit: a lone decision goes out at once, what is decided meanwhile goes into the next append.
    fn append(&mut self, rules: &Rules) {
        if self.flight.is_some() || self.group.events.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.group);
        let dispatched_through = self.dispatched_through();
        if !rules.effects_follow_the_commit {
            self.cause(self.committed + 1, &group.events);
        }
        self.flight = Some(Flight { group, dispatched_through, fate: Fate::OnTheWire });
    }

    /// The commit that is under way.
    pub(crate) fn under_way(&self) -> Option<Commit> {
        let flight = self.flight.as_ref().filter(|flight| flight.fate == Fate::OnTheWire)?;
        let events = flight.group.events.clone();
        Some(Commit { epoch: self.epoch, events, dispatched_through: flight.dispatched_through })
    }

    fn arrive(&mut self, state: &mut State, rules: &Rules) {
        let Some(commit) = self.under_way() else { return };
        let stored = state.append(self.committed, commit, rules.conditional_append);
        if let Some(flight) = &mut self.flight {
            flight.fate = if stored { Fate::Stored } else { Fate::Refused };
        }
    }

    fn learn(&mut self, state: &mut State, rules: &Rules) {
        let Some(Flight { group, fate, .. }) = self.flight.take() else { return };
        if fate == Fate::Refused {
            return self.drop_partition(state);
        }
        self.committed = if rules.conditional_append { self.committed + 1 } else { state.tail() };
        self.to_ack.extend(group.signals);
        self.to_ack.sort();
        if rules.effects_follow_the_commit {
            self.cause(self.committed, &group.events);
        }
        self.append(rules);
    }

    /// The effects of a commit are to be sent.
    fn cause(&mut self, sequence: Sequence, events: &[Event]) {
        self.unsent.extend(events.iter().flat_map(|event| event.effects()).map(|effect| (sequence, *effect)));
        self.unsent.sort();
    }

    fn send(&mut self, sequence: Sequence, effect: Effect, state: &mut State) {
        self.unsent.retain(|unsent| *unsent != (sequence, effect));
        let cause = state.journal.get(usize::from(sequence) - 1);
        let caused = cause.is_some_and(|commit| commit.causes(effect));
        match effect {
            Effect::Signal(signal) => state.store_signal(signal),
            // Settled meanwhile: nobody waits for it.
            Effect::Task(step) if caused && self.fold(state).awaiting != Some((step, sequence)) => return,
            Effect::Task(step) => state.store_task(step, sequence, self.epoch),
        }
        state.effect_without_cause |= !caused;
    }

    /// Forgets everything. An append that is on the wire stays there.
    pub(crate) fn drop_partition(&mut self, state: &mut State) {
        if let Some(commit) = self.under_way() {
            state.late.push(LateAppend { expected: self.committed, commit });
        }
        *self = Self::default();
    }
}

impl State {
    /// Deletes the consumers of epochs below this one; what waited for their acks can be delivered again.
    fn delete_consumers(&mut self, below: u8) {
        let kept = self.consumers & !1u8.checked_shl(below.into()).map_or(u8::MAX, |bit| bit - 1);
        self.consumers = kept;
        for message in &mut self.signals {
            message.pending = message.pending.filter(|epoch| kept & (1 << epoch) != 0);
        }
    }

    /// TASKS takes a message, unless the subject has one.
    fn store_task(&mut self, step: Step, dispatch: Sequence, epoch: u8) {
        if !self.has_task(step, dispatch) {
            let stray = self.history().epoch > epoch;
            self.tasks.push(Task { step, dispatch, deliveries: 0, stray });
        }
    }

    fn has_task(&self, step: Step, dispatch: Sequence) -> bool {
        self.tasks.iter().any(|task| (task.step, task.dispatch) == (step, dispatch))
    }

    /// Whether the task is in TASKS or a worker announces it.
    fn sees(&self, step: Step, dispatch: Sequence) -> bool {
        self.has_task(step, dispatch)
            || self
                .workers
                .iter()
                .flatten()
                .any(|held| (held.step, held.dispatch) == (step, dispatch) && held.announced && !held.lease_expired)
    }

    /// A full worker lease has passed since TASKS was created: whoever lives has said what it holds.
    fn all_announced(&self) -> bool {
        self.workers.iter().flatten().all(|held| held.announced || held.lease_expired)
    }
}
