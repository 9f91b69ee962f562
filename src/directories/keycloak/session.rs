//! Requests to the Admin REST API of one realm, with an access token of the client's service account.

use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Config;
use crate::directories::access_tokens::{AccessTokens, Failure, Form};
use crate::directories::id::path_segment;
use crate::sources::Error;
use crate::upstream::http::{self, Client};

/// Keycloak looks up each user of a page in their user storage.
pub(super) const PAGE_SIZE: usize = 200;

pub(super) const VIEW_USERS: &str = "give the client's service account the role view-users of \
     realm-management (Clients, the client, Service account roles, Assign role)";

/// The role view-users includes query-groups, unless that was changed.
pub(super) const QUERY_GROUPS: &str = "give the client's service account the roles view-users and \
     query-groups of realm-management (Clients, the client, Service account roles, Assign role)";

#[derive(Debug)]
pub(super) struct Session {
    web: Client,
    access_tokens: AccessTokens,
    token_path: String,
    /// The prefix of all other paths.
    base: String,
    client_id: String,
    client_secret: SecretString,
}

impl Session {
    pub fn new(web: Client, config: &Config) -> Self {
        let realm = path_segment(&config.realm).unwrap_or_default();
        Self {
            web,
            access_tokens: AccessTokens::default(),
            token_path: format!("realms/{realm}/protocol/openid-connect/token"),
            base: format!("admin/realms/{realm}"),
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
        }
    }

    fn form(&self) -> Form {
        vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", self.client_id.clone()),
            (
                "client_secret",
                self.client_secret.expose_secret().trim().to_owned(),
            ),
        ]
    }

    pub async fn fetch<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let path = format!("{}/{path}", self.base);
        let request = || {
            let mut request = self.web.request(Method::GET, &path);
            for (name, value) in query {
                request = request.query(name, value);
            }
            request
        };
        let form = || Ok(self.form());
        let answer = self
            .access_tokens
            .fetch(&self.web, &self.token_path, form, request);
        answer.await.map_err(|failure| match failure {
            Failure::NoToken(error) => explain_token_refusal(error),
            Failure::Response(error) => error.into(),
        })
    }

    pub fn pager(&self, path: &str, query: &[(&'static str, &str)]) -> Pager<'_> {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        Pager {
            session: self,
            path: path.to_owned(),
            query: query.iter().map(owned).collect(),
            first: 0,
            is_done: false,
        }
    }

    /// The number of people that the client may view; `None` if the server has no count.
    pub async fn fetch_count(&self) -> Result<Option<u64>, Error> {
        match self.fetch("users/count", &[]).await {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_unsupported(&error) => Ok(None),
            Err(error) if http_status(&error) == Some(StatusCode::FORBIDDEN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the count.
    ///
    /// # Errors
    /// When the client sees no users.
    pub async fn ensure_can_view_users(&self) -> Result<Option<u64>, Error> {
        let count = self.fetch_count().await?;
        let query = [
            ("first", "0"),
            ("max", "1"),
            ("briefRepresentation", "true"),
        ];
        let first: Vec<IgnoredAny> = self.fetch("users", &query).await?;
        if count == Some(0) || first.is_empty() {
            return Err(no_visible_users_error(count));
        }
        Ok(count)
    }
}

/// Reads a list page by page.
pub(super) struct Pager<'a> {
    session: &'a Session,
    path: String,
    query: Vec<(&'static str, String)>,
    first: usize,
    is_done: bool,
}

impl Pager<'_> {
    /// The next page; `None` after a page that is not full, or that is larger than requested because the
    /// server does not support paging.
    pub async fn next_page<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let page: Vec<T> = self.fetch_page().await?;
        self.is_done = page.len() != PAGE_SIZE;
        Ok(Some(page))
    }

    /// The next page; `None` after an empty one. For lists without a count: Keycloak drops users from a page
    /// if their user storage no longer has them, so a page that is not full need not be the last.
    pub async fn next_nonempty_page<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<Vec<T>>, Error> {
        let page: Vec<T> = self.fetch_page().await?;
        Ok((!page.is_empty()).then_some(page))
    }

    async fn fetch_page<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, Error> {
        let (first, max) = (self.first.to_string(), PAGE_SIZE.to_string());
        let mut query = vec![
            ("first", first.as_str()),
            ("max", max.as_str()),
            ("briefRepresentation", "true"),
        ];
        query.extend(
            self.query
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let page = self.session.fetch(&self.path, &query).await?;
        self.first += PAGE_SIZE;
        Ok(page)
    }

    /// A page has nothing new.
    pub fn repeated_page_error(&self) -> Error {
        Error::Content {
            place: self.path.clone(),
            reason:
                "a page repeats earlier ones; a proxy between lapsed and Keycloak must not cache \
                     responses, or change the parameters first and max"
                    .to_owned(),
        }
    }
}

pub(super) fn http_status(error: &Error) -> Option<StatusCode> {
    match error {
        Error::Http(error) => error.status(),
        _ => None,
    }
}

/// Whether the server lacks this part of the API.
pub(super) fn is_unsupported(error: &Error) -> bool {
    matches!(
        http_status(error),
        Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
    )
}

/// A client that may search but not view gets an empty list, not an error.
pub(super) fn no_visible_users_error(count: Option<u64>) -> Error {
    let what = match count {
        None | Some(0) => {
            "Keycloak shows no users: the realm has none, or the client may not view them".into()
        }
        Some(count) => {
            format!("Keycloak counts {count} users but shows none: the client may not view them")
        }
    };
    Error::Rights {
        what,
        fix: VIEW_USERS.to_owned(),
    }
}

fn explain_token_refusal(error: http::Error) -> Error {
    let (what, fix) = match error.status() {
        Some(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => (
            "Keycloak grants the client no access token",
            "correct client_id and client_secret (Clients, the client, Credentials), and enable its \
             Client authentication and Service account roles",
        ),
        Some(StatusCode::NOT_FOUND) => (
            "Keycloak has no such realm at this URL",
            "correct realm and url; url ends before /realms, and includes /auth if the server uses it",
        ),
        _ => return error.into(),
    };
    Error::Rights {
        what: format!("{what} ({error})"),
        fix: fix.to_owned(),
    }
}

/// Adds advice to a refusal.
pub(super) fn explain_refusal(error: Error) -> Error {
    let (what, fix) = match http_status(&error) {
        Some(StatusCode::UNAUTHORIZED) => (
            "Keycloak rejects an access token that it has just granted",
            "set url to the address in Keycloak's own hostname setting",
        ),
        Some(StatusCode::FORBIDDEN) => (
            "Keycloak does not let the client read the users or groups",
            QUERY_GROUPS,
        ),
        _ => return error,
    };
    Error::Rights {
        what: format!("{what} ({error})"),
        fix: fix.to_owned(),
    }
}
