//! Makes foreign text safe to print on a terminal, in a mail and in a log. It must not forge a line, control
//! the reader's terminal, hide anything, or change the writing direction of the text beside it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// For a name in a table or a body, in characters.
pub const MAX_NAME: usize = 80;
/// For a name in a subject.
pub const MAX_SUBJECT_NAME: usize = 40;
/// For any other foreign text in a mail.
pub const MAX_TEXT: usize = 300;

/// Control characters (C0 and C1), and the separators of lines and paragraphs.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Control characters, marks and overrides of the direction, the byte order mark and tag characters.
pub fn is_unsafe(c: char) -> bool {
    is_control(c)
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Replaces every unsafe character, line breaks included, with a space.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(is_unsafe) {
        Cow::Owned(text.replace(is_unsafe, " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// Does the same as [`clean`], but keeps line feeds.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Cleans a name and cuts it to [`MAX_NAME`] characters.
pub fn clean_name(name: &str) -> String {
    clean(&cut(name, MAX_NAME)).into_owned()
}

/// At most `limit` characters; a cut text ends in `…`.
pub fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit || text.chars().nth(limit).is_none() {
        return Cow::Borrowed(text);
    }
    let head: String = text.chars().take(limit.saturating_sub(1)).collect();
    // A joiner or a variation selector at the end would combine with the ellipsis.
    let head = head.trim_end_matches(['\u{200d}', '\u{fe0e}', '\u{fe0f}', ' ']);
    Cow::Owned(format!("{head}…"))
}

/// Cleaned text of at most `limit` characters, with single spaces. It does not escape; templates do.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in clean(text).split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    cut(&line, limit).into_owned()
}

/// Does the same as [`one_line`], and isolates right-to-left text.
pub fn isolated_line(text: &str, limit: usize) -> String {
    isolate(&one_line(text, limit)).into_owned()
}

/// The name on one line, or the external id if the name has no visible character.
pub fn display_name(name: &str, external_id: &str, limit: usize) -> String {
    let is_shown = name.chars().any(is_visible);
    isolated_line(if is_shown { name } else { external_id }, limit)
}

/// Wraps right-to-left text so that it does not change the direction of the text around it.
pub fn isolate(text: &str) -> Cow<'_, str> {
    if text.contains(is_right_to_left) {
        // UAX #9 §2.7: FIRST STRONG ISOLATE … POP DIRECTIONAL ISOLATE.
        Cow::Owned(format!("\u{2068}{text}\u{2069}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Escapes unsafe characters in JSON text, except line feeds. They occur only inside strings there, where
/// the escaped form has the same meaning.
pub fn escape_json(json: String) -> String {
    let needs_escape = |c: char| c != '\n' && is_unsafe(c);
    if !json.contains(needs_escape) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if needs_escape(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").expect("a string takes all text");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

pub fn is_visible(c: char) -> bool {
    !is_unsafe(c)
        && !c.is_whitespace()
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}')
}

/// Hebrew to Arabic Extended, their presentation forms, and the historic and African blocks.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unsafe_characters_are_replaced() {
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
    fn line_breaks_and_controls_become_one_space() {
        for (text, shown) in [
            ("a\r\nBcc: x@y.z", "a Bcc: x@y.z"),
            ("\tone\u{0}two\u{1b}[31m ", "one two [31m"),
            ("invoice\u{202e}fdp.exe", "invoice fdp.exe"),
            ("a\u{2028}b\u{2029}c\u{85}d", "a b c d"),
            ("{{secret}} <script>", "{{secret}} <script>"),
            ("", ""),
        ] {
            assert_eq!(one_line(text, 80), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_with_an_ellipsis() {
        for cleaned in [clean_name, |text: &str| one_line(text, 80)] {
            assert_eq!(cleaned(&"x".repeat(80)), "x".repeat(80));
            let cut = format!("{}…", "é".repeat(79));
            assert_eq!(cleaned(&"é".repeat(10_000)), cut);
        }
        assert_eq!(one_line("abc def", 5), "abc…");
        assert_eq!(one_line("👩\u{200d}🚀👩\u{200d}🚀", 3), "👩…");
    }

    #[test]
    fn an_invisible_name_is_replaced_by_the_external_id() {
        for name in ["", "  ", "\r\n", "\u{200b}\u{200d}", "\u{202e}", "\u{200f}"] {
            assert_eq!(display_name(name, "key-7", 80), "key-7", "{name:?}");
        }
        assert_eq!(display_name("0", "key-7", 80), "0");
    }

    #[test]
    fn right_to_left_text_is_isolated() {
        assert_eq!(isolate("מפתח"), "\u{2068}מפתח\u{2069}");
        assert_eq!(isolate("key"), "key");
        assert_eq!(console::measure_text_width(&isolate("מפתח")), 4);
        assert_eq!(display_name("פריסה", "1", 80), "\u{2068}פריסה\u{2069}");
        assert_eq!(display_name("déploiement", "1", 80), "déploiement");
    }

    #[test]
    fn json_is_escaped_without_changing_its_meaning() {
        let value = "a\u{9b}b\u{202e}c\u{7f}\u{e0041}\n";
        let json = escape_json(serde_json::to_string(value).unwrap());
        assert_eq!(json, r#""a\u009bb\u202ec\u007f\udb40\udc41\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }

    proptest! {
        #[test]
        fn cleaning_leaves_one_line_without_controls(text in any::<String>()) {
            prop_assert!(!clean(&text).contains(is_unsafe));
            prop_assert_eq!(clean(&text).chars().count(), text.chars().count());
        }

        #[test]
        fn the_result_is_one_line_within_the_limit(text in any::<String>(), limit in 1_usize..100) {
            let shown = one_line(&text, limit);
            prop_assert!(shown.chars().count() <= limit);
            prop_assert!(!shown.contains(is_unsafe));
            prop_assert_eq!(one_line(&shown, limit), shown);
        }
    }
}
