//! Output of steps, from the stream LOGS.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    http::header,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use cdflow_protocol::{ids::token, streams, v1};
use futures::{Stream, StreamExt as _};
use prost::Message as _;

use super::Failure;
use crate::{
    api::{LogLine, ReadLogs, RunStatus, StepStatus, event},
    console::Console,
    read_model::RunRef,
};

/// How often it is looked whether what is followed has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most lines of one answer in plain text.
const MOST_LINES: usize = 100_000;

/// Server-sent events.
pub(super) async fn stream(
    State(console): State<Console>,
    Path(run): Path<String>,
    query: Result<Query<ReadLogs>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let Query(query) = query?;
    let lines = lines(console, &run, query).await?;
    let events = lines.map(|line| {
        let json = serde_json::to_string(&line).unwrap_or_else(|_| "null".into());
        Ok(Event::default().event(event::LINE).data(json))
    });
    let end = futures::stream::once(async { Ok(Event::default().event(event::END).data("{}")) });
    Ok(Sse::new(events.chain(end)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// Plain text, for browsers without scripts.
pub(super) async fn text(
    State(console): State<Console>,
    Path(run): Path<String>,
    query: Result<Query<ReadLogs>, QueryRejection>,
) -> Result<impl IntoResponse, Failure> {
    let Query(query) = query?;
    let lines = lines(console, &run, ReadLogs { follow: false, ..query }).await?;
    let text = lines
        .take(MOST_LINES)
        .fold(String::new(), async |mut text, line| {
            text.push_str(&line.text);
            text.push('\n');
            text
        })
        .await;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

async fn lines(
    console: Console,
    run: &str,
    query: ReadLogs,
) -> Result<impl Stream<Item = LogLine> + Send + use<>, Failure> {
    if query.step.is_some() && query.stage.is_none() {
        return Err(Failure::BadRequest("a step is named together with its stage: ?stage=…&step=…".into()));
    }
    let run = console.run(run).await?;
    let part = |name: &Option<String>| name.as_deref().map_or_else(|| "*".to_owned(), token);
    let subject = format!("cdflow.log.{}.{}.{}", token(&run.id), part(&query.stage), part(&query.step));
    let stream = console
        .bus()
        .context()
        .get_stream(streams::LOGS)
        .await
        .map_err(|error| Failure::Unavailable(format!("the stream LOGS cannot be read: {error}")))?;
    // A view, not a projection: a client that misses lines after a restart of the server reads them again.
    let config =
        pull::OrderedConfig { filter_subject: subject, deliver_policy: DeliverPolicy::All, ..Default::default() };
    let consumer = stream.create_consumer(config).await;
    let messages = match consumer {
        Ok(consumer) => {
            let pending = consumer.cached_info().num_pending;
            let messages = consumer.messages().await.map_err(|error| Failure::Unavailable(error.to_string()))?;
            (pending > 0 || query.follow).then_some(messages)
        }
        Err(error) => return Err(Failure::Unavailable(format!("the stream LOGS cannot be read: {error}"))),
    };
    let reading = Reading { messages, console, run_id: run.id, query, seen: HashSet::new(), drained: false };
    Ok(futures::stream::unfold(reading, async |mut reading| Some((reading.next().await?, reading))))
}

struct Reading {
    /// `None` at the end.
    messages: Option<pull::Ordered>,
    console: Console,
    run_id: String,
    query: ReadLogs,
    /// Stage, step, attempt and number of the last lines: an executor sends a line again when in doubt.
    seen: HashSet<(String, String, u32, u64)>,
    /// Nothing was left to read when it was last looked.
    drained: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<LogLine> {
        loop {
            let stop = self.console.stop().clone();
            let messages = self.messages.as_mut()?;
            let next = tokio::select! {
                next = tokio::time::timeout(LOOK_EVERY, messages.next()) => next,
                () = stop.cancelled() => return None,
            };
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "reading LOGS");
                    continue;
                }
                Ok(None) => return None,
                Err(_) if !self.query.follow => return None,
                Err(_) => {
                    // Once more after the end: lines can be behind the result.
                    if self.drained {
                        return None;
                    }
                    self.drained = has_ended(&self.console, &self.run_id, &self.query).await;
                    continue;
                }
            };
            let last = message.info().is_ok_and(|info| info.pending == 0);
            if last && !self.query.follow {
                self.messages = None;
            }
            let Ok(line) = v1::LogLine::decode(message.payload.as_ref()) else { continue };
            if let Some(line) = self.fresh(line) {
                return Some(line);
            }
        }
    }

    fn fresh(&mut self, line: v1::LogLine) -> Option<LogLine> {
        if self.seen.len() > 10_000 {
            self.seen.clear();
        }
        let key = (line.stage_id.clone(), line.step_id.clone(), line.attempt, line.number);
        self.seen.insert(key).then_some(LogLine {
            stage: line.stage_id,
            step: line.step_id,
            attempt: line.attempt,
            number: line.number,
            time_ms: line.time_ms,
            text: line.text,
            stderr: line.stderr,
        })
    }
}

/// Whether what is followed has ended.
async fn has_ended(console: &Console, run_id: &str, query: &ReadLogs) -> bool {
    let run = console.database().run(console.project(), &RunRef::Id(run_id.to_owned())).await;
    let Ok(Some(run)) = run else { return true };
    if run.status == RunStatus::Finished {
        return true;
    }
    let (Some(stage), Some(step)) = (&query.stage, &query.step) else { return false };
    let stage = run.stages.iter().find(|candidate| candidate.id == *stage);
    let step =
        stage.and_then(|stage| stage.steps.iter().chain(&stage.rollback).find(|candidate| candidate.id == *step));
    step.is_none_or(|step| step.status == StepStatus::Finished)
}
