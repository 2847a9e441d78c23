//! The documents of a project.

use serde::{Deserialize, Serialize};

/// Answer of `GET /configuration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Rises with every change; 0 when nothing was ever applied.
    pub revision: u64,
    /// As applied.
    pub documents: Vec<StoredDocument>,
}

/// One document as it was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDocument {
    /// For example `Pipeline`.
    pub kind: String,
    /// Unique in its kind.
    pub name: String,
    /// Where it came from.
    pub file: String,
    /// Line of the file that `text` starts with, from 1.
    pub line: u64,
    /// As it was written.
    pub text: String,
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

/// Request of `PUT /configuration`: changes all documents at once or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceConfiguration {
    /// The revision that is changed (0: there is none); when it is another one by now, nothing is done (409).
    pub expected_revision: u64,
    /// Files to apply.
    pub documents: Vec<Document>,
    /// Documents that are stored and not among these stay; else they are removed.
    #[serde(default)]
    pub keep_others: bool,
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
    /// Documents that were applied before and are not among the new ones, as `Pipeline storefront`; with a check, those
    /// that would go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}
