//! The hash chain of a subject: every commit names the sequence and the SHA-256 of the one before (rule 7).

use std::{collections::BTreeMap, fmt};

use cdflow_protocol::{AggregateKind, Partition, v1::Commit};
use sha2::{Digest as _, Sha256};

/// A commit of one subject, by stream sequence and hash. Two journals that agree on a position agree on everything
/// before it.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Position {
    /// Stream sequence; 0 before the first commit.
    pub sequence: u64,
    /// SHA-256 of the stored bytes; empty before the first commit.
    pub hash: Vec<u8>,
}

/// How far somebody has come in each partition.
pub type Positions = BTreeMap<(AggregateKind, Partition), Position>;

impl Position {
    /// Before the first commit.
    pub fn start() -> Self {
        Self::default()
    }

    /// The position of a stored commit.
    pub fn of(sequence: u64, body: &[u8]) -> Self {
        Self { sequence, hash: Sha256::digest(body).to_vec() }
    }

    /// The position after `commit`, if that one continues here.
    ///
    /// # Errors
    /// A sentence with what was expected and what was found.
    pub fn follow(&self, sequence: u64, body: &[u8], commit: &Commit) -> Result<Self, String> {
        if sequence <= self.sequence {
            return Err(format!("commit {sequence} comes after commit {}", self.sequence));
        }
        if commit.previous_sequence != self.sequence {
            return Err(format!(
                "commit {sequence} continues commit {}, but the one before it is {}",
                commit.previous_sequence, self.sequence
            ));
        }
        if commit.previous_hash != self.hash {
            return Err(format!(
                "commit {sequence} continues a commit {} with hash {}, but the stored one has {}",
                self.sequence,
                short(&commit.previous_hash),
                short(&self.hash)
            ));
        }
        Ok(Self::of(sequence, body))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, short(&self.hash))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn short(hash: &[u8]) -> String {
    if hash.is_empty() { "none".into() } else { hex::encode(&hash[..hash.len().min(6)]) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn chain(times: &[i64]) -> Vec<(u64, Vec<u8>)> {
        let mut at = Position::start();
        let mut stored = Vec::new();
        for (i, &time_ms) in times.iter().enumerate() {
            let commit =
                Commit { previous_sequence: at.sequence, previous_hash: at.hash.clone(), time_ms, ..Commit::default() };
            let body = commit.encode_to_vec();
            // Other subjects of the stream lie between two commits.
            at = Position::of(3 * i as u64 + 1, &body);
            stored.push((at.sequence, body));
        }
        stored
    }

    fn walk(stored: &[(u64, Vec<u8>)]) -> Result<Position, String> {
        stored.iter().try_fold(Position::start(), |at, (sequence, body)| {
            let commit = Commit::decode(body.as_slice()).map_err(|e| e.to_string())?;
            at.follow(*sequence, body, &commit)
        })
    }

    proptest! {
        #[test]
        fn an_untouched_chain_holds(times in prop::collection::vec(any::<i64>(), 0..20)) {
            prop_assert!(walk(&chain(&times)).is_ok());
        }

        #[test]
        fn a_flipped_bit_before_the_last_commit_breaks_it(
            times in prop::collection::vec(any::<i64>(), 2..20),
            at in any::<prop::sample::Index>(),
            byte in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut stored = chain(&times);
            let last = stored.len() - 1;
            let body = &mut stored[at.index(last)].1;
            prop_assume!(!body.is_empty());
            let byte = byte.index(body.len());
            body[byte] ^= 1 << bit;
            prop_assert!(walk(&stored).is_err());
        }

        #[test]
        fn a_missing_commit_breaks_it(
            times in prop::collection::vec(any::<i64>(), 2..20),
            at in any::<prop::sample::Index>(),
        ) {
            let mut stored = chain(&times);
            let last = stored.len() - 1;
            stored.remove(at.index(last));
            prop_assert!(walk(&stored).is_err());
        }
    }
}
