//! Accepts connections and serves HTTP/1.1 on them, with TLS or without.
//!
//! This uses hyper directly: axum's server has no time-out for request heads, so a caller that never sends
//! one would block its connection and the daemon's stop.

mod connections;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connections::{Connection, Connections};

pub use connections::Share;

/// Maximum time for a TLS handshake and for a request's head, and maximum idle time of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a response in progress may take when the daemon stops.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of a request's head; a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Delay after a failed `accept`, for example when file descriptors run out.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// An IPv4 address in an IPv6 one is the IPv4 address.
    pub address: IpAddr,
    pub has_tls: bool,
}

pub struct Listener {
    pub tcp: TcpListener,
    pub tls: Option<Arc<ServerConfig>>,
    /// Connections served at once. A further one closes the one that has waited longest for a request.
    pub max_connections: usize,
}

impl Listener {
    /// Serves until `stopping` is cancelled, then completes the responses in progress.
    pub async fn serve<A, F>(self, answer: A, stopping: CancellationToken) -> io::Result<()>
    where
        A: Fn(Peer, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send,
    {
        self.serve_shared(None, answer, stopping).await
    }

    /// As [`Listener::serve`], with a limit for each client.
    pub async fn serve_shared<A, F>(
        self,
        share: Option<Share>,
        answer: A,
        stopping: CancellationToken,
    ) -> io::Result<()>
    where
        A: Fn(Peer, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send,
    {
        let tasks = TaskTracker::new();
        let connections = Connections::new(self.max_connections, share);
        let tls = self.tls.map(TlsAcceptor::from);
        while let Some((stream, address, connection)) =
            next_connection(&self.tcp, &connections, &stopping).await
        {
            let accepted = Accepted {
                connection,
                peer: Peer {
                    address,
                    has_tls: tls.is_some(),
                },
                stopping: stopping.clone(),
            };
            let (tls, answer) = (tls.clone(), answer.clone());
            tasks.spawn(async move { accepted.serve_stream(tls, stream, answer).await });
        }
        drop(self.tcp);
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// The next connection, or `None` when the daemon stops.
async fn next_connection(
    listener: &TcpListener,
    connections: &Connections,
    stopping: &CancellationToken,
) -> Option<(TcpStream, IpAddr, Connection)> {
    loop {
        match stopping.run_until_cancelled(listener.accept()).await? {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                let admitted = connections.admit(address);
                if let Some(connection) = stopping.run_until_cancelled(admitted).await? {
                    return Some((stream, address, connection));
                }
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

struct Accepted {
    connection: Connection,
    peer: Peer,
    stopping: CancellationToken,
}

impl Accepted {
    async fn serve_stream<A, F>(self, tls: Option<TlsAcceptor>, stream: TcpStream, answer: A)
    where
        A: Fn(Peer, Request<Incoming>) -> F + Send + Sync,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send,
    {
        let Some(tls) = tls else {
            return self.serve(stream, answer).await;
        };
        if let Some(stream) = self.shake_hands(&tls, stream).await {
            self.serve(stream, answer).await;
        }
    }

    /// `None` if it fails, which only the client has to know.
    async fn shake_hands(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
    ) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
        let handshake = timeout(HEADER_TIMEOUT, tls.accept(stream));
        tokio::select! {
            stream = handshake => stream.ok()?.ok(),
            () = self.connection.close.cancelled() => None,
            () = self.stopping.cancelled() => None,
        }
    }

    async fn serve<S, A, F>(self, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        A: Fn(Peer, Request<Incoming>) -> F + Send + Sync,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send,
    {
        let connection = &self.connection;
        let service = service_fn(|request| {
            connection.begin();
            let response = answer(self.peer, request);
            async {
                let response = response.await;
                connection.wait();
                response
            }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        tokio::select! {
            // There is no one left to report the result to.
            _ = serving.as_mut() => {}
            () = connection.close.cancelled() => {}
            () = self.stopping.cancelled() => {
                serving.as_mut().graceful_shutdown();
                let _ = timeout(SHUTDOWN_TIMEOUT, serving).await;
            }
        }
    }
}
