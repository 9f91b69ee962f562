//! All routes, with the document that describes those of the API.

use axum::body::Bytes;
use axum::{Router, middleware};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::note_route;
use super::openapi::{self, Document};
use super::state::AppState;
use super::{api, leaks, oauth2, pages, verify, well_known};

/// Route and document come from the same attribute, so that they cannot differ.
fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(verify::verify))
        .routes(routes!(openapi::openapi_json))
        .routes(routes!(well_known::authorization_server))
        .routes(routes!(well_known::protected_resource))
        .routes(routes!(leaks::report))
        .merge(oauth2::routes())
        .merge(api::routes())
}

pub fn router(web: &AppState) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = serde_json::to_vec(&document).map(Bytes::from);
    web.document.get_or_init(|| document.unwrap_or_default());
    router
        .merge(pages::routes(web))
        .route_layer(middleware::from_fn(note_route))
        .with_state(web.clone())
}
