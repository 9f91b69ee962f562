//! The listener: routes, limits and the orderly end.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cache::{self, Cache},
    health::Health,
    metrics, status,
};

/// How long a page may take. A scraper waits ten seconds unless told otherwise.
const ANSWER_WITHIN: Duration = Duration::from_secs(9);

/// How long a caller may take to send the head of a request, and a connection may rest between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer in hand may take when the daemon stops.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How many connections are served at once; others wait in the listener's backlog.
const CONNECTIONS: usize = 64;

/// How long to wait when the system has no more descriptors to give.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The pages: `/`, `/healthz`, `/readyz`, `/metrics`; GET and HEAD only.
pub fn router(health: Arc<dyn Health>) -> Router {
    let cache = Arc::new(Cache::new(Arc::clone(&health), cache::KEPT));
    Router::new()
        .route("/", get(status::index))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz).with_state(health))
        .route("/metrics", get(metrics::metrics).with_state(cache))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .layer(middleware::from_fn(limits))
}

/// Cuts off what takes too long, and marks every answer as good for this moment only.
async fn limits(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
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

/// Serves the pages on `listener` until `stopping` is cancelled; then ends the answers in hand.
///
/// HTTP/1 through hyper itself: axum's own server sets no time-out on request heads, and a caller
/// that never sends one would hold its connection, and the daemon's stop, for ever.
///
/// # Errors
/// None at present: a listener in trouble is tried again.
pub async fn serve(
    listener: TcpListener,
    health: Arc<dyn Health>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let pages = router(health);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some((stream, place)) = next_connection(&listener, &places, &stopping).await {
        let connection = connection(stream, pages.clone(), stopping.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// The next caller, or `None` when it is time to stop.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stopping: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned();
    let place = stopping.run_until_cancelled(place).await?.ok()?;
    loop {
        match stopping.run_until_cancelled(listener.accept()).await? {
            Ok((stream, _)) => return Some((stream, place)),
            Err(error) if is_callers_fault(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again in a second");
                stopping
                    .run_until_cancelled(tokio::time::sleep(ACCEPT_AGAIN_AFTER))
                    .await?;
            }
        }
    }
}

fn is_callers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(stream: TcpStream, pages: Router, stopping: CancellationToken) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    let mut served = pin!(served);
    if stopping
        .run_until_cancelled(served.as_mut())
        .await
        .is_none()
    {
        served.as_mut().graceful_shutdown();
        // Whether it ended in order or was cut off, there is nobody left to tell.
        let _ = tokio::time::timeout(LAST_ANSWER_WITHIN, served).await;
    }
}

#[cfg(test)]
mod tests;
