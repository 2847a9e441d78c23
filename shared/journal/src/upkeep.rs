//! What an owner does by the clock: deadlines, lost tasks, cancellations, and the effects that a former owner left.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::{
    consumer::{Consumer, pull},
    stream::LastRawMessageErrorKind,
};
use cdflow_protocol::{
    UnixMillis, streams, subjects,
    v1::{Effect, Task, effect},
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Aggregate, Error, Input,
    dispatch::{self, Batch, Sender},
    inbox,
    partition::{Happened, Partition, Site, Then},
    takeover::{self, Interrupted},
    tasks::{self, missing_in_stream},
};

/// Workers announce what they hold once a second: after this much listening, a task that was not heard of is not held.
const ANNOUNCEMENT_ROUND: Duration = Duration::from_millis(1_200);
/// How long the journal may stay silent about effects that have gone out.
const RECORD_AFTER: Duration = Duration::from_secs(1);
/// How long something waits for signals before it is asked whether they still exist.
const RECHECK_AFTER: Duration = Duration::from_secs(5);
/// A deadline that has passed and changed nothing is not tried again before.
const TICK_AGAIN_MS: UnixMillis = 1_000;

impl<A: Aggregate> Partition<A> {
    /// A deadline has passed: first everything that was stored before now is decided (rule 16).
    pub(crate) fn begin_ticks(&mut self) {
        self.ticking = true;
        let (site, number, time) = (self.site.clone(), self.number, self.time.read(cdflow_protocol::wall_clock()));
        self.work.spawn(async move {
            let through = last_signal(&site, number).await;
            Happened::Drain { through, then: Then::Ticks(time) }
        });
    }

    /// Ticks everybody whose deadline is not after `time`.
    pub(crate) fn tick(&mut self, time: UnixMillis) {
        self.ticking = false;
        for id in self.population.timers.take_due(time) {
            let now = self.time.read(cdflow_protocol::wall_clock());
            if !self.decide_input(&id, Input::Tick, now) {
                self.population.timers.set(&id, Some(now + TICK_AGAIN_MS));
            }
        }
    }

    /// Signals of this consumer come into the inbox from now on.
    pub(crate) fn listen(&mut self, consumer: Consumer<pull::Config>) {
        let (into, inbox) = mpsc::channel(inbox::QUEUE);
        let metrics = self.site.options.metrics.clone();
        self.inbox = inbox;
        self.pump = Some(self.work.spawn(async move {
            inbox::pump(consumer, into, metrics).await;
            Happened::Done
        }));
    }

    pub(crate) fn stop_listening(&mut self) {
        if let Some(pump) = self.pump.take() {
            pump.abort();
        }
    }

