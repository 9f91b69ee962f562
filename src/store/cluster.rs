//! The connections to PostgreSQL: which of the configured servers takes writes, and what to do when it is lost.
//!
//! ```text
//!             a statement or a ping fails or gets no answer
//! reachable ────────────────────────────────────────────────► away: every host is probed each second
//!     ▲                                                                        │
//!     └────────────────────────── a host takes writes ─────────────────────────┘
//! ```
//!
//! Each loss begins an epoch. A connection of an earlier epoch is closed instead of being used again.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts,
};
use futures_util::future::select_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::error::explain_refusal;
use super::{Error, Result};
use crate::causes::Causes;

/// More connections than sweep, delivery and HTTP need.
const MAX_CONNECTIONS: usize = 6;
/// For a connection, for a ping, and for statements that others wait for.
pub(super) const SHORT_LIMIT: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is tested before use: a test costs a round trip.
const MAX_UNTESTED_IDLE: Duration = Duration::from_secs(1);
/// An older connection is replaced, so that no server process lives for ever.
const MAX_AGE: Duration = Duration::from_mins(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// While a search goes on, the log says again why.
const REMIND_INTERVAL: Duration = Duration::from_mins(5);
const BUSY_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Cluster {
    hosts: Vec<PgConnectOptions>,
    /// Whether a server that only reads will not do.
    needs_writes: bool,
    state: watch::Sender<State>,
    closed: CancellationToken,
}

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The number of losses.
    epoch: u64,
    /// Statements over connections of an epoch before this one are abandoned.
    abandoned_before: u64,
    /// The host that took writes last.
    host: usize,
    /// Why the store cannot be reached.
    loss: Option<Arc<str>>,
}

/// A connection in the pool.
pub(super) struct Link {
    pub connection: PgConnection,
    pub epoch: u64,
    pub used_at: Instant,
}

pub(super) type LinkPool = Pool<Connector>;
pub(super) type PooledLink = Object<Connector>;

pub(super) struct Connector(Arc<Cluster>);

impl Cluster {
    pub fn new(hosts: Vec<PgConnectOptions>, needs_writes: bool) -> Arc<Self> {
        Arc::new(Self {
            hosts,
            needs_writes,
            state: watch::Sender::default(),
            closed: CancellationToken::new(),
        })
    }

    pub fn pool(self: &Arc<Self>) -> Result<LinkPool> {
        let timeouts = Timeouts {
            wait: Some(SHORT_LIMIT),
            ..Timeouts::default()
        };
        let pool = Pool::builder(Connector(Arc::clone(self)))
            .max_size(MAX_CONNECTIONS)
            .timeouts(timeouts)
            .runtime(deadpool::Runtime::Tokio1)
            .build();
        pool.map_err(|error| sqlx::Error::Configuration(error.into()).into())
    }

    /// The hosts and the database, without user and password.
    pub fn place(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(host_name).collect();
        let database = self.hosts.first().and_then(PgConnectOptions::get_database);
        format!(
            "postgres://{}/{}",
            hosts.join(","),
            database.unwrap_or_default()
        )
    }

    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub fn is_away(&self) -> bool {
        self.state.borrow().loss.is_some()
    }

    /// Closes all connections that are not in use.
    pub async fn close(&self, pool: &LinkPool) {
        self.closed.cancel();
        for link in pool.retain(|_, _| false).removed {
            let _ = timeout(PROBE_INTERVAL, link.connection.close()).await;
        }
        pool.close();
    }

    /// The first connection, to the first host that takes writes or, if reading is enough, to one that reads.
    pub async fn connect_any(
        &self,
    ) -> std::result::Result<PgConnection, Vec<(String, sqlx::Error)>> {
        let attempts = self
            .hosts
            .iter()
            .enumerate()
            .map(async |(host, options)| (host, connect_to(options).await));
        let mut attempts: FuturesUnordered<_> = attempts.collect();
        let mut reader = None;
        let mut errors = Vec::new();
        while let Some((host, result)) = attempts.next().await {
            match result {
                Ok((connection, true)) => {
                    self.state.send_modify(|state| state.host = host);
                    return Ok(connection);
                }
                Ok((connection, false)) if !self.needs_writes => reader = Some((host, connection)),
                Ok((_, false)) => errors.push((host_name(&self.hosts[host]), takes_no_writes())),
                Err(error) => errors.push((host_name(&self.hosts[host]), error)),
            }
        }
        let Some((host, connection)) = reader else {
            return Err(errors);
        };
        self.state.send_modify(|state| state.host = host);
        Ok(connection)
    }

