//! Running the partitions of one kind: membership, leases, takeovers, and handing over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use cdflow_bus::Bus;
use cdflow_protocol::{Partition as Number, ids::token, streams, subjects};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Aggregate, Error, JournalOptions, Observer, Position,
    lease::{Bucket, Key, Lease, View},
    partition::{Ended, Partition, Site},
    rendezvous,
    takeover::{Ground, Interrupted, take_over},
    tasks::{Announced, listen},
};

/// How long a stopping instance tries to give its leases back.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// Owns what partitions of `A::KIND` this instance can lease, until `stop`; then finishes what is in flight and hands
/// over.
///
/// # Errors
/// [`Error::WentBack`] when the journal does not hold what it held before: nothing is decided then. [`Error::Bus`] and
/// [`Error::Request`] when the installation cannot be opened at the start; later the same errors are waited out.
pub async fn serve<A: Aggregate>(
    bus: Bus,
    options: JournalOptions,
    observer: Arc<dyn Observer<A>>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let journal = bus
        .context()
        .get_stream_no_info(streams::JOURNAL)
        .await
        .map_err(|error| Error::request("open JOURNAL", error))?;
    let store = bus
        .context()
        .get_object_store(subjects::SNAPSHOTS_BUCKET)
        .await
        .map_err(|error| Error::request("open the store of checkpoints", error))?;
    let announced = Arc::new(Announced::new());
    let mut listener = JoinSet::new();
    listener.spawn(listen(bus.clone(), announced.clone(), options.worker_lease));
    let holder = format!("{}-{}", token(&options.instance), &uuid::Uuid::now_v7().simple().to_string()[20..]);
    let bucket = Bucket {
        context: bus.context().clone(),
        client: bus.client(),
        kind: A::KIND,
        // Whole seconds are what the server knows.
        ttl: Duration::from_secs(5.max(3 * options.lease.as_secs())),
    };
    let site = Arc::new(Site { bus, store, journal, options, observer, announced });
    let keeper = Keeper {
        bucket,
        view: View::default(),
        holder,
        owned: BTreeMap::new(),
        known: HashMap::new(),
        declined: BTreeSet::new(),
        not_before: HashMap::new(),
        grace_until: None,
        registered: false,
        owners: JoinSet::new(),
        site,
    };
    keeper.run(stop).await
}

/// A partition that this instance holds the lease of.
struct Owned {
    /// Finish and hand over.
    stop: CancellationToken,
    /// Drop everything.
    lost: CancellationToken,
}

/// What is left when an owner ends.
struct Left {
    number: Number,
    known: Option<Position>,
    ended: Result<Ended, Error>,
}

/// Keeps this instance's leases.
struct Keeper<A: Aggregate> {
    site: Arc<Site<A>>,
    bucket: Bucket,
    view: View,
    /// This start of this instance.
    holder: String,
    owned: BTreeMap<Number, Owned>,
    /// Where the journal of partitions was that this process has owned (rule 7).
    known: HashMap<Number, Position>,
    /// Partitions whose commits this release is too old for.
    declined: BTreeSet<Number>,
    /// A failed takeover is not repeated at once.
    not_before: HashMap<Number, Instant>,
    /// The bucket lost everything: others need time to say that they are alive.
    grace_until: Option<Instant>,
    registered: bool,
    owners: JoinSet<Left>,
}

