//! Steps that a pipeline says itself.

use super::step;
use crate::model::{self, OnCrash};
use crate::plan::{Action, Retry, Step};
use crate::source::At;

/// How long one attempt of a script may take, unless the step says.
const SCRIPT_MS: i64 = 3_600_000;
/// Between attempts, unless the step says.
const INTERVAL_MS: i64 = 1_000;

/// Steps without an id are named after their number: `step-1`.
pub(super) fn hooks(prefix: &str, steps: &[At<model::Step>], pool: &str) -> Vec<Step> {
    steps.iter().enumerate().filter_map(|(index, it)| hook(&format!("{prefix}-{}", index + 1), it, pool)).collect()
}

fn hook(default_id: &str, said: &model::Step, pool: &str) -> Option<Step> {
    let id = said.id.as_ref().map_or(default_id, |id| id.as_str());
    let condition = said.r#if.as_ref().map(|condition| condition.as_str().to_owned());
    let action = match (&said.run, &said.wait) {
        (Some(script), _) => Action::Run {
            script: script.as_str().to_owned(),
            env: said.env.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned())).collect(),
            pool: said.pool.as_ref().map_or(pool, |pool| pool.as_str()).to_owned(),
            repeat_on_crash: said.on_crash.as_ref().is_some_and(|at| at.value == OnCrash::Repeat),
        },
        (None, Some(duration)) => Action::Wait { duration_ms: duration.milliseconds() },
        // Refused when the configuration was read.
        (None, None) => return None,
    };
    let is_script = matches!(action, Action::Run { .. });
    Some(Step {
        condition,
        timeout_ms: match &said.timeout {
            Some(timeout) => timeout.milliseconds(),
            None if is_script => SCRIPT_MS,
            None => 0,
        },
        retry: said.retry.as_ref().map(|retry| Retry {
            attempts: retry.attempts.get(),
            interval_ms: retry.interval.as_ref().map_or(INTERVAL_MS, |interval| interval.milliseconds()),
        }),
        ..step(id, action)
    })
}
