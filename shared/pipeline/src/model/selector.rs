//! Checks selectors of Prometheus series.

/// Bytes into the text, and what is wrong there.
type Wrong = (usize, String);

/// Checks `name{label="value", other=~"regex"}`.
pub(super) fn check(text: &str) -> Result<(), Wrong> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.blanks();
    cursor.name("a metric", true)?;
    cursor.blanks();
    if cursor.accept("{") {
        cursor.blanks();
        while !cursor.accept("}") {
            cursor.matcher()?;
            cursor.blanks();
            if !cursor.accept(",") && !cursor.rest().starts_with('}') {
                return Err(cursor.expected("`,` or `}`"));
            }
            cursor.blanks();
        }
        cursor.blanks();
    }
    if cursor.rest().is_empty() { Ok(()) } else { Err(cursor.expected("the end")) }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> Wrong {
        let found = self.rest().chars().next().map_or("the end".into(), |c| format!("`{c}`"));
        (self.at, format!("expected {what}, found {found}"))
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn accept(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn name(&mut self, what: &str, with_colon: bool) -> Result<(), Wrong> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (with_colon && c == ':');
        let length = self.rest().find(|c: char| !is_part(c)).unwrap_or(self.rest().len());
        if length == 0 || self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.expected(what));
        }
        self.at += length;
        Ok(())
    }

    fn matcher(&mut self) -> Result<(), Wrong> {
        self.name("a label", false)?;
        self.blanks();
        let Some(operator) = ["=~", "!~", "!=", "="].into_iter().find(|operator| self.accept(operator)) else {
            return Err(self.expected("`=`, `!=`, `=~` or `!~`"));
        };
        self.blanks();
        let quoted_from = self.at;
        let value = self.quoted()?;
        if operator.ends_with('~')
            && let Err(error) = regex::RegexBuilder::new(&value).size_limit(1 << 20).nest_limit(32).build()
        {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            return Err((quoted_from, format!("not a regular expression: {reason}")));
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<String, Wrong> {
        let Some(quote) = ['"', '\''].into_iter().find(|quote| self.rest().starts_with(*quote)) else {
            return Err(self.expected("a value in quotes"));
        };
        let from = self.at;
        let mut value = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            if c == quote {
                self.at += at + 1;
                return Ok(value);
            }
            let escaped = if c == '\\' { characters.next() } else { None };
            match escaped {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c)) => value.push(c),
                None => value.push(c),
            }
        }
        Err((from, "this value is never closed".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn selectors_are_a_metric_and_labels() {
        for good in ["up", "a:b_c{}", r#"x{code=~"5..",path!="/a\"b", }"#, "x { a = 'b' , c !~ 'd|e' }"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, at) in [
            ("", 0),
            ("1x", 0),
            ("x{code}", 6),
            ("x{code=5}", 7),
            (r#"x{code="5}"#, 7),
            (r#"x{code=~"("}"#, 8),
            (r#"x{a="b" c="d"}"#, 8),
            ("rate(x[5m])", 4),
        ] {
            assert_eq!(check(bad).map_err(|(at, _)| at), Err(at), "{bad}");
        }
    }
}
