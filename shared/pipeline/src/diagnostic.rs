//! What is wrong with a configuration, said so that it can be put right.

use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};
use serde::{Deserialize, Serialize};

use crate::source::{Place, SourceFile};

/// How many are kept: nobody reads more, and each costs time to locate.
const KEPT: usize = 1_000;
/// How many are shown to people at a time.
const SHOWN: usize = 50;

/// Kinds of errors. The number is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is not YAML, or more of it than is read.
    NotYaml,
    /// No such kind.
    UnknownKind,
    /// No such field.
    UnknownField,
    /// A field that has to be there is not.
    MissingField,
    /// A list where text belongs, and the like.
    WrongType,
    /// A duration without unit, a percentage above 100 %, and the like.
    BadValue,
    /// The same thing twice.
    Duplicate,
    /// The name of something that does not exist.
    UnknownName,
    /// Stages that wait for each other.
    Cycle,
    /// A `${{ }}` or `if:` that cannot be read.
    Expression,
    /// Part of the language, but not of this release.
    NotInThisRelease,
    /// Shares of traffic that do not rise.
    NotRising,
    /// More approvals than there are people.
    Quorum,
    /// Fields that do not go together.
    Conflict,
    /// A strategy or check without what it needs.
    Unfit,
    /// What was asked for does not exist.
    NoSuchThing,
    /// An input that is missing, unknown or of the wrong type.
    Input,
    /// A version that cannot be released.
    Version,
}

impl Code {
    /// For example `CDF-1001`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotYaml => "CDF-1001",
            Self::UnknownKind => "CDF-1002",
            Self::UnknownField => "CDF-1003",
            Self::MissingField => "CDF-1004",
            Self::WrongType => "CDF-1005",
            Self::BadValue => "CDF-1006",
            Self::Duplicate => "CDF-1007",
            Self::UnknownName => "CDF-1008",
            Self::Cycle => "CDF-1009",
            Self::Expression => "CDF-1010",
            Self::NotInThisRelease => "CDF-1011",
            Self::NotRising => "CDF-1012",
            Self::Quorum => "CDF-1013",
            Self::Conflict => "CDF-1014",
            Self::Unfit => "CDF-1015",
            Self::NoSuchThing => "CDF-1101",
            Self::Input => "CDF-1102",
            Self::Version => "CDF-1103",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// Kind of error.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// What was expected, what to do, or the nearest valid name.
    pub help: Option<String>,
    /// Where. `None`: in the request, not in a file.
    pub place: Option<Place>,
}

impl Diagnostic {
    pub(crate) fn new(code: Code, place: &Place, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, place: Some(place.clone()) }
    }

    /// Something wrong with what was asked for.
    pub(crate) fn of_request(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, place: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As a program reads it.
    pub fn record(&self) -> DiagnosticRecord {
        let place = self.place.as_ref();
        DiagnosticRecord {
            code: self.code.as_str().to_owned(),
            file: place.map(|p| p.file().to_owned()).unwrap_or_default(),
            line: place.map_or(0, Place::line),
            column: place.map_or(0, Place::column),
            message: self.message.clone(),
            help: self.help.clone().unwrap_or_default(),
        }
    }
}

/// A [`Diagnostic`] for `--json` and for the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticRecord {
    /// For example `CDF-1003`.
    pub code: String,
    /// Path of the file; empty if the request is wrong, not a file.
    pub file: String,
    /// From 1; 0 without file.
    pub line: usize,
    /// In characters, from 1; 0 without file.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What was expected or what to do; empty if nothing more is known.
    pub help: String,
}

/// Everything that is wrong, in the order of files and lines.
///
/// `Display` shows each with the lines it is about, without colours; see [`Diagnostics::render`] for colours and
/// [`Diagnostics::records`] for programs.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    /// How many more there were than are kept.
    left_out: usize,
}

impl Diagnostics {
    /// Fails with everything found, if anything was.
    pub(crate) fn or<T>(mut found: Vec<Diagnostic>, value: T) -> Result<T, Self> {
        if found.is_empty() {
            return Ok(value);
        }
        found.sort_by(|a, b| order(a).cmp(&order(b)));
        let left_out = found.len().saturating_sub(KEPT);
        found.truncate(KEPT);
        Err(Self { found, left_out })
    }

    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self { found: vec![diagnostic], left_out: 0 }
    }

    /// Each thing that is wrong, up to the first thousand.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// How many things are wrong; never zero in an error.
    pub fn count(&self) -> usize {
        self.found.len() + self.left_out
    }

    /// As programs read it.
    pub fn records(&self) -> Vec<DiagnosticRecord> {
        self.found.iter().map(Diagnostic::record).collect()
    }

    /// As people read it: what is wrong, the lines it is about, what to do.
    pub fn render(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false).with_context_lines(1);
        let mut text = String::new();
        for (index, diagnostic) in self.found.iter().take(SHOWN).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            if handler.render_report(&mut text, &Shown(diagnostic)).is_err() {
                // Formatting into a string fails only if a part of the report does: say it plainly then.
                text.push_str(&diagnostic.message);
                text.push('\n');
            }
        }
        if self.count() > SHOWN {
            text.push_str(&format!("\n… and {} more\n", self.count() - SHOWN));
        }
        text
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl Serialize for Diagnostics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.records().serialize(serializer)
    }
}

fn order(diagnostic: &Diagnostic) -> (Option<&str>, usize, &str) {
    let place = diagnostic.place.as_ref();
    (place.map(Place::file), place.map_or(0, |p| p.offset), &diagnostic.message)
}

/// A diagnostic for miette.
#[derive(Debug)]
struct Shown<'a>(&'a Diagnostic);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.0.code.as_str()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.place.as_ref().map(|place| place.source.as_ref() as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.0.place.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new(Some("here".into()), place.offset, place.length))))
    }
}

impl SourceCode for SourceFile {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self.text.as_str().read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.path.clone(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}
