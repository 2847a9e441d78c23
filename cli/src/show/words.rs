//! States, times and durations in words.

use std::fmt::Display;

use cdflow_console::api::{Outcome, RunStatus, StageStatus, StepStatus};
use cdflow_protocol::{UnixMillis, wall_clock};
use console::{StyledObject, style};
use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn duration(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s @ 7_200..=172_799 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    if count == N::from(1) { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// How long ago.
pub(crate) fn ago(time: UnixMillis) -> String {
    format!("{} ago", duration(wall_clock() - time))
}

/// Local wall-clock time.
pub(crate) fn clock(time: UnixMillis) -> String {
    let offset = UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC);
    OffsetDateTime::from_unix_timestamp(time / 1_000)
        .map(|moment| moment.to_offset(offset))
        .ok()
        .and_then(|moment| moment.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]")).ok())
        .unwrap_or_else(|| time.to_string())
}

/// `02:05`: minutes and seconds since a moment.
pub(super) fn elapsed(since: UnixMillis, at: UnixMillis) -> String {
    let seconds = (at - since).max(0) / 1_000;
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// A word of the language in its colour.
pub(super) fn outcome(outcome: Outcome) -> StyledObject<&'static str> {
    match outcome {
        Outcome::Succeeded => style("succeeded").green(),
        Outcome::Failed => style("failed").red().bold(),
        Outcome::RolledBack => style("rolled back").yellow().bold(),
        Outcome::Skipped => style("skipped").dim(),
        Outcome::Ignored => style("ignored").yellow(),
        Outcome::Cancelled => style("cancelled").yellow(),
        Outcome::Rejected => style("rejected").red(),
        Outcome::Expired => style("expired").red(),
        Outcome::Superseded => style("superseded").dim(),
    }
}

pub(super) fn run_status(status: RunStatus, ended: Option<Outcome>) -> StyledObject<&'static str> {
    match (status, ended) {
        (_, Some(ended)) => outcome(ended),
        (RunStatus::Requested, None) => style("requested").dim(),
        (RunStatus::Running, None) => style("running").cyan(),
        (RunStatus::Waiting, None) => style("waiting").magenta(),
        (RunStatus::Watching, None) => style("watching").blue(),
        (RunStatus::RollingBack, None) => style("rolling back").yellow(),
        (RunStatus::Finished, None) => style("finished"),
    }
}

pub(super) fn stage_status(status: StageStatus, ended: Option<Outcome>) -> StyledObject<&'static str> {
    match (status, ended) {
        (_, Some(ended)) => outcome(ended),
        (StageStatus::Pending, None) => style("pending").dim(),
        (StageStatus::Running, None) => style("running").cyan(),
        (StageStatus::Waiting, None) => style("waiting").magenta(),
        (StageStatus::Watching, None) => style("watching").blue(),
        (StageStatus::RollingBack, None) => style("rolling back").yellow(),
        (StageStatus::Finished, None) => style("finished"),
    }
}

/// A sign in front of a step.
pub(super) fn mark(status: StepStatus, ended: Option<Outcome>) -> StyledObject<&'static str> {
    match (status, ended) {
        (_, Some(Outcome::Succeeded)) => style("✓").green(),
        (_, Some(Outcome::Skipped | Outcome::Superseded)) => style("–").dim(),
        (_, Some(_)) => style("✗").red(),
        (StepStatus::Pending, None) => style("·").dim(),
        (StepStatus::Waiting, None) => style("…").magenta(),
        (StepStatus::Retrying, None) => style("↻").yellow(),
        (StepStatus::Running | StepStatus::Finished, None) => style("▸").cyan(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_one_unit() {
        assert_eq!(duration(-5), "0 s");
        assert_eq!(duration(119_999), "119 s");
        assert_eq!(duration(120_000), "2 min");
        assert_eq!(duration(7_200_000), "2 h");
        assert_eq!(duration(172_800_000), "2 d");
    }
}
