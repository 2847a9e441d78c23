//! The documents of a project.

use serde::{Deserialize, Serialize};

/// Answer of `GET /configuration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Rises with every change; 0 when nothing was ever applied.
    pub revision: u64,
    /// As applied.
    pub documents: Vec<Document>,
}

/// One file; it may hold several YAML documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Path below the applied directory.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Request of `PUT /configuration`: replaces all documents at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceConfiguration {
    /// The revision that these documents replace (0: there is none); another one is a conflict.
    pub expected_revision: u64,
    /// All of them.
    pub documents: Vec<Document>,
    /// Only check.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `PUT /configuration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationReplaced {
    /// The revision now; the old one when nothing changed or only a check was asked for.
    pub revision: u64,
    /// `false` when the documents are the ones that are stored.
    pub changed: bool,
}
