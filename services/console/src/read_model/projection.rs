//! One transaction: commits in, rows out.

use std::collections::{HashMap, HashSet};

use cdflow_journal::{Position, Positions, ReadCommit};
use cdflow_protocol::{
    AggregateKind, Partition, subjects,
    v1::{self, trigger_event},
};
use prost::Message as _;
use sqlx::{Any, AnyPool, Row as _, Transaction};

use super::{
    Error,
    approval::{self, Approval},
    database::{from_sql, partition, to_sql},
    history,
    run::{self, LiveBecause, LiveChange},
};
use crate::{
    api::{RunStatus, RunSummary, RunView, TriggerEntry},
    command::COMMAND_PREFIX,
};

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

/// Runs and approvals of the last transactions, so that each is read and decoded once. Holds stored state only: it is
/// cleared whenever a transaction does not go through.
#[derive(Default)]
pub(crate) struct Cache {
    runs: HashMap<String, RunView>,
    approvals: HashMap<String, Approval>,
}

/// More than are alive at a time on one installation; beyond it they are read again from the database.
const MOST_CACHED: usize = 8_192;

/// Reads how far each partition is.
pub(crate) async fn positions(pool: &AnyPool) -> Result<Positions, Error> {
    let rows = sqlx::query("SELECT subject, sequence, hash FROM positions").fetch_all(pool).await.map_err(Error::read)?;
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
    let mut writing = Writing { transaction, cache, runs: HashSet::new(), approvals: HashSet::new() };
    let written = writing.all(batch).await;
    let Writing { transaction, cache, .. } = writing;
    let stored = match written {
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
        self.runs.retain(|_, run| run.status != RunStatus::Finished);
        self.approvals.retain(|_, approval| approval.is_open());
        if self.runs.len() > MOST_CACHED {
            self.runs.clear();
        }
        if self.approvals.len() > MOST_CACHED {
            self.approvals.clear();
        }
    }
}

struct Writing<'t> {
    transaction: Transaction<'t, Any>,
    cache: &'t mut Cache,
    /// Changed, to be written once at the end.
    runs: HashSet<String>,
    approvals: HashSet<String>,
}

