//! HTTP to the systems that lapsed watches: JSON answers, in bounded time and memory.
//!
//! Three of four lists of tokens hold live secrets, so what an answer says is never shown, neither in
//! errors nor in logs: only where it came from, its status, and where in it the program stumbled.

mod code;

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, FixedOffset};
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use url::Url;

use crate::tls;

pub use code::Code;

/// The largest answer in bytes. A page of 500 Rancher tokens takes one megabyte.
const LARGEST: usize = 32 * 1024 * 1024;

/// A server that names no time is left alone for so long.
const DEFAULT_WAIT: Duration = Duration::from_mins(1);

/// So long a wait is sat out within a listing; a longer one ends it until later.
const PATIENCE: Duration = Duration::from_secs(5);

/// So often within one request.
const PATIENT_TIMES: u32 = 3;

/// When requests are taken again.
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-rate-limit-reset");

/// No server's word to wait is obeyed for longer.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Why an answer could not be had. Nothing here shows any of its content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The client could not be made.
    #[error("cannot set up HTTP")]
    Client(#[source] reqwest::Error),
    /// A header or URL cannot be made of what was configured.
    #[error("{what} holds characters that cannot be sent")]
    Unsendable {
        /// What: `the token`.
        what: &'static str,
    },
    /// Who asks could not be signed for.
    #[error("cannot sign a request for an access token: the system has no randomness")]
    Unsigned,
    /// No answer in time.
    #[error("{place} did not answer within {} s", .limit.as_secs())]
    TimedOut {
        /// What was asked.
        place: String,
        /// `timeout` of the source.
        limit: Duration,
    },
    /// No connection, or one that broke.
    #[error("cannot reach {place}: {reason}")]
    Unreachable {
        /// What was asked.
        place: String,
        /// Why.
        reason: String,
    },
    /// The server refused.
    #[error("{place} answered {status}{}", .code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Status {
        /// What was asked.
        place: String,
        /// With what.
        status: StatusCode,
        /// What the server calls the error.
        code: Option<Code>,
    },
    /// The server wants to be left alone for a while.
    #[error("{place} asks to wait {} s", .wait.as_secs())]
    Busy {
        /// What was asked.
        place: String,
        /// For so long.
        wait: Duration,
    },
    /// The answer is elsewhere. It is not followed: credentials go only where they were sent.
    #[error("{place} redirects to {to}; if that is right, write it as url")]
    Redirected {
        /// What was asked.
        place: String,
        /// Scheme and host of the other place.
        to: String,
    },
    /// A link to the next page leads to another server, or nowhere. It is not followed.
    #[error("{place} names a next page that is not its own; credentials are sent nowhere else")]
    Elsewhere {
        /// Scheme and host that were asked.
        place: String,
    },
    /// More than a listing can be.
    #[error("{place} answered with more than {} MiB", LARGEST >> 20)]
    TooLarge {
        /// What was asked.
        place: String,
    },
    /// Not the JSON that was expected.
    #[error("{place} answered with something unexpected: {reason}")]
    Malformed {
        /// What was asked.
        place: String,
        /// Where in it, never what.
        reason: String,
    },
}

impl Error {
    /// The status, where the server answered with one that is no success.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What the server calls the error, where it has a word for it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Status { code, .. } => code.as_ref().map(Code::as_str),
            _ => None,
        }
    }

    /// How long the server wants to be left alone.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}

/// A client of one system. It follows no redirect, and each request has its time.
#[derive(Debug, Clone)]
pub struct Web {
    client: reqwest::Client,
    base: Url,
    timeout: Duration,
}

impl Web {
    /// A client for what lies below `base`; `timeout` is for each request with its whole answer.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn new(base: &Url, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, Error> {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::verified(ca_file)?)
            .redirect(redirect::Policy::none())
            .timeout(timeout)
            .user_agent(concat!("lapsed/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::Client)?;
        Ok(Self {
            client,
            base,
            timeout,
        })
    }

    /// A request to what `path` names below the base: `iam/clients/me`.
    pub fn request(&self, method: Method, path: &str) -> Request<'_> {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}{}",
            self.base.path(),
            path.trim_start_matches('/')
        ));
        let place = format!("{method} {}", shown(&url));
        Request {
            web: self,
            place,
            builder: self.client.request(method, url),
        }
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    /// A GET of an address that the server gave: its next page. Credentials go with it, so it must be of
    /// the same origin.
    ///
    /// # Errors
    /// When it is no URL, or of another origin.
    pub fn follow(&self, link: &str) -> Result<Request<'_>, Error> {
        let url = self.base.join(link);
        let url = url.ok().filter(|url| url.origin() == self.base.origin());
        let url = url.ok_or_else(|| Error::Elsewhere {
            place: self.base.origin().ascii_serialization(),
        })?;
        Ok(Request {
            web: self,
            place: format!("{} {}", Method::GET, shown(&url)),
            builder: self.client.request(Method::GET, url),
        })
    }
}

/// A header's value that no debug output shows.
///
/// # Errors
/// When it holds characters that a header cannot.
pub fn secret_header(what: &'static str, value: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Error::Unsendable { what })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A request under way.
#[derive(Debug)]
#[must_use = "a request does nothing until its answer is asked for"]
pub struct Request<'a> {
    web: &'a Web,
    place: String,
    builder: RequestBuilder,
}

