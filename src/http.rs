//! Health checks and metrics over HTTP.
//!
//! Read-only, without parameters, bodies or authentication: access is limited by the address it listens
//! on. All data comes through [`Health`].

mod connections;
mod health;
mod metrics;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::DateTime;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connections::{Connection, Connections};
use metrics::Cache;

pub use metrics::render as render_metrics;

pub use health::{DirectoryHealth, Fault, Health, LastSweep, Readiness, Snapshot, SourceHealth};

/// Below the default time-out of a Prometheus scrape, which is ten seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(9);
/// Shorter than the usual time-out of probes, so that they get the reason instead of no response.
const STORE_TIMEOUT: Duration = Duration::from_millis(800);
/// Maximum time to receive a request's head, and maximum idle time of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a response in progress may take when the daemon stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections served at once. A further one closes the one that has waited longest for a request.
const MAX_CONNECTIONS: usize = 64;
/// Delay after a failed `accept`, for example when file descriptors run out.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

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
///
/// This uses hyper's HTTP/1 directly: axum's server has no time-out for request heads, so a caller that
/// never sends one would block its connection and the daemon's stop.
pub async fn serve(
    listener: TcpListener,
    health: Arc<dyn Health>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let pages = router(health);
    let tasks = TaskTracker::new();
    let connections = Connections::new(MAX_CONNECTIONS);
    while let Some((stream, connection)) = next_connection(&listener, &connections, &stopping).await
    {
        tasks.spawn(serve_connection(
            stream,
            connection,
            pages.clone(),
            stopping.clone(),
        ));
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The next connection, or `None` when the daemon stops.
async fn next_connection(
    listener: &TcpListener,
    connections: &Connections,
    stopping: &CancellationToken,
) -> Option<(TcpStream, Connection)> {
    loop {
        match stopping.run_until_cancelled(listener.accept()).await? {
            Ok((stream, _)) => {
                let connection = stopping.run_until_cancelled(connections.admit()).await?;
                return Some((stream, connection));
            }
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again in a second");
                stopping
                    .run_until_cancelled(sleep(ACCEPT_RETRY_INTERVAL))
                    .await?;
            }
        }
    }
}

fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn serve_connection(
    stream: TcpStream,
    connection: Connection,
    pages: Router,
    stopping: CancellationToken,
) {
    let pages = TowerToHyperService::new(pages);
    let service = service_fn(|request| {
        connection.begin();
        let response = pages.call(request);
        async {
            let response = response.await;
            connection.wait();
            response
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    tokio::select! {
        // There is no one left to report the result to.
        _ = serving.as_mut() => {}
        () = connection.close.cancelled() => {}
        () = stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = timeout(SHUTDOWN_TIMEOUT, serving).await;
        }
    }
}

#[cfg(test)]
mod tests;
