//! CDEvents in CloudEvents.

use cdevents_sdk::{CDEvent, Content, Subject, UriReference, spec_0_5_1 as spec};
use cdflow_protocol::{
    UnixMillis,
    ids::token,
    v1::{RunFinished, RunRequested, StageFinished},
};
use cloudevents::{AttributesReader as _, Event};
use serde_json::{Map, Value, json};

use super::{
    FeedEvent,
    live_run::{Deploy, LiveRun},
    purl, words,
};

/// A CDEvent without id and time, if what happened makes one.
pub(super) type Made = Result<CDEvent, cdevents_sdk::Error>;

/// What `customData` say.
pub(super) type Details = Map<String, Value>;

/// Knows where events come from and where links lead.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    installation: String,
    console: String,
}

impl Teller {
    pub(super) fn new(installation: &str, console: &str) -> Self {
        Self { installation: token(installation), console: console.trim_end_matches('/').to_owned() }
    }

    pub(super) fn about_request(&self, project: &str, run: &RunRequested) -> Details {
        Details::from_iter([
            ("project".to_owned(), json!(project)),
            ("run".to_owned(), json!({ "id": run.run_id, "number": run.number, "link": self.link(&run.run_id) })),
            ("pipeline".to_owned(), json!(run.pipeline)),
            ("version".to_owned(), json!(run.version)),
            ("cause".to_owned(), json!(run.cause)),
        ])
    }

    pub(super) fn about_run(&self, run_id: &str, run: &LiveRun) -> Details {
        let mut about = Details::from_iter([
            ("project".to_owned(), json!(run.project)),
            ("run".to_owned(), json!({ "id": run_id, "number": run.number, "link": self.link(run_id) })),
            ("pipeline".to_owned(), json!(run.pipeline)),
        ]);
        if let Some(artifact) = &run.artifact {
            about.insert("version".into(), json!(artifact.version));
        }
        about
    }

    pub(super) fn queued(&self, project: &str, run: &RunRequested) -> Made {
        let content = spec::pipelinerun_queued::Content {
            pipeline_name: Some(run.pipeline.clone()),
            uri: Some(self.link(&run.run_id).try_into()?),
        };
        self.event(project, content, &run.run_id)
    }

    pub(super) fn run_started(&self, run_id: &str, run: &LiveRun) -> Made {
        let content = spec::pipelinerun_started::Content {
            pipeline_name: run.pipeline.clone(),
            uri: self.link(run_id).try_into()?,
        };
        self.event(&run.project, content, run_id)
    }

    pub(super) fn run_finished(&self, run_id: &str, run: &LiveRun, finished: &RunFinished) -> Made {
        let content = spec::pipelinerun_finished::Content {
            pipeline_name: Some(run.pipeline.clone()),
            uri: Some(self.link(run_id).try_into()?),
            outcome: Some(words::run_outcome(finished.outcome())),
            errors: words::errors(finished.outcome(), &finished.reason),
        };
        self.event(&run.project, content, run_id)
    }

    pub(super) fn stage_started(&self, run_id: &str, run: &LiveRun, stage_id: &str) -> Made {
        let content = spec::taskrun_started::Content {
            task_name: Some(stage_id.to_owned()),
            uri: Some(self.link(run_id).try_into()?),
            pipeline_run: Some(spec::taskrun_started::ContentPipelineRun {
                id: run_id.try_into()?,
                source: Some(self.source(&run.project)?),
            }),
        };
        self.event(&run.project, content, &format!("{run_id}/{stage_id}"))
    }

    pub(super) fn stage_finished(&self, run_id: &str, run: &LiveRun, finished: &StageFinished) -> Made {
        let content = spec::taskrun_finished::Content {
            task_name: Some(finished.stage_id.clone()),
            uri: Some(self.link(run_id).try_into()?),
            outcome: Some(words::stage_outcome(finished.outcome()).to_owned()),
            errors: words::errors(finished.outcome(), &finished.reason),
            pipeline_run: Some(spec::taskrun_finished::ContentPipelineRun {
                id: run_id.try_into()?,
                source: Some(self.source(&run.project)?),
            }),
        };
        self.event(&run.project, content, &format!("{run_id}/{}", finished.stage_id))
    }

