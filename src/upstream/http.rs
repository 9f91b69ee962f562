//! An HTTP client for the systems that lapsed watches: JSON responses, in bounded time and memory.
//!
//! Responses may hold live secrets, so neither errors nor logs show their content: only the URL, the status
//! and the position of what could not be parsed.

mod error;

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::ProxyRules;
use crate::tls;

use error::MAX_BODY_BYTES;
pub use error::{Error, ErrorCode};

/// The body of a refusal is read only for its code.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// The wait if a server is busy and does not say for how long.
pub(super) const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// If a server asks for a longer wait, lapsed waits only this long.
const MAX_WAIT: Duration = Duration::from_hours(24);

/// lapsed sleeps for up to this long and retries; a longer wait is an error, and the engine defers the upstream.
const MAX_INLINE_WAIT: Duration = Duration::from_secs(5);

const MAX_RETRIES_PER_REQUEST: u32 = 3;

/// When the server accepts requests again, in seconds since 1970 (Okta).
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-rate-limit-reset");

/// Characters that need no escape in a path segment (RFC 3986 §2.3 and §3.3).
const UNESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');

/// A client of one system. It follows no redirects, and every request has a time-out.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    base: Url,
    timeout: Duration,
    /// Follows the URL in messages: ` (by the proxy http://proxy:3128)`.
    route: String,
}

