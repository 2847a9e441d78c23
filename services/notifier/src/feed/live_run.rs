//! What is known of a run that has not ended.

use std::collections::{BTreeMap, BTreeSet};

use cdflow_pipeline::plan::{Artifact, Plan, Platform, Router};
use cdflow_protocol::v1::{Release, RunStarted, run_event::Kind};

use super::purl;

/// From the plan in the run's first event, and from what it has found since.
#[derive(Debug, Clone)]
pub(super) struct LiveRun {
    pub(super) project: String,
    pub(super) pipeline: String,
    pub(super) number: u64,
    pub(super) traceparent: String,
    pub(super) artifact: Option<Artifact>,
    /// By stage.
    pub(super) deploys: BTreeMap<String, Deploy>,
    begun: BTreeSet<String>,
}

/// A deploy stage.
#[derive(Debug, Clone)]
pub(super) struct Deploy {
    pub(super) environment: String,
    pub(super) service: String,
    pub(super) infrastructure: String,
    pub(super) strategy: String,
    /// Where users reach it, if a router says.
    pub(super) url: Option<String>,
    /// What was live before the stage changed anything.
    pub(super) previous: Option<Release>,
    /// Whether `observe` has said what was live.
    observed: bool,
}

impl LiveRun {
    pub(super) fn new(started: &RunStarted) -> Result<Self, serde_json::Error> {
        let plan: Plan = serde_json::from_slice(&started.plan)?;
        let deploys = plan.stages.into_iter().filter_map(|stage| {
            let deploy = stage.deploy?;
            let url = match &deploy.target.platform {
                Platform::Vm { router: Some(Router::Haproxy { url, .. }), .. } if !url.is_empty() => Some(url.clone()),
                Platform::Vm { .. } => None,
            };
            let deploy = Deploy {
                environment: deploy.environment,
                service: deploy.target.service,
                infrastructure: deploy.target.infrastructure,
                strategy: deploy.strategy,
                url,
                previous: None,
                observed: false,
            };
            Some((stage.id, deploy))
        });
        Ok(Self {
            project: plan.project,
            pipeline: plan.pipeline,
            number: started.number,
            traceparent: started.traceparent.clone(),
            artifact: plan.artifact,
            deploys: deploys.collect(),
            begun: BTreeSet::new(),
        })
    }

    /// Keeps what later events of the run need.
    pub(super) fn note(&mut self, event: &Kind) {
        match event {
            Kind::StageStarted(started) => {
                self.begun.insert(started.stage_id.clone());
            }
            Kind::StepFinished(finished) => {
                let Some(seen) = &finished.observation else { return };
                let Some(deploy) = self.deploys.get_mut(&finished.stage_id) else { return };
                // The first look of a stage comes before its first change.
                if !deploy.observed {
                    deploy.observed = true;
                    deploy.previous = seen.live.clone();
                }
                if !seen.url.is_empty() {
                    deploy.url = Some(seen.url.clone());
                }
            }
            _ => {}
        }
    }

    /// A stage that was skipped has an end and no beginning: it is not told.
    pub(super) fn has_begun(&self, stage_id: &str) -> bool {
        self.begun.contains(stage_id)
    }

    pub(super) fn artifact_id(&self, service: &str) -> String {
        match &self.artifact {
            Some(artifact) => purl::of(service, &artifact.version, &artifact.digest, &artifact.location),
            None => purl::of(service, "unknown", "", ""),
        }
    }
}