    /// Connects to a host, which must take writes if that is needed.
    async fn connect(&self, host: usize) -> sqlx::Result<PgConnection> {
        match connect_to(&self.hosts[host]).await? {
            (_, false) if self.needs_writes => Err(takes_no_writes()),
            (connection, _) => Ok(connection),
        }
    }

    /// Takes a connection from the pool. Waits for a store that is away, but not longer than [`SHORT_LIMIT`].
    pub async fn take(self: &Arc<Self>, pool: &LinkPool) -> Result<PooledLink> {
        let deadline = Instant::now() + SHORT_LIMIT;
        loop {
            let epoch = self.wait_until_reachable(deadline).await?;
            // Boxed: the caller of every transaction would have the size of a TLS handshake.
            let error = match Box::pin(pool.get()).await {
                Ok(link) => return Ok(link),
                Err(PoolError::Backend(error)) => error,
                Err(PoolError::Timeout(_)) => return Err(sqlx::Error::PoolTimedOut.into()),
                Err(_) => return Err(sqlx::Error::PoolClosed.into()),
            };
            if error.is_loss() {
                self.lose(epoch, &error);
            }
            if !error.is_transient() || Instant::now() >= deadline {
                return Err(error);
            }
            if !error.is_loss() {
                // All connections are taken; one of ours may come back.
                sleep(BUSY_INTERVAL).await;
            }
        }
    }

    pub async fn wait_while_away(&self) {
        // Cannot fail: `self` has the sender.
        let _ = self
            .subscribe()
            .wait_for(|state| state.loss.is_none())
            .await;
    }

    async fn wait_until_reachable(&self, deadline: Instant) -> Result<u64> {
        if timeout_at(deadline, self.wait_while_away()).await.is_ok() {
            return Ok(self.state.borrow().epoch);
        }
        let loss = self.state.borrow().loss.clone().unwrap_or_default();
        Err(unreachable(&loss))
    }

    /// A connection of `epoch` is of no use, so the others are probably not either.
    pub fn lose(self: &Arc<Self>, epoch: u64, cause: &Error) {
        let loss = match cause {
            Error::Unreachable(cause) => Some(Causes(cause).to_string().into()),
            _ => None,
        };
        let is_away = self.state.send_if_modified(|state| {
            if state.epoch != epoch || state.loss.is_some() {
                return false;
            }
            state.epoch += 1;
            state.loss = loss;
            state.loss.is_some()
        });
        if is_away {
            tokio::spawn(Arc::clone(self).search());
        }
    }

    /// Looks for a host that takes writes until there is one.
    async fn search(self: Arc<Self>) {
        let Some((host, was_away)) = self.closed.run_until_cancelled(self.find_host()).await else {
            return;
        };
        self.state.send_modify(|state| {
            if was_away || state.host != host {
                state.abandoned_before = state.epoch;
            }
            state.host = host;
            state.loss = None;
        });
    }

    /// Returns a host that takes writes, and whether none did for a while, which is logged.
    async fn find_host(&self) -> (usize, bool) {
        let started_at = Instant::now();
        let reasons = Mutex::new(vec![None; self.hosts.len()]);
        let probes = (0..self.hosts.len()).map(|host| Box::pin(self.wait_for_host(host, &reasons)));
        let mut found = select_all(probes);
        let loss = self.state.borrow().loss.clone().unwrap_or_default();
        if let Ok((host, ..)) = timeout(PROBE_INTERVAL, &mut found).await {
            tracing::info!("a connection to the store was lost and is replaced: {loss}");
            return (host, false);
        }
        tracing::warn!("the store cannot be reached: {loss}");
        loop {
            let host = timeout(REMIND_INTERVAL, &mut found).await;
            let seconds = started_at.elapsed().as_secs_f64();
            if let Ok((host, ..)) = host {
                tracing::info!("the store can be reached again, after {seconds:.1} s");
                return (host, true);
            }
            let reasons = self.describe(&reasons);
            tracing::warn!("the store is still away, after {seconds:.0} s: {reasons}");
        }
    }

