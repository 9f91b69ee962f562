//! `GET /api/v1/verify`: whether the caller's token is valid, for gateways.

use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use chrono::SecondsFormat;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::body::ApiQuery;
use super::caller::authenticate;
use super::openapi::Problems;
use super::problem::{ApiError, ApiResult};
use super::state::{AppState, RequestContext, Web};
use crate::domain::service::{Access, Scopes};

const SUBJECT: HeaderName = HeaderName::from_static("lapsed-subject");
const SCOPE: HeaderName = HeaderName::from_static("lapsed-scope");
const TOKEN_ID: HeaderName = HeaderName::from_static("lapsed-token-id");
const TOKEN_EXPIRES: HeaderName = HeaderName::from_static("lapsed-token-expires");
const UNLIMITED: HeaderValue = HeaderValue::from_static("*");

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VerifyQuery {
    /// The scopes that the request needs, separated by blanks: 403 for a token that lacks one.
    #[param(
        example = "app:read",
        min_length = 3,
        pattern = r"^[A-Za-z0-9_./*-]+:[A-Za-z0-9_./*-]+( [A-Za-z0-9_./*-]+:[A-Za-z0-9_./*-]+)*$"
    )]
    scope: Option<String>,
}

/// Whether the token of this very request is valid: for gateways, which send the caller's headers here.
#[utoipa::path(
    get,
    path = "/api/v1/verify",
    tag = "verification",
    params(VerifyQuery),
    responses(
        (status = 200, description = "The token is valid", headers(
            ("Lapsed-Subject" = String, description = "The issuer's address in lower case, or the name of the machine user"),
            ("Lapsed-Token-Id" = String, description = "The id of the token"),
            ("Lapsed-Scope" = String, description = "The scopes of the token, or * where it is not limited"),
            ("Lapsed-Token-Expires" = String, description = "The expiry of the token; absent if it never expires"),
        )),
        Problems
    )
)]
pub async fn verify(State(web): State<AppState>, request: Request) -> ApiResult<Response<Body>> {
    let (mut parts, _) = request.into_parts();
    let context = RequestContext::from_request_parts(&mut parts, &web).await?;
    let presented = web.read_credential(&parts.headers, &parts.uri);
    let (access, _) = authenticate(&web, &context, presented).await?;
    if parts.uri.query().is_some() {
        let query = ApiQuery::<VerifyQuery>::from_request_parts(&mut parts, &web).await;
        let ApiQuery(query) = query.map_err(ApiError::into_bad_request)?;
        demand(&access, query.scope.as_deref())?;
    }
    Ok(describe(&access))
}

/// As [`verify`], for a request without a query.
pub async fn verify_caller(
    web: &Web,
    context: &RequestContext,
    headers: &HeaderMap,
    uri: &Uri,
) -> ApiResult<Response<Body>> {
    let presented = web.read_credential(headers, uri);
    let (access, _) = authenticate(web, context, presented).await?;
    Ok(describe(&access))
}

fn demand(access: &Access, scope: Option<&str>) -> ApiResult<()> {
    let Some(scope) = scope else {
        return Ok(());
    };
    let demanded: Scopes = scope
        .parse()
        .map_err(|error| ApiError::bad_request(format!("{error}")))?;
    if demanded.is_unlimited() {
        return Err(ApiError::bad_request("scope is empty"));
    }
    let scopes = &access.credential.scopes;
    match demanded.iter().find(|scope| !scopes.allows(scope)) {
        Some(scope) => Err(ApiError::insufficient_scope(scope)),
        None => Ok(()),
    }
}

fn describe(access: &Access) -> Response<Body> {
    let credential = &access.credential;
    let scopes = if credential.scopes.is_unlimited() {
        Ok(UNLIMITED)
    } else {
        credential.scopes.to_string().try_into()
    };
    let expires_at = access.ends_at.map(|at| {
        at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
            .try_into()
            .ok()
    });
    let mut id = Uuid::encode_buffer();
    let id = credential.id.0.as_hyphenated().encode_lower(&mut id);
    let facts = [
        (SUBJECT, HeaderValue::from_str(&access.person.key).ok()),
        (TOKEN_ID, HeaderValue::from_str(id).ok()),
        (SCOPE, scopes.ok()),
        (TOKEN_EXPIRES, expires_at.flatten()),
    ];
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    // Those that every answer has are added, too.
    headers.reserve(8);
    for (name, value) in facts {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    response
}
