//! JSON Schema of the documents, for editors.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::configuration::Kind;
use crate::model::{Environment, Group, HealthProfile, Infrastructure, Person, Pipeline, Service};

/// The JSON Schema (draft 2020-12) of a document of any kind.
pub fn schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let by_kind: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let fields = match kind {
                Kind::Service => fields_of::<Service>(kind, &mut generator),
                Kind::Environment => fields_of::<Environment>(kind, &mut generator),
                Kind::Infrastructure => fields_of::<Infrastructure>(kind, &mut generator),
                Kind::HealthProfile => fields_of::<HealthProfile>(kind, &mut generator),
                Kind::Person => fields_of::<Person>(kind, &mut generator),
                Kind::Group => fields_of::<Group>(kind, &mut generator),
                Kind::Pipeline => fields_of::<Pipeline>(kind, &mut generator),
            };
            json!({ "if": { "properties": { "kind": { "const": kind.as_str() } } }, "then": fields })
        })
        .collect();
    let definitions: Map<String, Value> = generator.take_definitions(true);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of cdflow's pipeline language",
        "type": "object",
        "required": ["kind", "name"],
        "properties": { "kind": { "enum": Kind::ALL.map(Kind::as_str) } },
        "allOf": by_kind,
        "$defs": definitions,
    });
    without_null(&mut schema);
    schema
}

/// What may be left out is not `null` in this language: it is left out.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
                choices.retain(|choice| *choice != json!({ "type": "null" }));
                if let [Value::Object(only)] = choices.as_mut_slice() {
                    let only = std::mem::take(only);
                    members.shift_remove("anyOf");
                    members.extend(only);
                }
            }
            members.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

fn fields_of<T: JsonSchema>(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let mut schema = T::json_schema(generator).to_value();
    schema["properties"]["kind"] = json!({ "const": kind.as_str() });
    schema
}
