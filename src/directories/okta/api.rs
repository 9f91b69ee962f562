//! Requests to Okta: by an access token that the app's key was signed for, page by page.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, LINK};
use serde::de::DeserializeOwned;

use super::{Config, PAGE, check, key, link};
use crate::clock::Clock;
use crate::directories::Common;
use crate::directories::assertion::{self, ASSERTION_TYPE, Signer};
use crate::directories::grant::Grants;
use crate::sources::Error;
use crate::web::{self, Request, Web};

/// Where access tokens are, of the organisation's own authorisation server.
const TOKEN: &str = "oauth2/v1/token";

/// Okta's code for what is not there.
pub(super) const NOT_FOUND: &str = "E0000007";

/// What is left out of users: what they know of passwords, and where to change them.
const BRIEF: HeaderValue = HeaderValue::from_static(
    "application/json; okta-response=\"omitCredentials,omitCredentialsLinks,omitTransitioningToStatus\"",
);

/// What the query of a list says besides its limit.
pub(super) type Query = Vec<(&'static str, String)>;

/// Okta, as one app sees it.
#[derive(Debug)]
pub(super) struct Api {
    web: Web,
    grants: Grants,
    app: App,
    /// The scopes, with spaces between them.
    scope: String,
}

/// Who asks.
#[derive(Debug)]
struct App {
    client_id: String,
    signer: Signer,
    key_id: Option<String>,
    /// Whom assertions are for.
    audience: String,
}

impl Api {
    /// For the users, and for the groups where some are allowed alone.
    ///
    /// # Errors
    /// When the private key is none.
    pub fn new(config: &Config, common: &Common) -> Result<Self, Error> {
        let (signer, named) = key::read(&config.private_key)?;
        let base = config.url.as_str().trim_end_matches('/');
        let has_groups = !common.allowed_groups.is_empty();
        Ok(Self {
            web: Web::new(&config.url, None, common.timeout)?,
            grants: Grants::default(),
            app: App {
                client_id: config.client_id.clone(),
                signer,
                key_id: config.key_id.clone().or(named),
                audience: format!("{base}/{TOKEN}"),
            },
            scope: check::scopes(has_groups).join(" "),
        })
    }

    /// Whether Okta grants access to this scope alone.
    ///
    /// # Errors
    /// When it does not.
    pub async fn try_scope(&self, scope: &str) -> Result<(), web::Error> {
        let grants = Grants::default();
        let form = || self.app.form(scope);
        grants.bearer(&self.web, TOKEN, form).await.map(drop)
    }

    async fn bearer(&self) -> Result<HeaderValue, web::Error> {
        let form = || self.app.form(&self.scope);
        self.grants.bearer(&self.web, TOKEN, form).await
    }

    /// One thing.
    ///
    /// # Errors
    /// When there is no answer of this shape.
    pub async fn one<T: DeserializeOwned>(&self, path: &str) -> Result<T, web::Error> {
        let make = || Ok(self.web.get(path));
        self.ask(make).await.map(|(_, it)| it)
    }

    /// One thing whose path holds an address; messages have `shown` in its place.
    ///
    /// # Errors
    /// When there is no answer of this shape.
    pub async fn one_unnamed<T: DeserializeOwned>(
        &self,
        path: &str,
        shown: &str,
    ) -> Result<T, web::Error> {
        let make = || Ok(self.web.get(path).called(shown));
        self.ask(make).await.map(|(_, it)| it)
    }

    /// The first of a list, or an empty list where it has none.
    ///
    /// # Errors
    /// When there is no answer of this shape.
    pub async fn first<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, web::Error> {
        let make = || Ok(self.web.get(path).query("limit", "1"));
        self.ask(make).await.map(|(_, page)| page)
    }

    /// All of a list.
    pub fn list(&self, path: &str, query: Query) -> Pages<'_> {
        Pages {
            api: self,
            path: path.to_owned(),
            query,
            next: Next::First,
            seen: BTreeSet::new(),
        }
    }

    /// Asks, once more where Okta no longer takes the access token.
    async fn ask<'a, T: DeserializeOwned>(
        &'a self,
        make: impl Fn() -> Result<Request<'a>, web::Error>,
    ) -> Result<(HeaderMap, T), web::Error> {
        let request = |bearer| {
            let request = make()?.header("content-type", BRIEF);
            Ok::<_, web::Error>(request.header("authorization", bearer))
        };
        match request(self.bearer().await?)?.answer().await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                self.grants.forget().await;
                request(self.bearer().await?)?.answer().await
            }
            answered => answered,
        }
    }
}

