//! The index, `/healthz` and `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::health::{Health, LastSweep, Readiness};

/// Shorter than the usual time-out of probes, so that they get the reason instead of no response.
const STORE_TIMEOUT: Duration = Duration::from_millis(800);

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct ReadyzBody<'a> {
    ready: bool,
    /// `ok`, or the error.
    store: &'a str,
    last_sweep: Option<LastSweep>,
    reason: Option<&'a str>,
}

impl<'a> From<&'a Readiness> for ReadyzBody<'a> {
    fn from(readiness: &'a Readiness) -> Self {
        let reason = readiness.not_ready_reason();
        Self {
            ready: reason.is_none(),
            store: readiness.store_fault.as_deref().unwrap_or("ok"),
            last_sweep: readiness.last_sweep,
            reason,
        }
    }
}

/// `GET /`.
pub(super) async fn index() -> &'static str {
    concat!(
        "lapsed ",
        env!("CARGO_PKG_VERSION"),
        ": /healthz /readyz /metrics\n"
    )
}

/// `GET /healthz`: the process is alive. A hanging daemon is detected by the watchdog.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`: 200 when the store answers and the last sweep is recent and successful, else 503.
pub(super) async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    match tokio::time::timeout(STORE_TIMEOUT, health.readiness()).await {
        Ok(readiness) => respond(&ReadyzBody::from(&readiness)),
        Err(_) => respond(&ReadyzBody {
            ready: false,
            store: "no answer in time",
            last_sweep: None,
            reason: Some("the store does not answer"),
        }),
    }
}

fn respond(body: &ReadyzBody<'_>) -> Response {
    let status = if body.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_string(body) {
        Ok(json) => (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            json + "\n",
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
