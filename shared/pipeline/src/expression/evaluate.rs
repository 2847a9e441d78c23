//! Compiles and evaluates one expression.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::Expr;
use cel::{Context, Env, ExecutionError};
use serde_json::Value;

use super::scan::Outside;
use super::tree::{path_of, walk};
use super::values::{from_json, to_json};
use super::{ExpressionError, ExpressionErrorKind, Member, NAMESPACES, STATUS_FUNCTIONS, Status};
use crate::nearest;

/// The parser descends once per bracket and once per operator; these keep it within a small stack, and the time it
/// takes within milliseconds.
const MAX_LENGTH: usize = 2_000;
const MAX_NESTING: usize = 24;
const MAX_OPERATORS: usize = 160;

/// Functions and macros of CEL's standard library.
const FUNCTIONS: [&str; 38] = [
    "all",
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "has",
    "hasValue",
    "int",
    "map",
    "matches",
    "max",
    "min",
    "none",
    "of",
    "ofNonZeroValue",
    "optional",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "timestamp",
];

/// Names that are neither namespaces nor variables of a macro.
const TYPES: [&str; 12] =
    ["bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "optional", "string", "type", "uint"];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that is syntactically right.
pub(super) struct Program {
    source: String,
    compiled: cel::Program,
    /// Bytes of blanks before the expression.
    start: usize,
    /// Whether the status functions exist.
    is_condition: bool,
}

impl Program {
    pub(super) fn compile(source: &str) -> Result<Self, ExpressionError> {
        Self::compile_as(source, source.to_owned(), false)
    }

    /// As [`Program::compile`], with the status functions.
    pub(super) fn compile_condition(source: &str) -> Result<Self, ExpressionError> {
        Self::compile_as(source, with_rolled_back_as_a_name(source), true)
    }

    fn compile_as(original: &str, source: String, is_condition: bool) -> Result<Self, ExpressionError> {
        let start = original.len() - original.trim_start().len();
        if source.trim().is_empty() {
            return Err(ExpressionError::new(ExpressionErrorKind::Syntax, start, "this expression is empty")
                .help("expected CEL, for example `inputs.version`"));
        }
        within_limits(&source)?;
        let compiled = catch_unwind(|| ENVIRONMENT.compile(&source))
            .map_err(|_| {
                ExpressionError::new(ExpressionErrorKind::Syntax, start, "this is not a CEL expression")
                    .help("see https://cel.dev for the language")
            })?
            .map_err(|errors| syntax_error(&source, start, &errors))?;
        let program = Self { source, compiled, start, is_condition };
        program.loops_little()?;
        Ok(program)
    }

    /// Loops in loops in loops take the third power of the length of a list.
    fn loops_little(&self) -> Result<(), ExpressionError> {
        // A loop binds its variable and what it gathers, so two loops bind four names.
        const NAMES_OF_TWO: usize = 4;
        let mut too_deep = false;
        walk(self.compiled.expression(), &mut Vec::new(), &mut |node, bound| {
            too_deep |= matches!(node.expr, Expr::Comprehension(_)) && bound.len() >= NAMES_OF_TWO;
        });
        if too_deep {
            let message = "this expression loops inside of a loop inside of a loop";
            return Err(ExpressionError::new(ExpressionErrorKind::Syntax, self.start, message)
                .help("expected `map`, `filter`, `all` and `exists` at most two deep"));
        }
        Ok(())
    }

    pub(super) fn asks_for_status(&self) -> bool {
        let mut asks = false;
        walk(self.compiled.expression(), &mut Vec::new(), &mut |node, _| {
            if let Expr::Call(call) = &node.expr {
                asks |= call.target.is_none() && STATUS_FUNCTIONS.contains(&call.func_name.as_str());
            }
        });
        asks
    }

    pub(super) fn value(&self, scope: &Value) -> Result<Value, ExpressionError> {
        self.evaluate(scope, None)
    }

    pub(super) fn value_after(&self, scope: &Value, status: Status) -> Result<Value, ExpressionError> {
        self.evaluate(scope, Some(status))
    }

    fn evaluate(&self, scope: &Value, status: Option<Status>) -> Result<Value, ExpressionError> {
        // Errors of CEL hold values that share memory without being `UnwindSafe`; all of it is dropped here.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(ENVIRONMENT.clone());
            for (name, members) in scope.as_object().into_iter().flatten() {
                context.add_variable_from_value(name.clone(), from_json(members));
            }
            if let Some(status) = status {
                let answers = [
                    status == Status::Success,
                    matches!(status, Status::Failure | Status::RolledBack),
                    true,
                    status == Status::RolledBack,
                ];
                for (name, answer) in STATUS_FUNCTIONS.into_iter().zip(answers) {
                    context.add_function(name, move || answer).map_err(|e| {
                        ExpressionError::new(ExpressionErrorKind::Evaluation, self.start, e.to_string())
                    })?;
                }
            }
            let value = self.compiled.execute(&context).map_err(|e| self.evaluation_error(&e, scope))?;
            to_json(&value).ok_or_else(|| {
                ExpressionError::new(
                    ExpressionErrorKind::Evaluation,
                    self.start,
                    format!("this gives a {}, which has no text", value.type_of()),
                )
            })
        }));
        outcome.unwrap_or_else(|_| {
            Err(ExpressionError::new(ExpressionErrorKind::Evaluation, self.start, "this cannot be evaluated"))
        })
    }

    /// Checks all names, and says what is read.
    pub(super) fn checked_members(&self) -> Result<Vec<Member>, ExpressionError> {
        self.check_names()?;
        Ok(self.members())
    }

    /// Checks that every free name is a namespace and every function exists.
    fn check_names(&self) -> Result<(), ExpressionError> {
        let mut wrong = None;
        walk(self.compiled.expression(), &mut Vec::new(), &mut |node, bound| {
            let error = match &node.expr {
                Expr::Ident(name) if !bound.iter().any(|b| b == name) => self.unknown_namespace(name),
                Expr::Call(call) => self.unknown_function(&call.func_name),
                _ => None,
            };
            wrong = wrong.take().or(error);
        });
        wrong.map_or(Ok(()), Err)
    }

    fn unknown_namespace(&self, name: &str) -> Option<ExpressionError> {
        if NAMESPACES.contains(&name) || TYPES.contains(&name) {
            return None;
        }
        let position = self.position_of(name);
        let error =
            ExpressionError::new(ExpressionErrorKind::UnknownName, position, format!("there is no namespace `{name}`"));
        let before = &self.source[..position];
        if before.strip_suffix('-').is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_alphanumeric())) {
            return Some(error.help("`-` subtracts; for a name with `-` write for example `inputs[\"log-level\"]`"));
        }
        Some(error.help(match nearest(name, NAMESPACES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}; text needs quotes", NAMESPACES.join(", ")),
        }))
    }

    fn unknown_function(&self, name: &str) -> Option<ExpressionError> {
        let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_status = STATUS_FUNCTIONS.contains(&name);
        if is_operator || FUNCTIONS.contains(&name) || TYPES.contains(&name) || (is_status && self.is_condition) {
            return None;
        }
        let error = ExpressionError::new(
            ExpressionErrorKind::UnknownName,
            self.position_of(name),
            format!("there is no function `{name}` here"),
        );
        if is_status {
            return Some(error.help("it can be used in `if:` only"));
        }
        let status = STATUS_FUNCTIONS.into_iter().filter(|_| self.is_condition);
        Some(match nearest(name, FUNCTIONS.into_iter().chain(status)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("expected one of CEL's functions, for example `size`, `startsWith`, `matches`"),
        })
    }

    /// What is read of each namespace.
    fn members(&self) -> Vec<Member> {
        let mut found = Vec::new();
        walk(self.compiled.expression(), &mut Vec::new(), &mut |node, bound| {
            if let Expr::Select(select) = &node.expr
                && let Expr::Ident(name) = &select.operand.expr
                && !bound.iter().any(|b| b == name)
            {
                found.push((name.clone(), select.field.clone()));
            }
        });
        found
    }

    fn evaluation_error(&self, error: &ExecutionError, scope: &Value) -> ExpressionError {
        let kind = ExpressionErrorKind::Evaluation;
        match error {
            ExecutionError::UndeclaredReference(name) => {
                let wrong = if self.calls(name) { self.unknown_function(name) } else { self.unknown_namespace(name) };
                wrong.unwrap_or_else(|| {
                    ExpressionError::new(kind, self.position_of(name), format!("nothing is known of `{name}` here"))
                        .help(format!("known here: {}", names_of(scope)))
                })
            }
            ExecutionError::NoSuchKey(name) => {
                let error = ExpressionError::new(kind, self.position_of(name), format!("there is no `{name}` here"));
                match self.holder_of(name, scope) {
                    Some((path, members)) => {
                        let known = members.as_object().into_iter().flatten().map(|(n, _)| n.as_str());
                        match nearest(name, known) {
                            Some(near) => error.help(format!("did you mean `{path}.{near}`?")),
                            None => error.help(format!("`{path}` has {}", names_of(members))),
                        }
                    }
                    None => error.help("check with `has()` what may be missing, for example `has(inputs.note)`"),
                }
            }
            other => {
                // Values can be long, and can be secrets: types and names only.
                let message = match other {
                    ExecutionError::NoSuchOverload(overload) => overload.to_string(),
                    ExecutionError::InvalidArgumentCount { expected, actual } => {
                        format!("expected {expected} arguments, got {actual}")
                    }
                    ExecutionError::UnexpectedType { got, want } => format!("expected {want}, got {got}"),
                    ExecutionError::ValuesNotComparable(a, b) => {
                        format!("a {} cannot be compared with a {}", a.type_of(), b.type_of())
                    }
                    ExecutionError::UnsupportedBinaryOperator(operator, a, b) => {
                        format!("`{operator}` does not work on a {} and a {}", a.type_of(), b.type_of())
                    }
                    ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
                    ExecutionError::Overflow(operator, _, _) => {
                        format!("`{operator}` gives a number that is too large")
                    }
                    ExecutionError::IndexOutOfBounds(_) => "this list has no such element".into(),
                    ExecutionError::DuplicateKey(_) => "this map has the same key twice".into(),
                    ExecutionError::NotSupportedAsMethod { method, target } => {
                        format!("a {} has no method `{method}`", target.type_of())
                    }
                    ExecutionError::FunctionError { function, .. } => {
                        format!("`{function}` does not accept this value")
                    }
                    _ => "this does not work with these values".into(),
                };
                ExpressionError::new(kind, self.start, message)
            }
        }
    }

    fn calls(&self, function: &str) -> bool {
        let mut calls = false;
        walk(self.compiled.expression(), &mut Vec::new(), &mut |node, _| {
            calls |= matches!(&node.expr, Expr::Call(call) if call.func_name == function);
        });
        calls
    }

    /// The map in `scope` that was asked for a member it does not have, and how the expression calls it.
    fn holder_of<'s>(&self, member: &str, scope: &'s Value) -> Option<(String, &'s Value)> {
        let mut holder = None;
        walk(self.compiled.expression(), &mut Vec::new(), &mut |node, _| {
            if let Expr::Select(select) = &node.expr
                && select.field == member
                && let Some(path) = path_of(&select.operand)
                && let Some(found) = path.iter().try_fold(scope, |value, name| value.get(name))
                && found.get(member).is_none()
            {
                holder = Some((path.join("."), found));
            }
        });
        holder
    }

    /// Where a name is first written; the start of the expression if it is not.
    fn position_of(&self, name: &str) -> usize {
        let is_part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        Outside::new(&self.source)
            .map(|(at, _)| at)
            .find(|at| {
                let bytes = self.source.as_bytes();
                bytes[*at..].starts_with(name.as_bytes())
                    && !is_part(at.checked_sub(1).and_then(|before| bytes.get(before)))
                    && !is_part(bytes.get(at + name.len()))
            })
            .unwrap_or(self.start)
    }
}