impl App {
    /// The request for an access token (RFC 7523 §2.2).
    fn form(&self, scope: &str) -> Result<Vec<(&'static str, String)>, web::Error> {
        let claims = assertion::claims(&self.client_id, &self.audience, Clock::system().now())?;
        let header: Vec<(&str, &str)> = self.key_id.iter().map(|id| ("kid", id.as_str())).collect();
        Ok(vec![
            ("grant_type", "client_credentials".to_owned()),
            ("scope", scope.to_owned()),
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", self.signer.sign(&header, &claims)?),
        ])
    }
}

/// A list, page by page.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    api: &'a Api,
    path: String,
    query: Query,
    next: Next,
    /// The links that were followed.
    seen: BTreeSet<String>,
}

#[derive(Debug)]
enum Next {
    First,
    Link(String),
    End,
}

impl Pages<'_> {
    /// Whether this error of [`Pages::next`] says that the list cannot be asked for in this way. A filter
    /// or a search that was taken once is not refused on a later page.
    pub fn is_refused(&self, error: &Error) -> bool {
        let is_first = matches!(self.next, Next::First);
        is_first && !self.query.is_empty() && matches!(error, Error::Web(error) if is_unable(error))
    }

    /// The next page, `None` after the last.
    ///
    /// # Errors
    /// When it cannot be had, or cannot be told from the last.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Error> {
        let (api, path, query) = (self.api, &self.path, &self.query);
        let asked = match &self.next {
            Next::First => api.ask(|| Ok(first_page(&api.web, path, query))).await,
            Next::Link(link) => api.ask(|| api.web.follow(link)).await,
            Next::End => return Ok(None),
        };
        let (headers, page): (_, Vec<T>) = asked.map_err(refused)?;
        let malformed = |reason: &str| Error::Content {
            place: format!("GET {path}"),
            reason: reason.to_owned(),
        };
        let next = link::next(&headers)
            .map_err(|_| malformed("where the next page is cannot be read from its Link header"))?;
        // Okta names at least the page itself.
        if page.len() >= PAGE && !headers.contains_key(LINK) {
            return Err(malformed(
                "a full page came without a Link header, which says whether there are more; \
                 let the proxy in between pass it on",
            ));
        }
        self.next = match next {
            Some(link) if !self.seen.insert(link.clone()) => {
                return Err(malformed(
                    "it goes in circles: a next page was named before",
                ));
            }
            Some(link) => Next::Link(link),
            None => Next::End,
        };
        Ok(Some(page))
    }
}

fn first_page<'a>(web: &'a Web, path: &str, query: &Query) -> Request<'a> {
    let request = web.get(path).query("limit", &PAGE.to_string());
    let add = |request: Request<'a>, (name, value): &(&str, String)| request.query(name, value);
    query.iter().fold(request, add)
}

/// Whether Okta itself says that there is none, and not something in between.
pub(super) fn is_missing(error: &web::Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND) && error.code() == Some(NOT_FOUND)
}

/// Whether the question was refused as such (`E0000031` is a filter that is none), and not the app.
pub(super) fn is_unable(error: &web::Error) -> bool {
    let is_okta = error.code().is_none_or(|code| code.starts_with('E'));
    error.status() == Some(StatusCode::BAD_REQUEST) && is_okta
}

/// An error, in words that say what to add where the app's rights do not do.
pub(super) fn refused(error: web::Error) -> Error {
    check::explain(&error).unwrap_or_else(|| error.into())
}
