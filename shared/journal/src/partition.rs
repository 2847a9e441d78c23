//! The loop of one owned partition.
//!
//! Decisions start from speculative state and go into the open group; one group is in flight at a time. Nothing here
//! waits for the network: every request is a task of its own whose answer comes back as [`Happened`]. Dropping the loop
//! drops them all, and with them everything that was not stored.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::{
    consumer::{Consumer, pull},
    object_store::ObjectStore,
    stream::Stream,
};
use cdflow_bus::Bus;
use cdflow_protocol::{
    Partition as Number, UnixMillis, subjects,
    v1::{CancelTask, Signal, Task},
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Aggregate, Error, JournalOptions, Observer, Position, StoredEntry,
    append::{Failed, Tail},
    checkpoint::{Slot, Written},
    commit::Group,
    dispatch::{self, Batch, Sender},
    flight::Flight,
    inbox::{self, Deliveries, Incoming},
    metrics::Levels,
    population::{Finished, Population},
    takeover::Taken,
    tasks::{Announced, Outstanding},
    time::PartitionTime,
};

/// What all partitions of one `serve` share.
pub(crate) struct Site<A: Aggregate> {
    pub(crate) bus: Bus,
    pub(crate) store: ObjectStore,
    pub(crate) journal: Stream<()>,
    pub(crate) options: JournalOptions,
    pub(crate) observer: Arc<dyn Observer<A>>,
    pub(crate) announced: Arc<Announced>,
}

impl<A: Aggregate> Site<A> {
    /// Tells the observer. One that panics is no reason to stop: the facts are stored.
    pub(crate) fn tell(&self, entry: &StoredEntry<'_, A>) {
        if catch_unwind(AssertUnwindSafe(|| self.observer.stored(entry))).is_err() {
            tracing::error!(aggregate = entry.aggregate_id, "the observer panicked");
        }
    }
}

/// How owning a partition ended without an error.
#[derive(Debug)]
pub(crate) enum Ended {
    /// As asked: everything decided is stored and sent.
    Stopped,
    /// Somebody else owns it, or may: whatever was not stored is forgotten.
    Lost(String),
}

/// An answer to something that the loop has started.
pub(crate) enum Happened {
    /// The group in flight is stored, or never will be.
    Appended { result: Result<u64, Failed>, hash: Vec<u8> },
    /// A finished aggregate was read.
    Loaded { id: String, found: Option<Finished> },
    /// SIGNALS held nothing beyond `through` when `then` became due.
    Drain { through: u64, then: Then },
    /// The last signal that waits now.
    Rechecked { last: u64 },
    /// Tasks that were silent, and those of them that TASKS does not hold.
    Looked { silent: Vec<String>, missing: Option<(Vec<String>, u64)> },
    /// Effects of the former owner, up to this commit, have gone out.
    Resent { through: u64 },
    /// A checkpoint was written, or not.
    Checkpointed(Result<Written, Error>),
    /// A fresh consumer of this epoch.
    Subscribed(Box<Consumer<pull::Config>>),
    /// A newer owner has a consumer.
    Overtaken,
    /// The journal's tail after a reconnect, read when ours was `ours`.
    TailRead { ours: Position, found: Option<Tail> },
    /// Nothing to do.
    Done,
}

/// What waits until the signals that were stored before it have been decided.
pub(crate) enum Then {
    /// Deadlines up to this time have passed.
    Ticks(UnixMillis),
    /// These tasks are nowhere.
    Lost(Vec<String>),
    /// Tasks whose dispatch was not recorded, and that are nowhere.
    Resend { tasks: Vec<Task>, through: u64 },
}

/// Something that waits for signals to be decided.
pub(crate) struct Draining {
    pub(crate) through: u64,
    pub(crate) then: Then,
    pub(crate) since: Instant,
}

/// A signal whose aggregate is being read from the archive.
pub(crate) struct Parked {
    pub(crate) delivery: u64,
    pub(crate) now: UnixMillis,
    pub(crate) signal: Signal,
}