impl Writing<'_> {
    async fn all(&mut self, batch: &[&ReadCommit]) -> Result<(), Error> {
        for read in batch {
            self.archive(read).await?;
            for (position, entry) in read.commit.entries.iter().enumerate() {
                self.entry(read, position, entry).await?;
            }
        }
        self.write_runs().await?;
        self.write_approvals().await
    }

    async fn archive(&mut self, read: &ReadCommit) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO commits (subject, sequence, hash, body) VALUES ($1, $2, $3, $4)
             ON CONFLICT (subject, sequence) DO UPDATE SET hash = excluded.hash, body = excluded.body",
        )
        .bind(subjects::journal(read.kind, read.partition))
        .bind(to_sql(read.sequence))
        .bind(hex::encode(&read.hash))
        .bind(read.body.to_vec())
        .execute(&mut *self.transaction)
        .await
        .map_err(Error::write)?;
        Ok(())
    }

    async fn entry(&mut self, read: &ReadCommit, position: usize, entry: &v1::Entry) -> Result<(), Error> {
        if let Some(run) = history::run_of(read.kind, &entry.aggregate_id)
            && history::is_shown(read.kind, entry)
        {
            sqlx::query(
                "INSERT INTO history (run_id, sequence, subject) VALUES ($1, $2, $3)
                 ON CONFLICT (run_id, sequence, subject) DO NOTHING",
            )
            .bind(run)
            .bind(to_sql(read.sequence))
            .bind(subjects::journal(read.kind, read.partition))
            .execute(&mut *self.transaction)
            .await
            .map_err(Error::write)?;
        }
        match read.kind {
            AggregateKind::Run => self.run(read, entry).await?,
            AggregateKind::Approval => self.approval(entry).await?,
            AggregateKind::Trigger => self.trigger(read, position, entry).await?,
            AggregateKind::Lock | AggregateKind::Verification => {}
        }
        for handled in &entry.handled {
            if handled.refusal.is_some() || handled.signal_id.starts_with(COMMAND_PREFIX) {
                self.answer(read, entry, handled).await?;
            }
        }
        Ok(())
    }

    async fn run(&mut self, read: &ReadCommit, entry: &v1::Entry) -> Result<(), Error> {
        let id = &entry.aggregate_id;
        let mut view = self.load_run(id).await?;
        let mut changes = Vec::new();
        for event in &entry.events {
            match v1::RunEvent::decode(event.as_slice()) {
                Ok(event) => changes.extend(run::apply(&mut view, id, &event, read.sequence)),
                Err(error) => tracing::warn!(run = %id, sequence = read.sequence, %error, "an event cannot be read"),
            }
        }
        if let Some(view) = view {
            for change in changes {
                self.live(&view, &change).await?;
            }
            if !entry.events.is_empty() {
                self.runs.insert(id.clone());
            }
            self.cache.runs.insert(id.clone(), view);
        }
        Ok(())
    }

    /// Takes it out of the cache; put it back when done.
    async fn load_run(&mut self, id: &str) -> Result<Option<RunView>, Error> {
        if let Some(view) = self.cache.runs.remove(id) {
            return Ok(Some(view));
        }
        let row = sqlx::query("SELECT view FROM runs WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *self.transaction)
            .await
            .map_err(Error::read)?;
        row.map(|row| decoded(&row.try_get::<String, _>("view").map_err(Error::read)?)).transpose()
    }

    async fn live(&mut self, view: &RunView, change: &LiveChange) -> Result<(), Error> {
        let query = match change.how {
            LiveBecause::Found => {
                "INSERT INTO live (project, service, environment, infrastructure, version, previous, since_ms, run_number, rolled_back)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (project, service, environment, infrastructure) DO NOTHING"
            }
            LiveBecause::Promoted | LiveBecause::RolledBack => {
                "INSERT INTO live (project, service, environment, infrastructure, version, previous, since_ms, run_number, rolled_back)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (project, service, environment, infrastructure) DO UPDATE SET
                   version = excluded.version, previous = excluded.previous, since_ms = excluded.since_ms,
                   run_number = excluded.run_number, rolled_back = excluded.rolled_back"
            }
        };
        let found = change.how == LiveBecause::Found;
        sqlx::query(query)
            .bind(&view.project)
            .bind(&change.service)
            .bind(&change.environment)
            .bind(&change.infrastructure)
            .bind(change.version.clone().unwrap_or_default())
            .bind(change.previous.clone().unwrap_or_default())
            .bind(if found { 0 } else { change.time_ms })
            .bind(if found { 0 } else { to_sql(view.number) })
            .bind(i64::from(change.how == LiveBecause::RolledBack))
            .execute(&mut *self.transaction)
            .await
            .map_err(Error::write)?;
        Ok(())
    }

    async fn approval(&mut self, entry: &v1::Entry) -> Result<(), Error> {
        let id = &entry.aggregate_id;
        let mut approval = match self.cache.approvals.remove(id) {
            Some(approval) => Some(approval),
            None => {
                let row = sqlx::query("SELECT view FROM approvals WHERE id = $1")
                    .bind(id)
                    .fetch_optional(&mut *self.transaction)
                    .await
                    .map_err(Error::read)?;
                row.map(|row| decoded(&row.try_get::<String, _>("view").map_err(Error::read)?)).transpose()?
            }
        };
        for event in &entry.events {
            match v1::ApprovalEvent::decode(event.as_slice()) {
                Ok(event) => {
                    approval::apply(&mut approval, id, &event);
                }
                Err(error) => tracing::warn!(approval = %id, %error, "an event cannot be read"),
            }
        }
        if let Some(approval) = approval {
            if !entry.events.is_empty() {
                self.approvals.insert(id.clone());
            }
            self.cache.approvals.insert(id.clone(), approval);
        }
        Ok(())
    }

    async fn trigger(&mut self, read: &ReadCommit, position: usize, entry: &v1::Entry) -> Result<(), Error> {
        for (index, event) in entry.events.iter().enumerate() {
            let Ok(v1::TriggerEvent { kind: Some(kind) }) = v1::TriggerEvent::decode(event.as_slice()) else {
                tracing::warn!(sequence = read.sequence, "an event of the trigger ledger cannot be read");
                continue;
            };
            match kind {
                trigger_event::Kind::EventRecorded(recorded) => {
                    // Unique in the commit: entries hold far fewer events than this.
                    let place = to_sql((position as u64) << 32 | index as u64);
                    self.recorded(read.sequence, place, &entry.aggregate_id, recorded).await?;
                }
                trigger_event::Kind::RunRequested(requested) => {
                    let view = match self.load_run(&requested.run_id).await? {
                        Some(view) => view,
                        None => {
                            self.runs.insert(requested.run_id.clone());
                            run::requested(&requested, &entry.aggregate_id, read.sequence)
                        }
                    };
                    self.cache.runs.insert(view.id.clone(), view);
                }
            }
        }
        Ok(())
    }

    async fn recorded(
        &mut self,
        sequence: u64,
        place: i64,
        project: &str,
        recorded: v1::EventRecorded,
    ) -> Result<(), Error> {
        let entry = TriggerEntry {
            time_ms: recorded.time_ms,
            source: recorded.source,
            event_id: recorded.event_id,
            event_type: recorded.r#type,
            subject: recorded.subject,
            digest: recorded.digest,
            runs: recorded.run_numbers,
            ignored_because: recorded.ignored_because,
        };
        sqlx::query(
            "INSERT INTO trigger_events (sequence, position, project, view) VALUES ($1, $2, $3, $4)
             ON CONFLICT (sequence, position) DO NOTHING",
        )
        .bind(to_sql(sequence))
        .bind(place)
        .bind(project)
        .bind(encoded(&entry)?)
        .execute(&mut *self.transaction)
        .await
        .map_err(Error::write)?;
        Ok(())
    }

    async fn answer(&mut self, read: &ReadCommit, entry: &v1::Entry, handled: &v1::Handled) -> Result<(), Error> {
        let refusal = handled.refusal.clone().unwrap_or_default();
        // The first answer stands: a signal that comes twice is handled once.
        sqlx::query(
            "INSERT INTO answers (signal_id, aggregate, aggregate_id, time_ms, code, message)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (signal_id) DO NOTHING",
        )
        .bind(&handled.signal_id)
        .bind(read.kind.as_str())
        .bind(&entry.aggregate_id)
        .bind(read.commit.time_ms)
        .bind(refusal.code)
        .bind(refusal.message)
        .execute(&mut *self.transaction)
        .await
        .map_err(Error::write)?;
        Ok(())
    }

    async fn write_runs(&mut self) -> Result<(), Error> {
        for id in std::mem::take(&mut self.runs) {
            let Some(view) = self.cache.runs.get(&id) else { continue };
            sqlx::query(
                "INSERT INTO runs (id, project, number, pipeline, status, outcome, summary, view)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (id) DO UPDATE SET project = excluded.project, number = excluded.number,
                   pipeline = excluded.pipeline, status = excluded.status, outcome = excluded.outcome,
                   summary = excluded.summary, view = excluded.view",
            )
            .bind(&view.id)
            .bind(&view.project)
            .bind(to_sql(view.number))
            .bind(&view.pipeline)
            .bind(view.status.as_str())
            .bind(view.outcome.map_or("", crate::api::Outcome::as_str))
            .bind(encoded(&summary(view))?)
            .bind(encoded(view)?)
            .execute(&mut *self.transaction)
            .await
            .map_err(Error::write)?;
        }
        Ok(())
    }

    async fn write_approvals(&mut self) -> Result<(), Error> {
        for id in std::mem::take(&mut self.approvals) {
            let Some(approval) = self.cache.approvals.get(&id) else { continue };
            sqlx::query(
                "INSERT INTO approvals (id, run_id, view) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET view = excluded.view",
            )
            .bind(&id)
            .bind(&approval.run_id)
            .bind(encoded(approval)?)
            .execute(&mut *self.transaction)
            .await
            .map_err(Error::write)?;
        }
        Ok(())
    }
}

fn summary(view: &RunView) -> RunSummary {
    let current = view.stages.iter().rev().find(|stage| stage.started_ms.is_some() && stage.ended_ms.is_none());
    RunSummary {
        number: view.number,
        id: view.id.clone(),
        pipeline: view.pipeline.clone(),
        service: view.service.clone(),
        version: view.version.clone(),
        status: view.status,
        outcome: view.outcome,
        initiator: view.initiator.clone(),
        cause: view.cause.clone(),
        started_ms: view.started_ms,
        ended_ms: view.ended_ms,
        reason: if view.reason.is_empty() {
            current.map(|stage| stage.id.clone()).unwrap_or_default()
        } else {
            view.reason.clone()
        },
    }
}

fn encoded(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Database { what: "written", reason: format!("a row cannot be encoded: {error}") })
}

pub(crate) fn decoded<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Database {
        what: "read",
        reason: format!("a row was written by another release ({error}): delete the read model, it is built again"),
    })
}
