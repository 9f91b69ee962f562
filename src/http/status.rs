//! The pages that say how the daemon does: the index, `/healthz` and `/readyz`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::health::{Health, LastSweep, Readiness};

/// How long `/readyz` waits for an answer of the store. Shorter than what probes usually wait, so
/// that they get the reason instead of a silence.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_millis(800);

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    ready: bool,
    /// `ok`, or what is in the way.
    store: &'a str,
    last_sweep: Option<LastSweep>,
    /// The first thing that is not as it should be.
    reason: Option<&'a str>,
}

impl<'a> From<&'a Readiness> for Answer<'a> {
    fn from(readiness: &'a Readiness) -> Self {
        let reason = readiness.obstacle();
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

/// `GET /healthz`: the process is alive. A daemon that hangs is the watchdog's business.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`: 200 when the store answers and the last sweep is recent and succeeded, else 503.
pub(super) async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    match tokio::time::timeout(STORE_ANSWERS_WITHIN, health.readiness()).await {
        Ok(readiness) => respond(&Answer::from(&readiness)),
        Err(_) => respond(&Answer {
            ready: false,
            store: "no answer in time",
            last_sweep: None,
            reason: Some("the store does not answer"),
        }),
    }
}

fn respond(answer: &Answer<'_>) -> Response {
    let status = if answer.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_string(answer) {
        Ok(json) => (
            status,
            [(header::CONTENT_TYPE, "application/json")],
            json + "\n",
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
