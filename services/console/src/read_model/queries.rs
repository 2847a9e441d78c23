//! What is read from the read model.

use std::str::FromStr;

use cdflow_protocol::v1::Commit;
use prost::Message as _;
use sqlx::{Row as _, any::AnyRow};

use super::{
    Database, Error,
    approval::{self, Approval},
    board::Live,
    database::{from_sql, to_sql},
    evidence::{self, Evidence},
    history,
    projection::{Answer, decoded},
};
use crate::api::{History, ListRuns, RunList, RunStatus, RunSummary, RunView, TriggerEntry, TriggerLog};

const DEFAULT_LIMIT: u32 = 50;
const LARGEST_LIMIT: u32 = 500;

/// How people name a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunRef {
    Number(u64),
    Id(String),
    Latest,
}

impl FromStr for RunRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        Ok(match text.strip_prefix('#').unwrap_or(text).parse() {
            Ok(number) => Self::Number(number),
            Err(_) if text.eq_ignore_ascii_case("latest") => Self::Latest,
            Err(_) => Self::Id(text.to_owned()),
        })
    }
}

impl std::fmt::Display for RunRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "run {number}"),
            Self::Id(id) => write!(f, "run with the id {id:?}"),
            Self::Latest => f.write_str("any run"),
        }
    }
}

impl Database {
    /// The run, with its approvals.
    pub(crate) async fn run(&self, project: &str, run: &RunRef) -> Result<Option<RunView>, Error> {
        let query = match run {
            RunRef::Number(number) => sqlx::query("SELECT view FROM runs WHERE project = $1 AND number = $2")
                .bind(project)
                .bind(to_sql(*number)),
            RunRef::Id(id) => {
                sqlx::query("SELECT view FROM runs WHERE project = $1 AND id = $2").bind(project).bind(id)
            }
            RunRef::Latest => {
                sqlx::query("SELECT view FROM runs WHERE project = $1 ORDER BY number DESC LIMIT 1").bind(project)
            }
        };
        let Some(row) = query.fetch_optional(self.pool()).await.map_err(Error::read)? else { return Ok(None) };
        let mut view: RunView = column(&row, "view")?;
        let approvals = self.approvals(&view.id).await?;
        approval::join(&mut view, approvals);
        if view.status != RunStatus::Finished {
            let evidence = self.evidence(&view.id).await?;
            evidence::join(&mut view, &evidence);
        }
        Ok(Some(view))
    }

    async fn evidence(&self, run_id: &str) -> Result<Vec<Evidence>, Error> {
        let rows = sqlx::query("SELECT view FROM evidence WHERE run_id = $1")
            .bind(run_id)
            .fetch_all(self.pool())
            .await
            .map_err(Error::read)?;
        rows.iter().map(|row| column(row, "view")).collect()
    }

    async fn approvals(&self, run_id: &str) -> Result<Vec<Approval>, Error> {
        let rows = sqlx::query("SELECT view FROM approvals WHERE run_id = $1")
            .bind(run_id)
            .fetch_all(self.pool())
            .await
            .map_err(Error::read)?;
        rows.iter().map(|row| column(row, "view")).collect()
    }

    /// Newest first.
    pub(crate) async fn runs(&self, project: &str, list: &ListRuns) -> Result<RunList, Error> {
        let rows = sqlx::query(
            "SELECT summary FROM runs
             WHERE project = $1 AND ($2 = '' OR pipeline = $2) AND ($3 = '' OR status = $3 OR outcome = $3)
             ORDER BY number DESC LIMIT $4",
        )
        .bind(project)
        .bind(list.pipeline.as_deref().unwrap_or_default())
        .bind(list.status.as_deref().unwrap_or_default())
        .bind(limit(list.limit))
        .fetch_all(self.pool())
        .await
        .map_err(Error::read)?;
        let runs = rows.iter().map(|row| column::<RunSummary>(row, "summary")).collect::<Result<_, _>>()?;
        Ok(RunList { runs })
    }

