//! Microsoft Graph, asked page by page.

use std::collections::HashSet;

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::de::DeserializeOwned;

use super::answers::Page;
use super::sign_in::SignIn;
use crate::sources::Error;
use crate::web::{self, Request, Web};

/// So many pages in a row may be empty (an empty page is no end), before a list is thought to have none.
const EMPTY_PAGES: u32 = 100;

/// Graph, and who asks it.
#[derive(Debug)]
pub(super) struct Graph {
    pub web: Web,
    pub sign_in: SignIn,
}

/// Where a list begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// At a path, with a query.
    Path(&'a str, &'a [(&'a str, &'a str)]),
    /// At a link that Graph gave.
    Link(&'a str),
}

impl Graph {
    /// One answer.
    ///
    /// # Errors
    /// When there is none, or no access token.
    pub async fn get<T: DeserializeOwned>(&self, start: Start<'_>) -> Result<T, Error> {
        let answer = self.once(start, self.sign_in.bearer().await?).await;
        match answer {
            // An access token may end before its time: a changed secret, a revoked consent.
            Err(Error::Web(error)) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                self.sign_in.forget().await;
                self.once(start, self.sign_in.bearer().await?).await
            }
            answer => answer,
        }
    }

    async fn once<T: DeserializeOwned>(
        &self,
        start: Start<'_>,
        bearer: HeaderValue,
    ) -> Result<T, Error> {
        let request = self.request(start)?.header("authorization", bearer);
        Ok(request.json().await?)
    }

    fn request(&self, start: Start<'_>) -> Result<Request<'_>, web::Error> {
        match start {
            Start::Link(link) => self.web.follow(link),
            Start::Path(path, query) => {
                let request = self.web.get(path);
                let pairs = query.iter();
                Ok(pairs.fold(request, |request, (name, value)| request.query(name, value)))
            }
        }
    }

    /// Every entry of a list up to its end; tells the link by which later changes are asked for, which is
    /// the end of a round of changes alone.
    ///
    /// # Errors
    /// When a page is missing, was there before, or is on another server.
    pub async fn list<T: DeserializeOwned>(
        &self,
        start: Start<'_>,
        mut each: impl FnMut(T) + Send,
    ) -> Result<Option<String>, Error> {
        let mut page: Page<T> = self.get(start).await?;
        let mut seen = HashSet::new();
        let mut empty = 0;
        loop {
            empty = if page.value.is_empty() { empty + 1 } else { 0 };
            page.value.into_iter().for_each(&mut each);
            let Some(next) = page.next else {
                // A link that is kept for later must be one that can be followed.
                let delta = page.delta.as_deref();
                delta.map(|link| self.web.follow(link)).transpose()?;
                return Ok(page.delta);
            };
            if empty > EMPTY_PAGES || !seen.insert(next.clone()) {
                return Err(Error::Content {
                    place: "Microsoft Graph".to_owned(),
                    reason: "a list that leads in a circle; nothing is concluded from it"
                        .to_owned(),
                });
            }
            page = self.get(Start::Link(&next)).await?;
        }
    }
}

/// An error in words that say which permission is missing.
pub(super) fn refused(error: Error, what: &str, permission: &str) -> Error {
    let status = match &error {
        Error::Web(error) => error.status(),
        _ => None,
    };
    match status {
        Some(StatusCode::FORBIDDEN) => Error::Rights {
            what: format!("Graph does not let the program {what} (403)"),
            mend: permit(permission),
        },
        Some(StatusCode::UNAUTHORIZED) => Error::Rights {
            what: "Graph does not take the access token (401)".to_owned(),
            mend: "name the cloud where the tenant is, and correct url".to_owned(),
        },
        _ => error,
    }
}

/// How to add a permission.
pub(super) fn permit(permission: &str) -> String {
    format!(
        "add the application permission {permission} of Microsoft Graph to the program (App registrations, \
         API permissions) and grant admin consent"
    )
}

/// Whether Graph answered with one of these.
pub(super) fn answered(error: &Error, statuses: &[StatusCode]) -> bool {
    let Error::Web(error) = error else {
        return false;
    };
    error.status().is_some_and(|it| statuses.contains(&it))
}