    /// After a reconnect: what was delivered and got lost on the way would come again only after the ack wait, so the
    /// consumer is made anew. Signals that are being decided come again too, and change nothing. A newer owner's consumer
    /// is never in danger: it has another name, and two cannot exist.
    pub(crate) fn subscribe_again(&mut self) {
        if self.pump.is_none() {
            return;
        }
        self.stop_listening();
        let (site, number, epoch) = (self.site.clone(), self.number, self.epoch);
        self.work.spawn(async move {
            loop {
                match takeover::subscribe::<A>(&site.bus, number, epoch).await {
                    Ok(consumer) => return Happened::Subscribed(Box::new(consumer)),
                    Err(Interrupted::Overtaken) => return Happened::Overtaken,
                    Err(Interrupted::Failed(error)) => {
                        tracing::debug!(%error, "subscribing after a reconnect");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        });
    }

    pub(crate) fn each_second(&mut self) {
        self.note_outstanding();
        self.levels.report(self.population.live.len(), self.outstanding.len(), self.population.quarantined());
        self.cancelling.retain(|task, _| self.outstanding.contains(task));
        if !self.cancelling.is_empty() {
            let (site, cancels) = (self.site.clone(), self.cancelling.values().cloned().collect::<Vec<_>>());
            self.work.spawn(async move {
                for cancel in &cancels {
                    dispatch::send_cancel(&site.bus, cancel).await;
                }
                Happened::Done
            });
        }
        self.look_for_silent_tasks();
        self.recheck();
        if self.is_stored() && self.dispatch.unrecorded() && self.last_commit.elapsed() >= RECORD_AFTER {
            self.record_dispatch();
        }
    }

    pub(crate) fn note_outstanding(&mut self) {
        let live = &self.population.live;
        self.outstanding.update(
            live.iter()
                .filter(|(_, live)| live.quarantine.is_none())
                .flat_map(|(id, live)| live.state.outstanding_tasks().into_iter().map(move |task| (task, id.clone()))),
        );
    }

    /// Where are the tasks that nobody has announced for a full worker lease? TASKS first, then SIGNALS (rule 4).
    fn look_for_silent_tasks(&mut self) {
        // What has not been sent yet is not lost.
        if self.looking || self.undispatched > 0 || !self.dispatch.resent {
            return;
        }
        let silent = self.outstanding.silent(&self.site.announced, self.site.options.worker_lease);
        if silent.is_empty() {
            return;
        }
        self.looking = true;
        let (site, number) = (self.site.clone(), self.number);
        self.work.spawn(async move {
            let missing = match missing_in_stream(&site.bus, silent.clone()).await {
                // A worker may hold a task of the TASKS before until its lease ends, and be silent.
                Ok((missing, age)) if missing.is_empty() || age >= site.options.worker_lease => {
                    Some((missing, last_signal(&site, number).await))
                }
                Ok((missing, age)) => {
                    tracing::debug!(tasks = missing.len(), ?age, "TASKS is too young to call anything lost");
                    None
                }
                Err(error) => {
                    tracing::debug!(%error, "looking for tasks");
                    None
                }
            };
            Happened::Looked { silent, missing }
        });
    }

    pub(crate) fn looked(&mut self, silent: Vec<String>, missing: Option<(Vec<String>, u64)>) {
        self.looking = false;
        let Some((missing, through)) = missing else { return };
        let absent: HashSet<&String> = missing.iter().collect();
        let present: Vec<String> = silent.into_iter().filter(|task| !absent.contains(task)).collect();
        self.outstanding.seen(&present);
        if !missing.is_empty() {
            self.drain(through, Then::Lost(missing));
        }
    }

    /// Tells the aggregates whose tasks are nowhere, and whose results have not come meanwhile.
    pub(crate) fn tasks_lost(&mut self, tasks: &[String]) {
        for task in tasks {
            let Some(id) = self.outstanding.aggregate_of(task).map(ToOwned::to_owned) else { continue };
            let announced = self.site.announced.is_held(task, self.site.options.worker_lease);
            if announced || !self.is_outstanding(&id, task) {
                continue;
            }
            tracing::warn!(aggregate = id, task, "a task has vanished: its aggregate decides what to do");
            self.site.options.metrics.tasks_lost.add(1);
            let now = self.time.read(cdflow_protocol::wall_clock());
            self.decide_input(&id, Input::TaskLost(task.clone()), now);
        }
        self.outstanding.seen(tasks);
    }

    fn is_outstanding(&self, id: &str, task: &str) -> bool {
        self.population
            .live
            .get(id)
            .is_some_and(|live| live.state.outstanding_tasks().iter().any(|outstanding| outstanding == task))
    }

    /// Sends what the former owner may not have sent: everything but tasks at once (receivers deduplicate), tasks only
    /// when they turn out to be nowhere and without a result (rule 4).
    pub(crate) fn resend(&mut self, unsent: Vec<Batch>, sender: Sender) {
        let Some(through) = unsent.last().map(|batch| batch.sequence) else {
            self.dispatch.resent = true;
            return;
        };
        let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
        let mut mails = Vec::new();
        for Batch { incarnation, sequence, effects } in unsent {
            let mut others = Vec::new();
            for effect in effects {
                match effect.kind {
                    // Of a task that was sent again already, the last counts.
                    Some(effect::Kind::Task(task)) => {
                        tasks.insert(task.id.clone(), task);
                    }
                    _ => others.push(effect),
                }
            }
            mails.push(sender.mail(Batch { incarnation, sequence, effects: others }));
        }
        let (site, number) = (self.site.clone(), self.number);
        self.work.spawn(async move {
            for mail in mails {
                for cancel in &mail.cancels {
                    dispatch::send_cancel(&site.bus, cancel).await;
                }
                dispatch::store_all(&site.bus, mail.stored).await;
            }
            if tasks.is_empty() {
                return Happened::Resent { through };
            }
            let missing = nowhere(&site, tasks.keys().cloned().collect()).await;
            let last = last_signal(&site, number).await;
            let tasks = tasks.into_values().filter(|task| missing.contains(&task.id)).collect();
            Happened::Drain { through: last, then: Then::Resend { tasks, through } }
        });
    }

    /// Dispatches tasks again that are nowhere and still wanted. That is a commit of its own, so they have a higher fence
    /// than what the former owner may still send when it wakes (rule 6).
    pub(crate) fn resend_tasks(&mut self, tasks: Vec<Task>, through: u64) {
        self.note_outstanding();
        let mut again = false;
        for task in tasks {
            let Some(id) = self.outstanding.aggregate_of(&task.id).map(ToOwned::to_owned) else { continue };
            // Its first sending may have been begun by a worker that is gone together with TASKS.
            let task = Task { resent: true, ..task };
            self.dispatch_again(&id, Effect { kind: Some(effect::Kind::Task(task)) });
            again = true;
        }
        if again {
            self.open.resent_through = Some(through);
        } else {
            self.dispatch.resent(through);
        }
    }

    /// What has waited for signals for long may wait for one that somebody has removed.
    fn recheck(&mut self) {
        if self.rechecking || !self.draining.iter().any(|waiting| waiting.since.elapsed() > RECHECK_AFTER) {
            return;
        }
        self.rechecking = true;
        let (site, number) = (self.site.clone(), self.number);
        self.work.spawn(async move { Happened::Rechecked { last: last_signal(&site, number).await } });
    }

    pub(crate) fn rechecked(&mut self, last: u64) {
        self.rechecking = false;
        for waiting in &mut self.draining {
            waiting.through = waiting.through.min(last);
            waiting.since = Instant::now();
        }
        self.drained();
    }
}

/// Which of the tasks no worker holds and TASKS does not have; asks until it knows.
///
/// Waits until every worker that is connected has had the time to announce what it holds. When TASKS is younger than a
/// worker lease, that is not enough: a worker that is silent may hold a task of the TASKS before, until its lease ends.
async fn nowhere<A: Aggregate>(site: &Arc<Site<A>>, tasks: Vec<String>) -> HashSet<String> {
    let lease = site.options.worker_lease;
    loop {
        let heard = site.announced.listening();
        let settled = match tasks::age_of_stream(&site.bus).await {
            Ok(age) if age >= lease => ANNOUNCEMENT_ROUND,
            // Silence counts from when the stream was made, or from when this instance began to listen.
            Ok(age) => (heard + (lease - age)).min(lease).max(ANNOUNCEMENT_ROUND),
            Err(error) => {
                tracing::debug!(%error, "looking for tasks of the former owner");
                lease
            }
        };
        if heard < settled {
            tokio::time::sleep((settled - heard).min(Duration::from_millis(500))).await;
            continue;
        }
        let silent: Vec<String> = tasks.iter().filter(|id| !site.announced.is_held(id, lease)).cloned().collect();
        match missing_in_stream(&site.bus, silent).await {
            Ok((missing, _)) => return missing.into_iter().collect(),
            Err(error) => {
                tracing::debug!(%error, "looking for tasks of the former owner");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
}

/// Sequence of the last signal that waits for this partition, 0 if none does; asks until it knows.
async fn last_signal<A: Aggregate>(site: &Arc<Site<A>>, number: u32) -> u64 {
    let subject = subjects::signal(A::KIND, number);
    let mut begun = Instant::now();
    loop {
        let read = async {
            let stream = site
                .bus
                .context()
                .get_stream_no_info(streams::SIGNALS)
                .await
                .map_err(|error| Error::request("open SIGNALS", error))?;
            match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(message) => Ok(message.sequence),
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(0),
                Err(error) => Err(Error::request("read the last signal", error)),
            }
        };
        match read.await {
            Ok(sequence) => return sequence,
            Err(error) => {
                if begun.elapsed() > Duration::from_secs(10) {
                    tracing::warn!(%error, "deadlines wait until the last signal is known");
                    begun = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
