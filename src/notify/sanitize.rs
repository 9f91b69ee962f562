//! Makes foreign text safe to print: one line of limited length, without control characters and direction
//! overrides. It does not escape; templates do.

/// For a name in a body.
pub const MAX_NAME: usize = 80;
/// For a name in a subject.
pub const MAX_SUBJECT_NAME: usize = 40;
/// For any other foreign text.
pub const MAX_TEXT: usize = 300;

/// One line of at most `limit` characters. Control characters and direction overrides become spaces,
/// several spaces become one, and a cut text ends in `…`.
#[must_use]
pub fn one_line(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit * 4));
    let (mut length, mut gap) = (0, false);
    for c in text.chars() {
        if is_blank(c) {
            gap = !out.is_empty();
            continue;
        }
        length += 1 + usize::from(gap);
        if length > limit {
            return truncate(&out, limit);
        }
        if std::mem::take(&mut gap) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// The name on one line, or the external id if the name has no visible character.
#[must_use]
pub fn display_name(name: &str, external_id: &str, limit: usize) -> String {
    let shown = if name.chars().any(is_visible) {
        one_line(name, limit)
    } else {
        one_line(external_id, limit)
    };
    isolate(shown)
}

/// Wraps right-to-left text so that it does not change the direction of the text around it.
#[must_use]
pub fn isolate(text: String) -> String {
    if text.is_ascii() || !text.chars().any(is_right_to_left) {
        return text;
    }
    // UAX #9 §2.7: FIRST STRONG ISOLATE … POP DIRECTIONAL ISOLATE.
    format!("\u{2068}{text}\u{2069}")
}

fn truncate(text: &str, limit: usize) -> String {
    let head: String = text.chars().take(limit.saturating_sub(1)).collect();
    // A joiner or a variation selector at the end would combine with the ellipsis.
    let head = head.trim_end_matches(['\u{200d}', '\u{fe0e}', '\u{fe0f}', ' ']);
    format!("{head}…")
}

fn is_blank(c: char) -> bool {
    c == ' '
        || c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn is_visible(c: char) -> bool {
    !is_blank(c)
        && !c.is_whitespace()
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}')
}

fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(one_line(&"x".repeat(80), 80), "x".repeat(80));
        let shown = one_line(&"é".repeat(10_000), 80);
        assert_eq!(shown.chars().count(), 80);
        assert!(shown.ends_with("é…"));
        assert_eq!(one_line("abc def", 5), "abc…");
        assert_eq!(one_line("👩\u{200d}🚀👩\u{200d}🚀", 3), "👩…");
    }

    #[test]
    fn an_invisible_name_is_replaced_by_the_external_id() {
        for name in ["", "  ", "\r\n", "\u{200b}\u{200d}", "\u{202e}"] {
            assert_eq!(display_name(name, "key-7", 80), "key-7", "{name:?}");
        }
        assert_eq!(display_name("0", "key-7", 80), "0");
    }

    #[test]
    fn a_right_to_left_name_is_isolated() {
        assert_eq!(display_name("פריסה", "1", 80), "\u{2068}פריסה\u{2069}");
        assert_eq!(display_name("déploiement", "1", 80), "déploiement");
    }

    proptest! {
        #[test]
        fn the_result_is_one_line_within_the_limit(text in any::<String>(), limit in 1_usize..100) {
            let shown = one_line(&text, limit);
            prop_assert!(shown.chars().count() <= limit);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(one_line(&shown, limit), shown);
        }
    }
}
