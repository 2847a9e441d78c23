//! Selectors of series: `http_requests_total{code=~"5..",method!="HEAD"}`.

use regex::Regex;

use super::exposition::{Cursor, Sample, Syntax};

/// Which series are summed.
#[derive(Debug, Clone)]
pub struct Selector {
    name: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Is(String),
    IsNot(String),
    Like(Regex),
    Unlike(Regex),
}

/// A selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the selector `{text}` cannot be read at character {position}: {reason}")]
pub struct SelectorError {
    text: String,
    position: usize,
    reason: String,
}

impl Selector {
    /// Reads a metric name with optional label matchers (`=`, `!=`, `=~`, `!~`). Regular expressions match the whole
    /// value, as in Prometheus.
    ///
    /// # Errors
    /// Where it cannot be read, and what was expected.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut cursor = Cursor::new(text.trim());
        Self::read(&mut cursor).map_err(|reason| SelectorError {
            text: text.to_owned(),
            position: cursor.position() + 1,
            reason: reason.0,
        })
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let name =
            cursor.name(true).ok_or(Syntax("expected the name of a metric, such as `http_requests_total`".into()))?;
        let mut matchers = Vec::new();
        cursor.blanks();
        if cursor.eat("{") {
            loop {
                cursor.blanks();
                if cursor.eat("}") {
                    break;
                }
                matchers.push(Matcher::read(cursor)?);
                cursor.blanks();
                if !cursor.eat(",") && !cursor.is_at("}") {
                    return Err(Syntax("expected `,` or `}`".into()));
                }
            }
        }
        cursor.blanks();
        if !cursor.is_at_end() {
            return Err(Syntax("expected nothing more: functions and ranges are not supported".into()));
        }
        Ok(Self { name: name.to_owned(), matchers })
    }

    /// Whether a series is meant.
    pub fn matches(&self, sample: &Sample<'_>) -> bool {
        sample.name == self.name && self.matchers.iter().all(|matcher| matcher.matches(sample))
    }
}

impl Matcher {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let label = cursor.name(false).ok_or(Syntax("expected the name of a label".into()))?.to_owned();
        cursor.blanks();
        let operator = ["=~", "!~", "!=", "="]
            .into_iter()
            .find(|operator| cursor.eat(operator))
            .ok_or(Syntax("expected `=`, `!=`, `=~` or `!~`".into()))?;
        cursor.blanks();
        let value = cursor.quoted()?.into_owned();
        let pattern = |value: &str| {
            Regex::new(&format!("^(?:{value})$")).map_err(|error| Syntax(format!("not a regular expression: {error}")))
        };
        let test = match operator {
            "=" => Test::Is(value),
            "!=" => Test::IsNot(value),
            "=~" => Test::Like(pattern(&value)?),
            _ => Test::Unlike(pattern(&value)?),
        };
        Ok(Self { label, test })
    }

    /// A label that a series does not have is an empty one.
    fn matches(&self, sample: &Sample<'_>) -> bool {
        let value = sample.label(&self.label);
        match &self.test {
            Test::Is(wanted) => value == wanted,
            Test::IsNot(unwanted) => value != unwanted,
            Test::Like(pattern) => pattern.is_match(value),
            Test::Unlike(pattern) => !pattern.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::exposition::samples;

    fn sum(selector: &str, text: &str) -> f64 {
        let selector = Selector::parse(selector).expect("valid selector");
        samples(text).map(|s| s.expect("valid text").1).filter(|s| selector.matches(s)).map(|s| s.value).sum()
    }

    const TEXT: &str = "\
# TYPE http_requests_total counter
http_requests_total{code=\"200\",method=\"GET\"} 100
http_requests_total{code=\"200\",method=\"HEAD\"} 7
http_requests_total{code=\"500\",method=\"GET\"} 3
http_requests_total{code=\"503\",method=\"GET\"} 2
http_requests_total{method=\"GET\"} 1000
http_requests 5
";

    #[test]
    fn it_sums_what_matches() {
        assert_eq!(sum("http_requests", TEXT), 5.0);
        assert_eq!(sum("http_requests_total", TEXT), 1112.0);
        assert_eq!(sum(r#"http_requests_total{code=~"5.."}"#, TEXT), 5.0);
        assert_eq!(sum(r#"http_requests_total{code!~"5..", method!="HEAD",}"#, TEXT), 1100.0);
        assert_eq!(sum(r#"http_requests_total{code=""}"#, TEXT), 1000.0);
        assert_eq!(sum(r#"http_requests_total{code=~"5"}"#, TEXT), 0.0, "regular expressions match the whole value");
        assert_eq!(sum(r#"http_requests_total{code=~"500|503"}"#, TEXT), 5.0);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let message = |text: &str| Selector::parse(text).expect_err("invalid").to_string();
        assert_eq!(
            message("rate(x[5m])"),
            "the selector `rate(x[5m])` cannot be read at character 5: expected nothing more: functions and ranges are not supported"
        );
        assert!(message("").contains("character 1: expected the name of a metric"));
        assert!(message("x{code").contains("character 7: expected `=`"));
        assert!(message("x{code=5}").contains("expected `\"`"));
        assert!(message(r#"x{code="5"#).contains("never closed"));
        assert!(message(r#"x{code=~"("}"#).contains("not a regular expression"));
        assert!(message(r#"x{a="1" b="2"}"#).contains("expected `,` or `}`"));
    }
}
