//! Error codes: the only part of a refusal that may be shown.

use std::fmt;

use reqwest::Response;
use serde::Deserialize;

/// In bytes.
const MAX_BODY_SIZE: usize = 64 * 1024;

/// In bytes.
const MAX_CODE_LENGTH: usize = 40;

/// `invalid_client` (`error`, RFC 6749 §5.2) or `E0000007` (`errorCode`, Okta).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
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

/// The code in a response; `None` if the body is too long, incomplete or not JSON.
pub(super) async fn read(mut response: Response) -> Option<Code> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_BODY_SIZE {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    find(&body)
}

fn find(body: &[u8]) -> Option<Code> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    let code = refusal.code.or(refusal.error)?;
    is_code(&code).then_some(Code(code))
}

/// Rejects everything that does not look like a code, because it goes into logs and mails.
fn is_code(text: &str) -> bool {
    let is_number = |digits: &str| digits.len() == 7 && digits.bytes().all(|b| b.is_ascii_digit());
    let is_snake_case = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    match text.strip_prefix('E') {
        Some(digits) => is_number(digits),
        None => {
            !text.is_empty() && text.len() <= MAX_CODE_LENGTH && text.bytes().all(is_snake_case)
        }
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
    fn only_text_that_looks_like_a_code_is_one(#[case] body: &str, #[case] code: Option<&str>) {
        let found = find(body.as_bytes());
        assert_eq!(found.as_ref().map(Code::as_str), code);
    }
}
