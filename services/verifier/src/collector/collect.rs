//! Reads all instances of a task at every tick, until told to stop.

use std::time::Duration;

use cdflow_protocol::{
    v1::{CollectTask, Instance, Reading, Readings},
    wall_clock,
};
use futures::{StreamExt as _, stream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    scrape::Scrape,
    selector::{Selector, SelectorError},
};

/// Instances of one task that are read at the same time.
const AT_ONCE: usize = 64;

/// How long an instance may take to answer: as long as the interval, within these.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(500);
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

/// A task that cannot be done, now or later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// A selector of the health profile.
    #[error("the selector of {what} in the health profile: {error}")]
    Selector {
        /// `requests` or `errors`.
        what: &'static str,
        /// What is wrong with it.
        error: SelectorError,
    },
    /// The interval.
    #[error("the scrape interval is {0} ms: it must be above 0")]
    Interval(i64),
    /// No HTTP client on this machine.
    #[error("no HTTP client could be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// A checked task.
#[derive(Debug, Clone)]
pub struct Collection {
    task_id: String,
    scrape: Scrape,
    every: Duration,
    instances: Vec<(Instance, bool)>,
}

impl Collection {
    /// Checks selectors and interval.
    ///
    /// # Errors
    /// See [`CollectError`].
    pub fn of(task_id: &str, task: &CollectTask) -> Result<Self, CollectError> {
        let selector = |what, text: &str| Selector::parse(text).map_err(|error| CollectError::Selector { what, error });
        let every = u64::try_from(task.every_ms).ok().filter(|every| *every > 0);
        let every = Duration::from_millis(every.ok_or(CollectError::Interval(task.every_ms))?);
        let patience = every.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE);
        let (requests, errors) = (selector("requests", &task.requests)?, selector("errors", &task.errors)?);
        let arms = task.arms.iter();
        Ok(Self {
            task_id: task_id.to_owned(),
            scrape: Scrape::new(&task.path, requests, errors, patience)?,
            every,
            instances: arms.flat_map(|arm| arm.instances.iter().map(|i| (i.clone(), arm.canary))).collect(),
        })
    }

    /// Hands over readings at every tick until `stop`. A tick that is late because instances hang is left out, not
    /// made up for: totals lose nothing by it.
    pub async fn run(&self, stop: CancellationToken, mut hand_over: impl FnMut(Readings)) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let read = async {
            loop {
                ticks.tick().await;
                hand_over(self.read().await);
            }
        };
        stop.run_until_cancelled(read).await;
    }

    /// All instances once.
    pub async fn read(&self) -> Readings {
        let time_ms = wall_clock();
        let reading = |(instance, canary): &(Instance, bool)| {
            let (scrape, instance, canary) = (&self.scrape, instance.clone(), *canary);
            async move { scrape.reading(&instance, canary).await }
        };
        let mut readings: Vec<Reading> =
            stream::iter(self.instances.iter().map(reading)).buffer_unordered(AT_ONCE).collect().await;
        readings.sort_by(|a, b| a.instance_id.cmp(&b.instance_id));
        Readings { time_ms, readings, task_id: self.task_id.clone() }
    }
}
