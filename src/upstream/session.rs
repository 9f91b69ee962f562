//! Signing in to an upstream: a credential that is kept until shortly before it expires, and renewed once if it is
//! rejected earlier.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Error;
use super::http::{self, Client, Request, secret_header};

/// How long before its expiry an access token is renewed, or in the last quarter of its life if that is
/// shorter: some servers grant one minute.
const RENEWAL_MARGIN: Duration = Duration::from_mins(1);

/// A credential is renewed after a day even if the server grants it a longer life.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

/// Assumed if the server does not report `expires_in`, which RFC 6749 §5.1 only recommends.
const DEFAULT_LIFETIME_SECS: u64 = 300;

/// How an upstream grants credentials.
pub(crate) trait SignIn {
    const HEADER: &'static str = "authorization";

    fn sign_in(&self) -> impl Future<Output = Result<Grant, Error>> + Send;
}

#[derive(Debug)]
pub(crate) struct Grant {
    pub header: HeaderValue,
    pub renew_after: Duration,
}

/// Requests with the credential that a sign-in grants.
#[derive(Debug)]
pub(crate) struct Session<S> {
    pub web: Client,
    pub sign_in: S,
    cached: Mutex<Option<(HeaderValue, Instant)>>,
}

impl<S: SignIn> Session<S> {
    pub fn new(web: Client, sign_in: S) -> Self {
        let cached = Mutex::default();
        Self {
            web,
            sign_in,
            cached,
        }
    }

    pub async fn fetch<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, Error> {
        self.send(request, Request::json).await
    }

    /// Sends a request with a credential. If the server rejects the credential with 401, sends the request once
    /// more with a new one.
    ///
    /// # Errors
    /// If the server grants no credential, or the request fails.
    pub async fn send<'a, T, F: Future<Output = Result<T, http::Error>>>(
        &self,
        request: Request<'a>,
        send: impl Fn(Request<'a>) -> F,
    ) -> Result<T, Error> {
        let mut is_renewed = false;
        loop {
            let header = self.credential().await?;
            let attempt = request.try_clone()?.header(S::HEADER, header);
            match send(attempt).await {
                // A changed secret or a revoked consent invalidates credentials early.
                Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) && !is_renewed => {
                    self.forget().await;
                    is_renewed = true;
                }
                response => return Ok(response?),
            }
        }
    }

    async fn credential(&self) -> Result<HeaderValue, Error> {
        let mut cached = self.cached.lock().await;
        let now = Instant::now();
        if let Some((header, _)) = cached.as_ref().filter(|(_, renew_at)| *renew_at > now) {
            return Ok(header.clone());
        }
        let grant = self.sign_in.sign_in().await.map_err(Error::sign_in)?;
        *cached = Some((grant.header.clone(), now + grant.renew_after));
        Ok(grant.header)
    }

    /// Drops the credential, because the server does not accept it.
    pub async fn forget(&self) {
        *self.cached.lock().await = None;
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: SecretString,
    expires_in: Option<u64>,
}

/// Requests an access token by OAuth 2.0 client credentials (RFC 6749 §4.4).
pub(crate) async fn request_access_token(
    web: &Client,
    path: &str,
    form: &[(&str, impl Serialize + Sync)],
) -> Result<Grant, http::Error> {
    let request = web.request(Method::POST, path).form(form);
    let response: TokenResponse = request.json().await?;
    let bearer = format!("Bearer {}", response.access_token.expose_secret());
    let life = response.expires_in.unwrap_or(DEFAULT_LIFETIME_SECS);
    let life = Duration::from_secs(life).min(MAX_LIFETIME);
    Ok(Grant {
        header: secret_header("the access token", &bearer)?,
        renew_after: life.saturating_sub(RENEWAL_MARGIN.min(life / 4)),
    })
}

#[cfg(test)]
mod tests;
