//! Access tokens by OAuth 2.0 client credentials (RFC 6749 §4.4), kept until shortly before they expire.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::upstream::http::{self, Client, Request, secret_header};

/// How long before its expiry an access token is renewed, or in the last quarter of its life if that is
/// shorter: some servers grant one minute.
const RENEWAL_MARGIN: Duration = Duration::from_mins(1);

/// Assumed if the server does not report `expires_in`, which RFC 6749 §5.1 only recommends.
const DEFAULT_LIFETIME_SECS: u64 = 300;

/// The access token of one token endpoint.
#[derive(Debug, Default)]
pub(super) struct AccessTokens {
    cached: Mutex<Option<CachedToken>>,
}

#[derive(Debug)]
struct CachedToken {
    bearer: HeaderValue,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: SecretString,
    expires_in: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Failure {
    /// The server granted no access token.
    NoToken(http::Error),
    /// The request with an access token failed.
    Response(http::Error),
}

/// The fields of a request for an access token.
pub(super) type Form = Vec<(&'static str, String)>;

impl AccessTokens {
    /// Sends a request with an access token. If the server rejects the token with 401, sends it once more
    /// with a new one. `path` and `form` are those of [`AccessTokens::bearer`].
    ///
    /// # Errors
    /// When the server grants no access token, or the request fails.
    pub async fn fetch<'a, T: DeserializeOwned>(
        &self,
        web: &Client,
        path: &str,
        form: impl Fn() -> Result<Form, http::Error>,
        request: impl Fn() -> Request<'a>,
    ) -> Result<T, Failure> {
        let bearer = self.bearer(web, path, &form).await;
        let bearer = bearer.map_err(Failure::NoToken)?;
        match request().header("authorization", bearer).json().await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => self.forget().await,
            answer => return answer.map_err(Failure::Response),
        }
        let bearer = self.bearer(web, path, &form).await;
        let bearer = bearer.map_err(Failure::NoToken)?;
        let answer = request().header("authorization", bearer).json().await;
        answer.map_err(Failure::Response)
    }

    /// The value of an Authorization header. `form` is called only when a new access token is needed.
    ///
    /// # Errors
    /// When the server grants no access token.
    pub async fn bearer(
        &self,
        web: &Client,
        path: &str,
        form: impl FnOnce() -> Result<Form, http::Error>,
    ) -> Result<HeaderValue, http::Error> {
        let mut cached = self.cached.lock().await;
        let now = Instant::now();
        if let Some(cached) = cached.as_ref().filter(|cached| cached.renew_at > now) {
            return Ok(cached.bearer.clone());
        }
        let fields = form()?;
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = web.request(Method::POST, path).form(&fields);
        let response: TokenResponse = request.json().await?;
        let bearer = format!("Bearer {}", response.access_token.expose_secret());
        let bearer = secret_header("the access token", &bearer)?;
        let life = Duration::from_secs(response.expires_in.unwrap_or(DEFAULT_LIFETIME_SECS));
        *cached = Some(CachedToken {
            bearer: bearer.clone(),
            renew_at: now + life.saturating_sub(RENEWAL_MARGIN.min(life / 4)),
        });
        Ok(bearer)
    }

    /// Drops the access token because the server rejected it.
    pub async fn forget(&self) {
        *self.cached.lock().await = None;
    }
}

#[cfg(test)]
mod tests;
