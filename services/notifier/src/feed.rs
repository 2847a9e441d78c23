//! From commits of the journal to events of the feed: pure.

mod live_run;
mod purl;
mod teller;
mod words;

use std::collections::BTreeMap;

use cdflow_protocol::{
    AggregateKind, UnixMillis,
    v1::{Commit, Outcome, RunEvent, TriggerEvent, run_event::Kind as Run, trigger_event::Kind as Trigger},
};
use prost::Message as _;
use serde_json::{Value, json};

use live_run::LiveRun;
use teller::{Details, Made, Teller};

/// One event of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEvent {
    /// Whose feed.
    pub project: String,
    /// For example `dev.cdevents.pipelinerun.started.0.3.0`.
    pub kind: String,
    /// The same however often it is told.
    pub id: String,
    /// W3C trace context of the run; empty if there is none.
    pub traceparent: String,
    /// A CloudEvent.
    pub body: Value,
}

/// Makes events of commits; knows what live runs said when they started.
#[derive(Debug, Clone)]
pub struct Feed {
    teller: Teller,
    runs: BTreeMap<String, LiveRun>,
}

impl Feed {
    /// Of an installation whose pages are under the URL `console`.
    pub fn new(installation: &str, console: &str) -> Self {
        Self { teller: Teller::new(installation, console), runs: BTreeMap::new() }
    }

    /// How many runs are live.
    pub fn live_runs(&self) -> usize {
        self.runs.len()
    }

    /// What a commit tells. Commits come in the order of the journal.
    pub fn told(&mut self, kind: AggregateKind, sequence: u64, commit: &Commit) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        for (entry_index, entry) in commit.entries.iter().enumerate() {
            for (event_index, encoded) in entry.events.iter().enumerate() {
                let place = format!("{}-{sequence}-{entry_index}-{event_index}", commit.incarnation);
                match kind {
                    AggregateKind::Trigger => {
                        events.extend(self.trigger(&entry.aggregate_id, encoded, &place));
                    }
                    AggregateKind::Run => self.run(&entry.aggregate_id, encoded, &place, &mut events),
                    AggregateKind::Lock | AggregateKind::Approval | AggregateKind::Verification => {}
                }
            }
        }
        events
    }

    fn trigger(&self, project: &str, encoded: &[u8], place: &str) -> Option<FeedEvent> {
        let Some(Trigger::RunRequested(run)) = TriggerEvent::decode(encoded).ok()?.kind else { return None };
        let made = self.teller.queued(project, &run);
        let about = self.teller.about_request(project, &run);
        self.teller.finish(made, project, place, run.time_ms, "", about)
    }

    fn run(&mut self, run_id: &str, encoded: &[u8], place: &str, events: &mut Vec<FeedEvent>) {
        let Ok(RunEvent { kind: Some(event) }) = RunEvent::decode(encoded) else { return };
        if let Run::RunStarted(started) = &event {
            match LiveRun::new(started) {
                Ok(run) => drop(self.runs.insert(run_id.to_owned(), run)),
                Err(error) => tracing::warn!(run_id, %error, "a run whose plan cannot be read is not told"),
            }
        }
        let Some(run) = self.runs.get_mut(run_id) else {
            tracing::debug!(run_id, "a run whose start is not known is told no further");
            return;
        };
        run.note(&event);
        let (run, teller) = (&*run, &self.teller);
        let mut tell = |part: &str, time_ms: UnixMillis, made: Made, more: Details| {
            let mut about = teller.about_run(run_id, run);
            about.extend(more);
            let id = format!("{place}{part}");
            events.extend(teller.finish(made, &run.project, &id, time_ms, &run.traceparent, about));
        };
        match &event {
            Run::RunStarted(started) => {
                let cause = Details::from_iter([("cause".to_owned(), json!(started.cause))]);
                tell("", started.time_ms, teller.run_started(run_id, run), cause);
            }
            Run::RunFinished(finished) => {
                let ending = ending(finished.outcome(), &finished.reason);
                tell("", finished.time_ms, teller.run_finished(run_id, run, finished), ending);
            }
            Run::StageStarted(started) => {
                let made = teller.stage_started(run_id, run, &started.stage_id);
                tell("", started.time_ms, made, of_stage(run, &started.stage_id));
            }
            Run::StagePromoted(promoted) => {
                if let Some(deploy) = run.deploys.get(&promoted.stage_id) {
                    let mut about = of_stage(run, &promoted.stage_id);
                    tell("", promoted.time_ms, teller.promoted(run, deploy), about.clone());
                    if let Some(url) = &deploy.url {
                        about.insert("url".into(), json!(url));
                        tell("-published", promoted.time_ms, teller.published(run, deploy), about);
                    }
                }
            }
            Run::StageFinished(finished) if run.has_begun(&finished.stage_id) => {
                let mut about = of_stage(run, &finished.stage_id);
                about.extend(ending(finished.outcome(), &finished.reason));
                if finished.outcome() == Outcome::RolledBack
                    && let Some(deploy) = run.deploys.get(&finished.stage_id)
                {
                    tell("-service", finished.time_ms, teller.rolled_back(run, deploy), about.clone());
                }
                tell("", finished.time_ms, teller.stage_finished(run_id, run, finished), about);
            }
            _ => {}
        }
        if matches!(event, Run::RunFinished(_)) {
            self.runs.remove(run_id);
        }
    }
}

fn of_stage(run: &LiveRun, stage_id: &str) -> Details {
    let mut about = Details::from_iter([("stage".to_owned(), json!(stage_id))]);
    if let Some(deploy) = run.deploys.get(stage_id) {
        about.insert("environment".into(), json!(deploy.environment));
        about.insert("service".into(), json!(deploy.service));
        about.insert("infrastructure".into(), json!(deploy.infrastructure));
        about.insert("strategy".into(), json!(deploy.strategy));
    }
    about
}

fn ending(outcome: Outcome, reason: &str) -> Details {
    Details::from_iter([("outcome".to_owned(), json!(outcome.word())), ("reason".to_owned(), json!(reason))])
}
