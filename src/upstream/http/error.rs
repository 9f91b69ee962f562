//! Why a request has no usable response.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::tls;

/// A page of 500 Rancher tokens takes one megabyte.
pub(super) const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// A longer text is not a code.
const MAX_CODE_BYTES: usize = 40;

/// Why there is no usable response. No variant shows the content of a response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("cannot set up HTTP")]
    Client(#[source] reqwest::Error),
    /// A configured value does not fit into a header or URL.
    #[error("{what} holds characters that cannot be sent")]
    Unsendable {
        /// For example `the token`.
        what: &'static str,
    },
    #[error("cannot sign a request for an access token: the system has no randomness")]
    CannotSign,
    #[error("{place} did not answer within {} s", .timeout.as_secs())]
    TimedOut { place: String, timeout: Duration },
    #[error("cannot reach {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} answered {status}{}", .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Status {
        place: String,
        status: StatusCode,
        code: Option<ErrorCode>,
    },
    #[error("{place} asks to wait {} s", .wait.as_secs())]
    Busy { place: String, wait: Duration },
    /// A redirect. It is not followed: credentials go only to the configured server.
    #[error("{place} redirects to {to}; if that is right, write it as url")]
    Redirected { place: String, to: String },
    /// The link to the next page leads to another server, or is not a URL. It is not followed.
    #[error("{place} names a next page on another server; credentials are sent nowhere else")]
    ForeignLink { place: String },
    #[error("{place} answered with more than {} MiB", MAX_BODY_BYTES / (1024 * 1024))]
    TooLarge { place: String },
    #[error("{place} sent an unexpected response: {reason}")]
    Malformed {
        place: String,
        /// The position, never the content.
        reason: String,
    },
}

impl Error {
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How to fix it, if the message does not say so.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut { .. } | Self::Unreachable { .. } => Some(
                "check url in its section, that the system is up, and that this machine may connect to it",
            ),
            Self::Status { status, .. }
                if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(status) =>
            {
                Some("check the credentials in its section, and what they permit")
            }
            Self::Status { .. } | Self::Malformed { .. } => Some(
                "check that url in its section is the address of this system; its own log may say more",
            ),
            _ => None,
        }
    }

    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Status { code, .. } => code.as_ref().map(ErrorCode::as_str),
            _ => None,
        }
    }

    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}

/// The server's own error code: `invalid_client` (`error`, RFC 6749 §5.2) or `E0000007` (`errorCode`, Okta).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCode(String);

impl ErrorCode {
    pub(super) fn find(body: &[u8]) -> Option<Self> {
        let refusal: Refusal = serde_json::from_slice(body).ok()?;
        let code = refusal.code.or(refusal.error)?;
        is_code(&code).then_some(Self(code))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ErrorCode {
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

/// Rejects everything that does not look like a code, because it goes into logs and mails.
fn is_code(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix('E') {
        return digits.len() == 7 && digits.bytes().all(|byte| byte.is_ascii_digit());
    }
    (1..=MAX_CODE_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
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
        let found = ErrorCode::find(body.as_bytes());
        assert_eq!(found.as_ref().map(ErrorCode::as_str), code);
    }
}
