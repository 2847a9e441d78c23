//! What others have written, such as a version, a comment or a script's output, must not steer the terminal of who reads it.

use std::borrow::Cow;

const ESCAPE: char = '\u{1b}';

/// The text with line ends, tabs and colours; any other control character is shown as `\u{fffd}`.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_steering) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = colour(rest).unwrap_or(0);
        if taken > 0 {
            shown.push_str(&rest[..taken]);
            rest = &rest[taken..];
        } else {
            let mut characters = rest.chars();
            if characters.next() != Some('\r') {
                shown.push(char::REPLACEMENT_CHARACTER);
            }
            rest = characters.as_str();
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

fn is_steering(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t')
}

/// Bytes of the colour that a text begins with: `ESC [ 1 ; 31 m`.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix(ESCAPE)?.strip_prefix('[')?;
    let end = parameters.find(|character: char| !matches!(character, '0'..='9' | ';'))?;
    parameters[end..].starts_with('m').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_tabs_and_line_ends_stay() {
        let text = "\u{1b}[1;31mred\u{1b}[0m\tand\nplain é";
        assert!(matches!(printable(text), Cow::Owned(same) if same == text));
        assert!(matches!(printable("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn nothing_sets_titles_moves_the_cursor_or_overwrites_a_line() {
        for (text, shown) in [
            ("\u{1b}]0;pwned\u{7}x", "\u{fffd}]0;pwned\u{fffd}x"),
            ("\u{1b}[2J\u{1b}[1;1Hx", "\u{fffd}[2J\u{fffd}[1;1Hx"),
            ("v1.0.0\r\nv2", "v1.0.0\nv2"),
            ("approved\rrejected", "approvedrejected"),
            ("\u{9b}31m\u{1b}", "\u{fffd}31m\u{fffd}"),
            ("\u{1b}[31", "\u{fffd}[31"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