fn names_of(value: &Value) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    match names.len() {
        0 => "nothing".into(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

/// `rolled-back()` is how people write it, and a subtraction in CEL.
fn with_rolled_back_as_a_name(source: &str) -> String {
    let positions: Vec<usize> = Outside::new(source)
        .map(|(at, _)| at)
        .filter(|at| source.as_bytes()[*at..].starts_with(b"rolled-back"))
        .collect();
    let mut renamed = source.to_owned();
    for at in positions {
        renamed.replace_range(at..at + "rolled-back".len(), "rolled_back");
    }
    renamed
}

fn within_limits(source: &str) -> Result<(), ExpressionError> {
    if source.len() > MAX_LENGTH {
        return Err(ExpressionError::new(
            ExpressionErrorKind::Syntax,
            0,
            format!("this expression is {} bytes long", source.len()),
        )
        .help(format!("expected at most {MAX_LENGTH}")));
    }
    let mut depth = 0_usize;
    let mut operators = 0_usize;
    for (at, byte) in Outside::new(source) {
        operators += usize::from(byte.is_ascii_punctuation() && byte != b'_');
        if operators > MAX_OPERATORS {
            return Err(ExpressionError::new(ExpressionErrorKind::Syntax, at, "this expression is too long")
                .help(format!("expected at most {MAX_OPERATORS} operators, brackets, dots and commas")));
        }
        match byte {
            // A ternary nests its right side as a bracket does.
            b'(' | b'[' | b'{' | b'?' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(ExpressionError::new(ExpressionErrorKind::Syntax, at, "this expression is nested too deep")
                .help(format!("expected at most {MAX_NESTING} levels of brackets")));
        }
    }
    Ok(())
}

fn syntax_error(source: &str, start: usize, errors: &cel::ParseErrors) -> ExpressionError {
    let Some(first) = errors.errors.first() else {
        return ExpressionError::new(ExpressionErrorKind::Syntax, start, "this is not a CEL expression");
    };
    let (line, column) = first.pos;
    let line_start = match usize::try_from(line - 1) {
        Ok(before) => source.split_inclusive('\n').take(before).map(str::len).sum(),
        Err(_) => 0,
    };
    let column = usize::try_from(column - 1).unwrap_or(0);
    let in_line = source[line_start..].char_indices().nth(column).map_or(source.len() - line_start, |(at, _)| at);
    // The parser lists all thirteen tokens that could start a value.
    let message = first.msg.trim_start_matches("Syntax error: ").split(" expecting {").next().unwrap_or_default();
    ExpressionError::new(ExpressionErrorKind::Syntax, line_start + in_line, format!("not a CEL expression: {message}"))
        .help("text needs quotes, and `==`, `&&`, `||`, `!` compare and combine")
}
