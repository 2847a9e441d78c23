//! What went wrong, in RFC 9457's form.

use serde::{Deserialize, Serialize};

/// `application/problem+json` (RFC 9457), with a stable code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `CDF-4…` for the console's own, or that of who refused (`not-eligible`).
    pub code: String,
    /// What went wrong, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, where, and what to do.
    pub detail: String,
    /// Places in documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<DiagnosticView>,
}

/// Something about a place in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosticView {
    /// Stable code.
    pub code: String,
    /// `error` or `warning`.
    pub severity: String,
    /// Path below the applied directory.
    pub file: String,
    /// From 1; 0 when it is about the whole file.
    pub line: u32,
    /// From 1; 0 when it is about the whole line.
    pub column: u32,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do, such as the nearest valid name; empty if there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}
