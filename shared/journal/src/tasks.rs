//! Tasks that were sent and have no result: where they are, and when they count as lost (rules 4 and 5).
//!
//! A task is somewhere while TASKS holds it or a worker announces it. Workers announce a task until its result is
//! stored, so a task that has been neither for a full worker lease has vanished, or its result waits in SIGNALS: signals
//! are therefore drained through their last sequence before a task is called lost. This covers a wiped TASKS (it lives
//! in memory) without looking for the reason.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use cdflow_bus::Bus;
use cdflow_protocol::{ids::token, subjects, v1::Announcement};
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use tokio::time::Instant;

use crate::Error;

/// What workers have said lately; shared by the partitions of one `serve`.
#[derive(Debug)]
pub(crate) struct Announced {
    heard: Mutex<Heard>,
}

#[derive(Debug)]
struct Heard {
    tasks: HashMap<String, Instant>,
    /// Nobody can be called silent for the time before: this instance was not listening.
    since: Instant,
}

impl Announced {
    pub(crate) fn new() -> Self {
        Self { heard: Mutex::new(Heard { tasks: HashMap::new(), since: Instant::now() }) }
    }

    /// When this task was last known to be held, or this instance began to listen, whichever is later.
    pub(crate) fn evidence(&self, task: &str) -> Instant {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.tasks.get(task).copied().map_or(heard.since, |at| at.max(heard.since))
    }

    /// Whether a worker has announced this task within `within`.
    pub(crate) fn is_held(&self, task: &str, within: Duration) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.tasks.get(task).is_some_and(|at| at.elapsed() < within)
    }

    /// How long this instance has been listening without a gap.
    pub(crate) fn listening(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).since.elapsed()
    }

    fn note(&self, announcement: Announcement) {
        let now = Instant::now();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for task in announcement.task_ids {
            heard.tasks.insert(task, now);
        }
    }

    fn begin_again(&self) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).since = Instant::now();
    }

    fn forget(&self, older_than: Duration) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.tasks.retain(|_, at| at.elapsed() < older_than);
    }
}

/// Listens to workers until dropped.
pub(crate) async fn listen(bus: Bus, announced: Arc<Announced>, worker_lease: Duration) {
    let mut health = bus.health();
    loop {
        let mut announcements = match bus.client().subscribe(subjects::ALL_ANNOUNCEMENTS).await {
            Ok(announcements) => announcements,
            Err(error) => {
                tracing::warn!(%error, "listening to workers");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        announced.begin_again();
        let mut clean = tokio::time::interval(worker_lease);
        loop {
            tokio::select! {
                message = announcements.next() => match message {
                    Some(message) => match Announcement::decode(message.payload) {
                        Ok(announcement) => announced.note(announcement),
                        Err(error) => tracing::debug!(%error, "an announcement that cannot be read"),
                    },
                    None => break,
                },
                // Whatever was said while the connection was down was not heard.
                changed = health.changed() => match changed {
                    Ok(()) => announced.begin_again(),
                    Err(_) => return,
                },
                _ = clean.tick() => announced.forget(3 * worker_lease),
            }
        }
    }
}

/// How long TASKS has existed. It is young after a restart of a single server, which forgets what it held.
pub(crate) async fn age_of_stream(bus: &Bus) -> Result<Duration, Error> {
    Ok(age(&bus.ensure_tasks().await?))
}

fn age(stream: &Stream) -> Duration {
    let created = i64::try_from(stream.cached_info().created.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    Duration::from_millis(u64::try_from(cdflow_protocol::wall_clock() - created).unwrap_or(0))
}

/// Which of these tasks TASKS does not hold, and how old it is. Asks the stream's leader, once for each task.
pub(crate) async fn missing_in_stream(bus: &Bus, tasks: Vec<String>) -> Result<(Vec<String>, Duration), Error> {
    let stream = bus.ensure_tasks().await?;
    let missing: Vec<String> = futures::stream::iter(tasks)
        .map(|task| {
            let stream = &stream;
            async move {
                let subject = format!("cdflow.task.*.*.{}", token(&task));
                match stream.get_last_raw_message_by_subject(&subject).await {
                    Ok(_) => Ok(None),
                    Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(Some(task)),
                    Err(error) => Err(Error::request("look for a task", error)),
                }
            }
        })
        .buffer_unordered(32)
        .try_filter_map(async |missing| Ok(missing))
        .try_collect()
        .await?;
    Ok((missing, age(&stream)))
}

/// Outstanding tasks of a partition, with when each was last known to be somewhere.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    known: HashMap<String, (String, Instant)>,
}

impl Outstanding {
    /// Takes the tasks that are outstanding now (task, aggregate); new ones count as seen now.
    pub(crate) fn update(&mut self, tasks: impl IntoIterator<Item = (String, String)>) {
        let now = Instant::now();
        let mut next = HashMap::with_capacity(self.known.len());
        for (task, aggregate) in tasks {
            let seen = self.known.get(&task).map_or(now, |(_, seen)| *seen);
            next.insert(task, (aggregate, seen));
        }
        self.known = next;
    }

    /// These were somewhere just now.
    pub(crate) fn seen(&mut self, tasks: &[String]) {
        for task in tasks {
            if let Some((_, seen)) = self.known.get_mut(task) {
                *seen = Instant::now();
            }
        }
    }

    /// Those of which nothing has been heard for `lease`.
    pub(crate) fn silent(&mut self, announced: &Announced, lease: Duration) -> Vec<String> {
        let mut silent = Vec::new();
        for (task, (_, seen)) in &mut self.known {
            *seen = (*seen).max(announced.evidence(task));
            if seen.elapsed() >= lease {
                silent.push(task.clone());
            }
        }
        silent
    }

    pub(crate) fn aggregate_of(&self, task: &str) -> Option<&str> {
        self.known.get(task).map(|(aggregate, _)| aggregate.as_str())
    }

    pub(crate) fn contains(&self, task: &str) -> bool {
        self.known.contains_key(task)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_is_silent_only_after_a_full_lease_of_listening() {
        let lease = Duration::from_secs(10);
        let announced = Announced::new();
        let mut outstanding = Outstanding::default();
        let both = || [("a".to_owned(), "run".to_owned()), ("b".to_owned(), "run".to_owned())];
        outstanding.update(both());
        tokio::time::advance(Duration::from_secs(9)).await;
        announced.note(Announcement { task_ids: vec!["b".into()], ..Announcement::default() });
        assert!(outstanding.silent(&announced, lease).is_empty());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(outstanding.silent(&announced, lease), ["a"]);

        // The connection was down: what workers said meanwhile is unknown.
        announced.begin_again();
        outstanding.update(both());
        assert!(outstanding.silent(&announced, lease).is_empty());
        tokio::time::advance(lease).await;
        assert_eq!(outstanding.silent(&announced, lease).len(), 2);
        outstanding.seen(&["a".into()]);
        assert_eq!(outstanding.silent(&announced, lease), ["b"]);
    }
}
