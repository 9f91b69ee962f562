//! Error codes: of what a refusal says, the one word that may be shown.

use std::fmt;

use reqwest::Response;
use serde::Deserialize;

/// No refusal that holds a code is longer, in bytes.
const LARGEST: usize = 64 * 1024;

/// No code is longer, in bytes.
const LONGEST: usize = 40;

/// What a server calls an error: `invalid_client` (`error`, RFC 6749 §5.2), `E0000007` (`errorCode`, Okta).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "errorCode")]
    code: Option<String>,
    error: Option<String>,
}

/// The code in an answer; a body that is long, broken off or no JSON has none.
pub(super) async fn read(mut response: Response) -> Option<Code> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > LARGEST {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    find(&body)
}

fn find(body: &[u8]) -> Option<Code> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let word = refusal.code.or(refusal.error)?;
    is_code(&word).then_some(Code(word))
}

/// Nothing else passes, whoever wrote it: it goes into logs and mails.
fn is_code(word: &str) -> bool {
    let is_number = |rest: &str| rest.len() == 7 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    match word.strip_prefix('E') {
        Some(rest) => is_number(rest),
        None => !word.is_empty() && word.len() <= LONGEST && word.bytes().all(is_word),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::okta(
        r#"{"errorCode": "E0000007", "errorSummary": "Not found: x"}"#,
        Some("E0000007")
    )]
    #[case::oauth(
        r#"{"error": "invalid_client", "error_description": "x"}"#,
        Some("invalid_client")
    )]
    #[case::an_object(r#"{"error": {"code": "secret"}}"#, None)]
    #[case::a_sentence(r#"{"error": "no such user ada@example.org"}"#, None)]
    #[case::a_secret(r#"{"error": "a8f5f167f44f4964e6c998dee827110c"}"#, None)]
    #[case::a_long_number(r#"{"errorCode": "E00000071"}"#, None)]
    #[case::a_mixture(r#"{"errorCode": "E000000x"}"#, None)]
    #[case::empty(r#"{"error": ""}"#, None)]
    #[case::nothing("", None)]
    #[case::a_page("<html>", None)]
    fn only_a_word_that_looks_like_one_is_a_code(#[case] body: &str, #[case] code: Option<&str>) {
        let found = find(body.as_bytes());
        assert_eq!(found.as_ref().map(Code::as_str), code);
    }
}
