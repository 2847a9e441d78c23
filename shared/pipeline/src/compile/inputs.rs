//! Values of a pipeline's inputs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::Pipeline;
use crate::nearest;

/// What was said, in the type of each input; defaults for the rest, and `null` where there is none.
pub(super) fn resolve(
    pipeline: &Pipeline,
    said: &BTreeMap<String, Value>,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<String, Value> {
    let names = || pipeline.inputs.iter().map(|(name, _)| name.as_str());
    for name in said.keys() {
        if !names().any(|known| known == name) {
            let shown = crate::model::scalar::shortened(name);
            let error = Diagnostic::of_request(Code::Input, format!("there is no input `{shown}`"));
            let all = names().collect::<Vec<_>>().join(", ");
            found.push(error.help(match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if all.is_empty() => "this pipeline has no inputs".into(),
                None => format!("expected some of {all}"),
            }));
        }
    }
    let mut resolved = BTreeMap::new();
    for (name, input) in pipeline.inputs.iter() {
        let value = match said.get(name.as_str()).filter(|value| !value.is_null()) {
            Some(value) => input.accept(value),
            None if input.is_required() => Err("it has to be said".into()),
            None => input.default_value().map_or(Ok(Value::Null), |default| input.accept(default)),
        };
        match value {
            Ok(value) => {
                resolved.insert(name.as_str().to_owned(), value);
            }
            Err(expected) => {
                let message = format!("the input `{}` is not right: {expected}", name.as_str());
                let error = Diagnostic::new(Code::Input, &name.place, message);
                found.push(error.help(format!("say it with `--input {}=…`", name.as_str())));
            }
        }
    }
    resolved
}
