//! Requests to the Admin REST API of one realm, with an access token of the client's service account.

use std::collections::HashSet;

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};
use uuid::Uuid;

use crate::directories::UNSUPPORTED;
use crate::directories::json::Records;
use crate::upstream::http::{self, Client, path_segment};
use crate::upstream::pager::{Content, Endless, Next, Pager};
use crate::upstream::session::{Grant, Session, SignIn, request_access_token};
use crate::upstream::{Error, none_if_status};

/// Keycloak looks up each user of a page in their user storage.
const PAGE_SIZE: usize = 200;

const BRIEF: (&str, &str) = ("briefRepresentation", "true");

pub(super) const VIEW_USERS: &str = "give the client's service account the role view-users of \
     realm-management (Clients, the client, Service account roles, Assign role)";

/// The role view-users includes query-groups, unless that was changed.
pub(super) const QUERY_GROUPS: &str = "give the client's service account the roles view-users and \
     query-groups of realm-management (Clients, the client, Service account roles, Assign role)";

#[derive(Debug)]
pub(super) struct Api {
    session: Session<ServiceAccount>,
    base: String,
}

#[derive(Debug)]
struct ServiceAccount {
    web: Client,
    token_path: String,
    client_id: String,
    client_secret: SecretString,
}

impl SignIn for ServiceAccount {
    async fn sign_in(&self) -> Result<Grant, Error> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose_secret().trim()),
        ];
        let granted = request_access_token(&self.web, &self.token_path, &form).await;
        granted.map_err(explain_token_refusal)
    }
}

impl Api {
    pub fn new(web: Client, realm: &str, client_id: &str, client_secret: &SecretString) -> Self {
        let realm = path_segment(realm).unwrap_or_default();
        let client = ServiceAccount {
            web: web.clone(),
            token_path: format!("realms/{realm}/protocol/openid-connect/token"),
            client_id: client_id.to_owned(),
            client_secret: client_secret.clone(),
        };
        Self {
            session: Session::new(web, client),
            base: format!("admin/realms/{realm}"),
        }
    }

    pub async fn fetch<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let request = self.session.web.get(&format!("{}/{path}", self.base));
        self.session.fetch(request.queries(query)).await
    }

    /// Passes on each item of a list once, page by page. Returns how many records have no id.
    ///
    /// # Errors
    /// When a page cannot be read, or repeats an earlier one.
    pub async fn for_each<T: Item>(
        &self,
        path: &str,
        filter: &[(&str, &str)],
        last: LastPage,
        mut each: impl FnMut(T) + Send,
    ) -> Result<u64, Error> {
        let invalid_response = |reason: &str| Error::content(path, reason);
        let mut pager = Pager::default();
        let mut seen = HashSet::new();
        let mut without_id = 0;
        loop {
            let first = match pager.next() {
                Next::First => 0,
                Next::At(first) => *first,
                Next::End => return Ok(without_id),
            };
            let (from, max) = (first.to_string(), PAGE_SIZE.to_string());
            let query = [("first", from.as_str()), ("max", &max), BRIEF];
            let records: Records<T> = self.fetch(path, &[&query, filter].concat()).await?;
            let is_full = records.count() == PAGE_SIZE;
            without_id += records.without_id;
            let mut page = records.items;
            let count = page.len();
            page.retain(|item| item.mark_seen(&mut seen));
            let content = Content::new(count, page.len());
            let has_more = is_full
                || match last {
                    LastPage::NotFull => content == Content::Repeated,
                    LastPage::NothingNew => content == Content::New,
                };
            pager
                .advance(content, has_more.then_some(first + PAGE_SIZE))
                .map_err(|endless| match endless {
                    Endless::NothingNew => invalid_response(&format!(
                        "{endless}; a proxy between lapsed and Keycloak must not cache responses, or \
                         change the parameters first and max"
                    )),
                    _ => invalid_response(&endless.to_string()),
                })?;
            page.into_iter().for_each(&mut each);
        }
    }

    /// The number of people that the client may view; `None` if the server has no count.
    pub async fn fetch_count(&self) -> Result<Option<u64>, Error> {
        let count = self.fetch("users/count", &[]).await;
        none_if_status(
            count,
            &[&UNSUPPORTED[..], &[StatusCode::FORBIDDEN]].concat(),
        )
    }

    /// Returns the count.
    ///
    /// # Errors
    /// When the client sees no users.
    pub async fn ensure_can_view_users(&self) -> Result<Option<u64>, Error> {
        let count = self.fetch_count().await?;
        if count == Some(0) || !self.has_any("users").await? {
            return Err(no_visible_users_error(count));
        }
        Ok(count)
    }

    pub async fn has_any(&self, path: &str) -> Result<bool, Error> {
        let query = [("first", "0"), ("max", "1"), BRIEF];
        let first: Vec<IgnoredAny> = self.fetch(path, &query).await?;
        Ok(!first.is_empty())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastPage {
    /// One that is not full, or that is larger than requested because the server does not support paging.
    NotFull,
    /// One without anything new. Keycloak drops users from a page if their user storage no longer has them, so in
    /// a list without a count a page that is not full need not be the last.
    NothingNew,
}

pub(super) trait Item: DeserializeOwned {
    /// Adds its id to those seen. Returns whether it was new.
    fn mark_seen(&self, seen: &mut HashSet<Uuid>) -> bool;
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
    Error::rights(what, VIEW_USERS)
}

fn explain_token_refusal(error: http::Error) -> Error {
    let denied = format!("Keycloak grants the client no access token ({error})");
    let denied_fix = "correct client_id and client_secret (Clients, the client, Credentials), and enable its \
                      Client authentication and Service account roles";
    let missing = format!("Keycloak has no such realm at this URL ({error})");
    let missing_fix =
        "correct realm and url; url ends before /realms, and includes /auth if the server uses it";
    Error::from(error).explain(&[
        (StatusCode::BAD_REQUEST, &denied, denied_fix),
        (StatusCode::UNAUTHORIZED, &denied, denied_fix),
        (StatusCode::FORBIDDEN, &denied, denied_fix),
        (StatusCode::NOT_FOUND, &missing, missing_fix),
    ])
}

pub(super) fn explain_refusal(error: Error) -> Error {
    let rejected = format!("Keycloak rejects an access token that it has just granted ({error})");
    let denied = format!("Keycloak does not let the client read the users or groups ({error})");
    let fix = "set url to the address in Keycloak's own hostname setting";
    error.explain(&[
        (StatusCode::UNAUTHORIZED, &rejected, fix),
        (StatusCode::FORBIDDEN, &denied, QUERY_GROUPS),
    ])
}
