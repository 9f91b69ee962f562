//! The HTTP listener: routes, limits and graceful shutdown.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::{self, Cache};
use super::health::Health;
use super::{metrics, status};

/// Below the default time-out of a Prometheus scrape, which is ten seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(9);

/// Maximum time to receive a request's head, and maximum idle time of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a response in progress may take when the daemon stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections served at once; others wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 64;

/// Delay after a failed `accept`, for example when file descriptors run out.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The pages: `/`, `/healthz`, `/readyz`, `/metrics`; GET and HEAD only.
pub fn router(health: Arc<dyn Health>) -> Router {
    let cache = Arc::new(Cache::new(Arc::clone(&health), cache::MAX_AGE));
    Router::new()
        .route("/", get(status::index))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz).with_state(health))
        .route("/metrics", get(metrics::metrics).with_state(cache))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .layer(middleware::from_fn(apply_limits))
}

/// Limits the response time and forbids caching.
async fn apply_limits(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(RESPONSE_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// Serves the pages on `listener` until `stopping` is cancelled, then completes the responses in progress.
///
/// This uses hyper's HTTP/1 directly: axum's server has no time-out for request heads, so a caller that
/// never sends one would block its connection and the daemon's stop.
///
/// # Errors
/// None at present: a failed `accept` is retried.
pub async fn serve(
    listener: TcpListener,
    health: Arc<dyn Health>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let pages = router(health);
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some((stream, permit)) = next_connection(&listener, &permits, &stopping).await {
        let connection = serve_connection(stream, pages.clone(), stopping.clone());
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// The next connection, or `None` when the daemon stops.
async fn next_connection(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    stopping: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned();
    let permit = stopping.run_until_cancelled(permit).await?.ok()?;
    loop {
        match stopping.run_until_cancelled(listener.accept()).await? {
            Ok((stream, _)) => return Some((stream, permit)),
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again in a second");
                stopping
                    .run_until_cancelled(tokio::time::sleep(ACCEPT_RETRY_INTERVAL))
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

async fn serve_connection(stream: TcpStream, pages: Router, stopping: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    let mut connection = pin!(connection);
    if stopping
        .run_until_cancelled(connection.as_mut())
        .await
        .is_none()
    {
        connection.as_mut().graceful_shutdown();
        // There is no one left to report the result to.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, connection).await;
    }
}

#[cfg(test)]
mod tests;
