//! What a ledger has seen: hashes by the day on which they were stored, so that forgetting drops whole days.

use std::{collections::BTreeMap, sync::Arc};

use cdflow_protocol::UnixMillis;
use prost::Message;
use sha2::{Digest as _, Sha256};

/// Days for which a key is known: the 14 days of the stream `CI`, the day on which it was stored, and one to spare.
pub(super) const DAYS: i64 = 16;

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// 16 bytes of SHA-256: two different things share a key once in 2^64 things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key([u8; 16]);

impl Key {
    pub(super) fn event(source: &str, id: &str) -> Self {
        Self::of("event", source, id)
    }

    pub(super) fn artifact(pipeline: &str, digest: &str) -> Self {
        Self::of("artifact", pipeline, digest)
    }

    pub(super) fn run(run_id: &str) -> Self {
        Self::of("run", run_id, "")
    }

    /// Lengths keep `("a", "bc")` and `("ab", "c")` apart.
    fn of(kind: &str, first: &str, second: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [kind, first, second] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }
}

/// Keys with the number of the run that has them (0: none). Cloning shares all days; a change copies only today's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Remembered {
    days: BTreeMap<i64, Arc<BTreeMap<Key, u64>>>,
}

impl Remembered {
    pub(super) fn get(&self, key: &Key) -> Option<u64> {
        self.days.values().rev().find_map(|keys| keys.get(key).copied())
    }

    pub(super) fn insert(&mut self, key: Key, number: u64, time_ms: UnixMillis) {
        let day = time_ms.div_euclid(DAY_MS);
        Arc::make_mut(self.days.entry(day).or_default()).insert(key, number);
        if let Some(newest) = self.days.keys().next_back().copied() {
            self.days.retain(|day, _| newest.saturating_sub(*day) <= DAYS);
        }
    }

    pub(super) fn to_days(&self) -> Vec<Day> {
        self.days
            .iter()
            .map(|(day, keys)| Day {
                day: *day,
                keys: keys.keys().flat_map(|key| key.0).collect(),
                numbers: keys.values().copied().collect(),
            })
            .collect()
    }

    pub(super) fn from_days(days: &[Day]) -> Result<Self, String> {
        let days = days.iter().map(|day| {
            let (keys, rest) = day.keys.as_chunks::<16>();
            if !rest.is_empty() || keys.len() != day.numbers.len() {
                return Err(format!("not the state of a ledger: day {} is damaged", day.day));
            }
            let keys = keys.iter().map(|key| Key(*key)).zip(day.numbers.iter().copied()).collect();
            Ok((day.day, Arc::new(keys)))
        });
        Ok(Self { days: days.collect::<Result<_, String>>()? })
    }
}

/// State of a ledger in a checkpoint.
#[derive(Clone, PartialEq, Message)]
pub(super) struct State {
    #[prost(uint64, tag = "1")]
    pub(super) last_number: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) days: Vec<Day>,
}

/// Keys of one day, one after the other, and their numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Day {
    #[prost(int64, tag = "1")]
    pub(super) day: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) keys: Vec<u8>,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) numbers: Vec<u64>,
}
