//! `${{ }}` templates and `if:` conditions, both in [CEL](https://cel.dev).
//!
//! Nothing here panics, reads a clock or touches the outside: the same text over the same scope gives the same
//! value, so an expression can be evaluated again after a crash.
//!
//! ```
//! use cdflow_pipeline::expression::{holds, render, render_text, Status};
//! use serde_json::json;
//!
//! let scope = json!({ "inputs": { "replicas": 3 }, "stage": { "url": "http://localhost:8080" } });
//! assert_eq!(render("${{ inputs.replicas + 1 }}", &scope)?, json!(4));
//! assert_eq!(render_text("curl ${{ stage.url }}/healthz", &scope)?, "curl http://localhost:8080/healthz");
//! assert!(!holds("inputs.replicas > 2", &scope, Status::Failure)?);
//! assert!(holds("failure() && inputs.replicas > 2", &scope, Status::Failure)?);
//! # Ok::<(), cdflow_pipeline::expression::ExpressionError>(())
//! ```

mod evaluate;
mod room;
mod scan;
mod tree;
mod values;

use std::collections::BTreeSet;

use serde_json::Value;

use evaluate::Program;
use room::with_room;
use scan::{Part, parts};

/// Names that stand at the start of a reference: `inputs.version`, `stage.url`.
pub const NAMESPACES: [&str; 13] = [
    "inputs",
    "event",
    "run",
    "stage",
    "stages",
    "steps",
    "service",
    "environment",
    "infrastructure",
    "artifact",
    "previous",
    "matrix",
    "secrets",
];

/// Functions that only a condition has.
pub const STATUS_FUNCTIONS: [&str; 4] = ["success", "failure", "always", "rolled_back"];

/// What happened in the run or stage before the condition is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Everything needed ended well.
    Success,
    /// Something failed.
    Failure,
    /// Somebody or something cancelled it.
    Cancelled,
    /// Something failed and was rolled back.
    RolledBack,
}

/// Why an expression could not be read or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at offset {offset}){}", .help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct ExpressionError {
    /// Whether the text is wrong, or the values it met.
    pub kind: ExpressionErrorKind,
    /// What is wrong.
    pub message: String,
    /// Where: bytes from the start of the template or condition.
    pub offset: usize,
    /// What was expected, or the nearest valid name.
    pub help: Option<String>,
}

/// Kinds of [`ExpressionError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressionErrorKind {
    /// The text is no expression.
    Syntax,
    /// A name that does not exist, whatever the values.
    UnknownName,
    /// The expression is fine but not with these values: a member that is missing, text added to a number.
    Evaluation,
}

impl ExpressionError {
    fn new(kind: ExpressionErrorKind, offset: usize, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), offset, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn moved_by(mut self, offset: usize) -> Self {
        self.offset += offset;
        self
    }
}

/// Fills in a template. A template that is one expression and nothing else keeps the type of its value; any other
/// gives text.
///
/// # Errors
/// When an expression is malformed, or does not fit the values in `scope`.
pub fn render(template: &str, scope: &Value) -> Result<Value, ExpressionError> {
    let parts = parts(template)?;
    if let [Part::Text(text)] = parts.as_slice() {
        return Ok(Value::String((*text).to_owned()));
    }
    with_room(template, || render_parts(&parts, scope))
}

fn render_parts(parts: &[Part<'_>], scope: &Value) -> Result<Value, ExpressionError> {
    if let [Part::Expression { source, offset }] = parts {
        return Program::compile(source).and_then(|program| program.value(scope)).map_err(|e| e.moved_by(*offset));
    }
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Expression { source, offset } => {
                let value = Program::compile(source)
                    .and_then(|program| program.value(scope))
                    .map_err(|e| e.moved_by(*offset))?;
                text.push_str(&in_text(value));
            }
        }
    }
    Ok(Value::String(text))
}

