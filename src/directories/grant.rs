//! Access tokens for a program (OAuth 2.0 client credentials, RFC 6749 §4.4), kept while they last.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::web::{self, Request, Web, secret_header};

/// One is renewed so long before its end, or in the last quarter of its life if that is shorter: some
/// servers grant a minute.
const HEADROOM: Duration = Duration::from_mins(1);

/// How long one lasts of which the server does not say it (RFC 6749 §5.1 only recommends it).
const DEFAULT_LIFE: u64 = 300;

/// Access tokens from one token endpoint.
#[derive(Debug, Default)]
pub(super) struct Grants {
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    bearer: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No access token was granted.
    Grant(web::Error),
    /// With one, it did not answer as it should.
    Answer(web::Error),
}

/// The fields of a request for an access token.
pub(super) type Form = Vec<(&'static str, String)>;

impl Grants {
    /// The answer to a request with an access token: with a new one, once, where the server no longer
    /// takes the one that is held. `path` and `form` are as of [`Grants::bearer`].
    ///
    /// # Errors
    /// When the server grants none, or does not answer as it should.
    pub async fn ask<'a, T: DeserializeOwned>(
        &self,
        web: &Web,
        path: &str,
        form: impl Fn() -> Result<Form, web::Error>,
        request: impl Fn() -> Request<'a>,
    ) -> Result<T, Failure> {
        let bearer = self.bearer(web, path, &form).await;
        let bearer = bearer.map_err(Failure::Grant)?;
        match request().header("authorization", bearer).json().await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => self.forget().await,
            answer => return answer.map_err(Failure::Answer),
        }
        let bearer = self.bearer(web, path, &form).await;
        let bearer = bearer.map_err(Failure::Grant)?;
        let answer = request().header("authorization", bearer).json().await;
        answer.map_err(Failure::Answer)
    }

    /// The value of an Authorization header. `form` makes the fields of the request for a new access
    /// token, and is called only when one is needed.
    ///
    /// # Errors
    /// When the server grants none.
    pub async fn bearer(
        &self,
        web: &Web,
        path: &str,
        form: impl FnOnce() -> Result<Form, web::Error>,
    ) -> Result<HeaderValue, web::Error> {
        let mut held = self.held.lock().await;
        let now = Instant::now();
        if let Some(held) = held.as_ref().filter(|held| held.until > now) {
            return Ok(held.bearer.clone());
        }
        let fields = form()?;
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = web.request(Method::POST, path).form(&fields);
        let granted: Granted = request.json().await?;
        let bearer = format!("Bearer {}", granted.access_token.expose_secret());
        let bearer = secret_header("the access token", &bearer)?;
        let life = Duration::from_secs(granted.expires_in.unwrap_or(DEFAULT_LIFE));
        *held = Some(Held {
            bearer: bearer.clone(),
            until: now + life.saturating_sub(HEADROOM.min(life / 4)),
        });
        Ok(bearer)
    }

    /// Forgets it: the server no longer takes it.
    pub async fn forget(&self) {
        *self.held.lock().await = None;
    }
}

#[cfg(test)]
mod tests;
