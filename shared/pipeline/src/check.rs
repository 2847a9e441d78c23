//! What has to hold between documents, and within them beyond single values.

mod documents;
mod expressions;
mod graph;
mod inputs;
mod pipeline;

pub(crate) use graph::{needs, stage_id};

use crate::configuration::{Configuration, Declared, Kind};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Count, Entries, Reference};
use crate::nearest;
use crate::source::At;

/// Checks all documents.
pub(crate) fn check(configuration: &Configuration, declared: &Declared, found: &mut Vec<Diagnostic>) {
    let mut checker = Checker { configuration, declared, found };
    checker.documents();
    for pipeline in configuration.pipelines.values() {
        checker.pipeline(pipeline);
    }
}

struct Checker<'a> {
    configuration: &'a Configuration,
    declared: &'a Declared,
    found: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Whether there is something of that kind and name; reports if not.
    fn resolve(&mut self, kind: Kind, reference: &At<Reference>) -> bool {
        let known: Vec<&str> =
            self.declared.keys().filter(|(other, _)| *other == kind).map(|(_, name)| name.as_str()).collect();
        if known.contains(&reference.as_str()) {
            return true;
        }
        let shown = crate::model::scalar::shortened(reference.as_str());
        let error =
            Diagnostic::new(Code::UnknownName, &reference.place, format!("there is no {} `{shown}`", kind.in_words()));
        self.found.push(error.help(expected_one_of(reference.as_str(), kind, &known)));
        false
    }

    /// Checks the groups that have to approve and how many of each.
    fn quorum(&mut self, by: &At<Entries<Reference, At<Count>>>) {
        if by.iter().next().is_none() {
            let error = Diagnostic::new(Code::Quorum, &by.place, "nobody is asked for approval");
            self.report(error.help("name groups and how many of each, for example `by: { release-managers: 1 }`"));
        }
        for (group, count) in by.iter() {
            if !self.resolve(Kind::Group, group) || !self.configuration.groups.contains_key(group.as_str()) {
                continue;
            }
            let members = self.configuration.members(group.as_str()).len();
            if usize::try_from(count.get()).unwrap_or(usize::MAX) > members {
                let message = format!("{} approvals of `{}`, which has {members} members", count.get(), group.as_str());
                let error = Diagnostic::new(Code::Quorum, &count.place, message);
                self.report(error.help(format!("expected at most {members}, or more members in the group")));
            }
        }
    }
}

/// "Did you mean", or what there is.
pub(crate) fn expected_one_of(wanted: &str, kind: Kind, known: &[&str]) -> String {
    const SHOWN: usize = 8;
    match nearest(wanted, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("add a document with `kind: {}` and this name", kind.as_str()),
        None if known.len() > SHOWN => {
            format!("expected one of {} and {} more", known[..SHOWN].join(", "), known.len() - SHOWN)
        }
        None => format!("expected one of {}", known.join(", ")),
    }
}
