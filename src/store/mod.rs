//! The one store, on SQLite or PostgreSQL, and the only SQL.
//!
//! A [`Store`] hands out transactions; every query is a method of [`Tx`], written once for both
//! databases. Dropping a transaction rolls it back.

mod admins;
mod contents;
mod coverage;
mod findings;
mod gather;
mod judging;
mod mails;
mod notices;
mod open;
mod people;
mod plans;
mod responding;
mod runs;
mod sources;
mod tokens;
mod views;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

pub use contents::{Content, ContentRow};
pub use coverage::{IdentityCount, IssuerSaid};
pub use findings::{FindingFilter, FindingRow, NewFinding, OpenCount, Outlived};
pub use gather::OpenMail;
pub use judging::StandingFinding;
pub use mails::{ClaimedMail, Holder, InMail, Recorded, Verdict};
pub use notices::Rest;
pub use open::{Access, POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, Versions};
pub use people::{DirectoryRow, HoldVerdict, IdentityFilter, IdentityRow};
pub use responding::{DueLoss, LossRow, Warnings};
pub use runs::{AuditRow, Kept, RunRow};
pub use sources::SourceRow;
pub use views::{Counts, NoticeFilter, NoticeRow, TokenFilter, TokenView};

/// Rows to a statement. SQLite takes 32,766 parameters to a statement, PostgreSQL 65,535.
pub(crate) const CHUNK: usize = 1000;

/// A database that holds everything lapsed knows.
#[derive(Clone, Debug)]
pub struct Store(Pools);

#[derive(Clone, Debug)]
enum Pools {
    /// One connection writes, several read: SQLite has one write lock whatever we do.
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction; all queries are its methods.
pub enum Tx {
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
}

/// Runs one statement on whichever database the transaction is open on. `$db` names the database
/// type in the statement, for builders.
macro_rules! on {
    ($tx:expr, $conn:ident : $db:ident => $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                #[allow(
                    dead_code,
                    clippy::allow_attributes,
                    reason = "not every statement needs a builder"
                )]
                type $db = sqlx::Sqlite;
                let $conn = &mut **tx;
                $body
            }
            $crate::store::Tx::Postgres(tx) => {
                #[allow(
                    dead_code,
                    clippy::allow_attributes,
                    reason = "not every statement needs a builder"
                )]
                type $db = sqlx::Postgres;
                let $conn = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use on;

/// What a statement of the store brought, or why it did not.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none of ours.
    #[error("store.url {0:?} is neither sqlite: nor postgres:")]
    Url(String),
    /// There is no store and the configuration forbids to make one.
    #[error(
        "there is no store at {0}; make one with `lapsed migrate`, or set `[store] create = true`"
    )]
    Missing(String),
    /// The store was made by a newer program.
    #[error(
        "the store has schema version {found}, this program knows {known}: it was used by a newer \
         lapsed; run that version, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The store's version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The store's schema is older and the configuration forbids to bring it up to date.
    #[error("the store has an older schema; bring it up to date with `lapsed migrate`")]
    Older,
    /// It could not be opened.
    #[error("cannot open the store at {place}")]
    Open {
        /// Where, without credentials.
        place: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed.
    #[error("cannot bring the store's schema up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("the store refused a statement")]
    Statement(#[from] sqlx::Error),
    /// What only the embedded store can do.
    #[error("lapsed copies an SQLite store only; back PostgreSQL up with pg_dump")]
    NotEmbedded,
    /// A copy could not be made.
    #[error("cannot write the copy {}", file.display())]
    Copy {
        /// Where to.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A row holds what no version of lapsed writes.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(String),
}

impl Error {
    /// Whether the store's file is damaged, or is none.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let (Self::Statement(source) | Self::Open { source, .. }) = self else {
            return false;
        };
        // SQLite: 11 malformed, 26 not a database. PostgreSQL has no codes of so few digits.
        let code = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| matches!(code.as_ref(), "11" | "26"))
    }

    /// Whether the store may answer later: it is away, busy, or was restarted.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let (Self::Statement(source) | Self::Open { source, .. }) = self else {
            return false;
        };
        match source {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => true,
            // PostgreSQL: class 08 connection exception, 57P shutdown and start, 40 roll back,
            // 53 too many connections or out of memory. SQLite: 5 busy, 6 locked, 13 full.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                ["08", "57P", "40", "53"]
                    .iter()
                    .any(|class| code.starts_with(class))
                    || matches!(code.as_ref(), "5" | "6" | "13" | "261" | "517")
            }),
            _ => false,
        }
    }
}

impl Store {
    /// Opens a transaction that writes.
    ///
    /// On SQLite it takes the write lock at once: a deferred transaction that reads and then writes
    /// fails with "database is locked" whatever the time-out.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match &self.0 {
            Pools::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Tx::Postgres(begin_whole(pool, "BEGIN").await?),
        })
    }

    /// Opens a transaction that only reads.
    pub async fn read(&self) -> Result<Tx> {
        Ok(match &self.0 {
            Pools::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Pools::Postgres(pool) => Tx::Postgres(
                begin_whole(
                    pool,
                    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
                )
                .await?,
            ),
        })
    }

    /// Whether this is the embedded store.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(self.0, Pools::Sqlite { .. })
    }

    /// Closes every connection; on SQLite the write-ahead log is folded into the file.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    /// Makes what was done durable.
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// The clause that locks the rows of a `SELECT`; on SQLite the transaction has the only lock.
    fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// Opens a transaction in a task of its own, which goes on when the caller is dropped.
///
/// sqlx counts a transaction once PostgreSQL has answered. A caller that is dropped before that
/// would give the connection back with a transaction open that nobody ends, and the next to write
/// on it might find itself in a read-only one.
async fn begin_whole(
    pool: &PgPool,
    statement: &'static str,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
    begun.unwrap_or(Err(sqlx::Error::PoolClosed))
}

/// The end of time as the store keeps it: four digits to the year, so that text sorts.
pub(crate) const FAR: DateTime<Utc> = match DateTime::from_timestamp(253_370_764_800, 0) {
    Some(far) => far,
    None => DateTime::<Utc>::MAX_UTC,
};
