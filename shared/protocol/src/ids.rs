//! Kinds of aggregates, and how an id finds its partition.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The kinds of aggregates, as they appear in subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AggregateKind {
    /// One pipeline run.
    Run,
    /// The lock of one service on one infrastructure.
    Lock,
    /// One request for approval.
    Approval,
    /// The evidence of one deploy stage.
    Verification,
    /// Events seen and runs started in one project.
    Trigger,
}

impl AggregateKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Run, Self::Lock, Self::Approval, Self::Verification, Self::Trigger];

    /// The token used in subjects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Lock => "lock",
            Self::Approval => "approval",
            Self::Verification => "verification",
            Self::Trigger => "trigger",
        }
    }

    /// The kind with this token.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == token)
    }
}

impl fmt::Display for AggregateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Number of a partition, from 0.
pub type Partition = u32;

/// Number of partitions of each aggregate kind: fixed when an installation is created, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionCount(u32);

/// Name of the hash that [`PartitionCount::of`] uses; kept in stream metadata and checked by every publisher.
pub const PARTITION_HASH: &str = "sha256-first-8-bytes-be";

impl PartitionCount {
    /// `None` for 0.
    pub fn new(count: u32) -> Option<Self> {
        (count > 0).then_some(Self(count))
    }

    /// How many there are.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The partition of an aggregate.
    pub fn of(self, aggregate_id: &str) -> Partition {
        if self.0 == 1 {
            return 0;
        }
        let digest = Sha256::digest(aggregate_id.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u32::try_from(u64::from_be_bytes(first) % u64::from(self.0)).unwrap_or(0)
    }

    /// All partitions.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        0..self.0
    }
}

/// Id of the approval that a step asks for.
pub fn approval_id(run: &str, stage: &str, step: &str) -> String {
    format!("{run}.{stage}.{step}")
}

/// Id of the verification of a deploy stage.
pub fn verification_id(run: &str, stage: &str) -> String {
    format!("{run}.{stage}")
}

/// Id of the lock of a service on an infrastructure.
pub fn lock_id(service: &str, infrastructure: &str) -> String {
    format!("{service}@{infrastructure}")
}

/// Id of a task: one subject token, different for every attempt.
pub fn task_id(run: &str, stage: &str, step: &str, attempt: u32) -> String {
    format!("{run}-{}-{}-{attempt}", token(stage), token(step))
}

/// `text` as a single subject token: letters, digits and `-` stay, everything else becomes `_`.
pub fn token(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_spread_over_partitions_and_stay_there() {
        let count = PartitionCount::new(8).expect("not zero");
        let mut hits = [0_u32; 8];
        for i in 0..8_000 {
            hits[count.of(&format!("run-{i}")) as usize] += 1;
        }
        assert!(hits.iter().all(|&n| (800..1_200).contains(&n)), "{hits:?}");
        // Changing the hash would orphan every journal: this value is part of the format.
        assert_eq!(count.of("storefront@prod"), 7);
    }

    #[test]
    fn tokens_cannot_break_a_subject() {
        assert_eq!(token("a.b c*>"), "a_b_c__");
    }
}
