//! How far the feed has come: the feed itself says so, so there is nothing that could disagree with it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use async_nats::{header, jetstream::stream::LastRawMessageErrorKind};
use cdflow_bus::Bus;
use cdflow_protocol::{UnixMillis, streams, v1::Commit, wall_clock};

/// What the stream `EVENTS` holds of the commit that was told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing is left: what happened before this moment has been told and was forgotten with age, or never will be.
    Before(UnixMillis),
    /// These events of this commit, and everything of the commits before it.
    Through {
        /// Incarnation and stream sequence.
        commit: (u64, u64),
        /// Ids of its events.
        ids: BTreeSet<String>,
    },
}

impl Told {
    /// Asks the stream.
    pub(crate) async fn read(bus: &Bus) -> Result<Self> {
        let mut stream = bus.context().get_stream(streams::EVENTS).await.context("find stream EVENTS")?;
        let info = stream.info().await.context("ask stream EVENTS")?;
        let (state, max_age) = (info.state.clone(), info.config.max_age);
        let mut through: Option<((u64, u64), BTreeSet<String>)> = None;
        for sequence in (state.first_sequence.max(1)..=state.last_sequence).rev() {
            let message = match stream.get_raw_message(sequence).await {
                Ok(message) => message,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => continue,
                Err(error) => return Err(error).context("read the end of stream EVENTS"),
            };
            // Somebody else's message says nothing about how far this service has come.
            let id = message.headers.get(header::NATS_MESSAGE_ID).map(|id| id.as_str().to_owned()).unwrap_or_default();
            let Some(commit) = commit_of(&id) else { continue };
            match &mut through {
                None => through = Some((commit, BTreeSet::from([id]))),
                Some((last, ids)) if *last == commit => drop(ids.insert(id)),
                Some(_) => break,
            }
        }
        Ok(match through {
            Some((commit, ids)) => Self::Through { commit, ids },
            None if max_age.is_zero() => Self::Before(0),
            None => Self::Before(wall_clock().saturating_sub(i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX))),
        })
    }

    /// Whether an event of this commit is in the feed, or was.
    pub(crate) fn has(&self, commit: &Commit, sequence: u64, id: &str) -> bool {
        match self {
            Self::Before(time_ms) => commit.time_ms < *time_ms,
            Self::Through { commit: last, ids } => {
                let place = (commit.incarnation, sequence);
                place < *last || (place == *last && ids.contains(id))
            }
        }
    }
}

/// Incarnation and sequence in an id that [`crate::Feed`] has made.
fn commit_of(id: &str) -> Option<(u64, u64)> {
    let mut parts = id.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(incarnation: u64, time_ms: i64) -> Commit {
        Commit { incarnation, time_ms, ..Default::default() }
    }

    #[test]
    fn what_is_told_is_everything_before_and_the_ids_of_the_last_commit() {
        let told = Told::Through { commit: (1, 7), ids: BTreeSet::from(["1-7-0-0".into()]) };
        assert!(told.has(&commit(1, 0), 6, "1-6-9-9"));
        assert!(told.has(&commit(1, 0), 7, "1-7-0-0"));
        assert!(!told.has(&commit(1, 0), 7, "1-7-0-1"));
        assert!(!told.has(&commit(1, 0), 8, "1-8-0-0"));
    }

    #[test]
    fn after_a_restore_the_new_incarnation_is_told_whatever_its_sequence() {
        let told = Told::Through { commit: (1, 700), ids: BTreeSet::new() };
        assert!(!told.has(&commit(2, 0), 12, "2-12-0-0"));
    }

    #[test]
    fn ids_name_their_commit_and_others_none() {
        assert_eq!(commit_of("1-7-0-0-service"), Some((1, 7)));
        assert_eq!(commit_of("jenkins-7"), None);
        assert_eq!(commit_of(""), None);
    }
}