impl Client {
    /// A client for paths below `base`. `timeout` covers a request and its whole response.
    pub fn new(
        base: &Url,
        ca_file: Option<&Path>,
        timeout: Duration,
        proxies: &ProxyRules,
    ) -> Result<Self, Error> {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(ca_file)?)
            .redirect(redirect::Policy::none())
            .timeout(timeout)
            .user_agent(concat!("lapsed/", env!("CARGO_PKG_VERSION")))
            // The rules decide; they may be those of the environment.
            .no_proxy();
        if let Some(proxy) = proxies.find_proxy(&base).map_err(Error::Client)? {
            builder = builder.proxy(proxy);
        }
        let proxy = proxies.find_url(&base);
        Ok(Self {
            inner: builder.build().map_err(Error::Client)?,
            base,
            timeout,
            route: proxy.map_or_else(String::new, |url| format!(" (by the proxy {url})")),
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
        self.request_url(method, url)
    }

    fn request_url(&self, method: Method, url: Url) -> Request<'_> {
        Request {
            client: self,
            place: format!("{method} {}", display_url(&url)),
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
        match self.base.join(link) {
            Ok(url) if url.origin() == self.base.origin() => Ok(self.request_url(Method::GET, url)),
            _ => Err(Error::ForeignLink {
                place: self.base.origin().ascii_serialization(),
            }),
        }
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
    client: &'a Client,
    /// The method and the URL without its query, for messages.
    place: String,
    builder: RequestBuilder,
}

impl Request<'_> {
    /// Shows this path in messages instead of the real one, which may contain a person's address.
    pub fn shown_as(mut self, path: &str) -> Self {
        let (method, _) = self.place.split_once(' ').unwrap_or_default();
        let origin = self.client.base.origin().ascii_serialization();
        self.place = format!("{method} {origin}/{path}");
        self
    }

    /// # Errors
    /// If its body is a stream, which can be sent only once.
    pub(super) fn try_clone(&self) -> Result<Self, Error> {
        let builder = self.builder.try_clone();
        Ok(Self {
            client: self.client,
            place: self.place.clone(),
            builder: builder.ok_or(Error::Unsendable { what: "a stream" })?,
        })
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.query(&[(name, value)]);
        self
    }

    pub fn queries(mut self, pairs: &[(&str, &str)]) -> Self {
        for (name, value) in pairs {
            self = self.query(name, value);
        }
        self
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

    pub async fn json_with_headers<T: DeserializeOwned>(self) -> Result<(HeaderMap, T), Error> {
        let client = self.client;
        let place = self.place.clone();
        let response = self.send().await?;
        let headers = response.headers().clone();
        let body = read_body(response, &place, client).await?;
        Ok((headers, parse(&body, &place)?))
    }

    /// Sends the request, without retries, and parses the body of a refusal. `None` if it succeeds, or the body
    /// does not fit. The caller may show only fields that cannot hold a secret.
    pub async fn refusal_json<T: DeserializeOwned>(self) -> Option<T> {
        let response = self.builder.send().await.ok()?;
        if response.status().is_success() {
            return None;
        }
        let body = read_body(response, &self.place, self.client).await.ok()?;
        parse(&body, &self.place).ok()
    }

    /// # Errors
    /// When there is no response in time, or its status is not a success.
    pub async fn send_ignoring_body(self) -> Result<(), Error> {
        self.send().await.map(drop)
    }

    /// Sends the request, and again after each short wait.
    async fn send(self) -> Result<Response, Error> {
        let mut retries = 0;
        let started_at = Instant::now();
        loop {
            let response = self
                .try_clone()?
                .builder
                .send()
                .await
                .map_err(|error| transport_error(&error, &self.place, self.client))?;
            let elapsed_ms = started_at.elapsed().as_millis();
            tracing::debug!(elapsed_ms, "{}: {}", self.place, response.status());
            match check_status(response, &self.place).await {
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
        let to = redirect_origin(&response).unwrap_or_else(|| "nowhere".to_owned());
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

fn redirect_origin(response: &Response) -> Option<String> {
    let target = header_text(response.headers(), &LOCATION)?;
    let url = response.url().join(target).ok()?;
    Some(url.origin().ascii_serialization())
}

/// How long the server asks to wait (RFC 9110 §10.2.3, RFC 6585 §4). Okta sends `X-Rate-Limit-Reset` in
/// every response; it has a meaning only with 429.
fn requested_wait(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let wait = match status {
        StatusCode::TOO_MANY_REQUESTS => retry_after(headers)
            .or_else(|| rate_limit_reset(headers))
            .unwrap_or(DEFAULT_WAIT),
        StatusCode::SERVICE_UNAVAILABLE => retry_after(headers)?,
        _ => return None,
    };
    Some(wait.min(MAX_WAIT))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = header_text(headers, &RETRY_AFTER)?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    duration_until(DateTime::parse_from_rfc2822(text).ok()?, headers)
}

fn rate_limit_reset(headers: &HeaderMap) -> Option<Duration> {
    let reset = header_text(headers, &RATE_LIMIT_RESET)?
        .trim()
        .parse()
        .ok()?;
    let wait = duration_until(DateTime::from_timestamp(reset, 0)?.fixed_offset(), headers)?;
    // Both are whole seconds, so a difference of zero is a fraction of a second.
    Some(wait.max(Duration::from_secs(1)))
}

/// How long until a time, by the server's own clock.
fn duration_until(time: DateTime<FixedOffset>, headers: &HeaderMap) -> Option<Duration> {
    let now = DateTime::parse_from_rfc2822(header_text(headers, &DATE)?).ok()?;
    Some((time - now).to_std().unwrap_or_default())
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn read_body(response: Response, place: &str, client: &Client) -> Result<Vec<u8>, Error> {
    read_limited(response, MAX_BODY_BYTES)
        .await
        .map_err(|error| transport_error(&error, place, client))?
        .ok_or_else(|| Error::TooLarge {
            place: place.to_owned(),
        })
}

/// Reads a body; `None` if it is longer than `max`.
async fn read_limited(mut response: Response, max: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
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
    // A proxy may append its error page to an empty list.
    json.end()
        .map_err(|_| malformed("there is more after its end".to_owned()))?;
    Ok(answer)
}

fn transport_error(error: &reqwest::Error, place: &str, client: &Client) -> Error {
    let place = format!("{place}{}", client.route);
    if error.is_timeout() {
        let timeout = client.timeout;
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

/// A text as one segment of a path; `None` if it would be empty or lead to another folder.
pub(crate) fn path_segment(text: &str) -> Option<String> {
    let is_safe = !matches!(text, "" | "." | "..");
    is_safe.then(|| utf8_percent_encode(text, UNESCAPED).to_string())
}

/// The code in a response; `None` if the body is too long, incomplete or not JSON.
async fn read_code(response: Response) -> Option<ErrorCode> {
    let body = read_limited(response, MAX_REFUSAL_BYTES).await.ok()??;
    ErrorCode::find(&body)
}

#[cfg(test)]
mod tests {
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
}
