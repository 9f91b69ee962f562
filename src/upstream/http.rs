//! An HTTP client for the systems that lapsed watches: JSON responses, in bounded time and memory.
//!
//! Responses may hold live secrets, so neither errors nor logs show their content: only the URL, the status
//! and the position of what could not be parsed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::tls;

/// In bytes. A page of 500 Rancher tokens takes one megabyte.
const MAX_BODY_SIZE: usize = 32 * 1024 * 1024;

/// The wait after a 429 without a time.
const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// A wait up to this length is slept through; a longer one is an error, and the engine defers the upstream.
const MAX_INLINE_WAIT: Duration = Duration::from_secs(5);

const MAX_RETRIES_PER_REQUEST: u32 = 3;

/// When the server accepts requests again, in seconds since 1970 (Okta).
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-rate-limit-reset");

const MAX_WAIT: Duration = Duration::from_hours(24);

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
        /// As in `the token`, which begins the message.
        what: &'static str,
    },
    /// A client assertion could not be signed.
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
        code: Option<Code>,
    },
    /// The server asks to wait.
    #[error("{place} asks to wait {} s", .wait.as_secs())]
    Busy { place: String, wait: Duration },
    /// A redirect. It is not followed: credentials go only to the configured server.
    #[error("{place} redirects to {to}; if that is right, write it as url")]
    Redirected {
        place: String,
        /// Scheme and host of the target.
        to: String,
    },
    /// The link to the next page leads to another server, or is not a URL. It is not followed.
    #[error("{place} names a next page on another server; credentials are sent nowhere else")]
    ForeignLink { place: String },
    #[error("{place} answered with more than {} MiB", MAX_BODY_SIZE >> 20)]
    TooLarge { place: String },
    #[error("{place} sent an unexpected response: {reason}")]
    Malformed {
        place: String,
        /// The position, never the content.
        reason: String,
    },
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The server's own error code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Status { code, .. } => code.as_ref().map(Code::as_str),
            _ => None,
        }
    }

    /// How long the server asks to wait.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}

/// A client of one system. It follows no redirects, and every request has a time-out.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    base: Url,
    timeout: Duration,
}

impl Client {
    /// A client for paths below `base`. `timeout` covers a request and its whole response.
    pub fn new(base: &Url, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, Error> {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(ca_file)?)
            .redirect(redirect::Policy::none())
            .timeout(timeout)
            .user_agent(concat!("lapsed/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::Client)?;
        Ok(Self {
            inner,
            base,
            timeout,
        })
    }

    /// A request to a path below the base: `iam/clients/me`.
    pub fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}{}",
            self.base.path(),
            path.trim_start_matches('/')
        ));
        let place = format!("{method} {}", display_url(&url));
        Request {
            web: self,
            place,
            builder: self.inner.request(method, url),
        }
    }

    pub fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    /// A GET of a link from a response, such as the next page. It carries credentials, so its origin must be
    /// that of the base.
    ///
    /// # Errors
    /// When it is not a URL, or has another origin.
    pub fn follow(&self, link: &str) -> Result<Request<'_>, Error> {
        let url = self.base.join(link);
        let url = url.ok().filter(|url| url.origin() == self.base.origin());
        let url = url.ok_or_else(|| Error::ForeignLink {
            place: self.base.origin().ascii_serialization(),
        })?;
        Ok(Request {
            web: self,
            place: format!("{} {}", Method::GET, display_url(&url)),
            builder: self.inner.request(Method::GET, url),
        })
    }
}

/// A header value that debug output does not show.
///
/// # Errors
/// When it holds characters that a header cannot.
pub fn secret_header(what: &'static str, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Error::Unsendable { what })?;
    value.set_sensitive(true);
    Ok(value)
}

#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    web: &'a Client,
    place: String,
    builder: RequestBuilder,
}

