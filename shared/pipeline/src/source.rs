//! Files and places in them.

use std::sync::Arc;

/// A file with documents of the pipeline language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As messages show it.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl SourceFile {
    /// A file with this path and text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Line and column of a byte, both from 1, columns in characters.
    pub(crate) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Where something is written: some bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(crate) source: Arc<SourceFile>,
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

impl Place {
    /// The place `offset` bytes into this one, one character long.
    pub(crate) fn inside(&self, offset: usize) -> Self {
        Self { source: Arc::clone(&self.source), offset: self.offset + offset.min(self.length), length: 1 }
    }

    /// Path of the file.
    pub fn file(&self) -> &str {
        &self.source.path
    }

    /// Line, from 1.
    pub fn line(&self) -> usize {
        self.source.line_and_column(self.offset).0
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> usize {
        self.source.line_and_column(self.offset).1
    }

    /// The text that is there, as it is written.
    pub(crate) fn text(&self) -> &str {
        self.source.text.get(self.offset..self.offset + self.length).unwrap_or_default()
    }
}

/// A value and where it is written.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// What is written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
