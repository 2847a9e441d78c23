//! What a script writes to `$CDFLOW_OUTPUT`: `name=value`, or for several lines
//!
//! ```text
//! name<<END
//! first
//! second
//! END
//! ```

use std::{collections::BTreeMap, fs::OpenOptions, io::Read as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use rustix::fs::OFlags;

/// Most bytes of the file: results travel in messages.
const LARGEST: u64 = 32 << 10;

/// What a script has left in the file.
///
/// # Errors
/// A sentence: it is gone, too large, or no file any more. A pipe in its place would be read for ever.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let unread = |error: std::io::Error| format!("$CDFLOW_OUTPUT cannot be read: {error}");
    let file = opened.map_err(unread)?;
    let found = file.metadata().map_err(unread)?;
    if !found.is_file() {
        return Err("$CDFLOW_OUTPUT is no file any more: append lines to it, and leave it where it is".into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!(
            "$CDFLOW_OUTPUT has {} bytes, at most {LARGEST} fit: pass a reference to where the data is",
            found.len()
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The outputs, a later one of the same name winning.
///
/// # Errors
/// A sentence with the number of the line.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        // Whichever comes first decides, so that a value may contain the other.
        let (name, value) = match (line.find('='), line.find("<<")) {
            (Some(equals), marker) if marker.is_none_or(|marker| equals < marker) => {
                (&line[..equals], line[equals + 1..].to_owned())
            }
            (_, Some(marker)) => {
                let delimiter = line[marker + 2..].trim();
                if delimiter.is_empty() {
                    return Err(format!("line {number} of $CDFLOW_OUTPUT has no delimiter after `<<`"));
                }
                let mut value = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == delimiter => break,
                        Some((_, line)) => value.push(line),
                        None => {
                            return Err(format!(
                                "the value that begins in line {number} of $CDFLOW_OUTPUT never ends: no line `{delimiter}`"
                            ));
                        }
                    }
                }
                (&line[..marker], value.join("\n"))
            }
            _ => {
                return Err(format!(
                    "line {number} of $CDFLOW_OUTPUT is neither `name=value` nor `name<<DELIMITER`: {line}"
                ));
            }
        };
        let name = name.trim();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            return Err(format!(
                "line {number} of $CDFLOW_OUTPUT names an output `{name}`: use letters, digits, `_` and `-`"
            ));
        }
        outputs.insert(name.to_owned(), value);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_line_and_several_lines() {
        let outputs = parse("a=1\n\nb<<END\nx=1\ny<<z\nEND\nc=x<<y=z\n").unwrap();
        let expected = [("a", "1"), ("b", "x=1\ny<<z"), ("c", "x<<y=z")];
        assert_eq!(outputs, expected.into_iter().map(|(k, v)| (k.into(), v.into())).collect());
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, part) in [
            ("a=1\nnonsense", "line 2"),
            ("a<<\n", "line 1"),
            ("a<<E\nx", "no line `E`"),
            ("a b=1", "`a b`"),
            ("=1", "``"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_value_without_the_delimiter_comes_back(value in "[^\r]*", name in "[a-z][a-z0-9_-]{0,10}") {
            let value = value.lines().filter(|line| *line != "END").collect::<Vec<_>>().join("\n");
            prop_assume!(!value.is_empty());
            let outputs = parse(&format!("{name}<<END\n{value}\nEND\n")).unwrap();
            prop_assert_eq!(outputs.get(&name), Some(&value));
        }

        #[test]
        fn any_text_is_parsed_or_an_error(text in ".*") {
            let _ = parse(&text);
        }
    }
}
