//! Pipelines, their stages and steps.

use std::collections::BTreeSet;

use super::Checker;
use super::expressions::Scope;
use super::graph::stage_id;
use crate::compile::{Target, target};
use crate::configuration::Kind;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Percentage, Pipeline, Stage, Step, Strategy};
use crate::source::{At, Place};

/// Most attempts of a step.
const MOST_ATTEMPTS: u32 = 100;
/// Most stages of a pipeline.
const MOST_STAGES: usize = 500;

/// What a stage is.
#[derive(PartialEq)]
enum Is {
    Deploy,
    Approve,
    Steps,
}

impl Checker<'_> {
    pub(super) fn pipeline(&mut self, pipeline: &Pipeline) {
        if let Some(service) = &pipeline.service {
            self.resolve(Kind::Service, service);
        } else if let Some(trigger) = pipeline.on.as_ref().and_then(|on| on.artifact.as_ref()) {
            let error = Diagnostic::new(Code::Conflict, &trigger.place, "the artifact of which service?");
            self.report(error.help("add `service:` to this pipeline"));
        }
        if pipeline.stages.is_empty() {
            let error = Diagnostic::new(Code::MissingField, &pipeline.name.place, "this pipeline has no stages");
            self.report(error.help("add at least one: `stages: [{ deploy: dev }]`"));
        }
        if let Some(first_too_many) = pipeline.stages.get(MOST_STAGES) {
            let message = format!("this pipeline has {} stages", pipeline.stages.len());
            let error = Diagnostic::new(Code::BadValue, &first_too_many.place, message);
            return self.report(error.help(format!("expected at most {MOST_STAGES}")));
        }
        for (name, input) in pipeline.inputs.iter() {
            self.input(name.as_str(), input);
        }
        self.graph(pipeline);
        let inputs: BTreeSet<&str> = pipeline.inputs.iter().map(|(name, _)| name.as_str()).collect();
        let stages: BTreeSet<&str> = pipeline.stages.iter().filter_map(|stage| stage_id(stage)).collect();
        for stage in &pipeline.stages {
            let mut scope = Scope { inputs: inputs.clone(), stages: stages.clone(), steps: BTreeSet::new() };
            self.stage(pipeline, stage, &mut scope);
        }
    }

    fn stage<'s>(&mut self, pipeline: &Pipeline, stage: &'s At<Stage>, scope: &mut Scope<'s>) {
        if let Some(condition) = &stage.r#if {
            self.condition(condition, scope);
        }
        let Some(is) = self.what_it_is(stage) else {
            return;
        };
        self.only_what_fits(stage, &is);
        if let Some(approve) = &stage.approve {
            self.quorum(&approve.by);
            if let Some(message) = &approve.message {
                self.template(message, scope);
            }
        }
        let mut ids = BTreeSet::new();
        let all = stage.before.iter().chain(&stage.steps).chain(&stage.on_rollback);
        for step in all {
            self.step(step, &is, &mut ids, scope);
            scope.steps.extend(step.id.as_ref().map(|id| id.as_str()));
        }
        if is == Is::Deploy {
            self.deploy(pipeline, stage);
        }
    }

    fn what_it_is(&mut self, stage: &At<Stage>) -> Option<Is> {
        match (&stage.deploy, &stage.approve, stage.steps.is_empty()) {
            (Some(_), Some(approve), _) => {
                let error = Diagnostic::new(Code::Conflict, &approve.place, "a stage deploys or asks, not both");
                self.report(error.help("make two stages of it, `- approve: …` before `- deploy: …`"));
                None
            }
            (Some(_), None, _) => Some(Is::Deploy),
            (None, Some(_), _) => Some(Is::Approve),
            (None, None, false) => {
                if stage.id.is_none() {
                    let error = Diagnostic::new(Code::MissingField, &stage.place, "a stage of steps needs an `id`");
                    self.report(error.help("add `id:` with a name for it"));
                }
                Some(Is::Steps)
            }
            (None, None, true) => {
                let error = Diagnostic::new(Code::MissingField, &stage.place, "this stage does nothing");
                self.report(error.help("expected `deploy:`, `approve:` or `steps:`"));
                None
            }
        }
    }

    fn only_what_fits(&mut self, stage: &Stage, is: &Is) {
        let deploy_only: [(&str, Option<&Place>); 6] = [
            ("infrastructure", stage.infrastructure.as_ref().map(|at| &at.place)),
            ("strategy", stage.strategy.as_ref().map(|at| &at.place)),
            ("verify", stage.verify.as_ref().map(|at| &at.place)),
            ("watch", stage.watch.as_ref().map(|at| &at.place)),
            ("before", stage.before.first().map(|at| &at.place)),
            ("on-rollback", stage.on_rollback.first().map(|at| &at.place)),
        ];
        for (field, place) in deploy_only {
            if let Some(place) = place
                && *is != Is::Deploy
            {
                let error = Diagnostic::new(Code::Conflict, place, format!("`{field}` belongs to a deploy stage"));
                self.report(error.help("add `deploy:` with an environment, or remove it"));
            }
        }
        if let (Is::Approve, Some(step)) = (is, stage.steps.first()) {
            let error = Diagnostic::new(Code::Conflict, &step.place, "a stage that asks has no steps");
            self.report(error.help("put the steps into a stage of their own after it"));
        }
    }

    fn step<'s>(&mut self, step: &'s At<Step>, is: &Is, ids: &mut BTreeSet<&'s str>, scope: &Scope<'_>) {
        if let Some(id) = &step.id {
            if !ids.insert(id.as_str()) {
                let error =
                    Diagnostic::new(Code::Duplicate, &id.place, format!("there is another step `{}`", id.as_str()));
                self.report(error.help("give one of them another id; it has to be unique in the stage"));
            }
            if is_reserved(id.as_str(), is) {
                let message = format!("`{}` is the id of a step of cdflow's own", id.as_str());
                let error = Diagnostic::new(Code::Conflict, &id.place, message);
                self.report(error.help(format!("give it another, for example `my-{}`", id.as_str())));
            }
        }
        match (&step.run, &step.wait) {
            (Some(run), None) => self.template(run, scope),
            (None, Some(_)) => self.only_for_scripts(step),
            (Some(_), Some(wait)) => {
                let error = Diagnostic::new(Code::Conflict, &wait.place, "a step runs or waits, not both");
                self.report(error.help("make two steps of it"));
            }
            (None, None) => {
                let error = Diagnostic::new(Code::MissingField, &step.place, "this step does nothing");
                self.report(error.help("expected `run:` or `wait:`"));
            }
        }
        if let Some(condition) = &step.r#if {
            self.condition(condition, scope);
        }
        for (_, value) in step.env.iter() {
            self.template(value, scope);
        }
        if let Some(retry) = &step.retry
            && retry.attempts.get() > MOST_ATTEMPTS
        {
            let message = format!("{} attempts are too many", retry.attempts.get());
            let error = Diagnostic::new(Code::BadValue, &retry.attempts.place, message);
            self.report(error.help(format!("expected at most {MOST_ATTEMPTS}")));
        }
    }

    fn only_for_scripts(&mut self, step: &Step) {
        let script_only: [(&str, Option<&Place>); 5] = [
            ("env", step.env.iter().next().map(|(name, _)| &name.place)),
            ("timeout", step.timeout.as_ref().map(|at| &at.place)),
            ("retry", step.retry.as_ref().map(|at| &at.place)),
            ("on-crash", step.on_crash.as_ref().map(|at| &at.place)),
            ("pool", step.pool.as_ref().map(|at| &at.place)),
        ];
        for (field, place) in script_only {
            if let Some(place) = place {
                let error = Diagnostic::new(Code::Conflict, place, format!("`{field}` belongs to a step with `run`"));
                self.report(error.help("remove it"));
            }
        }
    }

    fn deploy(&mut self, pipeline: &Pipeline, stage: &At<Stage>) {
        let Some(environment) = &stage.deploy else {
            return;
        };
        let Some(service) = &pipeline.service else {
            let error = Diagnostic::new(Code::MissingField, &environment.place, "which service is deployed here?");
            return self.report(error.help("add `service:` to this pipeline"));
        };
        if let Some(infrastructure) = &stage.infrastructure {
            self.resolve(Kind::Infrastructure, infrastructure);
        }
        if let Some(strategy) = &stage.strategy {
            self.strategy(strategy);
        }
        if let Some(verify) = &stage.verify {
            for (name, budget) in [("alpha", &verify.alpha), ("beta", &verify.beta)] {
                if let Some(budget) = budget {
                    self.budget(name, budget);
                }
            }
        }
        if !self.resolve(Kind::Environment, environment) {
            return;
        }
        let infrastructure = stage.infrastructure.as_ref().map(|at| at.as_str());
        match target(self.configuration, service.as_str(), environment.as_str(), infrastructure) {
            Ok(target) => self.fits_its_target(stage, &environment.place, &target),
            // The parts that do not exist or could not be read have been reported where they are.
            Err(None) => {}
            Err(Some((message, help))) => {
                self.report(Diagnostic::new(Code::Unfit, &environment.place, message).help(help));
            }
        }
    }

    fn fits_its_target(&mut self, stage: &Stage, environment: &Place, target: &Target<'_>) {
        let name = target.infrastructure.name.as_str();
        if let Some(strategy) = &stage.strategy
            && !matches!(strategy.value, Strategy::Rolling(_))
            && target.infrastructure.router.is_none()
        {
            let message = format!("nothing splits the traffic of `{name}`");
            let error = Diagnostic::new(Code::Unfit, &strategy.place, message);
            self.report(error.help(format!("add `router:` to the infrastructure `{name}`, or use `rolling`")));
        }
        let comparing = [
            ("verify", stage.verify.as_ref().map(|at| &at.place)),
            ("watch", stage.watch.as_ref().map(|at| &at.place)),
        ];
        for (field, place) in comparing {
            if let Some(place) = place
                && target.service.health.is_none()
            {
                let message = format!("`{field}` needs to know what healthy means");
                let error = Diagnostic::new(Code::Unfit, place, message);
                let service = target.service.name.as_str();
                self.report(error.help(format!("add `health:` with a HealthProfile to the service `{service}`")));
            }
        }
        // The old and the new release run beside each other.
        let hosts = u32::try_from(target.infrastructure.hosts.len()).unwrap_or(u32::MAX);
        let instances = target.service.vm.instances.as_ref().map_or(1, |count| count.get());
        let needed = hosts.saturating_mul(instances).saturating_mul(2);
        let ports = target.infrastructure.ports.count();
        if ports < needed {
            let message = format!("`{name}` has too few ports: {ports} instead of {needed}");
            let error = Diagnostic::new(Code::Unfit, environment, message);
            self.report(error.help("expected two for each instance: the old and the new release run side by side"));
        }
    }

    fn strategy(&mut self, strategy: &At<Strategy>) {
        match &strategy.value {
            Strategy::BlueGreen => {}
            Strategy::Rolling(rolling) => {
                if let Some(batch) = &rolling.batch {
                    self.weight(batch);
                }
            }
            Strategy::Canary(weights) => {
                if weights.is_empty() {
                    let error = Diagnostic::new(Code::NotRising, &strategy.place, "this canary gets no traffic");
                    self.report(error.help("expected at least one share: `canary: [5%, 25%, 50%]`"));
                }
                for weight in weights {
                    self.weight(weight);
                }
                for pair in weights.windows(2) {
                    if pair[1].percent() <= pair[0].percent() {
                        let message = format!("{}% does not rise above {}%", pair[1].percent(), pair[0].percent());
                        let error = Diagnostic::new(Code::NotRising, &pair[1].place, message);
                        self.report(error.help("expected each share to be above the one before"));
                    }
                }
            }
        }
    }

    fn weight(&mut self, weight: &At<Percentage>) {
        if weight.whole().is_none_or(|percent| percent == 0) {
            let error = Diagnostic::new(Code::BadValue, &weight.place, format!("{}% is not a share", weight.percent()));
            self.report(error.help("expected whole percent from 1% to 100%"));
        }
    }
}

/// Whether a compiled stage has, or might get, a step of that id.
fn is_reserved(id: &str, is: &Is) -> bool {
    let own = ["approve", "lock", "observe", "promote", "retire", "promoted", "unlock", "watch", "relock", "unlock-2"];
    let prefixes = ["before-", "stage-", "shift-", "verify-", "rollback-"];
    let of_deploy = own.contains(&id) || prefixes.iter().any(|prefix| id.starts_with(prefix));
    id.starts_with("step-") || (*is == Is::Deploy && of_deploy)
}
