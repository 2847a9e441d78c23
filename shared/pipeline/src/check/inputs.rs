//! Typed inputs.

use super::Checker;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Input, InputType};
use crate::source::{At, Place};

impl Checker<'_> {
    pub(super) fn input(&mut self, name: &str, input: &At<Input>) {
        let kind = input.kind();
        let limits: [(&str, Option<&Place>, bool); 4] = [
            ("minimum", input.minimum.as_ref().map(|at| &at.place), kind == InputType::Integer),
            ("maximum", input.maximum.as_ref().map(|at| &at.place), kind == InputType::Integer),
            (
                "pattern",
                input.pattern.as_ref().map(|at| &at.place),
                matches!(kind, InputType::String | InputType::List),
            ),
            ("options", input.options.first().map(|at| &at.place), kind == InputType::Choice),
        ];
        for (field, place, fits) in limits {
            if let Some(place) = place
                && !fits
            {
                let message = format!("`{field}` says nothing about an input of the type `{}`", kind.as_str());
                self.report(Diagnostic::new(Code::Conflict, place, message).help(format!("remove `{field}`")));
            }
        }
        if kind == InputType::Choice && input.options.is_empty() {
            let error =
                Diagnostic::new(Code::MissingField, &input.place, format!("the choice `{name}` has no options"));
            self.report(error.help("add `options:` with what can be chosen"));
        }
        if let (Some(least), Some(most)) = (&input.minimum, &input.maximum)
            && least.value > most.value
        {
            let error = Diagnostic::new(Code::Conflict, &least.place, "the minimum is above the maximum");
            self.report(error.help("expected `minimum` to be at most `maximum`"));
        }
        if let Some(default) = &input.default {
            if let Err(expected) = input.accept(&default.value.0) {
                let message = format!("this default does not fit the input `{name}`: {expected}");
                let error = Diagnostic::new(Code::Input, &default.place, message);
                self.report(error.help(format!("the input has the type `{}`", kind.as_str())));
            }
            if input.is_required() {
                let error = Diagnostic::new(Code::Conflict, &default.place, "a required input never has its default");
                self.report(error.help("remove `default` or `required`"));
            }
        }
    }
}
