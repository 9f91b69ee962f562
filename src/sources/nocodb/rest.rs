//! Lists tokens through NocoDB's REST interface, after signing in with a password.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::rows::{CurrentUser, Page, ServerInfo, Token, User};
use crate::sources::fields;
use crate::sources::{Error, Listing, ListingBuilder, RefusedRows};
use crate::upstream::http::{self, Client, Request};
use crate::upstream::none_if_status;
use crate::upstream::pager::{Content, Pager};
use crate::upstream::session::{Grant, Session, SignIn};

/// Large, because NocoDB's pages are in no order, so a single page with all rows is best.
const PAGE_SIZE: &str = "10000";

const TOKENS_PATH: &str = "api/v1/tokens";

pub(super) const SUPER_ADMIN_ADVICE: &str =
    "give lapsed a super admin of NocoDB, or set `database` to NocoDB's own database";

/// A session lasts ten hours (`NC_JWT_EXPIRES_IN`).
const RENEWAL_AGE: Duration = Duration::from_hours(9);

/// The alternative if a password is not enough to sign in.
const DATABASE_ADVICE: &str = "set `database` to NocoDB's own database, which lapsed reads without signing in; \
     docs/sources/nocodb.md lists the rights that it needs";

#[derive(Debug, Clone)]
pub struct Login {
    pub email: String,
    pub password: SecretString,
}

/// Not an API token, because NocoDB lists no tokens to API tokens.
#[derive(Debug)]
struct PasswordSignIn {
    client: Client,
    login: Login,
}

/// If a second factor is required, the response is 2xx but has no token.
#[derive(Deserialize)]
struct SignInResponse {
    token: Option<SecretString>,
}

impl SignIn for PasswordSignIn {
    const HEADER: &'static str = "xc-auth";

