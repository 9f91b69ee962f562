//! Health checks and metrics over HTTP.
//!
//! Read-only, without parameters, bodies or authentication: access is limited by the address it listens
//! on. All data comes through [`Health`].

mod health;
mod metrics;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::DateTime;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use metrics::Cache;

use crate::listener::Listener;

pub use metrics::render as render_metrics;

pub use health::{
    DirectoryHealth, Fault, Health, LastSweep, Readiness, ServiceHealth, Snapshot, SourceHealth,
};

/// Below the default time-out of a Prometheus scrape, which is ten seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(9);
/// Shorter than the usual time-out of probes, so that they get the reason instead of no response.
const STORE_TIMEOUT: Duration = Duration::from_millis(800);
/// Connections served at once. A further one closes the one that has waited longest for a request.
const MAX_CONNECTIONS: usize = 64;

/// The pages: `/`, `/healthz`, `/readyz`, `/metrics`; GET and HEAD only.
fn router(health: Arc<dyn Health>) -> Router {
    let cache = Arc::new(Cache::new(Arc::clone(&health), metrics::MAX_AGE));
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz).with_state(Arc::clone(&health)))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(metrics::metrics).with_state(cache))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .layer(middleware::from_fn(apply_limits))
}

/// Limits the response time and forbids caching.
async fn apply_limits(request: Request, next: Next) -> Response {
    let mut response = match timeout(RESPONSE_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[derive(Debug, Serialize)]
struct ReadyzBody<'a> {
    ready: bool,
    /// `ok`, or why the store does not answer.
    store: &'a str,
    last_sweep: Option<LastSweep>,
    reason: Option<&'a str>,
}

async fn index() -> &'static str {
    concat!(
        "lapsed ",
        env!("CARGO_PKG_VERSION"),
        ": /healthz /readyz /metrics\n"
    )
}

/// `GET /healthz`: 503 when a restart is needed, by the same rule as the watchdog's.
async fn healthz(State(health): State<Arc<dyn Health>>) -> Response {
    match health.stalled_work() {
        None => "ok".into_response(),
        Some(work) => {
            let text = format!("{work} has stalled\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// `GET /readyz`: 200 when the store answers, the last sweep is recent and successful, and mails do not wait, else 503.
async fn readyz(State(health): State<Arc<dyn Health>>) -> Response {
    let readiness = timeout(STORE_TIMEOUT, health.readiness())
        .await
        .unwrap_or_else(|_| Readiness {
            store_fault: Some("no answer in time".to_owned()),
            last_sweep: None,
            fresh_since: DateTime::UNIX_EPOCH,
            mail_due_at: None,
            mail_tried_at: DateTime::UNIX_EPOCH,
            delivering_since: DateTime::UNIX_EPOCH,
        });
    let reason = readiness.not_ready_reason();
    let body = ReadyzBody {
        ready: reason.is_none(),
        store: readiness.store_fault.as_deref().unwrap_or("ok"),
        last_sweep: readiness.last_sweep,
        reason,
    };
    let status = match reason {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    match serde_json::to_string(&body) {
        Ok(json) => {
            let json_type = [(header::CONTENT_TYPE, "application/json")];
            (status, json_type, json + "\n").into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Serves the pages on `listener` until `stopping` is cancelled, then completes the responses in progress.
pub async fn serve(
    tcp: TcpListener,
    health: Arc<dyn Health>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let pages = TowerToHyperService::new(router(health));
    let listener = Listener {
        tcp,
        tls: None,
        max_connections: MAX_CONNECTIONS,
    };
    listener
        .serve(move |_, request| pages.call(request), stopping)
        .await
}

#[cfg(test)]
mod tests;