/// An owned partition.
pub(crate) struct Partition<A: Aggregate> {
    pub(crate) site: Arc<Site<A>>,
    pub(crate) number: Number,
    /// Different for each takeover; begins the id of every commit.
    pub(crate) owner: String,
    pub(crate) subject: String,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) population: Population<A>,
    pub(crate) time: PartitionTime,
    /// The last stored commit.
    pub(crate) tail: Position,

    pub(crate) open: Group<A>,
    /// Full groups, waiting for their turn.
    pub(crate) closed: VecDeque<Group<A>>,
    pub(crate) flight: Option<Flight<A>>,
    /// Bytes at which a group closes (rule 13).
    pub(crate) limit: usize,

    pub(crate) inbox: mpsc::Receiver<Incoming>,
    pub(crate) deliveries: Deliveries,
    pub(crate) parked: HashMap<String, Vec<Parked>>,
    pub(crate) draining: Vec<Draining>,
    /// The last signal is being read again for what drains for long.
    pub(crate) rechecking: bool,
    pub(crate) ticking: bool,

    pub(crate) dispatcher: mpsc::UnboundedSender<Batch>,
    pub(crate) dispatched: mpsc::UnboundedReceiver<u64>,
    /// Commits handed to the dispatcher and not reported yet.
    pub(crate) undispatched: usize,
    pub(crate) dispatch: Dispatched,

    pub(crate) outstanding: Outstanding,
    pub(crate) looking: bool,
    pub(crate) cancelling: HashMap<String, CancelTask>,

    pub(crate) slot: Slot,
    pub(crate) commits_since_checkpoint: u64,
    pub(crate) checkpointing: bool,
    pub(crate) last_commit: Instant,

    pub(crate) levels: Levels,
    pub(crate) work: JoinSet<Happened>,
    /// Acknowledgements on their way; awaited when the owner stops.
    pub(crate) acks: JoinSet<Result<(), Error>>,
    pub(crate) pump: Option<AbortHandle>,
    /// The consumer was deleted by somebody else.
    unsubscribed: bool,
    stopping: Option<Instant>,
}

/// How far effects have gone out (rule 3).
#[derive(Debug, Default)]
pub(crate) struct Dispatched {
    /// What the journal says.
    pub(crate) recorded: u64,
    /// The last commit that had effects.
    pub(crate) last_with_effects: u64,
    /// Through this one, by this owner.
    pub(crate) sent: u64,
    /// Whether what the former owner left has gone out.
    pub(crate) resent: bool,
}

impl Dispatched {
    /// All effects up to this commit have gone out; `tail` is the last commit.
    pub(crate) fn through(&self, tail: u64) -> u64 {
        if !self.resent {
            self.recorded
        } else if self.sent >= self.last_with_effects {
            tail
        } else {
            self.sent.max(self.recorded)
        }
    }

    /// What the former owner left, up to this commit, has gone out.
    pub(crate) fn resent(&mut self, through: u64) {
        self.resent = true;
        self.sent = self.sent.max(through);
    }

    /// Whether the journal should be told, though there is nothing else to store.
    pub(crate) fn unrecorded(&self) -> bool {
        self.resent && self.recorded < self.last_with_effects && self.sent >= self.last_with_effects
    }
}

/// How long a stopping owner waits for its effects to leave.
const STOP_WITHIN: Duration = Duration::from_millis(700);
/// Commits whose effects have not left before signals wait.
const MAX_UNDISPATCHED: usize = 256;
/// Signals that wait for finished aggregates before others wait too.
const MAX_PARKED: usize = 1_000;

