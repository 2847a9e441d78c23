//! The clients: they start runs and wait for their ends. The same for the whole path and the bare one.

use std::{
    borrow::Borrow,
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::measure::{Samples, Throughput};

/// A run that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs that have been started and have not ended, by id.
#[derive(Debug)]
pub(crate) struct InFlight<Id> {
    inner: Mutex<Inner<Id>>,
}

#[derive(Debug)]
struct Inner<Id> {
    waiting: HashMap<Id, Waiting>,
    steps: Samples,
}

#[derive(Debug)]
struct Waiting {
    done: oneshot::Sender<()>,
    /// When the last commit about it was known to be stored.
    stored: Option<Instant>,
}

impl<Id> Default for InFlight<Id> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { waiting: HashMap::new(), steps: Samples::default() }) }
    }
}

impl<Id: Eq + Hash + Clone> InFlight<Id> {
    fn lock(&self) -> MutexGuard<'_, Inner<Id>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run is about to be started; the receiver hears of its end.
    pub(crate) fn begin(&self, id: Id) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        self.lock().waiting.insert(id, Waiting { done, stored: None });
        ended
    }

    /// A decision about a run is stored. From one to the next is one step.
    pub(crate) fn stored<Q: Eq + Hash + ?Sized>(&self, id: &Q, has_ended: bool)
    where
        Id: Borrow<Q>,
    {
        let now = Instant::now();
        let mut inner = self.lock();
        let Some(waiting) = inner.waiting.get_mut(id) else { return };
        if let Some(before) = waiting.stored.replace(now) {
            inner.steps.add(now - before);
        }
        if has_ended && let Some(waiting) = inner.waiting.remove(id) {
            // A client that has lost its patience is gone.
            let _ = waiting.done.send(());
        }
    }

    /// Ids of all that have not ended.
    pub(crate) fn ids(&self) -> Vec<Id> {
        self.lock().waiting.keys().cloned().collect()
    }

    /// Whether any of these has not ended.
    pub(crate) fn has_any(&self, ids: &[Id]) -> bool {
        let inner = self.lock();
        ids.iter().any(|id| inner.waiting.contains_key(id))
    }

    /// What steps took since this was asked last.
    pub(crate) fn take_steps(&self) -> Samples {
        std::mem::take(&mut self.lock().steps)
    }
}

/// How much to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Runs.
    pub(crate) runs: u32,
    /// At the same time.
    pub(crate) in_flight: u16,
}

/// Starts `load.runs` runs, or as many as there are before `enough`: a new one whenever one has ended; and waits for
/// all. `start` gets the number of a run, registers it in `in_flight` and returns when its start is stored.
pub(crate) async fn drive<Id, Started>(
    load: Load,
    enough: &CancellationToken,
    in_flight: &InFlight<Id>,
    start: impl Fn(u32) -> Started + Clone + Send + Sync + 'static,
) -> Result<Throughput>
where
    Id: Eq + Hash + Clone,
    Started: Future<Output = Result<oneshot::Receiver<()>>> + Send,
{
    let _ = in_flight.take_steps();
    let next = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..load.in_flight {
        let (next, start, enough) = (next.clone(), start.clone(), enough.clone());
        clients.spawn(async move {
            let mut samples = Samples::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= load.runs || enough.is_cancelled() {
                    return anyhow::Ok(samples);
                }
                let begun = Instant::now();
                let run = async { Ok(start(number).await?.await?) };
                let ended: Result<()> =
                    tokio::time::timeout(PATIENCE, run).await.with_context(|| format!("run {number} has not ended"))?;
                ended?;
                samples.add(begun.elapsed());
            }
        });
    }
    let mut runs = Samples::default();
    while let Some(client) = clients.join_next().await {
        runs.merge(client??);
    }
    Ok(Throughput { elapsed: begun.elapsed(), runs, steps: in_flight.take_steps() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_run_is_started_once_and_waited_for() {
        let in_flight = Arc::new(InFlight::<u32>::default());
        let runs = in_flight.clone();
        let start = move |number: u32| {
            let runs = runs.clone();
            async move {
                let ended = runs.begin(number);
                runs.stored(&number, false);
                runs.stored(&number, true);
                Ok(ended)
            }
        };
        let found = drive(Load { runs: 50, in_flight: 7 }, &CancellationToken::new(), &in_flight, start)
            .await
            .expect("all end");
        assert_eq!((found.runs.len(), found.steps.len()), (50, 50));
        assert!(in_flight.ids().is_empty());
    }
}
