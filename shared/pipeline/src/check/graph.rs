//! The graph of stages.

use std::collections::{BTreeMap, BTreeSet};

use super::Checker;
use crate::configuration::Kind;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Pipeline, Stage};
use crate::nearest;
use crate::source::{At, Place};

/// What a stage is called: its `id`, its environment, or `approve`. A stage of steps without `id` has no name.
pub(crate) fn stage_id(stage: &Stage) -> Option<&str> {
    let id = stage.id.as_ref().map(|id| id.as_str());
    let environment = stage.deploy.as_ref().map(|environment| environment.as_str());
    id.or(environment).or_else(|| stage.approve.as_ref().map(|_| "approve"))
}

/// Ids of the stages that a stage waits for: those it says, or the one before.
pub(crate) fn needs(pipeline: &Pipeline, index: usize) -> Vec<&str> {
    let stages = &pipeline.stages;
    match &stages[index].needs {
        Some(needs) => needs.iter().map(|need| need.as_str()).collect(),
        None => index.checked_sub(1).and_then(|before| stage_id(&stages[before])).into_iter().collect(),
    }
}

impl Checker<'_> {
    pub(super) fn graph(&mut self, pipeline: &Pipeline) {
        let mut ids: BTreeMap<&str, &Place> = BTreeMap::new();
        for stage in &pipeline.stages {
            if let Some(id) = stage_id(stage) {
                let place = stage.id.as_ref().map(|id| &id.place).unwrap_or(match &stage.deploy {
                    Some(environment) => &environment.place,
                    None => &stage.place,
                });
                if ids.insert(id, place).is_some() {
                    let error = Diagnostic::new(Code::Duplicate, place, format!("there is another stage `{id}`"));
                    self.report(error.help(format!("give one of them an id of its own: `id: {id}-2`")));
                }
            }
        }
        for stage in &pipeline.stages {
            self.needs_exist(stage, &ids);
        }
        // Two stages of one name wait for each other as if they were one.
        if ids.len() == pipeline.stages.iter().filter(|stage| stage_id(stage).is_some()).count() {
            self.no_cycle(pipeline);
        }
    }

    fn needs_exist(&mut self, stage: &At<Stage>, ids: &BTreeMap<&str, &Place>) {
        for need in stage.needs.iter().flatten() {
            if ids.contains_key(need.as_str()) {
                continue;
            }
            let shown = crate::model::scalar::shortened(need.as_str());
            let error = Diagnostic::new(Code::UnknownName, &need.place, format!("there is no stage `{shown}`"));
            let all = ids.keys().copied().collect::<Vec<_>>().join(", ");
            self.report(error.help(match nearest(need.as_str(), ids.keys().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.declared.contains_key(&(Kind::Environment, need.as_str().to_owned())) => {
                    format!("no stage of this pipeline deploys to `{shown}`; expected one of {all}")
                }
                None => format!("expected one of {all}"),
            }));
        }
    }

    fn no_cycle(&mut self, pipeline: &Pipeline) {
        let mut waits_for: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (index, stage) in pipeline.stages.iter().enumerate() {
            if let Some(id) = stage_id(stage) {
                waits_for.entry(id).or_default().extend(needs(pipeline, index));
            }
        }
        // Take away stages that wait for nothing that is left, until only those in or behind a cycle are left.
        while let Some(free) = waits_for
            .iter()
            .find(|(_, needs)| !needs.iter().any(|need| waits_for.contains_key(need)))
            .map(|(id, _)| *id)
        {
            waits_for.remove(free);
        }
        let Some(start) = waits_for.keys().next().copied() else {
            return;
        };
        // Follow what they wait for until one comes again.
        let mut path = vec![start];
        let mut seen = BTreeSet::from([start]);
        let cycle = loop {
            let last = path[path.len() - 1];
            let Some(next) = waits_for[last].iter().copied().find(|need| waits_for.contains_key(need)) else {
                return;
            };
            path.push(next);
            if !seen.insert(next) {
                let from = path.iter().position(|id| *id == next).unwrap_or_default();
                break path.split_off(from);
            }
        };
        let stage = pipeline.stages.iter().find(|stage| stage_id(stage) == Some(cycle[0]));
        let place = stage.map_or(&pipeline.name.place, |stage| {
            stage.needs.iter().flatten().find(|need| need.as_str() == cycle[1]).map_or(&stage.place, |need| &need.place)
        });
        let error =
            Diagnostic::new(Code::Cycle, place, format!("these stages wait for each other: {}", cycle.join(" → ")));
        self.report(error.help("remove one of these `needs`; a stage without `needs` waits for the one before"));
    }
}
