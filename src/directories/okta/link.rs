//! The Link header (RFC 8288 §3): where the next page is.

use reqwest::header::{HeaderMap, LINK};

/// A header that cannot be read: it may have named a next page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The target of the link that calls itself `next`. There may be several headers, each with several
/// links.
///
/// # Errors
/// When not all of them can be read.
pub(super) fn next(headers: &HeaderMap) -> Result<Option<String>, Malformed> {
    let mut found = None;
    for value in headers.get_all(LINK) {
        let mut rest = value.to_str().map_err(|_| Malformed)?;
        while let Some((link, after)) = link(rest)? {
            if link.is_next && found.is_none() {
                found = Some(link.target.to_owned());
            }
            rest = after;
        }
    }
    Ok(found)
}

struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// The first link of a text and what follows it, `None` at its end.
fn link(text: &str) -> Result<Option<(Link<'_>, &str)>, Malformed> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    if text.is_empty() {
        return Ok(None);
    }
    // Commas and semicolons in the target are its own.
    let target = text.strip_prefix('<').and_then(|text| text.split_once('>'));
    let (target, after) = target.ok_or(Malformed)?;
    let (mut parameters, after) = until(after, ',')?;
    let mut is_next = false;
    while !parameters.is_empty() {
        let (parameter, others) = until(parameters, ';')?;
        is_next |= is_rel_next(parameter);
        parameters = others;
    }
    Ok(Some((Link { target, is_next }, after)))
}

/// `rel="next"`; a relation may have several words.
fn is_rel_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    let words = value.trim().trim_matches('"').split_ascii_whitespace();
    let mut words = words.filter(|word| word.eq_ignore_ascii_case("next"));
    name.trim().eq_ignore_ascii_case("rel") && words.next().is_some()
}

/// What stands before a mark outside quotes, and what follows it.
fn until(text: &str, mark: char) -> Result<(&str, &str), Malformed> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if c == mark && !is_quoted => return Ok((&text[..at], &text[at + c.len_utf8()..])),
            _ => {}
        }
    }
    if is_quoted {
        return Err(Malformed);
    }
    Ok((text, ""))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use rstest::rstest;

    use super::*;

    const TARGET: &str = "https://acme.okta.com/api/v1/users?after=1,2;3&limit=200";

    /// A header on each line; `<>` stands for the target.
    fn next_of(lines: &str) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for line in lines.lines() {
            let value = line.replace("<>", &format!("<{TARGET}>"));
            headers.append(LINK, HeaderValue::from_str(&value).unwrap());
        }
        next(&headers)
    }

    #[rstest]
    #[case::alone("<>; rel=\"next\"")]
    #[case::after_another("<https://a.example/>; rel=\"self\"\n<>; rel=\"next\"")]
    #[case::before_another("<>; rel=\"next\"\n<https://a.example/>; rel=\"self\"")]
    #[case::joined("<https://a.example/>; rel=\"self\", <>; rel=\"next\"")]
    #[case::joined_tightly("<https://a.example/>;rel=self,<>;rel=next,<https://b.example/>")]
    #[case::bare_word("<> ; rel = next")]
    #[case::several_words("<>; rel=\"Last NEXT\"")]
    #[case::other_parameters("<>; title=\"a, \\\"b\\\"; rel=self\"; REL=\"next\"; type=x")]
    fn the_next_page_is_found_whatever_stands_around_it(#[case] lines: &str) {
        assert_eq!(next_of(lines), Ok(Some(TARGET.to_owned())));
    }

    #[rstest]
    #[case::none("")]
    #[case::only_the_same("<>; rel=\"self\"")]
    #[case::another_word("<>; rel=\"nextish\"")]
    #[case::another_parameter("<>; rev=\"next\"")]
    #[case::in_a_title("<>; title=\"rel=next\"")]
    #[case::no_parameter("<>")]
    #[case::empty(" , ")]
    fn nothing_else_is_the_next_page(#[case] lines: &str) {
        assert_eq!(next_of(lines), Ok(None));
    }

    #[rstest]
    #[case::bare("https://acme.okta.com/; rel=\"next\"")]
    #[case::open("<https://acme.okta.com/; rel=\"next\"")]
    #[case::open_quotes("<>; rel=\"next")]
    #[case::behind_a_sound_one("<>; rel=\"self\"\nnext")]
    fn what_cannot_be_read_is_not_the_end(#[case] lines: &str) {
        assert_eq!(next_of(lines), Err(Malformed));
    }
}
