//! Signs in to NocoDB with a password.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::Login;
use crate::sources::Error;
use crate::upstream::http::{self, Client};
use crate::upstream::session::{Grant, SignIn};

/// A session lasts ten hours (`NC_JWT_EXPIRES_IN`).
const RENEWAL_AGE: Duration = Duration::from_hours(9);

/// The alternative if a password is not enough to sign in.
const DATABASE_ADVICE: &str = "set `database` to NocoDB's own database, which lapsed reads without signing in; \
     docs/sources/nocodb.md lists the rights that it needs";

/// The user who signs in. An API token would not do, because NocoDB lists no tokens to API tokens.
#[derive(Debug)]
pub(super) struct User {
    pub web: Client,
    pub login: Login,
}

/// If a second factor is required, the response is 2xx but has no token.
#[derive(Deserialize)]
struct SignInResponse {
    token: Option<SecretString>,
}

impl SignIn for User {
    const HEADER: &'static str = "xc-auth";

    async fn sign_in(&self) -> Result<Grant, Error> {
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
        Ok(Grant {
            header: http::secret_header("NocoDB's session", token.expose_secret())?,
            renew_after: RENEWAL_AGE,
        })
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