    pub(super) fn promoted(&self, run: &LiveRun, stage: &Deploy) -> Made {
        let artifact_id = run.artifact_id(&stage.service).as_str().try_into()?;
        let id = stage.environment.as_str().try_into()?;
        let source = Some(self.source(&run.project)?);
        if stage.previous.is_some() {
            let environment = spec::service_upgraded::ContentEnvironment { id, source };
            let content = spec::service_upgraded::Content { artifact_id, environment };
            self.event(&run.project, content, &stage.service)
        } else {
            let environment = spec::service_deployed::ContentEnvironment { id, source };
            let content = spec::service_deployed::Content { artifact_id, environment };
            self.event(&run.project, content, &stage.service)
        }
    }

    pub(super) fn published(&self, run: &LiveRun, stage: &Deploy) -> Made {
        let environment = spec::service_published::ContentEnvironment {
            id: stage.environment.as_str().try_into()?,
            source: Some(self.source(&run.project)?),
        };
        self.event(&run.project, spec::service_published::Content { environment: Some(environment) }, &stage.service)
    }

    pub(super) fn rolled_back(&self, run: &LiveRun, stage: &Deploy) -> Made {
        let id = stage.environment.as_str().try_into()?;
        let source = Some(self.source(&run.project)?);
        match &stage.previous {
            Some(previous) => {
                let artifact_id =
                    purl::of(&stage.service, &previous.version, &previous.digest, &previous.artifact).try_into()?;
                let environment = spec::service_rolledback::ContentEnvironment { id, source };
                let content = spec::service_rolledback::Content { artifact_id, environment };
                self.event(&run.project, content, &stage.service)
            }
            None => {
                let environment = spec::service_removed::ContentEnvironment { id, source };
                self.event(
                    &run.project,
                    spec::service_removed::Content { environment: Some(environment) },
                    &stage.service,
                )
            }
        }
    }

    fn event(&self, project: &str, content: impl Into<Content>, subject_id: &str) -> Made {
        let source = self.source(project)?;
        let subject = Subject::from(content).with_id(subject_id.try_into()?).with_source(source.clone());
        Ok(CDEvent::from(subject).with_source(source))
    }

    pub(super) fn finish(
        &self,
        made: Made,
        project: &str,
        id: &str,
        time_ms: UnixMillis,
        traceparent: &str,
        about: Details,
    ) -> Option<FeedEvent> {
        match self.envelope(made, id, time_ms, traceparent, about) {
            Ok(event) => Some(FeedEvent {
                project: project.to_owned(),
                kind: event.ty().to_owned(),
                id: id.to_owned(),
                traceparent: traceparent.to_owned(),
                body: serde_json::to_value(&event).ok()?,
            }),
            Err(error) => {
                tracing::warn!(project, place = id, %error, "what happened makes no CDEvent and is not told");
                None
            }
        }
    }

    fn envelope(
        &self,
        made: Made,
        id: &str,
        time_ms: UnixMillis,
        traceparent: &str,
        about: Details,
    ) -> Result<Event, Box<dyn std::error::Error>> {
        let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_ms) * 1_000_000)?;
        let event = made?
            .with_id(id.try_into()?)
            .with_timestamp(time)
            .with_custom_data(Value::Object(about))
            .with_custom_data_content_type("application/json".into());
        let mut event = Event::try_from(event)?;
        if !traceparent.is_empty() {
            event.set_extension("traceparent", traceparent.to_owned());
        }
        Ok(event)
    }

    fn source(&self, project: &str) -> Result<UriReference, cdevents_sdk::Error> {
        format!("/cdflow/{}/{}", self.installation, token(project)).try_into()
    }

    fn link(&self, run_id: &str) -> String {
        format!("{}/runs/{}", self.console, token(run_id))
    }
}