impl<A: Aggregate> Keeper<A> {
    async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut round = tokio::time::interval(self.site.options.renew);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.hand_over().await,
                Some(left) = self.owners.join_next() => {
                    let left = left.map_err(|error| Error::request("own a partition", error))?;
                    self.ended(left).await?;
                }
                _ = round.tick() => tokio::select! {
                    // A round that waits for a server that is down must not keep anybody from stopping.
                    () = stop.cancelled() => {}
                    () = self.round_or_repair() => {}
                }
            }
        }
    }

    async fn round_or_repair(&mut self) {
        if let Err(error) = self.round().await {
            tracing::debug!(%error, "leases");
            self.ensure_volatile().await;
        }
    }

    /// Says that this instance is alive, looks who else is, renews, gives up, takes.
    async fn round(&mut self) -> Result<(), Error> {
        let me = Key::Instance(self.holder.clone());
        let lease = Lease { holder: self.holder.clone(), declined: self.declined.iter().copied().collect() };
        let found = self.bucket.read().await?;
        let wiped = self.registered && !found.iter().any(|(key, _, _)| *key == me);
        let now = Instant::now();
        self.view.update(found, now);
        if wiped {
            self.grace_until = Some(now + self.site.options.lease);
        }
        self.bucket.write(&me, &lease, None).await?;
        self.registered = true;
        self.renew(now).await;
        let wanted = self.wanted(now, &lease);
        let unwanted: Vec<_> = self.owned.keys().copied().filter(|number| !wanted.contains(number)).collect();
        for number in unwanted {
            if let Some(owned) = self.owned.get(&number) {
                owned.stop.cancel();
            }
        }
        if self.grace_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        for number in wanted {
            self.try_to_own(number, now).await;
        }
        Ok(())
    }

    /// A single server that was restarted has forgotten LEASES and TASKS, which live in memory: they are made again.
    async fn ensure_volatile(&self) {
        let bus = &self.site.bus;
        if let Err(error) = bus.ensure_leases().await {
            tracing::debug!(%error, "leases");
        }
        if let Err(error) = bus.ensure_tasks().await {
            tracing::debug!(%error, "tasks");
        }
    }

    /// Renews what is held; a partition whose key names somebody else is dropped at once.
    async fn renew(&mut self, now: Instant) {
        let mut writes = Vec::new();
        for (&number, owned) in &self.owned {
            let key = Key::Partition(number);
            match self.view.last_holder(&key) {
                Some(holder) if holder != self.holder => owned.lost.cancel(),
                _ => writes.push((key.clone(), self.view.revision(&key))),
            }
        }
        let (bucket, lease) = (&self.bucket, Lease { holder: self.holder.clone(), declined: Vec::new() });
        let lease = &lease;
        let renewals = writes.iter().map(|(key, revision)| bucket.write(key, lease, Some(*revision)));
        for error in futures::future::join_all(renewals).await.into_iter().filter_map(Result::err) {
            // The next look at the bucket tells who was faster.
            tracing::debug!(%error, elapsed = ?now.elapsed(), "renewing a lease");
        }
    }

    /// Partitions that this instance should own.
    fn wanted(&self, now: Instant, me: &Lease) -> Vec<Number> {
        let mut instances = self.view.instances(self.site.options.lease, now);
        instances.retain(|lease| lease.holder != me.holder);
        instances.push(me);
        let count = self.site.bus.installation().partitions;
        count
            .all()
            .filter(|number| {
                let able = instances.iter().filter(|lease| !lease.declined.contains(number));
                rendezvous::winner(able.map(|lease| lease.holder.as_str()), *number) == Some(self.holder.as_str())
            })
            .collect()
    }

    async fn try_to_own(&mut self, number: Number, now: Instant) {
        let key = Key::Partition(number);
        if self.owned.contains_key(&number)
            || self.not_before.get(&number).is_some_and(|at| now < *at)
            || self.view.holder(&key, self.site.options.lease, now).is_some_and(|lease| lease.holder != self.holder)
        {
            return;
        }
        let lease = Lease { holder: self.holder.clone(), declined: Vec::new() };
        if let Err(error) = self.bucket.write(&key, &lease, Some(self.view.revision(&key))).await {
            tracing::debug!(%error, partition = number, "somebody else was faster");
            return;
        }
        let owned = Owned { stop: CancellationToken::new(), lost: CancellationToken::new() };
        let (stop, lost) = (owned.stop.clone(), owned.lost.clone());
        self.owned.insert(number, owned);
        self.owners.spawn(own(self.site.clone(), number, self.known.get(&number).cloned(), stop, lost));
    }

    async fn ended(&mut self, left: Left) -> Result<(), Error> {
        let Left { number, known, ended } = left;
        self.owned.remove(&number);
        if let Some(known) = known {
            self.known.insert(number, known);
        }
        let now = Instant::now();
        match ended {
            Ok(Ended::Stopped) => {
                tracing::info!(kind = %A::KIND, partition = number, "partition handed over");
                self.release(number).await;
            }
            Ok(Ended::Lost(reason)) => {
                tracing::warn!(kind = %A::KIND, partition = number, reason, "partition lost: what was not stored is dropped");
                self.not_before.insert(number, now + Duration::from_millis(200));
            }
            Err(Error::ReaderTooOld { .. }) if self.declined.insert(number) => {
                tracing::error!(
                    kind = %A::KIND, partition = number,
                    "a newer release has written this partition: this instance leaves it to others"
                );
                self.release(number).await;
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(kind = %A::KIND, partition = number, %error, "partition not taken over, trying again");
                self.not_before.insert(number, now + Duration::from_millis(500));
            }
            Err(error) => {
                tracing::error!(kind = %A::KIND, partition = number, %error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives a lease back, unless somebody else holds it already.
    async fn release(&mut self, number: Number) {
        let key = Key::Partition(number);
        if let Ok(found) = self.bucket.read().await {
            self.view.update(found, Instant::now());
        }
        if self.view.last_holder(&key) == Some(self.holder.as_str())
            && let Err(error) = self.bucket.release(&key).await
        {
            tracing::debug!(%error, partition = number, "a lease runs out instead of being given back");
        }
    }

    async fn hand_over(mut self) -> Result<(), Error> {
        for owned in self.owned.values() {
            owned.stop.cancel();
        }
        let mut failed = None;
        let mut ours = vec![Key::Instance(self.holder.clone())];
        while let Some(left) = self.owners.join_next().await {
            match left {
                Ok(Left { number, ended: Ok(_), .. }) => ours.push(Key::Partition(number)),
                Ok(Left { ended: Err(error), .. }) if !error.is_transient() => failed = Some(error),
                Ok(_) | Err(_) => {}
            }
        }
        let release = async {
            self.view.update(self.bucket.read().await?, Instant::now());
            ours.retain(|key| self.view.last_holder(key) == Some(self.holder.as_str()));
            futures::future::try_join_all(ours.iter().map(|key| self.bucket.release(key))).await
        };
        match tokio::time::timeout(RELEASE_WITHIN, release).await {
            Ok(Ok(_)) => tracing::info!(kind = %A::KIND, "partitions handed over"),
            _ => tracing::info!(kind = %A::KIND, "stopped; leases run out instead of being given back"),
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Takes a partition over and owns it to the end.
async fn own<A: Aggregate>(
    site: Arc<Site<A>>,
    number: Number,
    known: Option<Position>,
    stop: CancellationToken,
    lost: CancellationToken,
) -> Left {
    let owner = uuid::Uuid::now_v7().simple().to_string();
    let begun = Instant::now();
    let ground = Ground {
        bus: &site.bus,
        store: &site.store,
        journal: &site.journal,
        metrics: &site.options.metrics,
        partition: number,
        owner: &owner,
        known: known.as_ref(),
    };
    let taken = tokio::select! {
        taken = take_over::<A>(&ground) => taken,
        () = stop.cancelled() => return Left { number, known, ended: Ok(Ended::Stopped) },
        () = lost.cancelled() => {
            return Left { number, known, ended: Ok(Ended::Lost("lost while it was taken over".into())) };
        }
    };
    let taken = match taken {
        Ok(taken) => taken,
        Err(Interrupted::Overtaken) => {
            return Left { number, known, ended: Ok(Ended::Lost("a newer owner was faster".into())) };
        }
        Err(Interrupted::Failed(error)) => return Left { number, known, ended: Err(error) },
    };
    #[cfg(feature = "failpoints")]
    if let Err(error) = site.options.failpoints.reached(crate::Crash::InTakeover) {
        return Left { number, known, ended: Err(error) };
    }
    tracing::info!(
        kind = %A::KIND, partition = number, epoch = taken.epoch, position = %taken.tail,
        live = taken.population.live.len(), within = ?begun.elapsed(), "partition taken over"
    );
    let health = site.bus.health();
    let mut partition = Partition::new(site, number, owner, taken);
    let ended = partition.run(&stop, &lost, health).await;
    Left { number, known: Some(partition.tail.clone()), ended }
}
