//! Who looks at a page.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri};
use chrono::{DateTime, TimeDelta, Utc};

use super::cookies;
use super::error::{PageError, PageResult};
use super::words::Words;
use crate::domain::service::{Access, Actor, Presented};
use crate::service::Error;
use crate::web::credential::without_tokens;
use crate::web::state::{AppState, Note, RequestContext, Web};

/// A secret is shown only to whoever has signed in within this time.
const FRESH: TimeDelta = TimeDelta::hours(1);

/// Somebody who looks at a page, signed in or not.
#[derive(Debug, Clone)]
pub struct Visitor(Arc<Facts>);

#[derive(Debug)]
pub struct Facts {
    pub access: Option<Arc<Access>>,
    pub words: Words,
    /// `light` or `dark`, if the visitor has chosen.
    pub theme: Option<&'static str>,
    /// With the query.
    pub path: String,
}

impl Visitor {
    /// Reads the session of a request.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn load(
        web: &Web,
        context: &RequestContext,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Self, Error> {
        let access = find_access(web, context, headers).await?;
        let preference = match &access {
            Some(access) => match &access.person.address {
                Some(address) => {
                    let actor = Actor::Caller(Arc::clone(access));
                    Some(web.service.find_preference(&actor, address).await?)
                }
                None => None,
            },
            None => None,
        };
        Ok(Self::new(web, access, preference.as_ref(), headers, uri))
    }

    /// Without a look at the store.
    pub fn stranger(web: &Web, headers: &HeaderMap, uri: &Uri) -> Self {
        Self::new(web, None, None, headers, uri)
    }

    fn new(
        web: &Web,
        access: Option<Arc<Access>>,
        preference: Option<&crate::domain::Preference>,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Self {
        let zone = preference
            .and_then(|it| it.timezone)
            .unwrap_or(web.service.policy().zone);
        let language = preference.and_then(|it| it.language.as_deref());
        let accepted = headers.get(ACCEPT_LANGUAGE);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        let wishes = [language, accepted];
        let now = web.service.now();
        Self(Arc::new(Facts {
            access,
            words: Words {
                language: web.languages.choose(wishes.into_iter().flatten()),
                zone,
                now,
            },
            theme: match cookies::find(headers, cookies::THEME) {
                Some("light") => Some("light"),
                Some("dark") => Some("dark"),
                _ => None,
            },
            path: without_tokens(uri.path_and_query().map_or("/", |path| path.as_str())),
        }))
    }
}

impl Deref for Visitor {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

async fn find_access(
    web: &Web,
    context: &RequestContext,
    headers: &HeaderMap,
) -> Result<Option<Arc<Access>>, Error> {
    let cookie = cookies::find(headers, cookies::SESSION);
    let Some(presented) = cookie.and_then(|text| Presented::parse(text).ok()) else {
        return Ok(None);
    };
    let session = web
        .service
        .find_session(&presented, context.client())
        .await?;
    match &session {
        Some(access) => context.note(Note::caller(access)),
        None => context.note(Note::Refused("session")),
    }
    Ok(session.map(Arc::new))
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> PageResult<Self> {
        let visitor = parts.extensions.get::<Self>();
        visitor.cloned().ok_or(PageError::Internal)
    }
}

/// A visitor who is signed in; others are sent to sign in. Name it before other extractors.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub access: Arc<Access>,
    pub visitor: Visitor,
}

impl SignedIn {
    pub fn actor(&self) -> Actor {
        Actor::Caller(Arc::clone(&self.access))
    }

    pub fn words(&self) -> &Words {
        &self.visitor.words
    }

    pub fn is_admin(&self) -> bool {
        self.access.is_super || self.access.administers().is_some()
    }

    /// # Errors
    /// `NotFound` for a page that only admins may see.
    pub fn require_admin(&self) -> PageResult<()> {
        self.is_admin().then_some(()).ok_or(PageError::NotFound)
    }

    /// Sends whoever has signed in long ago to sign in again, and then to `next`.
    ///
    /// # Errors
    /// If they have.
    pub fn require_fresh(&self, next: &str) -> PageResult<()> {
        if self.is_fresh(self.words().now) {
            return Ok(());
        }
        Err(PageError::SignIn(next.to_owned()))
    }

    fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        now - self.access.credential.created_at < FRESH
    }
}

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, web: &AppState) -> PageResult<Self> {
        let visitor = Visitor::from_request_parts(parts, web).await?;
        let Some(access) = visitor.access.clone() else {
            let is_get = parts.method == Method::GET;
            let next = if is_get { visitor.path.as_str() } else { "/" };
            return Err(PageError::SignIn(next.to_owned()));
        };
        Ok(Self { access, visitor })
    }
}

/// Where to go after signing in: only a path of this site.
pub fn safe_next(next: &str) -> &str {
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && !next.starts_with("/\\")
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path && next.len() <= 1000 {
        next
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::safe_next;

    #[rstest::rstest]
    #[case("/tokens?view=all", "/tokens?view=all")]
    #[case("//evil.example", "/")]
    #[case("/\\evil.example", "/")]
    #[case("/a\\b", "/")]
    #[case("https://evil.example", "/")]
    #[case("/\t/evil.example", "/")]
    #[case("tokens", "/")]
    #[case("", "/")]
    fn only_a_path_of_this_site_is_followed(#[case] next: &str, #[case] safe: &str) {
        assert_eq!(safe_next(next), safe);
    }
}