impl Request<'_> {
    /// Names it in messages by this path in place of its own, which holds somebody's address.
    pub fn called(mut self, path: &str) -> Self {
        let (method, _) = self.place.split_once(' ').unwrap_or_default();
        let origin = self.web.base.origin().ascii_serialization();
        self.place = format!("{method} {origin}/{path}");
        self
    }

    /// Adds to the query of the URL.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.query(&[(name, value)]);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Sends this as a form.
    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        self.builder = self.builder.form(fields);
        self
    }

    /// Sends this as JSON.
    pub fn body(mut self, json: &serde_json::Value) -> Self {
        self.builder = self
            .builder
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(json.to_string());
        self
    }

    /// Sends it and reads the answer as JSON.
    ///
    /// # Errors
    /// When there is no answer in time, none of success, or none of this shape.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        Ok(self.answer().await?.1)
    }

    /// The answer with its headers.
    ///
    /// # Errors
    /// As [`Request::json`].
    pub async fn answer<T: DeserializeOwned>(self) -> Result<(HeaderMap, T), Error> {
        let (web, place) = (self.web, self.place.clone());
        let response = self.send().await?;
        let headers = response.headers().clone();
        let body = read(response, &place, web.timeout).await?;
        Ok((headers, parse(&body, &place)?))
    }

    /// Sends it, and reads why it is refused. `None` if it is not, or the answer does not say so in this
    /// shape. Whoever asks shows of it only what they know to be no secret.
    pub async fn refusal<T: DeserializeOwned>(self) -> Option<T> {
        let (web, place) = (self.web, self.place);
        let response = self.builder.send().await.ok()?;
        if response.status().is_success() {
            return None;
        }
        let body = read(response, &place, web.timeout).await.ok()?;
        parse(&body, &place).ok()
    }

    /// Sends it; the answer's content does not matter.
    ///
    /// # Errors
    /// When there is no answer in time, or none of success.
    pub async fn done(self) -> Result<(), Error> {
        self.send().await.map(drop)
    }

    /// Sends it, again after each wait that is short enough to sit out.
    async fn send(self) -> Result<Response, Error> {
        let Self {
            web,
            place,
            builder,
        } = self;
        let mut times = 0;
        loop {
            let attempt = builder.try_clone();
            let attempt = attempt.ok_or(Error::Unsendable { what: "a stream" })?;
            let response = attempt.send().await;
            let response = response.map_err(|error| fault(&error, &place, web.timeout))?;
            match accept(response, &place).await {
                Err(Error::Busy { wait, .. }) if wait <= PATIENCE && times < PATIENT_TIMES => {
                    times += 1;
                    tokio::time::sleep(wait).await;
                }
                answer => return answer,
            }
        }
    }
}

/// The answer if it is one of success.
async fn accept(response: Response, place: &str) -> Result<Response, Error> {
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
    } else if let Some(wait) = wait(status, response.headers()) {
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

/// How long the server wants to be left alone (RFC 9110 §10.2.3, RFC 6585 §4). Okta says by
/// `X-Rate-Limit-Reset` when, in seconds since 1970, and does so in every answer; with 429 it counts.
fn wait(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // The server's clock on both sides, so that ours does not matter.
    let since_now = |until: DateTime<FixedOffset>| {
        let since = DateTime::parse_from_rfc2822(text(&DATE)?).ok()?;
        Some((until - since).to_std().unwrap_or_default())
    };
    let said = text(&RETRY_AFTER).and_then(|after| {
        if let Ok(seconds) = after.trim().parse() {
            return Some(Duration::from_secs(seconds));
        }
        since_now(DateTime::parse_from_rfc2822(after).ok()?)
    });
    let reset = || {
        let reset = text(&RATE_LIMIT_RESET)?.trim().parse().ok()?;
        let wait = since_now(DateTime::from_timestamp(reset, 0)?.fixed_offset())?;
        // Both are whole seconds: what looks like now is a part of one away.
        Some(wait.max(Duration::from_secs(1)))
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => said.or_else(reset).or(Some(DEFAULT_WAIT)),
        StatusCode::SERVICE_UNAVAILABLE => said,
        _ => None,
    }
    .map(|wait| wait.min(LONGEST_WAIT))
}

/// The whole body, unless it is longer than any should be.
async fn read(mut response: Response, place: &str, limit: Duration) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| fault(&error, place, limit))?
    {
        if body.len() + chunk.len() > LARGEST {
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
                "no JSON at line {}, column {}",
                inner.line(),
                inner.column()
            ),
        })
    })?;
    // What a proxy wrote behind an empty list is no empty list.
    let end = json.end();
    end.map_err(|_| malformed("it goes on after its end".to_owned()))?;
    Ok(answer)
}

fn fault(error: &reqwest::Error, place: &str, limit: Duration) -> Error {
    let place = place.to_owned();
    if error.is_timeout() {
        return Error::TimedOut { place, limit };
    }
    // The first cause says it best; those above it repeat the URL with its query.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let reason = cause.to_string();
    Error::Unreachable { place, reason }
}

/// A URL as messages show it: without a query, which may hold anything.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}
