//! The OpenAPI document, made from the handlers.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use super::problem::{ApiError, ApiResult, OauthError, PROBLEM_JSON, ProblemBody};
use super::state::AppState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "lapsed",
        description = "Issues, verifies, rotates and revokes API tokens, and shows those of all sources.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(ProblemBody, OauthError)),
    security(("bearer" = []), ("basic" = [])),
    modifiers(&Schemes),
)]
pub struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        components.add_security_scheme("bearer", bearer);
        components.add_security_scheme("basic", basic);
    }
}

/// The errors of every operation.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let schema = Ref::from_schema_name(ProblemBody::name());
        let response = |description: &str| {
            let content = Content::new(Some(schema.clone()));
            let response = ResponseBuilder::new().description(description);
            RefOr::T(response.content(PROBLEM_JSON, content).build())
        };
        BTreeMap::from([
            ("4XX".to_owned(), response("The request is refused")),
            ("5XX".to_owned(), response("The request failed")),
        ])
    }
}

/// This document.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "discovery",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json"), Problems)
)]
pub async fn openapi_json(State(web): State<AppState>) -> ApiResult<Response<Body>> {
    let document = web.document.get().ok_or_else(ApiError::internal)?;
    let mut response = Response::new(Body::from(document.clone()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}
