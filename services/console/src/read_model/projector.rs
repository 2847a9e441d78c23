//! Reads JOURNAL and keeps the read model up to date.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cdflow_bus::Bus;
use cdflow_journal::{Positions, ReadCommit, Reader};
use cdflow_protocol::streams;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Changes, Database, Error,
    changes::Touched,
    history,
    projection::{self, Cache, Outcome},
};
use crate::command::COMMAND_PREFIX;

/// Most commits of one transaction.
const LARGEST_BATCH: usize = 1_000;
/// Most bytes of one transaction.
const HEAVIEST_BATCH: usize = 16 << 20;
/// How long a transaction waits for company: far less than a person notices.
const GATHER: Duration = Duration::from_millis(2);
/// After a failure that may pass.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the projector is, and what is wrong. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    sequence: Arc<AtomicU64>,
    problem: Arc<watch::Sender<Option<String>>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { sequence: Arc::default(), problem: Arc::new(watch::channel(None).0) }
    }
}

impl Progress {
    /// What keeps the read model from following JOURNAL.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// How many messages of JOURNAL are not projected yet.
    pub(crate) async fn behind(&self, bus: &Bus) -> Result<u64, String> {
        let stream = bus.context().get_stream(streams::JOURNAL).await.map_err(|error| error.to_string())?;
        let last = stream.cached_info().state.last_sequence;
        Ok(last.saturating_sub(self.sequence.load(Ordering::Acquire)))
    }

    fn reached(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::AcqRel);
        self.problem.send_if_modified(|problem| problem.take().is_some());
    }

    fn failed(&self, error: &Error) {
        self.problem.send_replace(Some(error.to_string()));
    }
}

/// Projects until it is told to stop. Several may work on one database: each commit is projected by one of them.
pub(crate) struct Projector {
    bus: Bus,
    database: Database,
    changes: Changes,
    progress: Progress,
    known: Positions,
    cache: Cache,
}

impl Projector {
    pub(crate) fn new(bus: Bus, database: Database, changes: Changes, progress: Progress) -> Self {
        Self { bus, database, changes, progress, known: Positions::new(), cache: Cache::default() }
    }

    /// Goes on through every failure that may pass.
    ///
    /// # Errors
    /// [`Error::Journal`] when JOURNAL does not continue what was projected: a person has to look.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let followed = tokio::select! {
                followed = self.follow() => followed,
                () = stop.cancelled() => return Ok(()),
            };
            let Err(error) = followed else { continue };
            self.progress.failed(&error);
            if matches!(&error, Error::Journal(error) if !error.is_transient()) {
                return Err(error);
            }
            tracing::warn!(%error, "the read model does not follow JOURNAL; trying again");
            self.cache = Cache::default();
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn follow(&mut self) -> Result<(), Error> {
        self.known = projection::positions(self.database.pool()).await?;
        let mut reader = Reader::open(self.bus.clone(), "console", self.known.clone()).await?;
        self.progress.reached(self.known.values().map(|position| position.sequence).max().unwrap_or(0));
        loop {
            let batch = gather(&mut reader).await?;
            self.project(&batch).await?;
            for read in &batch {
                read.ack().await;
            }
        }
    }

    async fn project(&mut self, batch: &[ReadCommit]) -> Result<(), Error> {
        let mut rest = self.fresh(batch);
        while !rest.is_empty() {
            match projection::project(self.database.pool(), &rest, &mut self.known, &mut self.cache).await? {
                Outcome::Projected => break,
                Outcome::Conflict => {
                    self.known = projection::positions(self.database.pool()).await?;
                    self.cache = Cache::default();
                    rest = self.fresh(batch);
                }
            }
        }
        // Also for what another console has projected: those who wait here have not heard of it.
        self.changes.announce(touched(batch));
        if let Some(last) = batch.last() {
            self.progress.reached(last.sequence);
        }
        Ok(())
    }

    /// What is not projected yet. The reader has checked that it continues what is.
    fn fresh<'b>(&self, batch: &'b [ReadCommit]) -> Vec<&'b ReadCommit> {
        let done = |read: &&ReadCommit| {
            self.known.get(&(read.kind, read.partition)).is_some_and(|known| read.sequence <= known.sequence)
        };
        batch.iter().filter(|read| !done(read)).collect()
    }
}

/// At least one commit, and what else is there already.
async fn gather(reader: &mut Reader) -> Result<Vec<ReadCommit>, Error> {
    let first = reader.next().await?;
    let mut bytes = first.body.len();
    let mut batch = vec![first];
    while batch.len() < LARGEST_BATCH && bytes < HEAVIEST_BATCH {
        match tokio::time::timeout(GATHER, reader.next()).await {
            Ok(next) => {
                let next = next?;
                bytes += next.body.len();
                batch.push(next);
            }
            Err(_) => break,
        }
    }
    Ok(batch)
}

fn touched(batch: &[ReadCommit]) -> Touched {
    let (mut runs, mut answers) = (HashSet::new(), HashSet::new());
    for read in batch {
        for entry in &read.commit.entries {
            runs.extend(history::run_of(read.kind, &entry.aggregate_id).map(ToOwned::to_owned));
            let commands = entry.handled.iter().filter(|handled| handled.signal_id.starts_with(COMMAND_PREFIX));
            answers.extend(commands.map(|handled| handled.signal_id.clone()));
        }
    }
    Touched { runs: Arc::new(runs), answers: Arc::new(answers) }
}
