//! Who may decide, and whether enough have.

use std::collections::BTreeSet;

use cdflow_protocol::v1::{Decide, RequestApproval};

/// What one person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Name of the person.
    pub person: String,
    /// Groups for which it counts.
    pub groups: BTreeSet<String>,
    /// Approved, or rejected.
    pub approve: bool,
    /// In the person's words; may be empty.
    pub comment: String,
    /// "cli", "page", "slack".
    pub channel: String,
    /// When, Unix milliseconds.
    pub time_ms: i64,
}

impl Vote {
    pub(crate) fn new(request: &RequestApproval, decision: &Decide, time_ms: i64) -> Self {
        Self {
            person: decision.person.clone(),
            groups: groups_that_count(request, decision),
            approve: decision.approve,
            comment: decision.comment.clone(),
            channel: decision.channel.clone(),
            time_ms,
        }
    }

    /// As the run shows it: "ana: looks good".
    pub(crate) fn line(&self) -> String {
        let said = match (self.comment.as_str(), self.approve) {
            ("", true) => "approved",
            ("", false) => "rejected",
            (comment, _) => comment,
        };
        format!("{}: {said}", self.person)
    }
}

/// How far one group has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProgress {
    /// Name of the group.
    pub group: String,
    /// Approvals that count for it.
    pub approvals: usize,
    /// Approvals that it must have; at least 1.
    pub minimum: usize,
}

impl GroupProgress {
    /// Whether it has enough.
    pub fn is_met(&self) -> bool {
        self.approvals >= self.minimum
    }
}

/// A group that is asked always says something: a minimum of 0 would be a gate that is open.
fn minimum(configured: u32) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX).max(1)
}

pub(crate) fn progress(request: &RequestApproval, votes: &[Vote]) -> Vec<GroupProgress> {
    request
        .by
        .iter()
        .map(|(group, &configured)| GroupProgress {
            group: group.clone(),
            approvals: votes.iter().filter(|vote| vote.approve && vote.groups.contains(group)).count(),
            minimum: minimum(configured),
        })
        .collect()
}

/// Groups asked that the person is in, and for which the person may decide. The initiator may for a group only if the
/// group's other members, as they were when the run was compiled, are fewer than its minimum.
pub(crate) fn groups_that_count(request: &RequestApproval, decision: &Decide) -> BTreeSet<String> {
    groups_asked(request, decision)
        .filter(|group| !is_initiator(request, &decision.person) || others_are_too_few(request, group))
        .cloned()
        .collect()
}

pub(crate) fn groups_asked<'a>(
    request: &'a RequestApproval,
    decision: &'a Decide,
) -> impl Iterator<Item = &'a String> + 'a {
    request.by.keys().filter(|group| decision.groups.contains(group))
}

pub(crate) fn is_initiator(request: &RequestApproval, person: &str) -> bool {
    request.initiator.as_ref().is_some_and(|actor| actor.kind == "person" && actor.name == person)
}

fn others_are_too_few(request: &RequestApproval, group: &str) -> bool {
    let members: BTreeSet<&str> =
        request.groups.get(group).into_iter().flat_map(|members| &members.names).map(String::as_str).collect();
    let others = members.iter().filter(|name| !is_initiator(request, name)).count();
    others < request.by.get(group).copied().map_or(1, minimum)
}
