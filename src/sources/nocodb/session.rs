//! Signed in: a session that is kept, renewed before it ends, and renewed once where it ended early.

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
use crate::web::{self, Web};

/// A session lasts ten hours (`NC_JWT_EXPIRES_IN`), and is replaced an hour before.
const RENEWED_AFTER: Duration = Duration::from_hours(9);

/// What is left where a password alone opens no session.
const BY_DATABASE: &str = "let `database` name NocoDB's own database, which lapsed reads without signing in; \
     docs/sources/nocodb.md says which rights it needs";

/// One person, signed in to NocoDB. An API token would not do: with one it lists no tokens.
#[derive(Debug)]
pub(super) struct Session {
    web: Web,
    login: Login,
    /// What the last sign-in gave.
    pass: Mutex<Option<Pass>>,
}

/// The proof of a sign-in.
#[derive(Debug, Clone)]
struct Pass {
    header: HeaderValue,
    given_at: Instant,
}

impl Pass {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.given_at) < RENEWED_AFTER
    }
}

/// A 2xx without a session comes where a password is only the first of two factors.
#[derive(Deserialize)]
struct SignedIn {
    token: Option<SecretString>,
}

impl Session {
    pub fn new(web: Web, login: Login) -> Self {
        Self {
            web,
            login,
            pass: Mutex::default(),
        }
    }

    /// What NocoDB answers to a GET.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let answer = self.get_once(path, query).await;
        if !has_ended(&answer) {
            return answer;
        }
        self.forget();
        self.get_once(path, query).await
    }

    /// Deletes what a path names.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        let answer = self.delete_once(path).await;
        if !has_ended(&answer) {
            return answer;
        }
        self.forget();
        self.delete_once(path).await
    }

    async fn get_once<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let pass = self.pass().await?;
        let request = self.web.get(path).header("xc-auth", pass);
        let request = query
            .iter()
            .fold(request, |request, (name, value)| request.query(name, value));
        Ok(request.json().await?)
    }

    async fn delete_once(&self, path: &str) -> Result<(), Error> {
        let pass = self.pass().await?;
        let request = self.web.request(Method::DELETE, path);
        Ok(request.header("xc-auth", pass).done().await?)
    }

    /// The session that is under way, or a new one.
    async fn pass(&self) -> Result<HeaderValue, Error> {
        let kept = self.kept().clone();
        match kept.filter(|pass| pass.is_fresh(Instant::now())) {
            Some(pass) => Ok(pass.header),
            None => self.sign_in().await,
        }
    }

    async fn sign_in(&self) -> Result<HeaderValue, Error> {
        let given_at = Instant::now();
        let request = self.web.request(Method::POST, "api/v1/auth/user/signin");
        let password = self.login.password.expose_secret();
        let body = json!({"email": self.login.email, "password": password});
        let answer: SignedIn = request.body(&body).json().await.map_err(refused)?;
        let Some(token) = answer.token else {
            return Err(Error::Rights {
                what: "NocoDB wants more than the password, as it does with a second factor".into(),
                mend: format!("give lapsed a user without one, or {BY_DATABASE}"),
            });
        };
        let header = web::secret_header("NocoDB's session", token.expose_secret())?;
        *self.kept() = Some(Pass {
            header: header.clone(),
            given_at,
        });
        Ok(header)
    }

    /// Signs in anew with the next request.
    pub fn forget(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<Pass>> {
        // A pass is replaced whole, so that one who panicked left nothing half done.
        self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the session was not, or no longer, accepted.
fn has_ended<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Web(error)) if error.status() == Some(StatusCode::UNAUTHORIZED))
}

/// A sign-in that was refused, in words that say what to do.
fn refused(error: web::Error) -> Error {
    match error.status() {
        // It answers 400 to a wrong password.
        Some(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) => Error::Rights {
            what: "NocoDB does not accept `email` and `password`".into(),
            mend: format!(
                "correct them; if its people sign in by single sign-on or with a second factor, {BY_DATABASE}"
            ),
        },
        Some(StatusCode::FORBIDDEN) => Error::Rights {
            what: "NocoDB lets nobody sign in with a password".into(),
            mend: BY_DATABASE.into(),
        },
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_renewed_before_its_ten_hours_are_over() {
        let given_at = Instant::now();
        let header = HeaderValue::from_static("session");
        let pass = Pass { header, given_at };
        assert!(pass.is_fresh(given_at + Duration::from_mins(8 * 60 + 59)));
        assert!(!pass.is_fresh(given_at + Duration::from_hours(9)));
    }
}
