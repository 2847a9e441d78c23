//! The lock of one service on one infrastructure: who may change it, and who is next.
//!
//! # Rules
//! - First come, first served. A request is one acquisition: run, stage, step and attempt. Asking again while it holds,
//!   waits or is over changes nothing; the first two are answered again.
//! - Giving back comes in three forms, all as [`ReleaseLock`]: the holder frees the lock for the next; one who waits
//!   leaves the queue; one who watches stops watching. A holder that goes on watching hears of the next run that gets
//!   the lock.
//! - `only_if_latest` is for undoing: it is refused when another run has had the lock since this run had it, because
//!   undoing would then remove a newer release.
//!
//! # Signals in any order
//! A release that comes before its request, and a request that comes again after its release, must not bring a lock to
//! life that nobody will give back. So acquisitions that are over are remembered, the last [`REMEMBERED`] of them: a
//! request would have to be overtaken by as many releases of the same target to be taken for a new one. Should that
//! happen, the run that is told of a lock that it does not want gives it back (`run/answers.rs`).
//!
//! The lock keeps which runs had it, newest last, also while nobody holds it; the journal keeps that state when the
//! aggregate leaves memory.

use cdflow_journal::{Aggregate, Decision, Input, refuse};
use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{
        AcquireLock, Effect, LockAnswer, LockEvent, LockGranted, LockHolder, LockQueued, LockReleased, LockSignal,
        Refusal, ReleaseLock, RunSignal, lock_answer, lock_event, lock_signal, run_signal,
    },
};
use prost::Message;

use crate::run::send;

/// How many acquisitions that are over, and how many runs that had the lock, are remembered.
pub const REMEMBERED: usize = 256;
const FORMAT: u32 = 1;

/// The lock of one target. See the [module](self) for its rules.
#[derive(Clone, PartialEq, Message)]
pub struct Lock {
    #[prost(message, optional, tag = "1")]
    holder: Option<LockHolder>,
    /// First come first.
    #[prost(message, repeated, tag = "2")]
    queue: Vec<LockQueued>,
    #[prost(message, repeated, tag = "3")]
    watchers: Vec<LockHolder>,
    /// The runs that had it, each once, the newest last.
    #[prost(message, repeated, tag = "4")]
    had_it: Vec<LockHolder>,
    /// Acquisitions that are over, the newest last.
    #[prost(message, repeated, tag = "5")]
    over: Vec<LockHolder>,
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, optional, tag = "2")]
    lock: Option<Lock>,
}

impl Lock {
    /// Who holds it.
    pub fn held_by(&self) -> Option<&LockHolder> {
        self.holder.as_ref()
    }

    /// Who waits, the next first.
    pub fn waiting(&self) -> impl Iterator<Item = &LockHolder> {
        self.queue.iter().filter_map(|queued| queued.holder.as_ref())
    }

    /// The run that has released after this one.
    fn newer_than(&self, asking: &LockHolder) -> Option<&LockHolder> {
        let latest = self.had_it.last()?;
        let had_it = self.had_it.iter().any(|run| run.run_id == asking.run_id);
        (latest.run_id != asking.run_id && (had_it || latest.run_number > asking.run_number)).then_some(latest)
    }
}

fn remember(list: &mut Vec<LockHolder>, entry: LockHolder) {
    if list.len() >= REMEMBERED {
        list.remove(0);
    }
    list.push(entry);
}

/// A decision in the making, on a copy of the lock.
struct Deciding<'a> {
    lock: Lock,
    id: &'a str,
    now: UnixMillis,
    decision: Decision<LockEvent>,
}

impl Deciding<'_> {
    fn emit(&mut self, kind: lock_event::Kind) {
        let event = LockEvent { kind: Some(kind), time_ms: self.now };
        self.lock.apply(&event);
        self.decision.events.push(event);
    }

    fn answer(&mut self, to: &LockHolder, kind: lock_answer::Kind, about: Option<&LockHolder>) {
        self.decision.effects.push(answer(self.id, to, kind, about));
    }

    fn acquire(&mut self, asking: LockHolder, only_if_latest: bool) {
        let lock = &self.lock;
        if lock.over.contains(&asking) || lock.watchers.contains(&asking) {
            return;
        }
        if lock.holder.as_ref() == Some(&asking) {
            return self.answer(&asking, lock_answer::Kind::Granted, None);
        }
        let queued = lock.waiting().any(|waiting| *waiting == asking);
        if !queued
            && only_if_latest
            && let Some(newer) = lock.newer_than(&asking).cloned()
        {
            return self.answer(&asking, lock_answer::Kind::Superseded, Some(&newer));
        }
        let Some(holder) = lock.holder.clone() else { return self.grant(asking) };
        if !queued {
            self.emit(lock_event::Kind::Queued(LockQueued { holder: Some(asking.clone()), only_if_latest }));
        }
        self.answer(&asking, lock_answer::Kind::Queued, Some(&holder));
    }

    fn release(&mut self, giving: LockHolder, watching: bool) {
        let lock = &self.lock;
        let holds = lock.holder.as_ref() == Some(&giving);
        let watches_already = watching && lock.watchers.contains(&giving);
        if lock.over.contains(&giving) || watches_already {
            return;
        }
        self.emit(lock_event::Kind::Released(LockReleased { holder: Some(giving), watching: watching && holds }));
        if holds {
            self.grant_next();
        }
    }

    fn grant_next(&mut self) {
        while let Some(LockQueued { holder: Some(next), only_if_latest }) = self.lock.queue.first().cloned() {
            match self.lock.newer_than(&next).cloned().filter(|_| only_if_latest) {
                Some(newer) => {
                    self.emit(lock_event::Kind::Released(LockReleased { holder: Some(next.clone()), watching: false }));
                    self.answer(&next, lock_answer::Kind::Superseded, Some(&newer));
                }
                None => return self.grant(next),
            }
        }
    }

    fn grant(&mut self, to: LockHolder) {
        let watchers = self.lock.watchers.clone();
        self.emit(lock_event::Kind::Granted(LockGranted { holder: Some(to.clone()) }));
        self.answer(&to, lock_answer::Kind::Granted, None);
        for watcher in watchers.iter().filter(|watcher| watcher.run_id != to.run_id) {
            self.answer(watcher, lock_answer::Kind::Superseded, Some(&to));
        }
    }
}

