//! What surrounds each page: the visitor, the headers, and a page for each error.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse as _;

use super::error::PageError;
use super::frame;
use super::headers::{self, OwnHeaders};
use super::session::Visitor;
use crate::web::problem::ApiError;
use crate::web::state::{AppState, RequestContext};

/// Paths of programs, which are answered problem+json.
const PROGRAMS: [&str; 3] = ["/api/", "/oauth2/", "/.well-known/"];

pub fn is_page(path: &str) -> bool {
    !PROGRAMS.iter().any(|of| path.starts_with(of))
}

pub async fn surround(
    State(web): State<AppState>,
    context: RequestContext,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    if !is_page(request.uri().path()) {
        return ApiError::not_found().into_response();
    }
    let loaded = Visitor::load(&web, &context, request.headers(), request.uri()).await;
    let (visitor, mut response) = match loaded {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor.clone());
            (visitor, next.run(request).await)
        }
        Err(error) => {
            let visitor = Visitor::stranger(&web, request.headers(), request.uri());
            (visitor, PageError::from(error).into_response())
        }
    };
    if let Some(error) = error_of(&mut response) {
        *response.body_mut() = frame::error_page(&web, &visitor, &error, &context).await;
        let html = frame::HTML;
        response.headers_mut().insert(CONTENT_TYPE, html);
    }
    headers::add(response.headers_mut());
    response.extensions_mut().insert(OwnHeaders);
    response
}

/// The error that a response stands for.
fn error_of(response: &mut Response<Body>) -> Option<PageError> {
    let status = response.status();
    let error = response.extensions_mut().remove::<PageError>();
    let is_ours = response.headers().get(CONTENT_TYPE) == Some(&frame::HTML);
    let is_error = status.is_client_error() || status.is_server_error();
    error.or_else(|| (is_error && !is_ours).then_some(PageError::Status(status)))
}

/// For what has no handler.
pub async fn unknown() -> PageError {
    PageError::NotFound
}

/// The page of a request that ended outside of all this.
pub fn plain(status: StatusCode) -> Response<Body> {
    let mut response = PageError::Status(status).into_response();
    let reason = status.canonical_reason().unwrap_or("Error");
    let text = format!("<!doctype html><html lang=\"en\"><title>{reason}</title><h1>{reason}</h1>");
    *response.body_mut() = text.into();
    response.headers_mut().insert(CONTENT_TYPE, frame::HTML);
    headers::add(response.headers_mut());
    response.extensions_mut().insert(OwnHeaders);
    response
}
