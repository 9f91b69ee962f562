//! An HTTP client for the systems that lapsed watches: JSON responses, in bounded time and memory.
//!
//! Responses may hold live secrets, so neither errors nor logs show their content: only the URL, the status
//! and the position of what could not be parsed.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use url::Url;

use super::code;
use crate::tls;

pub use super::code::Code;

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
        /// `the token`.
        what: &'static str,
    },
    /// A client assertion could not be signed.
    #[error("cannot sign a request for an access token: the system has no randomness")]
    CannotSign,
    #[error("{place} did not answer within {} s", .limit.as_secs())]
    TimedOut { place: String, limit: Duration },
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
    /// Not the expected JSON.
    #[error("{place} sent an unexpected response: {reason}")]
    Malformed {
        place: String,
        /// The position, never the content.
        reason: String,
    },
}

impl Error {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The server's own error code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Status { code, .. } => code.as_ref().map(Code::as_str),
            _ => None,
        }
    }

    /// How long the server asks to wait.
    #[must_use]
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

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.query(&[(name, value)]);
        self
    }

    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
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
        let Self {
            web,
            place,
            builder,
        } = self;
        let mut retries = 0;
        loop {
            let attempt = builder.try_clone();
            let attempt = attempt.ok_or(Error::Unsendable { what: "a stream" })?;
            let response = attempt.send().await;
            let response =
                response.map_err(|error| transport_error(&error, &place, web.timeout))?;
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
        let code = code::read(response).await;
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

async fn read_body(mut response: Response, place: &str, limit: Duration) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| transport_error(&error, place, limit))?
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

fn transport_error(error: &reqwest::Error, place: &str, limit: Duration) -> Error {
    let place = place.to_owned();
    if error.is_timeout() {
        return Error::TimedOut { place, limit };
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
