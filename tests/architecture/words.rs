//! Splits Rust code into words and strings.

/// The words of a file without comments, and its strings with their quotes; `::` is one word, any other punctuation
/// one character each.
pub fn scan(code: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut words, mut strings) = (Vec::new(), Vec::new());
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let word = word.unwrap_or(rest.len());
        let hashes = rest[word..].len() - rest[word..].trim_start_matches('#').len();
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").expect("the end of a comment") + 2
        } else if matches!(&rest[..word], "r" | "br") && rest[word + hashes..].starts_with('"') {
            let start = word + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            let end = start + rest[start..].find(&end).expect("the end of a string") + end.len();
            strings.push(&rest[..end]);
            end
        } else if first == '"' {
            let end = end_of_string(rest);
            strings.push(&rest[..end]);
            end
        } else if first == '\'' {
            end_of_quote(rest)
        } else {
            let end = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            words.push(&rest[..end]);
            end
        };
        rest = rest[end..].trim_start();
    }
    (words, strings)
}

/// Where a string ends that starts the text.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = true;
    let end = text.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.expect("the end of a string") + 1
}

/// Where a character or the mark of a lifetime ends that starts the text.
fn end_of_quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let (_, quoted) = chars.next().expect("a character");
    match chars.next() {
        Some(_) if quoted == '\\' => 3 + text[3..].find('\'').expect("the end of a character"),
        Some((at, '\'')) => at + 1,
        _ => 1,
    }
}
