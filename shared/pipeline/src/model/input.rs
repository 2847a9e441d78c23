//! Typed inputs of a pipeline.

use serde_json::Value;

use super::choices::{choice, word};
use super::{Pattern, Text, VariableName};
use crate::decode::{Decode, Reader, fields};
use crate::source::At;
use crate::yaml::{Node, Shape};

choice! {
    "a type of input";
    /// What an input may be.
    pub enum InputType {
        /// Text.
        String = "string",
        /// A whole number.
        Integer = "integer",
        /// `true` or `false`.
        Boolean = "boolean",
        /// One of `options`.
        Choice = "choice",
        /// A list of texts.
        List = "list",
    }
}

fields! {
    "an input";
    /// Something that can be said when a run is started.
    pub struct Input {
        /// What it may be. `string` unless said.
        pub r#type: Option<InputType>,
        /// What it is if nobody says.
        pub default: Option<At<Literal>>,
        /// Whether it has to be said. It does not unless this is `true`.
        pub required: Option<Flag>,
        /// Smallest value of an integer.
        pub minimum: Option<At<Integer>>,
        /// Largest value of an integer.
        pub maximum: Option<At<Integer>>,
        /// What a string, and each item of a list, has to match from start to end.
        pub pattern: Option<At<Pattern>>,
        /// What a choice may be.
        #[schemars(default)]
        pub options: Vec<At<Text>>,
        /// For whom starts a run.
        pub description: Option<Text>,
        /// The variable of the deployed service that it sets, above all other precedence.
        pub variable: Option<At<VariableName>>,
    }
}

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal(pub(crate) Value);

impl Decode for Literal {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        Some(Self(match &node.shape {
            Shape::Null => return reader.mismatch(node, "a value"),
            Shape::Map(_) => return reader.mismatch(node, "text, a number, a boolean or a list"),
            Shape::Bool(b) => Value::from(*b),
            Shape::Integer(n) => Value::from(*n),
            // As text it can be a string still: `1.10`.
            Shape::Number => Value::from(node.written.clone()),
            Shape::Text(text) => Value::from(text.clone()),
            Shape::List(items) => {
                let items: Vec<Option<Self>> = items.iter().map(|item| Self::decode(item, reader)).collect();
                items.into_iter().map(|item| item.map(|Self(value)| value)).collect::<Option<Vec<_>>>()?.into()
            }
        }))
    }
}

impl schemars::JsonSchema for Literal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Literal".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "number", "boolean", "array"] })
    }
}

/// A whole number, negative ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema)]
pub struct Integer(pub(crate) i64);

impl Decode for Integer {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        match node.shape {
            Shape::Integer(n) => Some(Self(n)),
            _ => reader.mismatch(node, "a whole number"),
        }
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
pub struct Flag(pub(crate) bool);

impl Decode for Flag {
    fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
        match node.shape {
            Shape::Bool(b) => Some(Self(b)),
            _ => reader.mismatch(node, "`true` or `false`"),
        }
    }
}

impl Input {
    /// What it may be.
    pub fn kind(&self) -> InputType {
        self.r#type.unwrap_or(InputType::String)
    }

    /// Whether it has to be said.
    pub fn is_required(&self) -> bool {
        self.required.is_some_and(|flag| flag.0)
    }

    /// What it is if nobody says.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref().map(|default| &default.value.0)
    }

    /// A value in the type of the input. From a command line everything comes as text: numbers, booleans and lists
    /// (`a,b`) are read from it.
    ///
    /// # Errors
    /// What was expected.
    pub fn accept(&self, value: &Value) -> Result<Value, String> {
        match self.kind() {
            InputType::String => match value {
                Value::String(_) | Value::Number(_) | Value::Bool(_) => {
                    self.accept_text(&plain(value)).map(Value::from)
                }
                _ => Err("expected text".into()),
            },
            InputType::Integer => {
                let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
                let number = number.ok_or("expected a whole number")?;
                match (&self.minimum, &self.maximum) {
                    (Some(least), _) if number < least.0 => Err(format!("expected at least {}", least.0)),
                    (_, Some(most)) if number > most.0 => Err(format!("expected at most {}", most.0)),
                    _ => Ok(Value::from(number)),
                }
            }
            InputType::Boolean => match (value, value.as_str()) {
                (Value::Bool(b), _) => Ok(Value::from(*b)),
                (_, Some("true")) => Ok(Value::from(true)),
                (_, Some("false")) => Ok(Value::from(false)),
                _ => Err("expected `true` or `false`".into()),
            },
            InputType::Choice => {
                let chosen = plain(value);
                let options = || self.options.iter().map(|option| option.as_str());
                if options().any(|option| option == chosen) {
                    return Ok(Value::from(chosen));
                }
                let near = crate::nearest(&chosen, options()).map(|near| format!("; did you mean `{near}`?"));
                let all = options().collect::<Vec<_>>().join(", ");
                Err(format!("expected one of {all}{}", near.unwrap_or_default()))
            }
            InputType::List => {
                let items: Vec<String> = match value {
                    Value::Array(items) => items.iter().map(plain).collect(),
                    Value::String(text) if text.trim().is_empty() => Vec::new(),
                    Value::String(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
                    _ => return Err("expected a list".into()),
                };
                let accepted: Result<Vec<_>, _> = items.iter().map(|item| self.accept_text(item)).collect();
                accepted.map(Value::from)
            }
        }
    }

    fn accept_text(&self, text: &str) -> Result<String, String> {
        match &self.pattern {
            Some(pattern) if !pattern.matches(text) => {
                Err(format!("expected something that matches `{}`", pattern.as_str()))
            }
            _ => Ok(text.to_owned()),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