/// Fills in a template and gives text whatever its type: numbers and booleans as they are written, nothing for
/// `null`, JSON for lists and maps.
///
/// # Errors
/// As [`render`].
pub fn render_text(template: &str, scope: &Value) -> Result<String, ExpressionError> {
    render(template, scope).map(in_text)
}

/// Fills in every string of a JSON value, keys excepted.
///
/// # Errors
/// As [`render`].
pub fn render_all(value: &Value, scope: &Value) -> Result<Value, ExpressionError> {
    Ok(match value {
        Value::String(template) => render(template, scope)?,
        Value::Array(items) => Value::Array(items.iter().map(|v| render_all(v, scope)).collect::<Result<_, _>>()?),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, v)| Ok((name.clone(), render_all(v, scope)?)))
                .collect::<Result<_, ExpressionError>>()?,
        ),
        other => other.clone(),
    })
}

/// Whether a condition holds. It may be written with or without `${{ }}` around it.
///
/// As on GitHub Actions, a condition that calls none of `success()`, `failure()`, `always()` and `rolled_back()` (or
/// `rolled-back()`) means `success() && (condition)`; after anything but a success it is then not evaluated at all.
///
/// # Errors
/// When the condition is malformed, does not fit the values in `scope`, or is neither true nor false.
pub fn holds(condition: &str, scope: &Value, status: Status) -> Result<bool, ExpressionError> {
    let (source, offset) = scan::condition(condition);
    if source.trim().is_empty() {
        return Ok(status == Status::Success);
    }
    let value = with_room(source, || {
        let program = Program::compile_condition(source)?;
        if !program.asks_for_status() && status != Status::Success {
            return Ok(Value::Bool(false));
        }
        program.value_after(scope, status)
    });
    match value.map_err(|e| e.moved_by(offset))? {
        Value::Bool(answer) => Ok(answer),
        other => Err(ExpressionError::new(
            ExpressionErrorKind::Evaluation,
            offset,
            format!("this condition is {}, not true or false", kind_of(&other)),
        )
        .help("compare it with something, for example `inputs.mode == \"full\"`")),
    }
}

/// Checks the syntax and the names of a template without values.
///
/// # Errors
/// The first thing that is wrong: an expression that is not closed or not CEL, a namespace or function that does not
/// exist.
pub fn check(template: &str) -> Result<(), ExpressionError> {
    members(template).map(drop)
}

/// Checks the syntax and the names of a condition without values.
///
/// # Errors
/// As [`check`].
pub fn check_condition(condition: &str) -> Result<(), ExpressionError> {
    condition_members(condition).map(drop)
}

/// What an expression reads: `inputs.version` is the member `version` of the namespace `inputs`.
pub type Member = (String, String);

/// Checks a template as [`check`] does, and says what it reads.
///
/// # Errors
/// As [`check`].
pub fn members(template: &str) -> Result<Vec<Member>, ExpressionError> {
    let mut found = BTreeSet::new();
    for part in parts(template)? {
        if let Part::Expression { source, offset } = part {
            let members = with_room(source, || Program::compile(source)?.checked_members());
            found.extend(members.map_err(|e| e.moved_by(offset))?);
        }
    }
    Ok(found.into_iter().collect())
}

/// Checks a condition as [`check_condition`] does, and says what it reads.
///
/// # Errors
/// As [`check`].
pub fn condition_members(condition: &str) -> Result<Vec<Member>, ExpressionError> {
    let (source, offset) = scan::condition(condition);
    if source.trim().is_empty() {
        return Ok(Vec::new());
    }
    with_room(source, || Program::compile_condition(source)?.checked_members()).map_err(|e| e.moved_by(offset))
}

/// Whether a string holds an expression at all.
pub fn is_template(text: &str) -> bool {
    text.contains(scan::OPEN)
}

/// Whether a condition says itself after which outcomes it holds. One that cannot be read is taken to do so.
pub(crate) fn calls_status_function(condition: &str) -> bool {
    let (source, _) = scan::condition(condition);
    with_room(source, || Ok(Program::compile_condition(source)?.asks_for_status())).unwrap_or(true)
}

fn in_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
