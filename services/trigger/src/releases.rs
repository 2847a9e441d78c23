//! What the configuration says about an artifact: which pipelines it starts, with which plans.

use anyhow::{Context as _, Result, bail};
use cdflow_bus::{Bus, ConfigurationStore, Revision};
use cdflow_pipeline::{ArtifactEvent, Bundle, Configuration, Request, compile, matching};
use serde_json::Value;

/// A configuration that has been read.
#[derive(Debug)]
pub struct Applied {
    /// Its revision.
    pub revision: Revision,
    configuration: Configuration,
}

/// What an artifact starts.
#[derive(Debug, Default)]
pub struct Starts {
    /// One for each pipeline.
    pub plans: Vec<Start>,
    /// Why pipelines are not started: those that should be and cannot, or all when none is.
    pub reasons: Vec<String>,
}

/// A pipeline to start.
#[derive(Debug)]
pub struct Start {
    /// Its name.
    pub pipeline: String,
    /// JSON of its plan.
    pub plan: Vec<u8>,
}

impl Applied {
    /// From a stored bundle.
    ///
    /// # Errors
    /// When this release cannot read it: it was applied by a newer one, or damaged.
    pub fn read(revision: Revision, bundle: &[u8]) -> Result<Self> {
        let bundle: Bundle = serde_json::from_slice(bundle)
            .with_context(|| format!("CDF-6107: the configuration at revision {revision} cannot be read"))?;
        match bundle.parse() {
            Ok(configuration) => Ok(Self { revision, configuration }),
            Err(diagnostics) => bail!(
                "CDF-6107: this release does not understand the configuration at revision {revision}; update this \
                 service, or apply the configuration again:\n{diagnostics}"
            ),
        }
    }

    /// Which pipelines `event` starts, compiled at this revision. `data` are what expressions see as `event`.
    pub fn starts(&self, project: &str, event: &ArtifactEvent, data: Value) -> Starts {
        let mut starts = Starts::default();
        let mut not_meant = Vec::new();
        for found in matching(&self.configuration, event) {
            if let Some(reason) = found.ignored_because {
                not_meant.push(format!("pipeline {}: {reason}", found.pipeline));
                continue;
            }
            match self.plan(project, &found.pipeline, event, data.clone()) {
                Ok(plan) => starts.plans.push(Start { pipeline: found.pipeline, plan }),
                Err(reason) => starts.reasons.push(format!("pipeline {} cannot be started: {reason}", found.pipeline)),
            }
        }
        if starts.plans.is_empty() && starts.reasons.is_empty() {
            starts.reasons = not_meant;
            if starts.reasons.is_empty() {
                starts.reasons.push(format!("project {project} has no pipeline"));
            }
        }
        starts
    }

    fn plan(&self, project: &str, pipeline: &str, event: &ArtifactEvent, data: Value) -> Result<Vec<u8>, String> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let request = Request {
            project: project.to_owned(),
            pipeline: pipeline.to_owned(),
            revision: self.revision,
            version: given(&event.version),
            location: given(&event.location),
            digest: given(&event.digest),
            event: data,
            ..Request::default()
        };
        let plan = compile(&self.configuration, &request).map_err(|diagnostics| {
            let sentences = diagnostics.records().into_iter().map(|record| {
                if record.help.is_empty() { record.message } else { format!("{} ({})", record.message, record.help) }
            });
            sentences.collect::<Vec<_>>().join("; ")
        })?;
        serde_json::to_vec(&plan).map_err(|error| format!("its plan cannot be written: {error}"))
    }
}

/// The configuration of a project, read again when it has changed.
pub(crate) struct Releases {
    store: ConfigurationStore,
    project: String,
    applied: Option<Applied>,
}

impl Releases {
    pub(crate) async fn open(bus: &Bus, project: &str) -> Result<Self> {
        Ok(Self { store: bus.configuration().await?, project: project.to_owned(), applied: None })
    }

    /// The newest revision, `None` before the first `cdflow apply`. Asked of the server each time, so that whoever applies
    /// and then publishes meets what was applied; a watch could lag behind.
    pub(crate) async fn current(&mut self) -> Result<Option<&Applied>> {
        let stored = self.store.load(&self.project).await?;
        match stored {
            None => self.applied = None,
            Some((revision, bundle)) if self.applied.as_ref().is_none_or(|known| known.revision != revision) => {
                self.applied = Some(Applied::read(revision, &bundle)?);
                tracing::info!(project = self.project, revision, "configuration read");
            }
            Some(_) => {}
        }
        Ok(self.applied.as_ref())
    }
}
