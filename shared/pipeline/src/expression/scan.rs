//! Finds the expressions in a string.

use super::{ExpressionError, ExpressionErrorKind};

pub(super) const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Expression {
        source: &'a str,
        /// Bytes from the start of the template to the start of `source`.
        offset: usize,
    },
}

/// Cuts a template into text and expressions.
pub(super) fn parts(template: &str) -> Result<Vec<Part<'_>>, ExpressionError> {
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(open) = template[rest..].find(OPEN).map(|at| at + rest) {
        if open > rest {
            found.push(Part::Text(&template[rest..open]));
        }
        let start = open + OPEN.len();
        let length = closing(&template[start..]).ok_or_else(|| {
            ExpressionError::new(ExpressionErrorKind::Syntax, open, "this `${{` is never closed")
                .help("expected `}}` after the expression")
        })?;
        found.push(Part::Expression { source: &template[start..start + length], offset: start });
        rest = start + length + CLOSE.len();
    }
    if rest < template.len() {
        found.push(Part::Text(&template[rest..]));
    }
    Ok(found)
}

/// A condition without the `${{ }}` it may be wrapped in, and where it starts.
pub(super) fn condition(text: &str) -> (&str, usize) {
    let start = text.len() - text.trim_start().len();
    let Some(inner) = text[start..].strip_prefix(OPEN) else {
        return (text, 0);
    };
    match closing(inner) {
        Some(length) if inner[length + CLOSE.len()..].trim().is_empty() => (&inner[..length], start + OPEN.len()),
        _ => (text, 0),
    }
}

/// Bytes up to the `}}` that closes an expression: not one in quotes, nor one that ends a map.
fn closing(source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in Outside::new(source) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if source[at..].starts_with(CLOSE) => return Some(at),
            _ => {}
        }
    }
    None
}

/// The bytes of an expression that are outside of quotes.
pub(super) struct Outside<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Outside<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { bytes: source.as_bytes(), at: 0 }
    }

    /// Moves past a string that starts here, raw and triple-quoted ones included.
    fn skip_string(&mut self, quote: u8) {
        let raw = self.at > 0 && matches!(self.bytes[self.at - 1], b'r' | b'R');
        let triple = self.bytes[self.at..].starts_with(&[quote; 3]);
        let end = if triple { vec![quote; 3] } else { vec![quote] };
        self.at += end.len();
        while self.at < self.bytes.len() {
            if self.bytes[self.at] == b'\\' && !raw {
                self.at += 2;
            } else if self.bytes[self.at..].starts_with(&end) {
                self.at += end.len();
                return;
            } else {
                self.at += 1;
            }
        }
    }
}

impl Iterator for Outside<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if byte == b'\'' || byte == b'"' {
                self.skip_string(byte);
                continue;
            }
            self.at += 1;
            return Some((self.at - 1, byte));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn braces_in_quotes_and_of_maps_do_not_close_an_expression() {
        for source in ["'}}'", "{'a': {'b': 1}}", r#""\"}}""#, "r'\\' + 'x'", "'''a'}}'''"] {
            let template = format!("<${{{{ {source} }}}}>");
            let found = parts(&template).unwrap();
            assert_eq!(found.len(), 3, "{template}");
            assert_eq!(found[1], Part::Expression { source: &format!(" {source} "), offset: 4 }, "{template}");
        }
    }

    #[test]
    fn an_expression_that_is_not_closed_is_named_by_where_it_opens() {
        let error = parts("abc ${{ 1 + 1 }").unwrap_err();
        assert_eq!((error.offset, error.kind), (4, ExpressionErrorKind::Syntax));
    }
}
