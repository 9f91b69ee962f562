//! The Link header (RFC 8288 §3), which names the next page.

use reqwest::header::{HeaderMap, LINK};

/// A header that cannot be parsed. It may have named a next page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The target of the link with the relation `next`. There may be several headers, each with several links.
///
/// # Errors
/// When one of the headers cannot be parsed.
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

/// The first link of a text, and the rest of the text.
fn link(text: &str) -> Result<Option<(Link<'_>, &str)>, Malformed> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    if text.is_empty() {
        return Ok(None);
    }
    // The target may contain commas and semicolons.
    let target = text.strip_prefix('<').and_then(|text| text.split_once('>'));
    let (target, after) = target.ok_or(Malformed)?;
    let (mut parameters, after) = split_unquoted(after, ',')?;
    let mut is_next = false;
    while !parameters.is_empty() {
        let (parameter, others) = split_unquoted(parameters, ';')?;
        is_next |= is_rel_next(parameter);
        parameters = others;
    }
    Ok(Some((Link { target, is_next }, after)))
}

/// `rel="next"`; the value may list several relations.
fn is_rel_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    let is_next = |relation: &str| relation.eq_ignore_ascii_case("next");
    name.trim().eq_ignore_ascii_case("rel") && relations.any(is_next)
}

/// Splits at the first `mark` outside quotes.
fn split_unquoted(text: &str, mark: char) -> Result<(&str, &str), Malformed> {
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

    /// One header per line; `<>` is replaced by the target.
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
    fn the_next_page_is_found_in_every_valid_form(#[case] lines: &str) {
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
    #[case::after_a_valid_one("<>; rel=\"self\"\nnext")]
    fn an_unreadable_header_is_not_the_end(#[case] lines: &str) {
        assert_eq!(next_of(lines), Err(Malformed));
    }
}
