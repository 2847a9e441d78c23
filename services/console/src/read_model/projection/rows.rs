//! Rows that follow from commits.

use cdflow_journal::ReadCommit;
use cdflow_protocol::{
    AggregateKind, subjects,
    v1::{self, trigger_event},
};
use prost::Message as _;
use sqlx::{Any, Transaction};

use super::{Cache, to_sql};
use crate::{
    api::{RunSummary, RunView, TriggerEntry},
    command::COMMAND_PREFIX,
    read_model::{
        Error, approval, evidence, history,
        run::{self, LiveBecause, LiveChange},
    },
};

const RUN: &str = "SELECT view FROM runs WHERE id = $1";

/// The transaction, and what it folds.
pub(super) struct Rows<'t, 'c> {
    pub(super) transaction: &'t mut Transaction<'c, Any>,
    pub(super) cache: &'t mut Cache,
}

impl Rows<'_, '_> {
    /// Everything that follows from these commits.
    pub(super) async fn write(mut self, batch: &[&ReadCommit]) -> Result<(), Error> {
        for read in batch {
            self.archive(read).await?;
            for (position, entry) in read.commit.entries.iter().enumerate() {
                self.entry(read, position, entry).await?;
            }
        }
        self.write_runs().await?;
        self.write_approvals().await?;
        self.write_evidence().await
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
        .execute(&mut **self.transaction)
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
            .execute(&mut **self.transaction)
            .await
            .map_err(Error::write)?;
        }
        match read.kind {
            AggregateKind::Run => self.run(read, entry).await?,
            AggregateKind::Approval => self.approval(entry).await?,
            AggregateKind::Trigger => self.trigger(read, position, entry).await?,
            AggregateKind::Verification => self.evidence(entry).await?,
            AggregateKind::Lock => {}
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
        let mut view = self.cache.runs.take(self.transaction, RUN, id).await?;
        let mut changes = Vec::new();
        for event in &entry.events {
            match v1::RunEvent::decode(event.as_slice()) {
                Ok(event) => changes.extend(run::apply(&mut view, id, &event, read.sequence)),
                Err(error) => tracing::warn!(run = %id, sequence = read.sequence, %error, "an event cannot be read"),
            }
        }
        let Some(view) = view else { return Ok(()) };
        for change in changes {
            self.live(&view, &change).await?;
        }
        self.cache.runs.put(id, view, !entry.events.is_empty());
        Ok(())
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
            .execute(&mut **self.transaction)
            .await
            .map_err(Error::write)?;
        Ok(())
    }

    async fn approval(&mut self, entry: &v1::Entry) -> Result<(), Error> {
        let id = &entry.aggregate_id;
        let query = "SELECT view FROM approvals WHERE id = $1";
        let mut approval = self.cache.approvals.take(self.transaction, query, id).await?;
        for event in &entry.events {
            match v1::ApprovalEvent::decode(event.as_slice()) {
                Ok(event) => {
                    approval::apply(&mut approval, id, &event);
                }
                Err(error) => tracing::warn!(approval = %id, %error, "an event cannot be read"),
            }
        }
        if let Some(approval) = approval {
            self.cache.approvals.put(id, approval, !entry.events.is_empty());
        }
        Ok(())
    }

    async fn evidence(&mut self, entry: &v1::Entry) -> Result<(), Error> {
        let id = &entry.aggregate_id;
        let query = "SELECT view FROM evidence WHERE id = $1";
        let mut evidence = self.cache.evidence.take(self.transaction, query, id).await?;
        for event in &entry.events {
            match v1::VerificationEvent::decode(event.as_slice()) {
                Ok(event) => {
                    evidence::apply(&mut evidence, &event);
                }
                Err(error) => tracing::warn!(verification = %id, %error, "an event cannot be read"),
            }
        }
        if let Some(evidence) = evidence {
            self.cache.evidence.put(id, evidence, !entry.events.is_empty());
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
                    let known = self.cache.runs.take(self.transaction, RUN, &requested.run_id).await?;
                    let is_new = known.is_none();
                    let view = known.unwrap_or_else(|| run::requested(&requested, &entry.aggregate_id, read.sequence));
                    self.cache.runs.put(&requested.run_id, view, is_new);
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
        .execute(&mut **self.transaction)
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
        .execute(&mut **self.transaction)
        .await
        .map_err(Error::write)?;
        Ok(())
    }

    async fn write_runs(&mut self) -> Result<(), Error> {
        for (id, view) in self.cache.runs.changes() {
            sqlx::query(
                "INSERT INTO runs (id, project, number, pipeline, status, outcome, summary, view)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (id) DO UPDATE SET project = excluded.project, number = excluded.number,
                   pipeline = excluded.pipeline, status = excluded.status, outcome = excluded.outcome,
                   summary = excluded.summary, view = excluded.view",
            )
            .bind(id)
            .bind(&view.project)
            .bind(to_sql(view.number))
            .bind(&view.pipeline)
            .bind(view.status.as_str())
            .bind(view.outcome.map_or("", crate::api::Outcome::as_str))
            .bind(encoded(&summary(view))?)
            .bind(encoded(view)?)
            .execute(&mut **self.transaction)
            .await
            .map_err(Error::write)?;
        }
        Ok(())
    }

    async fn write_approvals(&mut self) -> Result<(), Error> {
        for (id, approval) in self.cache.approvals.changes() {
            sqlx::query(
                "INSERT INTO approvals (id, run_id, view) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET view = excluded.view",
            )
            .bind(id)
            .bind(&approval.run_id)
            .bind(encoded(approval)?)
            .execute(&mut **self.transaction)
            .await
            .map_err(Error::write)?;
        }
        Ok(())
    }

    async fn write_evidence(&mut self) -> Result<(), Error> {
        for (id, evidence) in self.cache.evidence.changes() {
            sqlx::query(
                "INSERT INTO evidence (id, run_id, view) VALUES ($1, $2, $3)
                 ON CONFLICT (id) DO UPDATE SET view = excluded.view",
            )
            .bind(id)
            .bind(&evidence.run_id)
            .bind(encoded(evidence)?)
            .execute(&mut **self.transaction)
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
