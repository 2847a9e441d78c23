//! Names inside of expressions.

use std::collections::BTreeSet;

use super::Checker;
use crate::diagnostic::{Code, Diagnostic};
use crate::expression::Member;
use crate::model::{Condition, Template, Variables};
use crate::nearest;
use crate::source::{At, Place};

/// What expressions at some place of a pipeline may name.
pub(super) struct Scope<'a> {
    pub(super) inputs: BTreeSet<&'a str>,
    pub(super) stages: BTreeSet<&'a str>,
    pub(super) steps: BTreeSet<&'a str>,
}

impl Checker<'_> {
    pub(super) fn template(&mut self, template: &At<Template>, scope: &Scope<'_>) {
        self.names(&template.place, template.reads(), scope);
    }

    pub(super) fn condition(&mut self, condition: &At<Condition>, scope: &Scope<'_>) {
        self.names(&condition.place, condition.reads(), scope);
    }

    /// Variables of services, environments and infrastructures are there for every pipeline: they cannot name what
    /// only some pipelines have.
    pub(super) fn no_inputs(&mut self, variables: &Variables) {
        for (_, value) in variables.iter() {
            for (namespace, member) in value.reads() {
                if ["inputs", "steps", "stages"].contains(&namespace.as_str()) {
                    let message = format!("`{namespace}.{member}` is not known for every pipeline");
                    let error = Diagnostic::new(Code::Expression, &value.place, message);
                    self.report(error.help("let an input of the pipeline set it: `inputs: { …: { variable: … } }`"));
                }
            }
        }
    }

    fn names(&mut self, place: &Place, reads: &[Member], scope: &Scope<'_>) {
        for (namespace, member) in reads {
            let (known, message) = match namespace.as_str() {
                "inputs" => (&scope.inputs, format!("there is no input `{member}`")),
                "stages" => (&scope.stages, format!("there is no stage `{member}`")),
                "steps" => (&scope.steps, format!("there is no step `{member}` before this one in the stage")),
                _ => continue,
            };
            if known.contains(member.as_str()) {
                continue;
            }
            let error = Diagnostic::new(Code::Expression, place, message);
            let all = known.iter().copied().collect::<Vec<_>>().join(", ");
            // A name with a hyphen is a subtraction in CEL.
            let hyphenated =
                known.iter().find(|name| name.strip_prefix(member.as_str()).is_some_and(|r| r.starts_with('-')));
            self.report(error.help(match (hyphenated, nearest(member, known.iter().copied())) {
                (Some(name), _) => format!("write `{namespace}[\"{name}\"]`: `-` subtracts"),
                (None, Some(near)) => format!("did you mean `{namespace}.{near}`?"),
                (None, None) if known.is_empty() => "there are none here".into(),
                (None, None) => format!("expected one of {all}"),
            }));
        }
    }
}