    /// Runs that have not ended, oldest first, with their approvals.
    pub(crate) async fn unfinished(&self, project: &str) -> Result<Vec<RunView>, Error> {
        let rows =
            sqlx::query("SELECT view FROM runs WHERE project = $1 AND status <> 'finished' ORDER BY number LIMIT 1000")
                .bind(project)
                .fetch_all(self.pool())
                .await
                .map_err(Error::read)?;
        let mut views = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut view: RunView = column(row, "view")?;
            if !view.waiting.is_empty() {
                let approvals = self.approvals(&view.id).await?;
                approval::join(&mut view, approvals);
            }
            views.push(view);
        }
        Ok(views)
    }

    /// What is live where.
    pub(crate) async fn live(&self, project: &str) -> Result<Vec<Live>, Error> {
        let rows = sqlx::query(
            "SELECT service, environment, version, previous, since_ms, run_number, rolled_back FROM live
             WHERE project = $1 ORDER BY service, environment, infrastructure",
        )
        .bind(project)
        .fetch_all(self.pool())
        .await
        .map_err(Error::read)?;
        let live = |row: &AnyRow| {
            let some = |text: String| Some(text).filter(|text| !text.is_empty());
            Ok(Live {
                service: row.try_get("service")?,
                environment: row.try_get("environment")?,
                version: some(row.try_get("version")?),
                previous: some(row.try_get("previous")?),
                since_ms: Some(row.try_get("since_ms")?).filter(|since| *since > 0),
                run: Some(from_sql(row.try_get("run_number")?)).filter(|number| *number > 0),
                rolled_back: row.try_get::<i64, _>("rolled_back")? != 0,
            })
        };
        rows.iter().map(live).collect::<Result<_, sqlx::Error>>().map_err(Error::read)
    }

    /// Newest first.
    pub(crate) async fn trigger_log(&self, project: &str, most: Option<u32>) -> Result<TriggerLog, Error> {
        let rows = sqlx::query(
            "SELECT view FROM trigger_events WHERE project = $1 ORDER BY sequence DESC, position DESC LIMIT $2",
        )
        .bind(project)
        .bind(limit(most))
        .fetch_all(self.pool())
        .await
        .map_err(Error::read)?;
        let entries = rows.iter().map(|row| column::<TriggerEntry>(row, "view")).collect::<Result<_, _>>()?;
        Ok(TriggerLog { entries })
    }

    /// Every stored event of a run, decoded from the archive.
    pub(crate) async fn history(&self, run_id: &str) -> Result<History, Error> {
        let rows = sqlx::query(
            "SELECT c.subject AS subject, c.sequence AS sequence, c.body AS body
             FROM history h JOIN commits c ON c.subject = h.subject AND c.sequence = h.sequence
             WHERE h.run_id = $1 ORDER BY c.sequence",
        )
        .bind(run_id)
        .fetch_all(self.pool())
        .await
        .map_err(Error::read)?;
        let mut events = Vec::new();
        for row in rows {
            let subject: String = row.try_get("subject").map_err(Error::read)?;
            let sequence = from_sql(row.try_get("sequence").map_err(Error::read)?);
            let body: Vec<u8> = row.try_get("body").map_err(Error::read)?;
            let Some((kind, _)) = cdflow_protocol::subjects::parse_partition(&subject) else { continue };
            let Ok(commit) = Commit::decode(body.as_slice()) else { continue };
            let of_run =
                |entry: &&cdflow_protocol::v1::Entry| history::run_of(kind, &entry.aggregate_id) == Some(run_id);
            for entry in commit.entries.iter().filter(of_run) {
                events.extend(history::entries(kind, sequence, commit.time_ms, entry));
            }
        }
        events.dedup_by(|next, last| {
            next.event == "step-waiting"
                && (&next.event, &next.step, &next.text) == (&last.event, &last.step, &last.text)
        });
        Ok(History { events })
    }

    /// What became of a signal, once it is handled.
    pub(crate) async fn answer(&self, signal_id: &str) -> Result<Option<Answer>, Error> {
        let row = sqlx::query("SELECT code, message FROM answers WHERE signal_id = $1")
            .bind(signal_id)
            .fetch_optional(self.pool())
            .await
            .map_err(Error::read)?;
        row.map(|row| Ok(Answer { code: row.try_get("code")?, message: row.try_get("message")? }))
            .transpose()
            .map_err(Error::read)
    }
}

fn column<T: serde::de::DeserializeOwned>(row: &AnyRow, name: &str) -> Result<T, Error> {
    decoded(&row.try_get::<String, _>(name).map_err(Error::read)?)
}

fn limit(asked: Option<u32>) -> i64 {
    i64::from(asked.unwrap_or(DEFAULT_LIMIT).clamp(1, LARGEST_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_by_number_id_or_latest() {
        let parse = |text: &str| text.parse::<RunRef>().unwrap_or_else(|never| match never {});
        assert_eq!(parse("12"), RunRef::Number(12));
        assert_eq!(parse("#12"), RunRef::Number(12));
        assert_eq!(parse("Latest"), RunRef::Latest);
        assert_eq!(parse("0192-ab"), RunRef::Id("0192-ab".into()));
        assert_eq!(format!("there is no {}", parse("latest")), "there is no run");
    }
}
