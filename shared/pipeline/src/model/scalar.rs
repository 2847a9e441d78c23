//! Values that are one piece of text: names, durations, percentages, templates. Where things are is in `address.rs`.

use schemars::json_schema;

use crate::decode::{Decode, Reader};
use crate::diagnostic::{Code, Diagnostic};
use crate::expression::{self, ExpressionError, Member};
use crate::yaml::{Node, Shape};

/// Why a text is not a value of its type.
pub(crate) struct Wrong {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: String,
    /// Bytes into the text.
    pub(crate) offset: Option<usize>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code: Code::BadValue, message: message.into(), help: help.into(), offset: None }
    }

    fn of_expression(error: ExpressionError) -> Self {
        Self {
            code: Code::Expression,
            message: error.message,
            help: error.help.unwrap_or_else(|| "see https://cel.dev for the language".into()),
            offset: Some(error.offset),
        }
    }
}

/// Decoding and schema of a type with `fn read(&str) -> Result<Self, Wrong>`.
macro_rules! scalar {
    ($type:ident, $what:literal, $schema:tt) => {
        impl Decode for $type {
            fn decode(node: &Node, reader: &mut Reader) -> Option<Self> {
                if matches!(node.shape, Shape::Null | Shape::List(_) | Shape::Map(_)) {
                    return reader.mismatch(node, $what);
                }
                match Self::read(&node.written) {
                    Ok(value) => Some(value),
                    Err(wrong) => {
                        // Inside of the text only if it is written as it is read: no escapes, not on several lines.
                        let place = match wrong.offset {
                            Some(offset) if node.place.text().trim_matches(['"', '\'']) == node.written => {
                                let quote = usize::from(node.place.text().starts_with(['"', '\'']));
                                node.place.inside(offset + quote)
                            }
                            _ => node.place.clone(),
                        };
                        reader.report(Diagnostic::new(wrong.code, &place, wrong.message).help(wrong.help));
                        None
                    }
                }
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                json_schema!($schema)
            }
        }
    };
}
pub(super) use scalar;

/// A name: lower-case letters, digits, `-` and `_`. Names are part of subjects on the bus and of paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub(crate) String);

impl Name {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        const LONGEST: usize = 63;
        let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts_well && text.chars().all(is_inner) && !text.ends_with('-') && text.len() <= LONGEST {
            return Ok(Self(text.to_owned()));
        }
        let mut likely: String =
            text.to_lowercase().chars().map(|c| if is_inner(c) { c } else { '-' }).take(LONGEST).collect();
        likely = likely.trim_matches(['-', '_']).to_owned();
        let rule = format!("expected lower-case letters, digits, `-` and `_`, at most {LONGEST}");
        let help = if likely.is_empty() { rule } else { format!("{rule}; for example `{likely}`") };
        Err(Wrong::new(format!("`{}` is not a name", shortened(text)), help))
    }
}

scalar!(Name, "a name", {
    "type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]*[a-z0-9_])?$", "maxLength": 63,
    "description": "Lower-case letters, digits, `-` and `_`."
});

/// The name of something else: a service, a group, a stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference(pub(crate) String);

impl Reference {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        Ok(Self(text.to_owned()))
    }
}

scalar!(Reference, "a name", { "type": "string", "description": "The name of something that is defined elsewhere." });

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(pub(crate) String);

impl VariableName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if well {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(
            format!("`{}` is not the name of a variable", shortened(text)),
            "expected letters, digits and `_`, for example `LOG_LEVEL`",
        ))
    }
}

scalar!(VariableName, "the name of a variable", { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });

/// Text as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub(crate) String);

impl Text {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.trim().is_empty() {
            return Err(Wrong::new("this is empty", "expected text"));
        }
        Ok(Self(text.to_owned()))
    }
}

scalar!(Text, "text", { "type": "string", "minLength": 1 });

/// Text with `${{ }}` expressions, checked for syntax and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    written: String,
    reads: Vec<Member>,
}

impl Template {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What its expressions read.
    pub fn reads(&self) -> &[Member] {
        &self.reads
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let reads = expression::members(text).map_err(Wrong::of_expression)?;
        Ok(Self { written: text.to_owned(), reads })
    }
}

scalar!(Template, "text", {
    "type": ["string", "number", "boolean"], "description": "Text that may hold `${{ }}` expressions (CEL)."
});

/// An `if:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    written: String,
    reads: Vec<Member>,
}

impl Condition {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What its expressions read.
    pub fn reads(&self) -> &[Member] {
        &self.reads
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let reads = expression::condition_members(text).map_err(Wrong::of_expression)?;
        Ok(Self { written: text.to_owned(), reads })
    }
}

scalar!(Condition, "a condition", {
    "type": ["string", "boolean"],
    "description": "CEL, with success(), failure(), always() and rolled-back(). Without any of them: success() && (…)."
});

/// A length of time: `30s`, `5m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub(crate) i64);

