//! OAuth 2.0 for tokens that exist already: introspection, revocation, and short-lived tokens for a token.

mod introspect;
mod parts;
mod revoke;
mod token;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::state::AppState;

pub use revoke::end;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(introspect::introspect))
        .routes(routes!(revoke::revoke))
        .routes(routes!(token::token))
}