impl<A: Aggregate> Partition<A> {
    pub(crate) fn new(site: Arc<Site<A>>, number: Number, owner: String, taken: Taken<A>) -> Self {
        let mut work = JoinSet::new();
        let metrics = site.options.metrics.clone();
        let (_, inbox) = mpsc::channel(inbox::QUEUE);
        let limit = site.bus.max_payload() / 2;
        let sender = Sender { kind: A::KIND, partition: number, partitions: taken.installation.partitions, limit };
        let (dispatcher, batches) = mpsc::unbounded_channel();
        let (done, dispatched) = mpsc::unbounded_channel();
        {
            let (bus, metrics) = (site.bus.clone(), metrics.clone());
            work.spawn(async move {
                dispatch::run(bus, sender, batches, done, metrics).await;
                Happened::Done
            });
        }
        let last_with_effects = taken.unsent.last().map_or(0, |batch| batch.sequence);
        let mut partition = Self {
            subject: subjects::journal(A::KIND, number),
            number,
            owner,
            incarnation: taken.installation.incarnation,
            epoch: taken.epoch,
            population: taken.population,
            time: taken.time,
            tail: taken.tail,
            open: Group::default(),
            closed: VecDeque::new(),
            flight: None,
            limit,
            inbox,
            deliveries: Deliveries::default(),
            parked: HashMap::new(),
            draining: Vec::new(),
            rechecking: false,
            ticking: false,
            dispatcher,
            dispatched,
            undispatched: 0,
            dispatch: Dispatched {
                recorded: taken.dispatched_through,
                last_with_effects,
                sent: taken.dispatched_through,
                resent: false,
            },
            outstanding: Outstanding::default(),
            looking: false,
            cancelling: taken.cancelling.into_iter().map(|cancel| (cancel.id.clone(), cancel)).collect(),
            slot: taken.slot,
            commits_since_checkpoint: taken.commits,
            checkpointing: false,
            last_commit: Instant::now(),
            levels: Levels::new(metrics),
            work,
            acks: JoinSet::new(),
            pump: None,
            unsubscribed: false,
            stopping: None,
            site,
        };
        partition.listen(taken.consumer);
        partition.note_outstanding();
        partition.resend(taken.unsent, sender);
        partition
    }

