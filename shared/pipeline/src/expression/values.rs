//! From JSON to CEL's values and back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cel::objects::Key;
use serde_json::Value;

pub(super) fn from_json(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        // Signed wherever possible: CEL does not add a signed and an unsigned number.
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(signed), _) => cel::Value::Int(signed),
            (None, Some(unsigned)) => cel::Value::UInt(unsigned),
            (None, None) => cel::Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(from_json).collect())),
        Value::Object(members) => {
            let map: HashMap<Key, cel::Value> =
                members.iter().map(|(name, v)| (Key::from(name.as_str()), from_json(v))).collect();
            cel::Value::Map(map.into())
        }
    }
}

/// With the members of maps in the order of their names: the same text every time.
pub(super) fn to_json(value: &cel::Value) -> Option<Value> {
    Some(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => Value::Bool(*b),
        cel::Value::Int(n) => Value::from(*n),
        cel::Value::UInt(n) => Value::from(*n),
        cel::Value::Float(n) => serde_json::Number::from_f64(*n).map(Value::Number)?,
        cel::Value::String(text) => Value::String(text.to_string()),
        cel::Value::List(items) => Value::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        cel::Value::Map(map) => {
            let sorted: BTreeMap<String, &cel::Value> = map.map.iter().map(|(k, v)| (k.to_string(), v)).collect();
            Value::Object(sorted.into_iter().map(|(k, v)| Some((k, to_json(v)?))).collect::<Option<_>>()?)
        }
        cel::Value::Timestamp(time) => Value::String(time.to_rfc3339()),
        cel::Value::Duration(duration) => {
            let length = duration.to_std().ok()?;
            Value::String(humantime::format_duration(length).to_string())
        }
        _ => return None,
    })
}