impl Request<'_> {
    /// Shows this path in messages instead of the real one, which holds a person's address.
    pub fn shown_as(mut self, path: &str) -> Self {
        let (method, _) = self.place.split_once(' ').unwrap_or_default();
        let origin = self.web.base.origin().ascii_serialization();
        self.place = format!("{method} {origin}/{path}");
        self
    }

    /// # Errors
    /// If its body is a stream, which can be sent only once.
    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        let builder = self.builder.try_clone();
        Ok(Self {
            web: self.web,
            place: self.place.clone(),
            builder: builder.ok_or(Error::Unsendable { what: "a stream" })?,
        })
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.query(&[(name, value)]);
        self
    }

    pub fn queries(self, pairs: &[(&str, &str)]) -> Self {
        let add = |request: Self, (name, value): &(&str, &str)| request.query(name, value);
        pairs.iter().fold(self, add)
    }

    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn form(mut self, fields: &[(&str, impl Serialize)]) -> Self {
        self.builder = self.builder.form(fields);
        self
    }

    pub fn body(mut self, json: &serde_json::Value) -> Self {
        self.builder = self
            .builder
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(json.to_string());
        self
    }

    /// Sends the request and parses the response.
    ///
    /// # Errors
    /// When there is no response in time, its status is not a success, or its JSON does not fit.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        Ok(self.json_with_headers().await?.1)
    }

    /// Like [`Request::json`], with the headers.
    pub async fn json_with_headers<T: DeserializeOwned>(self) -> Result<(HeaderMap, T), Error> {
        let (web, place) = (self.web, self.place.clone());
        let response = self.send().await?;
        let headers = response.headers().clone();
        let body = read_body(response, &place, web.timeout).await?;
        Ok((headers, parse(&body, &place)?))
    }

    /// Sends the request and parses the body of a refusal. `None` if it succeeds, or the body does not fit.
    /// The caller may show only fields that cannot hold a secret.
    pub async fn refusal_json<T: DeserializeOwned>(self) -> Option<T> {
        let (web, place) = (self.web, self.place);
        let response = self.builder.send().await.ok()?;
        if response.status().is_success() {
            return None;
        }
        let body = read_body(response, &place, web.timeout).await.ok()?;
        parse(&body, &place).ok()
    }

    /// # Errors
    /// When there is no response in time, or its status is not a success.
    pub async fn send_ignoring_body(self) -> Result<(), Error> {
        self.send().await.map(drop)
    }

    /// Sends the request, and again after each short wait.
    async fn send(self) -> Result<Response, Error> {
        let (place, timeout) = (self.place.clone(), self.web.timeout);
        let mut retries = 0;
        loop {
            let response = self.try_clone()?.builder.send().await;
            let response = response.map_err(|error| transport_error(&error, &place, timeout))?;
            match check_status(response, &place).await {
                Err(Error::Busy { wait, .. })
                    if wait <= MAX_INLINE_WAIT && retries < MAX_RETRIES_PER_REQUEST =>
                {
                    retries += 1;
                    tokio::time::sleep(wait).await;
                }
                answer => return answer,
            }
        }
    }
}

async fn check_status(response: Response, place: &str) -> Result<Response, Error> {
    let status = response.status();
    let place = place.to_owned();
    if status.is_success() {
        Ok(response)
    } else if status.is_redirection() {
        let to = response.headers().get(LOCATION);
        let to = to.and_then(|to| response.url().join(to.to_str().ok()?).ok());
        let to = to.map_or_else(
            || "nowhere".to_owned(),
            |to| to.origin().ascii_serialization(),
        );
        Err(Error::Redirected { place, to })
    } else if let Some(wait) = requested_wait(status, response.headers()) {
        Err(Error::Busy { place, wait })
    } else {
        let code = read_code(response).await;
        Err(Error::Status {
            place,
            status,
            code,
        })
    }
}