fn answer(lock_id: &str, to: &LockHolder, kind: lock_answer::Kind, about: Option<&LockHolder>) -> Effect {
    let answer = LockAnswer {
        stage_id: to.stage_id.clone(),
        step_id: to.step_id.clone(),
        attempt: to.attempt,
        kind: kind.into(),
        holder: about.map_or(String::new(), |other| other.run_id.clone()),
        holder_number: about.map_or(0, |other| other.run_number),
    };
    let signal_id = format!(
        "{lock_id}.{}.{}.{}.{}.{}.{}",
        kind.as_str_name(),
        to.run_id,
        to.stage_id,
        to.step_id,
        to.attempt,
        answer.holder
    );
    let signal = RunSignal { kind: Some(run_signal::Kind::Lock(answer)) };
    send(AggregateKind::Run, &to.run_id, signal_id, &signal, String::new())
}

impl Aggregate for Lock {
    const KIND: AggregateKind = AggregateKind::Lock;
    type Signal = LockSignal;
    type Event = LockEvent;

    fn decide(&self, id: &str, input: Input<LockSignal>, now: UnixMillis) -> Result<Decision<LockEvent>, Refusal> {
        let Input::Signal(signal) = input else { return Ok(Decision::nothing()) };
        let nobody = || refuse("bad-signal", "the signal does not say who asks for the lock or gives it back");
        let mut deciding = Deciding { lock: self.clone(), id, now, decision: Decision::nothing() };
        match signal.kind {
            Some(lock_signal::Kind::Acquire(AcquireLock { holder, only_if_latest })) => {
                deciding.acquire(holder.ok_or_else(nobody)?, only_if_latest);
            }
            Some(lock_signal::Kind::Release(ReleaseLock { holder, watching })) => {
                deciding.release(holder.ok_or_else(nobody)?, watching);
            }
            None => return Err(refuse("unknown-signal", "the signal says nothing that this version knows")),
        }
        Ok(deciding.decision)
    }

    fn apply(&mut self, event: &LockEvent) {
        match &event.kind {
            Some(lock_event::Kind::Granted(LockGranted { holder: Some(holder) })) => {
                self.queue.retain(|queued| queued.holder.as_ref() != Some(holder));
                let (watchers, superseded) =
                    std::mem::take(&mut self.watchers).into_iter().partition(|w| w.run_id == holder.run_id);
                self.watchers = watchers;
                let superseded: Vec<_> = superseded;
                for watcher in superseded {
                    remember(&mut self.over, watcher);
                }
                self.had_it.retain(|run| run.run_id != holder.run_id);
                remember(&mut self.had_it, holder.clone());
                self.holder = Some(holder.clone());
            }
            Some(lock_event::Kind::Queued(queued)) => self.queue.push(queued.clone()),
            Some(lock_event::Kind::Released(LockReleased { holder: Some(holder), watching })) => {
                if self.holder.as_ref() == Some(holder) {
                    self.holder = None;
                }
                self.queue.retain(|queued| queued.holder.as_ref() != Some(holder));
                self.watchers.retain(|watcher| watcher != holder);
                if *watching {
                    self.watchers.push(holder.clone());
                } else {
                    remember(&mut self.over, holder.clone());
                }
            }
            Some(lock_event::Kind::Granted(LockGranted { holder: None }))
            | Some(lock_event::Kind::Released(LockReleased { holder: None, .. }))
            | None => {}
        }
    }

    fn deadline(&self) -> Option<UnixMillis> {
        None
    }

    fn outstanding_tasks(&self) -> Vec<String> {
        Vec::new()
    }

    fn is_finished(&self) -> bool {
        self.holder.is_none() && self.queue.is_empty() && self.watchers.is_empty()
    }

    fn checkpoint(&self) -> Vec<u8> {
        Stored { format: FORMAT, lock: Some(self.clone()) }.encode_to_vec()
    }

    fn restore(state: &[u8]) -> Result<Self, String> {
        let stored = Stored::decode(state).map_err(|e| format!("not the state of a lock: {e}"))?;
        if stored.format != FORMAT {
            return Err(format!("the state of a lock has format {}, this version reads {FORMAT}", stored.format));
        }
        Ok(stored.lock.unwrap_or_default())
    }
}
