//! What expressions see.

use cdflow_pipeline::expression::{self, ExpressionError, Status};
use cdflow_protocol::v1::Outcome;
use serde_json::{Map, Value, json};

use super::state::{Run, StagePhase, StageState, Started, StepState};

impl Run {
    /// The values for expressions of a stage. Built only when there is an expression.
    pub(super) fn scope(&self, started: &Started, id: &str, index: usize) -> Value {
        let plan = &started.plan;
        let (stage, state) = (&plan.stages[index], &self.stages[index]);
        let target = stage.deploy.as_ref().map(|deploy| &deploy.target);
        let latest = state.latest.as_deref();
        let stages: Map<_, _> = plan
            .stages
            .iter()
            .zip(&self.stages)
            .filter(|(_, state)| state.phase != StagePhase::Pending)
            .map(|(stage, state)| (stage.id.clone(), stage_values(state)))
            .collect();
        let steps: Map<_, _> = stage
            .steps
            .iter()
            .zip(&state.steps)
            .filter(|(_, state)| state.ended().is_some())
            .map(|(step, state)| (step.id.clone(), step_values(state)))
            .collect();
        json!({
            "inputs": plan.inputs,
            "event": plan.event,
            "run": {
                "id": id,
                "number": started.event.number,
                "pipeline": plan.pipeline,
                "initiator": started.event.initiator.as_ref().map_or("", |actor| actor.name.as_str()),
            },
            "stage": {
                "id": stage.id,
                "url": latest.map_or("", |seen| seen.url.as_str()),
                "preview_url": latest.map_or("", |seen| seen.preview_url.as_str()),
                "environment": target.map_or("", |target| target.environment.as_str()),
            },
            "stages": stages,
            "steps": steps,
            "service": { "name": target.map(|target| &target.service).or(plan.service.as_ref()) },
            "environment": { "name": target.map(|target| &target.environment) },
            "infrastructure": { "name": target.map(|target| &target.infrastructure) },
            "artifact": plan.artifact.as_ref().map(|artifact| json!({
                "version": artifact.version, "location": artifact.location, "digest": artifact.digest,
            })),
            "previous": state.base.as_ref().and_then(|base| base.live.as_ref()).map(|live| json!({
                "version": live.version,
            })),
        })
    }
}

fn stage_values(state: &StageState) -> Value {
    let outputs: Map<_, _> =
        state.outputs().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    json!({ "outcome": state.outcome().map(Outcome::word), "outputs": outputs })
}

fn step_values(state: &StepState) -> Value {
    let ended = state.ended();
    json!({
        "outcome": ended.map(|event| event.outcome().word()),
        "outputs": ended.map(|event| &event.outputs),
    })
}

/// The scope of a stage, built at its first use.
pub(super) struct LazyScope<'a> {
    run: &'a Run,
    started: &'a Started,
    id: &'a str,
    stage: usize,
    built: Option<Value>,
}

impl<'a> LazyScope<'a> {
    pub(super) fn new(run: &'a Run, started: &'a Started, id: &'a str, stage: usize) -> Self {
        Self { run, started, id, stage, built: None }
    }

    /// Fills in a template; `what` says which one, for the error.
    pub(super) fn text(&mut self, what: &str, template: &str) -> Result<String, String> {
        if !expression::is_template(template) {
            return Ok(template.to_owned());
        }
        expression::render_text(template, self.values())
            .map_err(|e| format!("{what} cannot be filled in: {}", within(&e, template)))
    }

    /// Whether a condition holds. No condition is `success()`.
    pub(super) fn holds(&mut self, condition: Option<&str>, status: Status) -> Result<bool, String> {
        let Some(condition) = condition else { return Ok(status == Status::Success) };
        expression::holds(condition, self.values(), status)
            .map_err(|e| format!("`if: {condition}` cannot be decided: {e}"))
    }

    fn values(&mut self) -> &Value {
        self.built.get_or_insert_with(|| self.run.scope(self.started, self.id, self.stage))
    }
}

fn within(error: &ExpressionError, template: &str) -> String {
    let line = template.get(..error.offset).map_or(1, |before| before.matches('\n').count() + 1);
    if line > 1 { format!("line {line}: {error}") } else { error.to_string() }
}
