//! The pages of the portal, a file for each.

mod audit;
mod change;
mod findings;
mod forecast;
mod list_link;
mod made;
mod new_token;
mod notices;
mod overview;
mod people;
mod preference_form;
mod preferences;
mod regenerate;
mod sign_in;
mod site;
mod token;
mod token_form;
mod token_view;
mod tokens;
mod upstreams;

use axum::Router;
use axum::body::Body;
use axum::http::Response;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use tower_http::compression::CompressionLayer;
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::portal::error::PageError;
use super::portal::{assets, layer};
use super::state::AppState;

/// Every page, with what surrounds it. They are in no document of the API.
pub fn routes(web: &AppState) -> Router<AppState> {
    Router::new()
        .route("/", get(overview::show))
        .route("/tokens", get(tokens::show))
        .route("/tokens/new", get(new_token::show).post(new_token::create))
        .route("/tokens/{id}", get(token::show))
        .route(
            "/tokens/{id}/regenerate",
            get(regenerate::show).post(regenerate::regenerate),
        )
        .route(
            "/tokens/{id}/edit",
            get(change::show_edit).post(change::edit),
        )
        .route(
            "/tokens/{id}/disable",
            get(change::show_disable).post(change::disable),
        )
        .route(
            "/tokens/{id}/enable",
            get(change::show_enable).post(change::enable),
        )
        .route(
            "/tokens/{id}/revoke",
            get(change::show_revoke).post(change::revoke),
        )
        .merge(watching())
        .route(
            "/preferences",
            get(preferences::show).post(preferences::save),
        )
        .route(
            "/preferences/sessions/{id}/end",
            post(preferences::end_session),
        )
        .route("/sign-in", get(sign_in::show).post(sign_in::request))
        .route("/sign-in/sent", get(sign_in::show_sent))
        .route(
            "/sign-in/link/{text}",
            get(sign_in::show_link).post(sign_in::sign_in),
        )
        .route("/sign-out", post(site::sign_out))
        .route("/account", post(site::switch_account))
        .route("/theme", post(site::set_theme))
        .fallback(layer::unknown)
        .layer(csrf(web))
        .layer(from_fn_with_state(web.clone(), layer::surround))
        .layer(CompressionLayer::new())
        .merge(outside())
}

/// What is watched, and who and what is behind it.
fn watching() -> Router<AppState> {
    Router::new()
        .route("/notices", get(notices::show))
        .route("/notices/read", post(notices::read_all))
        .route("/notices/{id}/read", post(notices::read))
        .route("/findings", get(findings::show))
        .route(
            "/findings/{id}/acknowledge",
            get(findings::show_acknowledge).post(findings::acknowledge),
        )
        .route("/audit", get(audit::show))
        .route("/forecast", get(forecast::show))
        .route("/people", get(people::show))
        .route(
            "/people/{key}/disable",
            get(people::show_disable).post(people::disable),
        )
        .route(
            "/people/{key}/enable",
            get(people::show_enable).post(people::enable),
        )
        .route("/sources", get(upstreams::show_sources))
        .route("/directories", get(upstreams::show_directories))
}

/// What needs no visitor, and what browsers send by themselves.
fn outside() -> Router<AppState> {
    Router::new()
        .route("/assets/{file}", get(assets::serve))
        .layer(CompressionLayer::new())
        .route("/csp-report", post(site::report_violation))
}

type Rejection = fn(ProtectionError) -> Response<Body>;

/// Refuses forms that pages of other sites send. A proxy may change the host that the browser asked for.
fn csrf(web: &AppState) -> CsrfLayer<Rejection> {
    let reject: Rejection = |_| PageError::CrossSite.into_response();
    let layer = CsrfLayer::new();
    let origin = web.settings.base_url.as_ref();
    let origin = origin.map(|url| url.origin().ascii_serialization());
    let trusted = origin.and_then(|origin| layer.clone().add_trusted_origin(origin).ok());
    trusted.unwrap_or(layer).with_rejection_response(reject)
}
