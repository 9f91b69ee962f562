//! Access tokens for a program (OAuth 2.0 client credentials, RFC 6749 §4.4), kept while they last.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::web::{self, Web, secret_header};

/// One that lasts no longer than this is renewed.
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

impl Grants {
    /// The value of an Authorization header. `form` makes the fields of the request for a new access
    /// token, and is called only when one is needed.
    ///
    /// # Errors
    /// When the server grants none.
    pub async fn bearer(
        &self,
        web: &Web,
        path: &str,
        form: impl FnOnce() -> Result<Vec<(&'static str, String)>, web::Error>,
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
            until: now + life.saturating_sub(HEADROOM),
        });
        Ok(bearer)
    }

    /// Forgets it: the server no longer takes it.
    pub async fn forget(&self) {
        *self.held.lock().await = None;
    }
}
