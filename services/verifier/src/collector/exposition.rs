//! The Prometheus text format, version 0.0.4, and as much of OpenMetrics as the same lines allow.
//!
//! Source: prometheus.io/docs/instrumenting/exposition_formats.

use std::borrow::Cow;

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// Name of the metric.
    pub name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    /// May be NaN or infinite.
    pub value: f64,
}

impl Sample<'_> {
    /// Value of a label, empty without it.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
    }
}

/// What was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Syntax(pub(super) String);

/// A line that is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not in the Prometheus text format: {reason}: `{start}`")]
pub struct ExpositionError {
    line: usize,
    reason: String,
    /// The beginning of it.
    start: String,
}

/// All samples of a page with their line numbers, in order. Comments and empty lines are left out.
pub fn samples(text: &str) -> impl Iterator<Item = Result<(usize, Sample<'_>), ExpositionError>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let mut cursor = Cursor::new(line);
        Some(cursor.sample().map(|sample| (index + 1, sample)).map_err(|Syntax(reason)| ExpositionError {
            line: index + 1,
            reason,
            start: line.chars().take(60).collect(),
        }))
    })
}

/// A place in one line.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// In characters, from 0.
    pub(super) fn position(&self) -> usize {
        self.text[..self.at].chars().count()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn is_at(&self, token: &str) -> bool {
        self.rest().starts_with(token)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let there = self.is_at(token);
        if there {
            self.at += token.len();
        }
        there
    }

    pub(super) fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Name of a metric or, without colons, of a label.
    pub(super) fn name(&mut self, colons: bool) -> Option<&'a str> {
        let rest = self.rest();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':'))).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.at += end;
        Some(name)
    }

    /// A string in double quotes with `\\`, `\"` and `\n`.
    pub(super) fn quoted(&mut self) -> Result<Cow<'a, str>, Syntax> {
        if !self.eat("\"") {
            return Err(Syntax("expected `\"`".into()));
        }
        let rest = self.rest();
        let mut owned: Option<String> = None;
        let mut characters = rest.char_indices();
        while let Some((i, c)) = characters.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(owned.map_or(Cow::Borrowed(&rest[..i]), Cow::Owned));
                }
                '\\' => {
                    let so_far = owned.get_or_insert_with(|| rest[..i].to_owned());
                    match characters.next() {
                        Some((_, 'n')) => so_far.push('\n'),
                        Some((_, c @ ('\\' | '"'))) => so_far.push(c),
                        // As Prometheus does: an unknown escape stays as it is.
                        Some((_, c)) => so_far.extend(['\\', c]),
                        None => break,
                    }
                }
                c => {
                    if let Some(so_far) = &mut owned {
                        so_far.push(c);
                    }
                }
            }
        }
        Err(Syntax("a string is never closed".into()))
    }

    fn sample(&mut self) -> Result<Sample<'a>, Syntax> {
        let name = self.name(true).ok_or(Syntax("expected the name of a metric".into()))?;
        self.blanks();
        let mut labels = Vec::new();
        if self.eat("{") {
            loop {
                self.blanks();
                if self.eat("}") {
                    break;
                }
                let label = self.name(false).ok_or(Syntax("expected the name of a label".into()))?;
                self.blanks();
                if !self.eat("=") {
                    return Err(Syntax("expected `=`".into()));
                }
                self.blanks();
                labels.push((label, self.quoted()?));
                self.blanks();
                if !self.eat(",") && !self.is_at("}") {
                    return Err(Syntax("expected `,` or `}`".into()));
                }
            }
        }
        // A time and, in OpenMetrics, an exemplar may follow the value; neither is needed.
        let value = self.rest().split_whitespace().next().ok_or(Syntax("expected a value".into()))?;
        let value = value.parse().map_err(|_| Syntax(format!("`{value}` is no number")))?;
        Ok(Sample { name, labels, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Result<Sample<'_>, ExpositionError> {
        samples(line).next().expect("a sample").map(|(_, sample)| sample)
    }

    #[test]
    fn the_examples_of_the_format_are_read() {
        let sample = one(r#"msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9"#)
            .expect("valid");
        assert_eq!(sample.label("path"), r"C:\DIR\FILE.TXT");
        assert_eq!(sample.label("error"), "Cannot find file:\n\"FILE.TXT\"");
        assert_eq!(sample.value, 1.458_255_915e9);
        assert_eq!(
            one("something_weird{problem=\"division by zero\"} +Inf -3982045").expect("valid").value,
            f64::INFINITY
        );
        assert_eq!(
            one("http_requests_total{ method = \"post\" , code=\"200\", } 1027 1395066363000").expect("valid").value,
            1027.0
        );
        assert!(one("metric_without_timestamp_and_labels NaN").expect("valid").value.is_nan());
        assert_eq!(one("foo_total 17.0 1520879607.789 # {trace_id=\"KOO5S4vxi0o\"} 0.67").expect("valid").value, 17.0);
    }

    #[test]
    fn lines_that_are_no_samples_are_named() {
        let message = |line: &str| one(line).expect_err("invalid").to_string();
        assert_eq!(
            message("<html>"),
            "line 1 is not in the Prometheus text format: expected the name of a metric: `<html>`"
        );
        assert!(message("x{a=\"1\"").contains("expected `,` or `}`"));
        assert!(message("x").contains("expected a value"));
        assert!(message("x zehn").contains("`zehn` is no number"));
        assert!(message("x{a} 1").contains("expected `=`"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            samples(&text).for_each(drop);
        }

        #[test]
        fn no_line_like_a_sample_makes_it_panic(text in r#"[a-z_:{}="\\,# 0-9.\nNé+-]{0,60}"#) {
            samples(&text).for_each(drop);
        }
    }
}
