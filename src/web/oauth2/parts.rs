//! What the operations of OAuth 2.0 share.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts as _;
use axum::http::StatusCode;
use axum::http::request::Parts;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema as _};

use crate::domain::service::Presented;
use crate::web::problem::{ApiError, ApiResult, OauthError};
use crate::web::state::{AppState, RequestContext, Web};

/// The errors of every operation below `/oauth2`.
pub struct OauthErrors;

impl IntoResponses for OauthErrors {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let schema = Ref::from_schema_name(OauthError::name());
        let response = |description: &str| {
            let content = Content::new(Some(schema.clone()));
            let response = ResponseBuilder::new().description(description);
            RefOr::T(response.content("application/json", content).build())
        };
        BTreeMap::from([
            ("4XX".to_owned(), response("The request is refused")),
            ("5XX".to_owned(), response("The request failed")),
        ])
    }
}

/// Reads a token in a parameter. Who sends one that cannot be a token learns no more than with an unknown one.
pub fn parse(token: &str) -> Option<Presented> {
    Presented::parse(token.trim()).ok()
}

/// What a client may have sent of itself in the header; reading it verifies nothing.
pub async fn presented_in_header(
    web: &AppState,
    parts: &mut Parts,
) -> ApiResult<(RequestContext, Option<Box<Presented>>)> {
    let context = RequestContext::from_request_parts(parts, web).await?;
    let presented = web.read_credential(&parts.headers, &parts.uri);
    let presented = presented.map_err(|error| refuse_client(web, &context, error))?;
    Ok((context, presented))
}

pub fn refuse_client(web: &Web, context: &RequestContext, error: ApiError) -> ApiError {
    if error.status() == StatusCode::UNAUTHORIZED {
        web.count_failure(context.client(), error)
    } else {
        error
    }
}
