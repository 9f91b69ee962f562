//! The operations below `/api/v1`, a file for each noun.

use utoipa_axum::router::OpenApiRouter;

use super::state::AppState;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
}
