//! What every answer has: an id, headers, a body that says what is wrong, a line in the log.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request as AxumRequest};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, STRICT_TRANSPORT_SECURITY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use chrono::SecondsFormat;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, timeout};

use super::credential::without_tokens;
use super::portal::headers::OwnHeaders;
use super::portal::layer::{is_page, plain};
use super::problem::{ApiError, PROBLEM_JSON};
use super::state::{AppState, Note, RequestContext};
use super::verify::verify_caller;
use crate::listener::Peer;

const JSON: &str = "application/json";
const OAUTH: &str = "/oauth2/";
pub const VERIFY: &str = "/api/v1/verify";
/// Longer than a statement may take, so that its own error is answered.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TOKEN_EXPIRES: HeaderName = HeaderName::from_static("lapsed-token-expires");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const AUTHORIZATION: HeaderValue = HeaderValue::from_static("Authorization");
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Answers one request.
pub async fn answer(
    web: AppState,
    routes: TowerToHyperService<Router>,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let context = web.begin(peer, request.headers());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = if web.is_served(peer) {
        let handled = async {
            if is_plain_verification(&method, &uri) {
                context.set_route(VERIFY);
                let verified = verify_caller(&web, &context, request.headers(), &uri).await;
                return verified.unwrap_or_else(ApiError::into_response);
            }
            request.extensions_mut().insert(context.clone());
            let Ok(response) = Box::pin(routes.call(request)).await;
            response
        };
        // The state is usable after a panic: no handler changes it in steps.
        match timeout(RESPONSE_TIMEOUT, AssertUnwindSafe(handled).catch_unwind()).await {
            Ok(Ok(response)) => response,
            // The panic hook has logged it.
            Ok(Err(_)) if is_page(uri.path()) => plain(StatusCode::INTERNAL_SERVER_ERROR),
            Ok(Err(_)) => ApiError::internal().into_response(),
            Err(_) if is_page(uri.path()) => plain(StatusCode::SERVICE_UNAVAILABLE),
            Err(_) => ApiError::unavailable("There was no answer in time").into_response(),
        }
    } else {
        refuse_peer().into_response()
    };
    let mut response = explain(response, &method, uri.path(), &context);
    if response.extensions().get::<OwnHeaders>().is_some() {
        add_connection_headers(response.headers_mut(), peer, &context);
    } else {
        add_headers(response.headers_mut(), peer, &context);
    }
    let status = response.status();
    web.counts.add(context.route(), status.as_u16());
    log(&method, &context, status, started.elapsed());
    Ok(response)
}

/// Gateways send these before each of their own requests, so they take no way through the routes: that would double
/// their cost. Those with a query do, for the same answer.
fn is_plain_verification(method: &Method, uri: &Uri) -> bool {
    method == Method::GET && uri.path() == VERIFY && uri.query().is_none()
}

fn refuse_peer() -> ApiError {
    let detail = "Without TLS, only the proxies in [web] trusted_proxies are served here; set [web] tls_certificate, or list this address";
    ApiError::forbidden(detail)
}

/// Writes the body of an error, also of one that another library answered.
fn explain(
    mut response: Response<Body>,
    method: &Method,
    path: &str,
    context: &RequestContext,
) -> Response<Body> {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.extensions().get::<OwnHeaders>().is_some() {
        return response;
    }
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if has_body_of_ours(response.headers()) => return response,
        None => ApiError::from_status(status),
    };
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    let is_oauth = path.starts_with(OAUTH);
    let kind = if is_oauth { JSON } else { PROBLEM_JSON };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if method == Method::HEAD {
        return response;
    }
    *response.body_mut() = if is_oauth {
        error.oauth_body()
    } else {
        error.body(&without_tokens(path), &context.id().to_string())
    };
    response
}

fn has_body_of_ours(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind == PROBLEM_JSON || kind == JSON)
}

fn add_headers(headers: &mut HeaderMap, peer: Peer, context: &RequestContext) {
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(VARY, AUTHORIZATION);
    add_connection_headers(headers, peer, context);
    if context.route() == VERIFY {
        return;
    }
    if let Some(Note::Caller {
        expires_at: Some(at),
        ..
    }) = context.noted()
        && let Ok(at) = at.to_rfc3339_opts(SecondsFormat::AutoSi, true).try_into()
    {
        headers.insert(TOKEN_EXPIRES, at);
    }
}

/// Those of every answer.
fn add_connection_headers(headers: &mut HeaderMap, peer: Peer, context: &RequestContext) {
    if peer.has_tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if context.route() == VERIFY {
        return;
    }
    if let Ok(id) = HeaderValue::try_from(context.id().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Without the path and the query, which may contain a secret. Verifications are too many for the usual log.
fn log(method: &Method, context: &RequestContext, status: StatusCode, took: Duration) {
    let (route, client, request_id) = (context.route(), context.client(), context.id());
    let (token, refusal) = match context.noted() {
        Some(Note::Caller { token, .. }) => (Some(tracing::field::display(token)), None),
        Some(Note::Refused(refusal)) => (None, Some(*refusal)),
        None => (None, None),
    };
    let status = status.as_u16();
    let took_us = took.as_micros();
    if route == VERIFY {
        tracing::debug!(%method, route, status, %client, token, refusal, %request_id, took_us, "request");
    } else {
        tracing::info!(%method, route, status, %client, token, refusal, %request_id, took_us, "request");
    }
}

/// Notes which route a request takes, for the log and the metrics.
pub async fn note_route(request: AxumRequest, next: Next) -> Response<Body> {
    let extensions = request.extensions();
    if let (Some(context), Some(route)) = (
        extensions.get::<RequestContext>(),
        extensions.get::<MatchedPath>(),
    ) {
        context.set_route(route.as_str().to_owned());
    }
    next.run(request).await
}