/// How long the server asks to wait (RFC 9110 §10.2.3, RFC 6585 §4). Okta sends `X-Rate-Limit-Reset` in
/// every response; it counts only with 429.
fn requested_wait(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // The server's clock on both sides, so that ours does not matter.
    let since_now = |until: DateTime<FixedOffset>| {
        let since = DateTime::parse_from_rfc2822(text(&DATE)?).ok()?;
        Some((until - since).to_std().unwrap_or_default())
    };
    let retry_after = text(&RETRY_AFTER).and_then(|after| {
        if let Ok(seconds) = after.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        since_now(DateTime::parse_from_rfc2822(after).ok()?)
    });
    let reset = || {
        let reset = text(&RATE_LIMIT_RESET)?.trim().parse().ok()?;
        let wait = since_now(DateTime::from_timestamp(reset, 0)?.fixed_offset())?;
        // Both are whole seconds, so a difference of zero is a fraction of a second.
        Some(wait.max(Duration::from_secs(1)))
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => retry_after.or_else(reset).or(Some(DEFAULT_WAIT)),
        StatusCode::SERVICE_UNAVAILABLE => retry_after,
        _ => None,
    }
    .map(|wait| wait.min(MAX_WAIT))
}

async fn read_body(
    mut response: Response,
    place: &str,
    timeout: Duration,
) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| transport_error(&error, place, timeout))?
    {
        if body.len() + chunk.len() > MAX_BODY_SIZE {
            let place = place.to_owned();
            return Err(Error::TooLarge { place });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(body: &[u8], place: &str) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let malformed = |reason: String| Error::Malformed {
        place: place.to_owned(),
        reason,
    };
    let answer = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let inner = error.inner();
        malformed(match inner.classify() {
            serde_json::error::Category::Eof => "it ends in the middle".to_owned(),
            serde_json::error::Category::Data => format!("{} is not as documented", error.path()),
            _ => format!(
                "not JSON at line {}, column {}",
                inner.line(),
                inner.column()
            ),
        })
    })?;
    // An empty list followed by a proxy's error page is not an empty list.
    let end = json.end();
    end.map_err(|_| malformed("there is more after its end".to_owned()))?;
    Ok(answer)
}

fn transport_error(error: &reqwest::Error, place: &str, timeout: Duration) -> Error {
    let place = place.to_owned();
    if error.is_timeout() {
        return Error::TimedOut { place, timeout };
    }
    // The innermost cause is the most precise; the outer ones repeat the URL with its query.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let reason = cause.to_string();
    Error::Unreachable { place, reason }
}

/// A URL without its query, which may hold anything.
fn display_url(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Characters that need no escape in a path segment (RFC 3986 §2.3 and §3.3).
const UNESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');

/// A text as one segment of a path; `None` if it would be empty or lead to another folder.
pub(crate) fn path_segment(text: &str) -> Option<String> {
    let is_safe = !matches!(text, "" | "." | "..");
    is_safe.then(|| utf8_percent_encode(text, UNESCAPED).to_string())
}

/// In bytes. The body of a refusal is read only for its code.
const MAX_REFUSAL_SIZE: usize = 64 * 1024;

/// In bytes. A longer text is not shown.
const MAX_CODE_LENGTH: usize = 40;

/// `invalid_client` (`error`, RFC 6749 §5.2) or `E0000007` (`errorCode`, Okta).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code(String);

impl Code {
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
async fn read_code(mut response: Response) -> Option<Code> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_REFUSAL_SIZE {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    find_code(&body)
}

fn find_code(body: &[u8]) -> Option<Code> {
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

    #[test]
    fn a_text_stays_one_segment_of_a_path() {
        let path = |text| path_segment(text).unwrap_or_default();
        assert_eq!(path("59e0-4.b_~"), "59e0-4.b_~");
        assert_eq!(path("f:1b3c:ada@x"), "f:1b3c:ada%40x");
        assert_eq!(path("a/../b?c#d e%"), "a%2F..%2Fb%3Fc%23d%20e%25");
        for relative in ["", ".", ".."] {
            assert_eq!(path_segment(relative), None);
        }
    }

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
        let found = find_code(body.as_bytes());
        assert_eq!(found.as_ref().map(Code::as_str), code);
    }
}
