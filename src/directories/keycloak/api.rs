//! How Keycloak is asked: with an access token of the client's service account, page by page.

use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Config;
use crate::directories::grant::{Failure, Form, Grants};
use crate::directories::id::segment;
use crate::sources::Error;
use crate::web::{self, Web};

/// How many a page may have. Keycloak looks each of them up in the user storage that they come from.
pub(super) const PAGE: usize = 200;

/// How to see people.
pub(super) const VIEW_USERS: &str = "give the client's service account the role view-users of \
     realm-management (Clients, the client, Service account roles, Assign role)";

/// How to see groups; view-users brings it along, unless that was changed.
pub(super) const QUERY_GROUPS: &str = "give the client's service account the roles view-users and \
     query-groups of realm-management (Clients, the client, Service account roles, Assign role)";

/// The Admin REST API of one realm.
#[derive(Debug)]
pub(super) struct Api {
    web: Web,
    grants: Grants,
    /// Where access tokens are granted.
    token_path: String,
    /// What all other paths begin with.
    base: String,
    client_id: String,
    client_secret: SecretString,
}

impl Api {
    pub fn new(web: Web, config: &Config) -> Self {
        let realm = segment(&config.realm).unwrap_or_default();
        Self {
            web,
            grants: Grants::default(),
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

    /// What is at a path of the realm.
    pub async fn get<T: DeserializeOwned>(
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
        let answer = self.grants.ask(&self.web, &self.token_path, form, request);
        answer.await.map_err(|failure| match failure {
            Failure::Grant(error) => ungranted(error),
            Failure::Answer(error) => error.into(),
        })
    }

    /// A list, page by page.
    pub fn pages(&self, path: &str, query: &[(&'static str, &str)]) -> Pages<'_> {
        let owned = |(name, value): &(&'static str, &str)| (*name, (*value).to_owned());
        Pages {
            api: self,
            path: path.to_owned(),
            query: query.iter().map(owned).collect(),
            first: 0,
            is_done: false,
        }
    }

    /// How many people there are, of those whom the client may view; `None` where nobody counts them.
    pub async fn count(&self) -> Result<Option<u64>, Error> {
        match self.get("users/count", &[]).await {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) if status(&error) == Some(StatusCode::FORBIDDEN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many people there are, once it was seen that the client may view them.
    pub async fn viewed(&self) -> Result<Option<u64>, Error> {
        let count = self.count().await?;
        let query = [
            ("first", "0"),
            ("max", "1"),
            ("briefRepresentation", "true"),
        ];
        let first: Vec<IgnoredAny> = self.get("users", &query).await?;
        if count == Some(0) || first.is_empty() {
            return Err(nobody(count));
        }
        Ok(count)
    }
}

/// A list under way.
pub(super) struct Pages<'a> {
    api: &'a Api,
    path: String,
    query: Vec<(&'static str, String)>,
    first: usize,
    is_done: bool,
}

impl Pages<'_> {
    /// The next page; `None` after one that is not full, or holds more than was asked for: then the server
    /// knows no pages.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let page: Vec<T> = self.ask().await?;
        self.is_done = page.len() != PAGE;
        Ok(Some(page))
    }

    /// The next page; `None` after an empty one. For lists that nothing counts: Keycloak drops from a page
    /// whom it finds gone from their user storage, so that one that is not full need not be the last.
    pub async fn next_of_all<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Error> {
        let page: Vec<T> = self.ask().await?;
        Ok((!page.is_empty()).then_some(page))
    }

    async fn ask<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, Error> {
        let (first, max) = (self.first.to_string(), PAGE.to_string());
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
        let page = self.api.get(&self.path, &query).await?;
        self.first += PAGE;
        Ok(page)
    }

    /// A page brought nothing new.
    pub fn repeats(&self) -> Error {
        Error::Content {
            place: self.path.clone(),
            reason: "a page repeats those before it; let nothing between here and Keycloak keep \
                     answers, or change first and max"
                .to_owned(),
        }
    }
}

/// The status that Keycloak refused with.
pub(super) fn status(error: &Error) -> Option<StatusCode> {
    match error {
        Error::Web(error) => error.status(),
        _ => None,
    }
}

/// Whether the server does not have that part of the API.
pub(super) fn is_unknown(error: &Error) -> bool {
    matches!(
        status(error),
        Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
    )
}

/// That nobody can be seen. Whoever may search but not view gets an empty list, and no error.
pub(super) fn nobody(count: Option<u64>) -> Error {
    let what = match count {
        None | Some(0) => {
            "Keycloak shows no people: the realm has none, or the client may not view them".into()
        }
        Some(count) => {
            format!("Keycloak shows nobody of {count} people: the client may not view them")
        }
    };
    Error::Rights {
        what,
        mend: VIEW_USERS.to_owned(),
    }
}

/// Says why there is no access token.
fn ungranted(error: web::Error) -> Error {
    let (what, mend) = match error.status() {
        Some(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => (
            "Keycloak grants the client no access token",
            "correct client_id and client_secret (Clients, the client, Credentials), and switch on its \
             Client authentication and Service account roles",
        ),
        Some(StatusCode::NOT_FOUND) => (
            "Keycloak has no such realm at this address",
            "correct realm and url; url ends before /realms, with /auth where the server has that",
        ),
        _ => return error.into(),
    };
    Error::Rights {
        what: format!("{what} ({error})"),
        mend: mend.to_owned(),
    }
}

/// Says of a refusal what to do about it.
pub(super) fn explained(error: Error) -> Error {
    let (what, mend) = match status(&error) {
        Some(StatusCode::UNAUTHORIZED) => (
            "Keycloak does not take an access token that it has just granted",
            "let url be the address that Keycloak itself goes by (its hostname setting)",
        ),
        Some(StatusCode::FORBIDDEN) => (
            "Keycloak does not let the client see what it must",
            QUERY_GROUPS,
        ),
        _ => return error,
    };
    Error::Rights {
        what: format!("{what} ({error})"),
        mend: mend.to_owned(),
    }
}
