//! What is kept of a configuration.

use serde::{Deserialize, Serialize};

use crate::configuration::Configuration;
use crate::diagnostic::Diagnostics;
use crate::source::SourceFile;

/// All documents of a project: kept under one key, so that an apply is all or nothing and a revision names all of it.
///
/// ```
/// use cdflow_pipeline::{Configuration, SourceFile};
///
/// let file = |text: &str| [SourceFile::new("people.yaml", text)];
/// let mut kept = Configuration::parse(file("kind: Person\nname: ana\n"))?.bundle();
/// kept.merge(Configuration::parse(file("kind: Person\nname: bo\n"))?.bundle());
/// assert_eq!(kept.parse()?.people.len(), 2);
/// # Ok::<(), cdflow_pipeline::Diagnostics>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bundle {
    /// No two of the same kind and name.
    pub documents: Vec<StoredDocument>,
}

/// A document as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoredDocument {
    /// For example `Pipeline`.
    pub kind: String,
    /// Unique in its kind.
    pub name: String,
    /// Where it came from.
    pub file: String,
    /// Line of the file that `text` starts with, from 1.
    pub line: usize,
    /// As it was written.
    pub text: String,
}

impl Bundle {
    /// Takes over the documents of another bundle: those of the same kind and name are replaced, the rest is added.
    pub fn merge(&mut self, other: Self) {
        for document in other.documents {
            match self.documents.iter_mut().find(|kept| kept.kind == document.kind && kept.name == document.name) {
                Some(kept) => *kept = document,
                None => self.documents.push(document),
            }
        }
    }

    /// Reads and checks all documents together.
    ///
    /// # Errors
    /// Everything that is wrong, at the files and lines that the documents came from.
    pub fn parse(&self) -> Result<Configuration, Diagnostics> {
        // Blank lines put each document where it was in its file.
        const MOST_LINES: usize = 100_000;
        Configuration::parse(self.documents.iter().map(|document| {
            let before = "\n".repeat(document.line.saturating_sub(1).min(MOST_LINES));
            SourceFile::new(&document.file, before + &document.text)
        }))
    }
}