    /// Decides until asked to stop, or until the partition is lost.
    ///
    /// # Errors
    /// When the journal went back, and what a test asks for.
    pub(crate) async fn run(
        &mut self,
        stop: &CancellationToken,
        lost: &CancellationToken,
        mut health: watch::Receiver<Option<String>>,
    ) -> Result<Ended, Error> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut down = health.borrow_and_update().is_some();
        loop {
            self.send_next()?;
            if let Some(since) = self.stopping
                && self.is_quiet(since)
            {
                let acks = async { while self.acks.join_next().await.is_some() {} };
                // What is not acknowledged comes again, and changes nothing.
                let _ = tokio::time::timeout(STOP_WITHIN, acks).await;
                return Ok(Ended::Stopped);
            }
            if self.unsubscribed && self.is_stored() {
                return Ok(Ended::Lost("the consumer of this owner is gone".into()));
            }
            let (room, deadline) = (self.has_room(), self.next_deadline());
            tokio::select! {
                biased;
                () = lost.cancelled() => return Ok(Ended::Lost("another instance has taken the lease".into())),
                Some(happened) = self.work.join_next() => {
                    // A task that panicked or was aborted has nothing to say.
                    if let Ok(happened) = happened
                        && let Some(ended) = self.on(happened)?
                    {
                        return Ok(ended);
                    }
                }
                Some(sequence) = self.dispatched.recv() => {
                    self.undispatched -= 1;
                    self.dispatch.sent = self.dispatch.sent.max(sequence);
                    #[cfg(feature = "failpoints")]
                    self.site.options.failpoints.reached(crate::Crash::AfterDispatch)?;
                }
                Some(acked) = self.acks.join_next() => {
                    if let Ok(Err(error)) = acked {
                        return Err(error);
                    }
                }
                () = stop.cancelled(), if self.stopping.is_none() => {
                    self.stopping = Some(Instant::now());
                    self.stop_listening();
                }
                incoming = self.inbox.recv(), if room => match incoming {
                    Some(incoming) => self.receive_waiting(incoming),
                    None => {
                        // Whose it is now, the appends on their way will tell.
                        self.unsubscribed = true;
                        self.stop_listening();
                    }
                },
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => self.begin_ticks(),
                _ = second.tick() => self.each_second(),
                Ok(()) = health.changed() => {
                    let was_down = std::mem::replace(&mut down, health.borrow_and_update().is_some());
                    if was_down && !down && self.stopping.is_none() {
                        self.check_tail();
                        self.subscribe_again();
                    }
                }
            }
        }
    }

    /// Takes a message, and everything that waits behind it, as long as it goes into the same group.
    fn receive_waiting(&mut self, first: Incoming) {
        let span = tracing::debug_span!("decide", kind = %A::KIND, partition = self.number);
        let _entered = span.enter();
        self.receive(first);
        while self.has_room() {
            match self.inbox.try_recv() {
                Ok(next) => self.receive(next),
                Err(_) => break,
            }
        }
        self.drained();
    }

    fn has_room(&self) -> bool {
        self.stopping.is_none()
            && self.pump.is_some()
            && self.closed.is_empty()
            && self.open.entries.len() < self.limit
            && self.undispatched < MAX_UNDISPATCHED
            && self.parked.values().map(Vec::len).sum::<usize>() < MAX_PARKED
    }

    /// How long until the next deadline, if it is not being dealt with already.
    fn next_deadline(&mut self) -> Option<Duration> {
        if self.ticking || self.stopping.is_some() {
            return None;
        }
        let wait = self.population.timers.next()?.saturating_sub(cdflow_protocol::wall_clock()).clamp(0, 60_000);
        Some(Duration::from_millis(wait.unsigned_abs()))
    }

    /// Whether a stopping owner has nothing left to do, or has waited long enough.
    fn is_quiet(&mut self, since: Instant) -> bool {
        let stored = self.is_stored();
        if since.elapsed() > STOP_WITHIN {
            return true;
        }
        if stored && self.dispatch.unrecorded() {
            self.record_dispatch();
            return false;
        }
        stored && self.undispatched == 0
    }

    /// Whether everything decided is stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.flight.is_none() && self.open.entries.is_empty() && self.closed.is_empty()
    }

    fn on(&mut self, happened: Happened) -> Result<Option<Ended>, Error> {
        match happened {
            Happened::Appended { result, hash } => return self.appended(result, hash),
            Happened::Loaded { id, found } => self.unpark(&id, found),
            Happened::Drain { through, then } => {
                self.drain(through, then);
            }
            Happened::Rechecked { last } => self.rechecked(last),
            Happened::Looked { silent, missing } => self.looked(silent, missing),
            Happened::Overtaken => return Ok(Some(Ended::Lost("a newer owner is subscribed".into()))),
            Happened::Subscribed(consumer) => self.listen(*consumer),
            Happened::Resent { through } => self.dispatch.resent(through),
            Happened::Checkpointed(result) => self.checkpointed(result)?,
            Happened::TailRead { ours, found } => return self.compare_tail(&ours, found),
            Happened::Done => {}
        }
        Ok(None)
    }

    /// Does `then` once the signals through this stream sequence have been decided.
    pub(crate) fn drain(&mut self, through: u64, then: Then) {
        self.draining.push(Draining { through, then, since: Instant::now() });
        self.drained();
    }

    /// Does what has waited for signals that are decided now.
    pub(crate) fn drained(&mut self) {
        let seen = self.deliveries.seen_through();
        let (ready, waiting) =
            std::mem::take(&mut self.draining).into_iter().partition(|waiting: &Draining| waiting.through <= seen);
        self.draining = waiting;
        for Draining { then, .. } in ready {
            match then {
                Then::Ticks(time) => self.tick(time),
                Then::Lost(tasks) => self.tasks_lost(&tasks),
                Then::Resend { tasks, through } => self.resend_tasks(tasks, through),
            }
        }
    }
}