    async fn wait_for_host(&self, host: usize, reasons: &Mutex<Vec<Option<String>>>) -> usize {
        loop {
            let next_at = Instant::now() + PROBE_INTERVAL;
            let probe = timeout(PROBE_TIMEOUT, self.connect(host)).await;
            match probe.unwrap_or_else(|_| Err(no_answer(PROBE_TIMEOUT))) {
                Ok(connection) => {
                    let _ = timeout(PROBE_INTERVAL, connection.close()).await;
                    return host;
                }
                Err(error) => {
                    let reason = Causes(&error).to_string();
                    tracing::debug!("{}: {reason}", host_name(&self.hosts[host]));
                    let mut reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
                    reasons[host] = Some(reason);
                }
            }
            sleep_until(next_at).await;
        }
    }

    /// Why each host is not used.
    fn describe(&self, reasons: &Mutex<Vec<Option<String>>>) -> String {
        let reasons = reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons = self.hosts.iter().zip(reasons.iter());
        let described: Vec<_> = reasons
            .map(|(host, reason)| {
                let reason = reason.as_deref().unwrap_or("not tried yet");
                format!("{}: {reason}", host_name(host))
            })
            .collect();
        described.join("; ")
    }
}

impl State {
    pub fn has_abandoned(&self, epoch: u64) -> bool {
        epoch < self.abandoned_before
    }
}

impl Manager for Connector {
    type Type = Link;
    type Error = Error;

    async fn create(&self) -> Result<Link> {
        let State {
            epoch, host, loss, ..
        } = self.0.state.borrow().clone();
        if let Some(loss) = loss {
            return Err(unreachable(&loss));
        }
        Ok(Link {
            connection: self.0.connect(host).await?,
            epoch,
            used_at: Instant::now(),
        })
    }

    async fn recycle(&self, link: &mut Link, metrics: &Metrics) -> RecycleResult<Error> {
        let epoch = self.0.state.borrow().epoch;
        if link.epoch != epoch || metrics.age() > MAX_AGE {
            return Err(RecycleError::message("too old"));
        }
        if link.used_at.elapsed() <= MAX_UNTESTED_IDLE {
            return Ok(());
        }
        let test = takes_writes(&mut link.connection);
        let error = match timeout(SHORT_LIMIT, test).await {
            Ok(Ok(takes_writes)) if takes_writes || !self.0.needs_writes => return Ok(()),
            Ok(Ok(_)) => takes_no_writes(),
            Ok(Err(error)) => error,
            Err(_) => no_answer(SHORT_LIMIT),
        };
        let error = Error::from(error);
        self.0.lose(epoch, &error);
        Err(error.into())
    }
}

/// A connection, and whether its server takes writes.
async fn connect_to(options: &PgConnectOptions) -> sqlx::Result<(PgConnection, bool)> {
    let connect = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let takes_writes = takes_writes(&mut connection).await?;
        Ok((connection, takes_writes))
    };
    let result = timeout(SHORT_LIMIT, connect).await;
    let result = result.unwrap_or_else(|_| Err(no_answer(SHORT_LIMIT)));
    result.map_err(explain_refusal)
}

/// A standby does not, nor does a server or role that is set to read only.
async fn takes_writes(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let read_only: String = sqlx::query_scalar("SHOW transaction_read_only")
        .fetch_one(connection)
        .await?;
    Ok(read_only == "off")
}

/// The store is away; `loss` says why.
fn unreachable(loss: &str) -> Error {
    Error::Unreachable(sqlx::Error::Io(io::Error::other(loss.to_owned())))
}

fn takes_no_writes() -> sqlx::Error {
    let text = "the server takes no writes: it is a standby, or is set to read only";
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, text))
}

pub(super) fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("no answer within {} seconds", limit.as_secs());
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

fn host_name(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
