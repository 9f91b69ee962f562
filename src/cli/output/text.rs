//! Sanitises and shortens foreign text. A name must not forge a row, color the terminal or change the
//! writing direction of the text beside it.

use std::borrow::Cow;
use std::fmt::Write as _;

use console::{measure_text_width, truncate_str};

pub const MAX_NAME_LENGTH: usize = 80;

/// Replaces every control character, line break and direction override with a space.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) {
        text.chars()
            .map(|c| if is_unsafe(c) { ' ' } else { c })
            .collect()
    } else {
        Cow::Borrowed(text)
    }
}

/// As [`clean`], but keeps line feeds.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Sanitises a name and cuts it to 80 characters.
#[must_use]
pub fn clean_name(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(MAX_NAME_LENGTH).collect();
    if characters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    clean(&shown).into_owned()
}

/// Cuts a sanitised text to this width on a terminal, with an ellipsis.
#[must_use]
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    truncate_str(text, columns, "…")
}

/// The width of a sanitised text on a terminal.
#[must_use]
pub fn display_width(text: &str) -> usize {
    measure_text_width(text)
}

/// Isolates right-to-left text, so that a terminal that reorders it does not move the next column
/// (Unicode UAX #9, first strong isolate).
#[must_use]
pub fn isolate(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_right_to_left) {
        Cow::Owned(format!("\u{2068}{text}\u{2069}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Escapes control characters in JSON text. They occur only inside strings there, where the escaped
/// form has the same meaning.
#[must_use]
pub fn escape_json(json: String) -> String {
    let needs_escape = |c: char| c != '\n' && is_unsafe(c);
    if !json.chars().any(needs_escape) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if needs_escape(c) {
            // All of them are in the basic multilingual plane, so one unit is enough.
            write!(escaped, "\\u{:04x}", u32::from(c)).expect("a string takes all text");
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Control characters (C0 and C1), line and paragraph separators, and direction overrides.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Hebrew to Arabic Extended, their presentation forms, and the historic and African blocks.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{0590}'..='\u{08ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_control_a_terminal_are_replaced() {
        for (text, shown) in [
            ("ci-deploy", "ci-deploy"),
            ("a\r\nb", "a  b"),
            ("\u{1b}[31mred\u{1b}[0m", " [31mred [0m"),
            ("\u{9b}2J", " 2J"),
            ("abc\u{202e}cba", "abc cba"),
            ("\u{2067}x\u{2069}\u{2028}", " x  "),
            ("👩‍🚀 deploy", "👩‍🚀 deploy"),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_at_80_characters() {
        assert_eq!(clean_name(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(
            clean_name(&"é".repeat(10_000)),
            format!("{}…", "é".repeat(79))
        );
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(display_width("日本語"), 6);
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
    }

    #[test]
    fn right_to_left_text_is_isolated() {
        assert_eq!(isolate("מפתח"), "\u{2068}מפתח\u{2069}");
        assert_eq!(isolate("key"), "key");
        assert_eq!(display_width(&isolate("מפתח")), 4);
    }

    #[test]
    fn json_is_escaped_without_changing_its_meaning() {
        let value = "a\u{9b}b\u{202e}c\u{7f}\n";
        let json = escape_json(serde_json::to_string(value).unwrap());
        assert_eq!(json, r#""a\u009bb\u202ec\u007f\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }

    proptest! {
        #[test]
        fn a_cut_text_fits(text in "\\PC*", width in 1_usize..40) {
            let text = clean(&text).into_owned();
            prop_assert!(display_width(&cut(&text, width)) <= width);
        }

        #[test]
        fn cleaning_leaves_one_line_without_controls(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(is_unsafe));
            prop_assert_eq!(clean(&text).chars().count(), text.chars().count());
        }
    }
}
