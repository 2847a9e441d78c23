//! Approvals: those that a pipeline asks for, and those that an environment demands.

use std::collections::BTreeMap;

use super::step;
use crate::configuration::Configuration;
use crate::expression::calls_status_function;
use crate::model::{Approval, Count, Duration, Entries, Reference, Service, Template};
use crate::plan::{Action, Stage, Step};
use crate::source::At;

/// The step of a stage that asks.
pub(super) fn ask(configuration: &Configuration, approval: &Approval, service: Option<&Service>) -> Step {
    let what =
        service.map_or("this run".into(), |service| format!("`{}` ${{{{ artifact.version }}}}", service.name.as_str()));
    let question = format!("May {what} go on?");
    approve(configuration, &approval.by, approval.expires.as_ref(), approval.message.as_ref(), question)
}

fn approve(
    configuration: &Configuration,
    by: &Entries<Reference, At<Count>>,
    expires: Option<&At<Duration>>,
    message: Option<&At<Template>>,
    question: String,
) -> Step {
    let by: BTreeMap<String, u32> = by.iter().map(|(group, count)| (group.as_str().to_owned(), count.get())).collect();
    let groups = by.keys().map(|group| (group.clone(), configuration.members(group))).collect();
    let action = Action::Approve {
        by,
        groups,
        expires_ms: expires.map_or(0, |expires| expires.milliseconds()),
        message: message.map_or(question, |message| message.as_str().to_owned()),
    };
    step("approve", action)
}

/// Puts a question at the start of every deploy stage whose environment demands approvals that the stages before it
/// do not ask for.
pub(super) fn put_in_floors(configuration: &Configuration, stages: &mut [Stage]) {
    let missing: Vec<(usize, Step)> = stages
        .iter()
        .enumerate()
        .filter_map(|(index, stage)| {
            let deploy = stage.deploy.as_ref()?;
            let floor = configuration.environments.get(&deploy.environment)?.approval.as_ref()?;
            let demanded: BTreeMap<&str, u32> =
                floor.by.iter().map(|(group, count)| (group.as_str(), count.get())).collect();
            if is_asked_before(stages, stage, &demanded) {
                return None;
            }
            let question = format!(
                "May `{}` ${{{{ artifact.version }}}} be deployed to `{}`?",
                deploy.target.service, deploy.environment
            );
            let step = approve(configuration, &floor.by, floor.expires.as_ref(), floor.message.as_ref(), question);
            Some((index, step))
        })
        .collect();
    for (index, step) in missing {
        stages[index].steps.insert(0, step);
    }
}

/// Whether the stage cannot start without a stage that asks for at least this.
///
/// A condition can let a stage be skipped, or start although one before it was rejected: an approval behind such a
/// condition does not count.
fn is_asked_before(stages: &[Stage], stage: &Stage, demanded: &BTreeMap<&str, u32>) -> bool {
    if stage.condition.as_deref().is_some_and(calls_status_function) {
        return false;
    }
    let mut ahead: Vec<&str> = stage.needs.iter().map(String::as_str).collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = ahead.pop() {
        let Some(before) = stages.iter().find(|stage| stage.id == id) else {
            continue;
        };
        if before.condition.is_some() || !seen.insert(id) {
            continue;
        }
        let asks = before.steps.iter().any(|step| match &step.action {
            Action::Approve { by, .. } => {
                demanded.iter().all(|(group, count)| by.get(*group).is_some_and(|asked| asked >= count))
            }
            _ => false,
        });
        if asks && before.deploy.is_none() {
            return true;
        }
        ahead.extend(before.needs.iter().map(String::as_str));
    }
    false
}
