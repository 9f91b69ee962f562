//! Who makes a request, and on which version of a resource.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use secrecy::SecretString;

use super::credential::Credential;
use super::failures::LimitHeaders;
use super::problem::{ApiError, ApiResult};
use super::state::{AppState, Note, RequestContext, Web};
use crate::domain::service::{Access, Actor, Presented};

/// The caller with a valid token. Name it before other extractors: who may not come in learns nothing else.
#[derive(Debug, Clone)]
pub struct Caller {
    pub access: Arc<Access>,
    /// The whole token that was presented.
    pub token: SecretString,
    pub context: RequestContext,
}

impl Caller {
    pub fn actor(&self) -> Actor {
        Actor::Caller(Arc::clone(&self.access))
    }

    /// # Errors
    /// If the token is limited to other scopes.
    pub fn require_scope(&self, scope: &str) -> ApiResult<()> {
        if self.credential.scopes.allows(scope) {
            return Ok(());
        }
        Err(ApiError::insufficient_scope(scope))
    }
}

impl Deref for Caller {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, web: &AppState) -> ApiResult<Self> {
        let context = RequestContext::from_request_parts(parts, web).await?;
        let presented = web.read_credential(&parts.headers, &parts.uri);
        let is_guess = !matches!(presented, Ok(None));
        match authenticate(web, &context, presented).await {
            Err(error) if is_guess && error.status() == StatusCode::UNAUTHORIZED => {
                Err(web.count_failure(context.client(), error))
            }
            Err(error) => Err(error),
            Ok((access, token)) => Ok(Self {
                access: Arc::new(access),
                token,
                context,
            }),
        }
    }
}

/// Verifies what was presented, and notes the outcome for the log. Also returns the whole token.
pub async fn authenticate(
    web: &Web,
    context: &RequestContext,
    presented: ApiResult<Option<Box<Presented>>>,
) -> ApiResult<(Access, SecretString)> {
    let presented = presented.inspect_err(|error| {
        if error.status() == StatusCode::UNAUTHORIZED {
            context.note(Note::Refused("not_a_token"));
        }
    })?;
    let Some(presented) = presented else {
        return Err(ApiError::no_credential());
    };
    let verified = web
        .service
        .verify_for_api(&presented, context.client())
        .await?;
    let access = match verified {
        Ok(access) => access,
        Err(refusal) => {
            context.note(Note::Refused(refusal.as_str()));
            return Err(ApiError::invalid_token());
        }
    };
    context.note(Note::caller(&access));
    Ok((access, presented.token))
}

impl Web {
    /// `None` without a credential.
    pub(super) fn read_credential(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> ApiResult<Option<Box<Presented>>> {
        match self.forms.find(headers, uri) {
            Credential::None => Ok(None),
            Credential::Token(presented) => Ok(Some(presented)),
            Credential::Invalid => Err(ApiError::invalid_token()),
            Credential::Ambiguous(detail) => Err(ApiError::ambiguous_credential(detail)),
        }
    }

    /// The answer to a caller who was refused: beyond the limit of their address, 429.
    pub(super) fn count_failure(&self, client: IpAddr, error: ApiError) -> ApiError {
        match self.failures.take(client) {
            Ok(headers) => with_headers(error, headers),
            Err((exhausted, headers)) => with_headers(too_many(exhausted.seconds), headers),
        }
    }
}

pub fn with_headers(mut error: ApiError, headers: LimitHeaders) -> ApiError {
    for (name, value) in headers {
        error = error.header(name, value);
    }
    error
}

pub fn too_many(seconds: u64) -> ApiError {
    let detail = format!("Too many requests failed; wait {seconds} s");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail)
        .header(RETRY_AFTER, HeaderValue::from(seconds))
}

/// `If-Match`, read but not yet compared.
pub struct Precondition(Option<String>);

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let lines = parts.headers.get_all(IF_MATCH).iter();
        let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
        Ok(Self((!lines.is_empty()).then(|| lines.join(","))))
    }
}

impl Precondition {
    /// # Errors
    /// 428 without the header, 412 if it names another version than `version`.
    pub fn require(&self, version: i64) -> ApiResult<()> {
        let Some(given) = &self.0 else {
            let detail = "Send If-Match with the ETag of the version that this is to change";
            let status = StatusCode::PRECONDITION_REQUIRED;
            return Err(ApiError::new(status, "precondition-required", detail));
        };
        let current = format!("\"{version}\"");
        let matches = |tag: &str| tag.trim() == "*" || tag.trim() == current;
        if given.split(',').any(matches) {
            return Ok(());
        }
        let detail = "It was changed since that version; read it again";
        let error = ApiError::new(StatusCode::PRECONDITION_FAILED, "stale", detail);
        Err(error.header(ETAG, etag(version)))
    }

    /// Like [`Self::require`], but the header may be missing. Returns the version that a change must find.
    pub fn check(&self, version: i64) -> ApiResult<Option<i64>> {
        if self.0.is_none() {
            return Ok(None);
        }
        self.require(version)?;
        Ok(Some(version))
    }
}

/// The strong entity tag of a version.
pub fn etag(version: i64) -> HeaderValue {
    let tag = format!("\"{version}\"");
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""))
}
