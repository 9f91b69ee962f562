//! Requests to Microsoft Graph.

use std::collections::HashSet;

use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde::de::DeserializeOwned;

use super::responses::Page;
use super::sign_in::SignIn;
use crate::sources::Error;
use crate::upstream::http::{self, Client, Request};

/// After more empty pages than this in a row, a list is considered endless.
const MAX_EMPTY_PAGES: u32 = 100;

#[derive(Debug)]
pub(super) struct Session {
    pub web: Client,
    pub sign_in: SignIn,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'a> {
    /// A path and query parameters.
    Path(&'a str, &'a [(&'a str, &'a str)]),
    /// A link from a response.
    Link(&'a str),
}

impl Session {
    /// Sends a request, and again with a new access token if Graph rejects the token with 401.
    ///
    /// # Errors
    /// When the request fails, or there is no access token.
    pub async fn fetch<T: DeserializeOwned>(&self, start: Start<'_>) -> Result<T, Error> {
        match self.fetch_once(start, self.sign_in.bearer().await?).await {
            // A changed secret or a revoked consent invalidates access tokens early.
            Err(Error::Http(error)) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                self.sign_in.forget().await;
                self.fetch_once(start, self.sign_in.bearer().await?).await
            }
            response => response,
        }
    }

    async fn fetch_once<T: DeserializeOwned>(
        &self,
        start: Start<'_>,
        bearer: HeaderValue,
    ) -> Result<T, Error> {
        let request = self.request(start)?.header("authorization", bearer);
        Ok(request.json().await?)
    }

    fn request(&self, start: Start<'_>) -> Result<Request<'_>, http::Error> {
        match start {
            Start::Link(link) => self.web.follow(link),
            Start::Path(path, query) => {
                let request = self.web.get(path);
                let pairs = query.iter();
                Ok(pairs.fold(request, |request, (name, value)| request.query(name, value)))
            }
        }
    }

    /// Reads a list page by page to its end. Returns the link to later changes, which only a delta query has.
    ///
    /// # Errors
    /// When a page is missing, repeats, or is on another server.
    pub async fn for_each_item<T: DeserializeOwned>(
        &self,
        start: Start<'_>,
        mut each: impl FnMut(T) + Send,
    ) -> Result<Option<String>, Error> {
        let mut page: Page<T> = self.fetch(start).await?;
        let mut seen = HashSet::new();
        let mut empty = 0;
        loop {
            empty = if page.value.is_empty() { empty + 1 } else { 0 };
            page.value.into_iter().for_each(&mut each);
            let Some(next) = page.next else {
                // Reject a link now that could not be followed later.
                let delta = page.delta.as_deref();
                delta.map(|link| self.web.follow(link)).transpose()?;
                return Ok(page.delta);
            };
            if empty > MAX_EMPTY_PAGES || !seen.insert(next.clone()) {
                return Err(Error::Content {
                    place: "Microsoft Graph".to_owned(),
                    reason: "a page links to an earlier page, or too many pages are empty"
                        .to_owned(),
                });
            }
            page = self.fetch(Start::Link(&next)).await?;
        }
    }
}

/// Adds advice to a refusal.
pub(super) fn explain_refusal(error: Error, what: &str, permission: &str) -> Error {
    let status = match &error {
        Error::Http(error) => error.status(),
        _ => None,
    };
    match status {
        Some(StatusCode::FORBIDDEN) => Error::Rights {
            what: format!("Graph does not let the application {what} (403)"),
            fix: permission_advice(permission),
        },
        Some(StatusCode::UNAUTHORIZED) => Error::Rights {
            what: "Graph rejects the access token (401)".to_owned(),
            fix: "set cloud to the tenant's cloud, and correct url".to_owned(),
        },
        _ => error,
    }
}

pub(super) fn permission_advice(permission: &str) -> String {
    format!(
        "add the application permission {permission} of Microsoft Graph to the application (App registrations, \
         API permissions) and grant admin consent"
    )
}

pub(super) fn has_status(error: &Error, statuses: &[StatusCode]) -> bool {
    let Error::Http(error) = error else {
        return false;
    };
    error
        .status()
        .is_some_and(|status| statuses.contains(&status))
}
