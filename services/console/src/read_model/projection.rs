//! One transaction: commits in, rows out.

mod rows;

use std::collections::{HashMap, HashSet};

use cdflow_journal::{Position, Positions, ReadCommit};
use cdflow_protocol::{AggregateKind, Partition, subjects};
use serde::de::DeserializeOwned;
use sqlx::{Any, AnyPool, Row as _, Transaction};

use self::rows::Rows;
use super::{
    Error,
    approval::Approval,
    database::{from_sql, partition, to_sql},
    evidence::Evidence,
};
use crate::api::{RunStatus, RunView};

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Empty when it was not refused.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// What a transaction came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Projected,
    /// Another console has projected some of these commits: read the positions again.
    Conflict,
}

/// What the last transactions folded, so that each is read and decoded once. Holds stored state only: it is cleared
/// whenever a transaction does not go through.
#[derive(Default)]
pub(crate) struct Cache {
    runs: Folded<RunView>,
    approvals: Folded<Approval>,
    evidence: Folded<Evidence>,
}

/// More than are alive at a time on one installation; beyond it they are read again from the database.
const MOST_CACHED: usize = 8_192;

/// Reads how far each partition is.
///
/// # Errors
/// [`Error::Database`].
pub async fn positions(pool: &AnyPool) -> Result<Positions, Error> {
    let rows =
        sqlx::query("SELECT subject, sequence, hash FROM positions").fetch_all(pool).await.map_err(Error::read)?;
    let damaged = |error| Error::Database { what: "read", reason: format!("a hash is damaged: {error}") };
    rows.into_iter()
        .map(|row| {
            let hash: String = row.try_get("hash").map_err(Error::read)?;
            let position = Position {
                sequence: from_sql(row.try_get("sequence").map_err(Error::read)?),
                hash: hex::decode(hash).map_err(damaged)?,
            };
            Ok((partition(&row.try_get::<String, _>("subject").map_err(Error::read)?)?, position))
        })
        .collect()
}

/// Projects `batch`, which continues `known`. On success `known` and `cache` are advanced with it.
pub(crate) async fn project(
    pool: &AnyPool,
    batch: &[&ReadCommit],
    known: &mut Positions,
    cache: &mut Cache,
) -> Result<Outcome, Error> {
    let mut transaction = pool.begin().await.map_err(Error::write)?;
    let ends: Positions = batch.iter().map(|read| ((read.kind, read.partition), read.position())).collect();
    // First of all: it takes the write lock and finds out whether this batch is still to be done.
    for (key, end) in &ends {
        if !advance(&mut transaction, *key, known.get(key), end).await? {
            transaction.rollback().await.map_err(Error::write)?;
            return Ok(Outcome::Conflict);
        }
    }
    let stored = match (Rows { transaction: &mut transaction, cache: &mut *cache }.write(batch).await) {
        Ok(()) => transaction.commit().await.map_err(Error::write),
        Err(error) => Err(error),
    };
    if let Err(error) = stored {
        *cache = Cache::default();
        return Err(error);
    }
    cache.forget_finished();
    known.extend(ends);
    Ok(Outcome::Projected)
}

async fn advance(
    transaction: &mut Transaction<'_, Any>,
    (kind, partition): (AggregateKind, Partition),
    from: Option<&Position>,
    to: &Position,
) -> Result<bool, Error> {
    let subject = subjects::journal(kind, partition);
    let query = match from {
        Some(from) => sqlx::query(
            "UPDATE positions SET sequence = $1, hash = $2 WHERE subject = $3 AND sequence = $4 AND hash = $5",
        )
        .bind(to_sql(to.sequence))
        .bind(hex::encode(&to.hash))
        .bind(subject)
        .bind(to_sql(from.sequence))
        .bind(hex::encode(&from.hash)),
        None => sqlx::query(
            "INSERT INTO positions (subject, sequence, hash) VALUES ($1, $2, $3) ON CONFLICT (subject) DO NOTHING",
        )
        .bind(subject)
        .bind(to_sql(to.sequence))
        .bind(hex::encode(&to.hash)),
    };
    let done = query.execute(&mut **transaction).await.map_err(Error::write)?;
    Ok(done.rows_affected() == 1)
}

impl Cache {
    fn forget_finished(&mut self) {
        self.runs.retain(|run| run.status != RunStatus::Finished);
        self.approvals.retain(Approval::is_open);
        self.evidence.retain(Evidence::is_going_on);
    }
}

/// Values that are kept as JSON in one column of a table, by id.
struct Folded<T> {
    kept: HashMap<String, T>,
    /// To be written once, at the end of the transaction.
    changed: HashSet<String>,
}

impl<T> Default for Folded<T> {
    fn default() -> Self {
        Self { kept: HashMap::new(), changed: HashSet::new() }
    }
}

impl<T: DeserializeOwned> Folded<T> {
    /// The value, as it is after all that was folded so far; put it back when done. `query` reads `view` of an id.
    async fn take(
        &mut self,
        transaction: &mut Transaction<'_, Any>,
        query: &'static str,
        id: &str,
    ) -> Result<Option<T>, Error> {
        if let Some(kept) = self.kept.remove(id) {
            return Ok(Some(kept));
        }
        let row = sqlx::query(query).bind(id).fetch_optional(&mut **transaction).await.map_err(Error::read)?;
        row.map(|row| decoded(&row.try_get::<String, _>("view").map_err(Error::read)?)).transpose()
    }

    fn put(&mut self, id: &str, value: T, changed: bool) {
        if changed {
            self.changed.insert(id.to_owned());
        }
        self.kept.insert(id.to_owned(), value);
    }

    /// What is to be written.
    fn changes(&mut self) -> Vec<(String, &T)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|id| self.kept.get(&id).map(|value| (id, value))).collect()
    }

    fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.kept.retain(|_, value| wanted(value));
        if self.kept.len() > MOST_CACHED {
            self.kept.clear();
        }
    }
}

pub(crate) fn decoded<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Database {
        what: "read",
        reason: format!("a row was written by another release ({error}): delete the read model, it is built again"),
    })
}