impl Duration {
    /// In milliseconds; more than 0.
    pub fn milliseconds(self) -> i64 {
        self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        const LONGEST: i64 = 366 * 24 * 3_600_000;
        let example = "expected a number with a unit, for example `30s`, `5m` or `1h 30m`";
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
            let help = format!("did you mean `{}s`? {example}", shortened(text));
            return Err(Wrong::new(format!("the duration `{}` has no unit", shortened(text)), help));
        }
        let length = humantime::parse_duration(text).map_err(|error| {
            // After the comma it lists all units there are.
            let reason = error.to_string();
            let reason = reason.split(", supported").next().unwrap_or_default();
            Wrong::new(format!("`{}` is not a duration: {reason}", shortened(text)), example)
        })?;
        match i64::try_from(length.as_millis()) {
            Ok(0) => Err(Wrong::new("this duration is shorter than a millisecond", example)),
            Ok(milliseconds) if milliseconds <= LONGEST => Ok(Self(milliseconds)),
            _ => Err(Wrong::new(format!("`{}` is longer than a year", shortened(text)), "expected at most 366 days")),
        }
    }
}

scalar!(Duration, "a duration such as `5m`", {
    "type": "string", "pattern": "^([0-9]+ ?[a-z]+ ?)+$", "examples": ["30s", "5m", "1h 30m"]
});

/// A share: `5%`, `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percentage(pub(crate) f64);

impl Percentage {
    /// From 0 to 100.
    pub fn percent(self) -> f64 {
        self.0
    }

    /// From 0 to 1.
    pub fn share(self) -> f64 {
        // Dividing gives the nearest number; 1 % is 0.01.
        self.0 / 100.0
    }

    /// In whole percent, if it is.
    pub(crate) fn whole(self) -> Option<u32> {
        (self.0.fract() == 0.0).then_some(self.0 as u32)
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let plain = text.trim();
        let Some(number) = plain.strip_suffix('%') else {
            let help = match plain.parse::<f64>() {
                Ok(n) if (0.0..=100.0).contains(&n) => format!("did you mean `{plain}%`?"),
                _ => "expected a number with `%`, for example `5%`".into(),
            };
            return Err(Wrong::new(format!("`{}` is not a percentage", shortened(text)), help));
        };
        match number.trim().parse::<f64>() {
            Ok(n) if (0.0..=100.0).contains(&n) => Ok(Self(n)),
            Ok(_) => Err(Wrong::new(format!("`{}` is out of range", shortened(plain)), "expected 0% to 100%")),
            Err(_) => Err(Wrong::new(
                format!("`{}` is not a percentage", shortened(text)),
                "expected a number with `%`, for example `5%`",
            )),
        }
    }
}

scalar!(Percentage, "a percentage such as `5%`", {
    "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *%$", "examples": ["5%", "0.5%"]
});

/// A whole number, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub(crate) u32);

impl Count {
    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        const MOST: u32 = 1_000_000;
        match text.trim().parse::<u32>() {
            Ok(n) if (1..=MOST).contains(&n) => Ok(Self(n)),
            _ => Err(Wrong::new(
                format!("`{}` is not a number of things", shortened(text)),
                format!("expected a whole number from 1 to {MOST}"),
            )),
        }
    }
}

scalar!(Count, "a whole number", { "type": "integer", "minimum": 1, "maximum": 1_000_000 });

/// How many times the odds of failure of the old release are harmful: above 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct OddsRatio(pub(crate) f64);

impl OddsRatio {
    /// As a number.
    pub fn get(self) -> f64 {
        self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        match text.trim().parse::<f64>() {
            Ok(n) if n > 1.0 && n <= 1_000.0 => Ok(Self(n)),
            _ => Err(Wrong::new(
                format!("`{}` is not an odds ratio that does harm", shortened(text)),
                "expected a number above 1, for example `2.0`: twice the odds of failure",
            )),
        }
    }
}

scalar!(OddsRatio, "a number above 1", { "type": "number", "exclusiveMinimum": 1.0, "maximum": 1000.0 });

/// A regular expression that texts have to match from start to end.
#[derive(Debug, Clone)]
pub struct Pattern {
    written: String,
    whole: regex::Regex,
}

impl Pattern {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it matches all of a text.
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let build = |text: &str| regex::RegexBuilder::new(text).size_limit(1 << 20).nest_limit(32).build();
        // Alone first: `a)(b` becomes an expression by the brackets around it.
        let built = build(text).and_then(|_| build(&format!("^(?:{text})$")));
        built.map(|whole| Self { written: text.to_owned(), whole }).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Wrong::new(
                format!("`{}` is not a regular expression: {reason}", shortened(text)),
                "expected one without look-around and back-references, for example `v[0-9]+.*`",
            )
        })
    }
}

scalar!(Pattern, "a regular expression", { "type": "string", "format": "regex" });

/// A selector of Prometheus series: `http_requests_total{code=~"5.."}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(pub(crate) String);

impl Selector {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        super::selector::check(text).map_err(|(offset, message)| Wrong {
            code: Code::BadValue,
            message: format!("this is not a selector: {message}"),
            help: r#"expected a metric and labels, for example `http_requests_total{code=~"5.."}`"#.into(),
            offset: Some(offset),
        })?;
        Ok(Self(text.to_owned()))
    }
}

scalar!(Selector, "a selector", {
    "type": "string", "examples": ["http_requests_total", "http_requests_total{code=~\"5..\"}"]
});

/// A text short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > SHOWN || line.len() < text.trim_end().len() {
        return line.chars().take(SHOWN).chain(['…']).collect();
    }
    line.to_owned()
}