    async fn sign_in(&self) -> Result<Grant, Error> {
        let request = self.client.request(Method::POST, "api/v1/auth/user/signin");
        let password = self.login.password.expose_secret();
        let body = json!({"email": self.login.email, "password": password});
        let response: SignInResponse = request.body(&body).json().await.map_err(explain_sign_in)?;
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

fn explain_sign_in(error: http::Error) -> Error {
    let fix = format!(
        "correct them; if users sign in by single sign-on or with a second factor, {DATABASE_ADVICE}"
    );
    let refused = "NocoDB does not accept `email` and `password`";
    let denied = "NocoDB does not permit sign-in with a password";
    Error::from(error).explain(&[
        // NocoDB answers 400 to a wrong password.
        (StatusCode::BAD_REQUEST, refused, &fix),
        (StatusCode::UNAUTHORIZED, refused, &fix),
        (StatusCode::FORBIDDEN, denied, DATABASE_ADVICE),
    ])
}

#[derive(Debug)]
pub(super) struct RestApi {
    session: Session<PasswordSignIn>,
}

/// All tokens, with the users and the server that explain them.
pub(super) struct Snapshot {
    pub tokens: Vec<Token>,
    refusals: RefusedRows,
    /// `None` if NocoDB does not list all of them.
    pub users: Option<HashMap<String, User>>,
    pub server: ServerInfo,
    /// The signed-in user; `None` if NocoDB does not report whether they are a super admin.
    pub super_admin_id: Option<String>,
}

struct Rows<T> {
    unique: Vec<T>,
    /// Rows without an id.
    refusals: RefusedRows,
    /// The number of rows on all pages, including repeated ones.
    read: usize,
    pages: usize,
    total: usize,
}

impl<T> Rows<T> {
    fn refused(&self) -> usize {
        usize::try_from(self.refusals.count).unwrap_or(usize::MAX)
    }

    /// Whether rows may have moved to a page that was already read.
    fn have_moved(&self) -> bool {
        self.pages > 1 && self.unique.len() + self.refused() < self.total
    }
}

impl RestApi {
    pub fn new(client: Client, login: Login) -> Self {
        let sign_in = PasswordSignIn {
            client: client.clone(),
            login,
        };
        Self {
            session: Session::new(client, sign_in),
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let request = self.session.web.get(path).queries(query);
        self.session.fetch(request).await
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        let request = self.session.web.request(Method::DELETE, path);
        self.session
            .send(request, Request::send_ignoring_body)
            .await
    }

    /// Fails if only the tokens of the own user are visible.
    pub async fn fetch_snapshot(&self) -> Result<Snapshot, Error> {
        let super_admin_id = self.fetch_super_admin_id().await?;
        let tokens = self
            .fetch_rows(TOKENS_PATH, |token: &Token| token.id.id())
            .await?;
        if tokens.read < tokens.total {
            let Rows { read, total, .. } = tokens;
            return Err(own_tokens_only(&format!(
                "NocoDB lists {read} of {total} tokens; {SUPER_ADMIN_ADVICE}"
            )));
        }
        if tokens.have_moved() {
            let reason = "it changed from page to page; the next sync reads it again";
            return Err(Error::content("the list of tokens", reason));
        }
        // After the tokens, so that the user of a new token is already in the list.
        let users = optional(
            self.fetch_rows("api/v1/users", |user: &User| user.id.id())
                .await,
        )?;
        let users = users.filter(|users| users.read >= users.total && !users.have_moved());
        let snapshot = Snapshot {
            tokens: tokens.unique,
            refusals: tokens.refusals,
            users: users.map(|users| {
                let users = users.unique.into_iter();
                users
                    .filter_map(|user| Some((user.id.id()?, user)))
                    .collect()
            }),
            server: self.fetch_server_info().await?,
            super_admin_id,
        };
        if snapshot.has_own_tokens_only() {
            return Err(own_tokens_only(
                "the enterprise edition does not list the tokens of other users; \
                 set `database` to NocoDB's own database",
            ));
        }
        Ok(snapshot)
    }

    /// The id of the signed-in user, if NocoDB reports that they are a super admin. Other users see only their
    /// own tokens.
    pub async fn fetch_super_admin_id(&self) -> Result<Option<String>, Error> {
        let mut user = self.fetch_current_user().await?;
        if user.as_ref().is_some_and(|user| user.id().is_none()) {
            // NocoDB does not refuse an expired session here, but reports a guest.
            self.session.forget().await;
            user = self.fetch_current_user().await?;
        }
        match user.and_then(|user| Some((user.is_super_admin()?, user.id()?))) {
            Some((false, _)) => Err(own_tokens_only(SUPER_ADMIN_ADVICE)),
            Some((true, id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }

    async fn fetch_current_user(&self) -> Result<Option<CurrentUser>, Error> {
        optional(self.get("api/v1/auth/user/me", &[]).await)
    }

    pub async fn delete_token(&self, id: &str) -> Result<(), Error> {
        self.delete(&format!("{TOKENS_PATH}/{id}")).await
    }

    /// Versions up to spring 2026 accept a deleted token for days, because deletion uses another cache key than
    /// the look-up.
    pub async fn clear_cache(&self) -> Result<(), Error> {
        let Err(error) = optional(self.delete("api/v1/db/meta/cache").await) else {
            return Ok(());
        };
        let what = "the token is deleted, but NocoDB may still accept it from its cache";
        Err(Error::rights(format!("{what}; {error}"), "restart NocoDB"))
    }

    pub async fn fetch_server_info(&self) -> Result<ServerInfo, Error> {
        let info = self.get("api/v1/db/meta/nocodb/info", &[]).await;
        Ok(optional(info)?.unwrap_or_default())
    }

    /// Reads all pages of a list. Of the page information only the total is right, and an offset that is not
    /// below it is an error.
    async fn fetch_rows<T: DeserializeOwned>(
        &self,
        path: &str,
        id: fn(&T) -> Option<String>,
    ) -> Result<Rows<T>, Error> {
        let mut ids = HashSet::new();
        let mut rows = Rows {
            unique: Vec::new(),
            refusals: RefusedRows::default(),
            read: 0,
            pages: 0,
            total: 0,
        };
        let mut pager = Pager::default();
        while !pager.is_done() {
            let offset = rows.read.to_string();
            let query = [("limit", PAGE_SIZE), ("offset", &offset)];
            let page: Page<T> = self.get(path, &query).await?;
            let total = page.total();
            let before = ids.len();
            rows.pages += 1;
            let count = page.list.len();
            rows.read += count;
            rows.total = total.unwrap_or(rows.total);
            let has_id = |row: &T| id(row).is_some();
            let list = fields::with_ids(page.list, path, has_id, &mut rows.refusals);
            let new = list
                .into_iter()
                .filter(|row| id(row).is_some_and(|id| ids.insert(id)));
            rows.unique.extend(new);
            let is_last = total.is_some() && rows.read >= rows.total;
            let next = (count > 0 && !is_last).then_some(rows.read);
            pager
                .advance(Content::new(count, ids.len() - before), next)
                .map_err(|endless| Error::content(path, endless.to_string()))?;
        }
        Ok(rows)
    }
}

impl Snapshot {
    /// Whether the tokens of other users are hidden, as in the enterprise edition: there are other users, but
    /// none of them has a token.
    fn has_own_tokens_only(&self) -> bool {
        let (Some(own_id), Some(users)) = (&self.super_admin_id, &self.users) else {
            return false;
        };
        let has_others = users.len() > 1;
        let is_of_other = |token: &Token| token.user_id().is_some_and(|id| id != *own_id);
        self.server.is_enterprise() == Some(true)
            && has_others
            && !self.tokens.iter().any(is_of_other)
    }

    pub fn has_token(&self, id: &str) -> bool {
        self.tokens.iter().any(|token| token.id() == id)
    }

    pub fn listing(&self) -> Result<Listing, Error> {
        let mut builder = ListingBuilder::default();
        for token in &self.tokens {
            let users = self.users.as_ref();
            let user = users.and_then(|users| users.get(&token.user_id()?));
            builder.push(&token.to_listed(user, users.is_some()))?;
        }
        Ok(Listing {
            max_life: self.server.max_life(),
            refusals: self.refusals.clone(),
            ..builder.finish()?
        })
    }
}

fn own_tokens_only(fix: &str) -> Error {
    Error::OwnTokensOnly {
        fix: fix.to_owned(),
    }
}

/// Turns the refusal of a request that some versions or editions do not support or permit into `None`.
fn optional<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    none_if_status(answer, &[StatusCode::FORBIDDEN, StatusCode::NOT_FOUND])
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::ProxyRules;

    #[tokio::test]
    async fn a_session_is_renewed_before_ten_hours() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = post(async || r#"{"token": "session"}"#);
        let server = Router::new().route("/api/v1/auth/user/signin", answer);
        tokio::spawn(async { axum::serve(listener, server).await });
        let sign_in = PasswordSignIn {
            client: Client::new(
                &url.parse().unwrap(),
                None,
                Duration::from_secs(5),
                &ProxyRules::default(),
            )
            .unwrap(),
            login: Login {
                email: "admin@example.org".to_owned(),
                password: "secret".into(),
            },
        };
        let grant = sign_in.sign_in().await.unwrap();
        assert_eq!(grant.renew_after, Duration::from_hours(9));
        assert_eq!(grant.header, "session");
    }
}
