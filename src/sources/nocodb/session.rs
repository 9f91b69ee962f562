//! A session of NocoDB, which is renewed before it expires, and once if it ended early.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Login;
use crate::sources::Error;
use crate::upstream::http::{self, Client};

/// A session lasts ten hours (`NC_JWT_EXPIRES_IN`).
const RENEWAL_AGE: Duration = Duration::from_hours(9);

/// The alternative if a password is not enough to sign in.
const DATABASE_ADVICE: &str = "set `database` to NocoDB's own database, which lapsed reads without signing in; \
     docs/sources/nocodb.md lists the rights that it needs";

/// Not an API token, because NocoDB lists no tokens to API tokens.
#[derive(Debug)]
pub(super) struct Session {
    web: Client,
    login: Login,
    token: Mutex<Option<SessionToken>>,
}

#[derive(Debug, Clone)]
struct SessionToken {
    header: HeaderValue,
    created_at: Instant,
}

impl SessionToken {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.created_at) < RENEWAL_AGE
    }
}

/// If a second factor is required, the response is 2xx but has no token.
#[derive(Deserialize)]
struct SignInResponse {
    token: Option<SecretString>,
}

impl Session {
    pub fn new(web: Client, login: Login) -> Self {
        Self {
            web,
            login,
            token: Mutex::default(),
        }
    }

    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        self.send(|token| {
            let request = self.web.get(path).header("xc-auth", token);
            query
                .iter()
                .fold(request, |request, (name, value)| request.query(name, value))
                .json()
        })
        .await
    }

    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.send(|token| {
            let request = self.web.request(Method::DELETE, path);
            request.header("xc-auth", token).send_ignoring_body()
        })
        .await
    }

    /// Sends a request, and again in a new session if the session was not accepted.
    async fn send<T, F: Future<Output = Result<T, http::Error>>>(
        &self,
        request: impl Fn(HeaderValue) -> F,
    ) -> Result<T, Error> {
        match request(self.session_token().await?).await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                self.discard();
                Ok(request(self.session_token().await?).await?)
            }
            response => Ok(response?),
        }
    }

    async fn session_token(&self) -> Result<HeaderValue, Error> {
        let current = self.lock().clone();
        match current.filter(|token| token.is_fresh(Instant::now())) {
            Some(token) => Ok(token.header),
            None => self.sign_in().await,
        }
    }

    async fn sign_in(&self) -> Result<HeaderValue, Error> {
        let created_at = Instant::now();
        let request = self.web.request(Method::POST, "api/v1/auth/user/signin");
        let password = self.login.password.expose_secret();
        let body = json!({"email": self.login.email, "password": password});
        let response: SignInResponse = request.body(&body).json().await.map_err(explain_refusal)?;
        let Some(token) = response.token else {
            return Err(Error::rights(
                "NocoDB requires more than the password, for example a second factor",
                format!("give lapsed a user without that, or {DATABASE_ADVICE}"),
            ));
        };
        let header = http::secret_header("NocoDB's session", token.expose_secret())?;
        *self.lock() = Some(SessionToken {
            header: header.clone(),
            created_at,
        });
        Ok(header)
    }

    pub fn discard(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<SessionToken>> {
        // A token is replaced at once, so a panic leaves no partial state.
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn explain_refusal(error: http::Error) -> Error {
    let fix = format!(
        "correct them; if users sign in by single sign-on or with a second factor, {DATABASE_ADVICE}"
    );
    let (refused, denied) = (
        "NocoDB does not accept `email` and `password`",
        "NocoDB does not permit sign-in with a password",
    );
    Error::from(error).explain(&[
        // NocoDB answers 400 to a wrong password.
        (StatusCode::BAD_REQUEST, refused, &fix),
        (StatusCode::UNAUTHORIZED, refused, &fix),
        (StatusCode::FORBIDDEN, denied, DATABASE_ADVICE),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_renewed_before_ten_hours() {
        let created_at = Instant::now();
        let header = HeaderValue::from_static("session");
        let token = SessionToken { header, created_at };
        assert!(token.is_fresh(created_at + Duration::from_mins(8 * 60 + 59)));
        assert!(!token.is_fresh(created_at + Duration::from_hours(9)));
    }
}
