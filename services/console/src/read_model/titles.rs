//! Steps in words.

use std::{collections::BTreeMap, time::Duration};

use cdflow_pipeline::plan::{Action, Deploy, Verb};

use crate::api::StepKind;

/// Which half of a stage a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Brings the new release.
    Forward,
    /// Brings the previous one back.
    Back,
}

/// What sort of step an action is.
pub(crate) fn kind(action: &Action) -> StepKind {
    match action {
        Action::Lock { .. } => StepKind::Lock,
        Action::Unlock { .. } => StepKind::Unlock,
        Action::Verb { verb: Verb::Observe, .. } => StepKind::Observe,
        Action::Verb { verb: Verb::Stage, .. } => StepKind::Stage,
        Action::Verb { verb: Verb::Shift, .. } => StepKind::Shift,
        Action::Verb { verb: Verb::Promote, .. } => StepKind::Promote,
        Action::Verb { verb: Verb::Retire, .. } => StepKind::Retire,
        Action::Promoted => StepKind::Promoted,
        Action::Run { .. } => StepKind::Run,
        Action::Wait { .. } => StepKind::Wait,
        Action::Approve { .. } => StepKind::Approve,
        Action::Verify { .. } => StepKind::Verify,
        Action::Watch { .. } => StepKind::Watch,
        Action::Nothing { .. } => StepKind::Nothing,
    }
}

/// Percent of capacity or traffic that an action is about.
pub(crate) fn percent(action: &Action) -> Option<u32> {
    match action {
        Action::Verb { verb: Verb::Stage | Verb::Shift, percent } => Some(*percent),
        Action::Verify { weight, .. } => Some(*weight),
        _ => None,
    }
}

/// How long an action lasts or may wait, in milliseconds.
pub(crate) fn duration_ms(action: &Action) -> Option<i64> {
    match action {
        Action::Wait { duration_ms } | Action::Watch { duration_ms } => Some(*duration_ms),
        Action::Verify { within_ms, .. } => Some(*within_ms),
        Action::Approve { expires_ms, .. } => (*expires_ms > 0).then_some(*expires_ms),
        _ => None,
    }
}

/// What an action does, in a few words.
pub(crate) fn title(action: &Action, deploy: Option<&Deploy>, version: Option<&str>, direction: Direction) -> String {
    let new = version.unwrap_or("the new release");
    match action {
        Action::Lock { .. } => match deploy {
            Some(deploy) => format!("Lock {} on {}", deploy.target.service, deploy.target.infrastructure),
            None => "Take the lock".into(),
        },
        Action::Unlock { watching: true } => "Give the lock back, keep watching".into(),
        Action::Unlock { watching: false } => "Give the lock back".into(),
        Action::Verb { verb, percent } => verb_title(*verb, *percent, new, direction),
        Action::Promoted => format!("{new} is live"),
        Action::Run { script, .. } => script_title(script),
        Action::Wait { duration_ms } => format!("Wait {}", duration(*duration_ms)),
        // The message may be a template; it is shown with the request, where it is filled in.
        Action::Approve { by, .. } => format!("Ask {}", quorum(by)),
        Action::Verify { weight, .. } => format!("Verify at {weight} % of the traffic"),
        Action::Watch { duration_ms } => format!("Watch for {}", duration(*duration_ms)),
        Action::Nothing { .. } => "Do nothing".into(),
    }
}

fn verb_title(verb: Verb, percent: u32, new: &str, direction: Direction) -> String {
    match (verb, direction) {
        (Verb::Observe, _) => "Look at what is there".into(),
        (Verb::Stage, Direction::Forward) => format!("Start {new} on {percent} % of the capacity"),
        (Verb::Stage, Direction::Back) => "Start the previous release".into(),
        (Verb::Shift, Direction::Forward) => format!("Give {new} {percent} % of the traffic"),
        (Verb::Shift, Direction::Back) => "Give the traffic back to the previous release".into(),
        (Verb::Promote, Direction::Forward) => format!("Promote {new}"),
        (Verb::Promote, Direction::Back) => "Make the previous release the stable one".into(),
        (Verb::Retire, Direction::Forward) => "Retire what was replaced".into(),
        (Verb::Retire, Direction::Back) => format!("Remove {new}"),
    }
}

/// The first line of a script that says something.
fn script_title(script: &str) -> String {
    let line = script.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.map_or_else(|| "Run a script".into(), first_line)
}

fn first_line(text: &str) -> String {
    const LONGEST: usize = 90;
    let line = text.trim().lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST {
        line.to_owned()
    } else {
        line.chars().take(LONGEST - 1).chain(['…']).collect()
    }
}

/// "1 of release-managers and 2 of sre".
fn quorum(by: &BTreeMap<String, u32>) -> String {
    list(&by.iter().map(|(group, need)| format!("{need} of {group}")).collect::<Vec<_>>(), "and")
}

/// "a, b and c".
pub(crate) fn list(items: &[String], joined: &str) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} {joined} {last}", rest.join(", ")),
    }
}

/// "cancelled: wrong version"; without a reason only what.
pub(crate) fn with_reason(what: &str, why: &str) -> String {
    if why.trim().is_empty() { what.to_owned() } else { format!("{what}: {}", why.trim()) }
}

/// "1m 30s"; below a second in milliseconds.
pub(crate) fn duration(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or(0);
    let whole = if ms >= 1_000 { ms - ms % 1_000 } else { ms };
    humantime::format_duration(Duration::from_millis(whole)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_after_its_first_line_that_says_something() {
        assert_eq!(script_title("\n# smoke\n  ./smoke-test.sh $URL\nexit 0"), "./smoke-test.sh $URL");
        assert_eq!(script_title("# nothing"), "Run a script");
        assert_eq!(script_title(&"é".repeat(200)).chars().count(), 90);
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(90_500), "1m 30s");
        assert_eq!(duration(250), "250ms");
        assert_eq!(duration(-1), "0s");
    }
}
