//! One use of a connection to PostgreSQL: a transaction, or a statement by itself. Each statement has a time limit.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::Object;
use sqlx::PgConnection;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, Link, LinkPool, PooledLink, SHORT_LIMIT, State, no_answer};
use super::{Error, Result};
use crate::server_warnings;

/// A hanging statement must not hang the daemon, but a page of a large table may take minutes.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_mins(5);
/// The server's own limit comes first, unless the server does not answer.
pub(super) const LONG_LIMIT: Duration = STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(10));

pub struct Session {
    /// `None` once it is given back or closed.
    link: Option<PooledLink>,
    cluster: Arc<Cluster>,
    /// For each statement; `None` for those that take as long as a large table does.
    limit: Option<Duration>,
    is_in_transaction: bool,
    /// A statement was begun and not finished, or the server is lost: the connection must not be used again.
    is_broken: bool,
}

/// What ends a statement that the server does not finish.
pub(super) struct Guard {
    limit: Option<Duration>,
    epoch: u64,
    states: watch::Receiver<State>,
}

impl Guard {
    /// Also returns a warning that the server sent.
    pub async fn run<T>(
        mut self,
        statement: impl Future<Output = Result<T>>,
    ) -> (Result<T>, Option<String>) {
        let abandoned = self
            .states
            .wait_for(|state| state.has_abandoned(self.epoch));
        let limited = async {
            match self.limit {
                Some(limit) => match timeout(limit, statement).await {
                    Ok(result) => result,
                    Err(_) => Err(no_answer(limit).into()),
                },
                None => statement.await,
            }
        };
        let work = async {
            tokio::select! {
                biased;
                result = limited => result,
                Ok(_) = abandoned => Err(sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()).into()),
            }
        };
        server_warnings::collect(work).await
    }
}

/// Runs one statement on a [`Session`]; the connection of one that fails to finish is closed.
macro_rules! guarded {
    ($session:expr, $conn:ident => $body:expr) => {
        $crate::store::session::guarded!(@warning $session, $conn => $body).0
    };
    (@warning $session:expr, $conn:ident => $body:expr) => {{
        let session = &mut *$session;
        let (guard, $conn) = session.start();
        let statement = async { ($body).map_err($crate::store::Error::from) };
        // Boxed: inlined into every query, it makes the futures of jobs too large for the stack of a thread.
        let (result, warning) = ::std::boxed::Box::pin(guard.run(statement)).await;
        session.finish(&result);
        (result, warning)
    }};
}
pub(super) use guarded;

impl Session {
    pub(super) async fn open(
        cluster: &Arc<Cluster>,
        pool: &LinkPool,
        limit: Duration,
    ) -> Result<Self> {
        Ok(Self {
            link: Some(cluster.take(pool).await?),
            cluster: Arc::clone(cluster),
            limit: Some(limit),
            is_in_transaction: false,
            is_broken: false,
        })
    }

    /// Begins a transaction. A connection that turns out to be lost is replaced once.
    pub(super) async fn begin(
        cluster: &Arc<Cluster>,
        pool: &LinkPool,
        statement: &'static str,
        limit: Duration,
    ) -> Result<Self> {
        let mut session = Self::open(cluster, pool, limit).await?;
        if let Err(error) = session.execute(statement).await {
            if !error.is_loss() {
                return Err(error);
            }
            session = Self::open(cluster, pool, limit).await?;
            session.execute(statement).await?;
        }
        session.is_in_transaction = true;
        Ok(session)
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        let (result, warning) =
            guarded!(@warning &mut self, c => sqlx::raw_sql("COMMIT").execute(c).await);
        result?;
        self.is_in_transaction = false;
        check_replicated(warning)
    }

    pub(super) fn lift_limit(&mut self) {
        self.limit = None;
    }

    async fn execute(&mut self, statement: &'static str) -> Result<()> {
        guarded!(self, c => sqlx::raw_sql(statement).execute(c).await.map(drop))
    }

    /// The only way to the connection, so that no statement is without its guard.
    pub(super) fn start(&mut self) -> (Guard, &mut PgConnection) {
        // Until the statement is finished: the caller may drop it.
        self.is_broken = true;
        let states = self.cluster.subscribe();
        let limit = self.limit;
        let link = self.link();
        let guard = Guard {
            limit,
            epoch: link.epoch,
            states,
        };
        (guard, &mut link.connection)
    }

    pub(super) fn finish<T>(&mut self, result: &Result<T>) {
        self.is_broken = false;
        if let Err(error) = result
            && error.costs_connection()
        {
            self.is_broken = true;
            let epoch = self.link().epoch;
            self.cluster.lose(epoch, error);
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "only the end of a session takes the link"
    )]
    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("a session has a connection")
    }
}

/// A commit that PostgreSQL did not let wait for its standby may be lost with the server, so it does not count.
pub(super) fn check_replicated(warning: Option<String>) -> Result<()> {
    warning.map_or(Ok(()), |warning| Err(Error::NotReplicated(warning)))
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        link.used_at = Instant::now();
        match Handle::try_current() {
            _ if self.is_broken => close(link),
            _ if !self.is_in_transaction => drop(link),
            Ok(runtime) => drop(runtime.spawn(roll_back(link))),
            Err(_) => close(link),
        }
    }
}

/// Closes the socket. The server notices; it gets no request to cancel a statement.
fn close(link: PooledLink) {
    drop(Object::take(link));
}

async fn roll_back(mut link: PooledLink) {
    let statement = sqlx::raw_sql("ROLLBACK").execute(&mut link.connection);
    if !matches!(timeout(SHORT_LIMIT, statement).await, Ok(Ok(_))) {
        close(link);
    }
}
