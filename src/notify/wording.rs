//! Wraps the lines of mails, and counts things in English, for the command line and the log.

use crate::language::group_digits;

/// Characters in a line of the text part (RFC 5322 §2.1.1).
const MAX_WIDTH: usize = 78;

/// A count with its noun, which takes an `s` in the plural: `1 token`, `1,204 tokens`.
pub fn quantity(count: impl TryInto<i64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(i64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(count))
}

/// Groups the digits with commas: `1,204`.
pub fn thousands(count: impl TryInto<i64>) -> String {
    group_digits(count.try_into().unwrap_or(i64::MAX), ",")
}

/// Wraps the text part at [`MAX_WIDTH`] characters, so that a template can write a paragraph on one line.
///
/// Breaks long lines at spaces; a word longer than a line breaks anywhere, a link nowhere. Continuation
/// lines are indented to the text after a list mark (`- `, ` 1. `) or after a label that two spaces
/// separate from its value. Blank lines at both ends are removed, several in a row become one.
pub(super) fn wrap(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut after_blank = false;
    for line in text.lines() {
        let line = if line == "-- " { line } else { line.trim_end() };
        if line.is_empty() {
            after_blank = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut after_blank) {
            out.push('\n');
        }
        // A command that is copied must stay one line.
        let is_command = line.starts_with("    ") && line.trim_start().starts_with("lapsed ");
        if is_command || line.len() <= MAX_WIDTH || line.chars().count() <= MAX_WIDTH {
            out.push_str(line);
            out.push('\n');
        } else {
            wrap_line(line, &mut out);
        }
    }
    out
}

fn wrap_line(line: &str, out: &mut String) {
    let start = line.len() - line.trim_start().len();
    let indent = hanging_indent(line, start);
    let (head, rest) = line.split_at(indent.max(start));
    out.push_str(head);
    let mut column = head.chars().count();
    let margin = column;
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word;
        let mut length = word.chars().count();
        if column > margin && column + 1 + length > MAX_WIDTH {
            new_line(out, margin);
            column = margin;
        } else if column > margin {
            out.push(' ');
            column += 1;
        }
        while column + length > MAX_WIDTH && !word.contains("://") {
            let room = (MAX_WIDTH - column).max(1);
            let at = word.char_indices().nth(room);
            let (line, rest) = word.split_at(at.map_or(word.len(), |(at, _)| at));
            out.push_str(line);
            word = rest;
            length -= room;
            new_line(out, margin);
            column = margin;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

fn new_line(out: &mut String, margin: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', margin));
}

/// Where the text of a line begins, in octets; at most a third of the width.
fn hanging_indent(line: &str, start: usize) -> usize {
    let body = &line[start..];
    let mark = body.find(' ').filter(|&at| {
        let word = &body[..at];
        word == "-" || (word.ends_with('.') && word[..at - 1].bytes().all(|b| b.is_ascii_digit()))
    });
    let width = if let Some(at) = mark {
        at + 1
    } else if start > 0
        && let Some(at) = body.find("  ")
    {
        body.len() - body[at..].trim_start().len()
    } else {
        0
    };
    // Other letters may be wider than a column.
    let is_plain = line[..start + width].chars().all(|c| c < '\u{300}');
    if is_plain && start + width <= MAX_WIDTH / 3 {
        start + width
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_grouped_in_threes() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1_204, "1,204"),
            (-1_000_000, "-1,000,000"),
        ] {
            assert_eq!(thousands(count), expected);
        }
        assert_eq!(quantity(1, "token"), "1 token");
    }

    #[test]
    fn continuation_lines_are_indented_to_the_text() {
        let words = "word ".repeat(20);
        let wrapped = wrap(&format!(
            "{words}\n\n\n 1. {words}\n    Scope    {words}\n-- \nend"
        ));
        let starts: Vec<&str> = wrapped
            .lines()
            .map(|line| &line[..line.len().min(14)])
            .collect();
        assert_eq!(
            starts,
            [
                "word word word",
                "word word word",
                "",
                " 1. word word ",
                "    word word ",
                "    Scope    w",
                "             w",
                "-- ",
                "end"
            ]
        );
    }

    #[test]
    fn a_long_word_breaks_anywhere_and_a_link_nowhere() {
        let wrapped = wrap(&format!("    Name  {}", "x".repeat(100)));
        assert_eq!(wrapped.matches('x').count(), 100);
        assert!(wrapped.lines().all(|line| line.len() <= MAX_WIDTH));
        let link = format!("https://example.org/{}", "x".repeat(100));
        assert!(wrap(&format!("see {link} there")).contains(&link));
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_word_is_lost(text in "[ a-z\n.0-9é-]{0,400}") {
            let wrapped = wrap(&text);
            prop_assert!(wrapped.lines().all(|line| line.chars().count() <= MAX_WIDTH));
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&wrapped), letters(&text));
        }
    }
}
