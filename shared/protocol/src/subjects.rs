//! Subjects. Nobody else formats one.

use crate::ids::{AggregateKind, Partition, token};

/// Everything CI systems publish.
pub const CI: &str = "cdflow.ci.>";
/// A CI event that came in over `channel`, such as `http`: `cdflow.ci.http.dev.cdevents.artifact.published.0.2.0`.
pub fn ci(channel: &str, event_type: &str) -> String {
    let tokens = event_type.split('.').map(token).filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let kind = if tokens.is_empty() { "unknown".to_owned() } else { tokens.join(".") };
    format!("cdflow.ci.{}.{kind}", token(channel))
}

/// Configuration documents and leases live in key-value buckets of these names.
pub const CONFIG_BUCKET: &str = "CONFIG";
/// See [`CONFIG_BUCKET`].
pub const LEASES_BUCKET: &str = "LEASES";
/// Hashes of tokens, and whose they are.
pub const ACCESS_BUCKET: &str = "ACCESS";
/// Object store with checkpoints.
pub const SNAPSHOTS_BUCKET: &str = "SNAPSHOTS";

/// Inputs of a partition.
pub fn signal(kind: AggregateKind, partition: Partition) -> String {
    format!("cdflow.signal.{kind}.{partition}")
}

/// Facts of a partition.
pub fn journal(kind: AggregateKind, partition: Partition) -> String {
    format!("cdflow.journal.{kind}.{partition}")
}

/// Kind and partition of a subject made by [`journal`] or [`signal`].
pub fn parse_partition(subject: &str) -> Option<(AggregateKind, Partition)> {
    let mut tokens = subject.split('.').skip(2);
    let kind = AggregateKind::from_token(tokens.next()?)?;
    let partition = tokens.next()?.parse().ok()?;
    tokens.next().is_none().then_some((kind, partition))
}

/// Signals that could not be decided, kept for a person to look at.
pub fn dead_letter(kind: AggregateKind, partition: Partition) -> String {
    format!("cdflow.dead.{kind}.{partition}")
}

/// One task.
pub fn task(worker: &str, pool: &str, task_id: &str) -> String {
    format!("cdflow.task.{}.{}.{}", token(worker), token(pool), token(task_id))
}

/// All tasks of a pool.
pub fn tasks_of(worker: &str, pool: &str) -> String {
    format!("cdflow.task.{}.{}.*", token(worker), token(pool))
}

/// Announcements of the workers of a pool (plain NATS, once a second).
pub fn announcements(worker: &str, pool: &str) -> String {
    format!("cdflow.worker.{}.{}", token(worker), token(pool))
}

/// Announcements of all workers.
pub const ALL_ANNOUNCEMENTS: &str = "cdflow.worker.*.*";

/// Requests to the workers of a pool to stop a task (plain NATS; asked again until the task has ended).
pub fn cancellations(worker: &str, pool: &str) -> String {
    format!("cdflow.cancel.{}.{}", token(worker), token(pool))
}

/// Output of a step.
pub fn log(run: &str, stage: &str, step: &str) -> String {
    format!("cdflow.log.{}.{}.{}", token(run), token(stage), token(step))
}

/// The public feed.
pub fn event(project: &str, kind: &str) -> String {
    format!("cdflow.events.{}.{kind}", token(project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_event_type_makes_a_subject() {
        assert_eq!(
            ci("http", "dev.cdevents.artifact.published.0.2.0"),
            "cdflow.ci.http.dev.cdevents.artifact.published.0.2.0"
        );
        assert_eq!(ci("http", "a..b c.*.>"), "cdflow.ci.http.a.b_c._._");
        assert_eq!(ci("http", ".."), "cdflow.ci.http.unknown");
    }

    #[test]
    fn journal_subjects_parse_back() {
        let subject = journal(AggregateKind::Lock, 3);
        assert_eq!(parse_partition(&subject), Some((AggregateKind::Lock, 3)));
        assert_eq!(parse_partition("cdflow.journal.lock"), None);
        assert_eq!(parse_partition("cdflow.journal.lock.x"), None);
    }
}
