//! The store, on SQLite or PostgreSQL. It holds all SQL about what lapsed owns.
//!
//! A [`Store`] opens transactions; every query is a method of [`Tx`], written once for both databases.
//! Dropping a transaction rolls it back.

mod addresses;
mod columns;
mod copy;
mod erasure;
mod file;
mod findings;
mod mails;
mod notices;
mod open;
mod people;
mod plans;
mod removal;
mod replicas;
mod revocations;
mod runs;
mod schema;
mod tokens;
mod unusable;
mod upstreams;
mod views;

use std::sync::Arc;

use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

use file::OpenFile;

pub use addresses::RefusedAddress;
#[cfg(feature = "test-support")]
pub use copy::TABLES;
pub use erasure::Erased;
#[cfg(feature = "test-support")]
pub use erasure::TEXT_COLUMNS;
pub use findings::{
    FindingCount, FindingFilter, FindingRow, NewFinding, OpenFinding, OutlivedToken,
};
pub use mails::{ClaimedMail, Holder, MailRecord, Verdict};
#[cfg(feature = "test-support")]
pub use notices::UnlistedTokens;
pub use notices::{ContentRow, MailContent, MailNotice, RetriedNotices};
#[cfg(feature = "test-support")]
pub use people::{IdentityCount, IssuerIdentity};
pub use people::{IdentityFilter, IdentityRow};
pub use plans::OpenMail;
pub use removal::GhostFinding;
pub use revocations::{DueLoss, LossRow};
pub use runs::{AuditRow, PurgeCutoffs, RunRow};
pub use schema::{Access, Versions};
#[cfg(feature = "test-support")]
pub use schema::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS};
pub use upstreams::{Decision, DirectoryRow, SourceRow};
pub use views::{MailPreview, NoticeFilter, NoticeRow, TokenFilter, TokenView};

/// Rows per statement. SQLite takes 32,766 parameters per statement, PostgreSQL 65,535.
const CHUNK_ROWS: usize = 1000;

/// The database that holds everything lapsed knows.
#[derive(Clone, Debug)]
pub struct Store(Pools);

#[derive(Clone, Debug)]
enum Pools {
    /// One connection writes, several read, because SQLite has a single write lock.
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
        /// Of a store that is written.
        file: Option<Arc<OpenFile>>,
    },
    Postgres(PgPool),
}

/// A transaction; all queries are its methods.
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Runs one statement on the transaction's database. `$db` names the database type, for query builders.
macro_rules! on {
    ($tx:expr, $conn:ident : $db:ident => $body:expr) => {
        (match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                #[allow(dead_code, clippy::allow_attributes, reason = "some need no builder")]
                type $db = sqlx::Sqlite;
                let $conn = &mut **tx;
                $body
            }
            $crate::store::Tx::Postgres(tx) => {
                #[allow(dead_code, clippy::allow_attributes, reason = "some need no builder")]
                type $db = sqlx::Postgres;
                let $conn = &mut **tx;
                $body
            }
        })
        .map_err($crate::store::Error::from)
    };
}
use on;

/// A query that locks its rows until the transaction ends. In SQLite a transaction that writes locks all.
macro_rules! locking {
    ($tx:expr, $($sql:tt)+) => {
        $tx.by_database($($sql)+, concat!($($sql)+, " FOR UPDATE"))
    };
}
use locking;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("store.url {0:?} is neither sqlite: nor postgres:")]
    Url(String),
    /// There is no store, and it must not be created: `[store] create` is off, or the command only reads.
    #[error(
        "there is no store at {0}; create it with `lapsed migrate`, or by a sweep with `[store] create = true`"
    )]
    Missing(String),
    #[error(
        "the store has schema version {found}, this program knows {known}: it was used by a newer \
         lapsed; run that version, or restore a backup made before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    /// The schema is older, and the access mode does not allow an upgrade.
    #[error("the store has an older schema; upgrade it with `lapsed migrate`")]
    Older,
    /// Its first migration is not ours: migrations change in place until the first release.
    #[error(
        "the store has an older schema, of a build of lapsed before 0.1.0, which cannot be upgraded; set another \
         store.url and run `lapsed migrate`"
    )]
    EarlierBuild,
    #[error("cannot open the store at {place}")]
    Open {
        place: String,
        #[source]
        source: sqlx::Error,
    },
    /// It cannot be opened until a person has followed the advice in `fix`.
    #[error("cannot open the store at {place}: {reason}")]
    Unusable {
        place: String,
        reason: String,
        fix: String,
    },
    #[error("the store at {place} is not the file that was opened: {change}")]
    FileChanged { place: String, change: &'static str },
    #[error("cannot upgrade the store's schema")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("a statement of the store failed")]
    Statement(#[source] sqlx::Error),
    #[error("lapsed can back up an SQLite store only; back up PostgreSQL with pg_dump")]
    NotEmbedded,
    #[error("cannot write the backup {}", file.display())]
    Copy {
        file: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Nothing was committed.
    #[error("the copied table {0} differs from the original, so the copy was discarded")]
    CopyDiffers(&'static str),
    #[error("cannot move the store: {0}")]
    NotMoved(&'static str),
    #[error("the store was moved to {0}; set [store] url to it")]
    Moved(String),
    /// A row holds a value that no version of lapsed writes.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Inconsistent(error),
            error => Self::Statement(error),
        }
    }
}

impl Error {
    /// Whether the store's file is damaged, or is not a database.
    pub fn is_corruption(&self) -> bool {
        let (Self::Statement(source) | Self::Open { source, .. }) = self else {
            return false;
        };
        // SQLite: 11 malformed, 26 not a database. PostgreSQL's codes are longer.
        let code = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| matches!(code.as_ref(), "11" | "26"))
    }

    /// Whether a later attempt may succeed: the store is unreachable, busy, or was restarted.
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
            // PostgreSQL: class 08 connection exception, 57P shutdown and start, 40 rollback,
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
    /// On SQLite it takes the write lock at once: a deferred transaction that first reads and then
    /// writes fails with "database is locked", regardless of the busy time-out.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match &self.0 {
            Pools::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Tx::Postgres(begin_in_task(pool, "BEGIN").await?),
        })
    }

    pub async fn begin_read(&self) -> Result<Tx> {
        Ok(match &self.0 {
            Pools::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Pools::Postgres(pool) => Tx::Postgres(
                begin_in_task(
                    pool,
                    "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
                )
                .await?,
            ),
        })
    }

    /// Fails if the file of an SQLite store was removed, replaced or overwritten since it was opened.
    pub fn check_file(&self) -> Result<()> {
        let Pools::Sqlite {
            file: Some(opened), ..
        } = &self.0
        else {
            return Ok(());
        };
        // Without a look at the file, the statements report what is wrong.
        let Ok(Some(change)) = opened.find_change() else {
            return Ok(());
        };
        Err(Error::FileChanged {
            place: opened.path.display().to_string(),
            change,
        })
    }

    /// Leaves a file that was replaced as it is: leaves SQLite's connections open until the process ends, because
    /// closing the last one would write the log of the earlier file into the new one, and sets that log aside.
    pub fn leave_open(&self) {
        if let Pools::Sqlite {
            file: Some(opened), ..
        } = &self.0
        {
            opened.set_log_aside();
        }
        std::mem::forget(self.clone());
    }

    /// Where it is, without user and password.
    pub fn place(&self) -> String {
        match &self.0 {
            Pools::Sqlite { write, .. } => {
                let file = write.connect_options().get_filename().to_owned();
                let file = std::path::absolute(&file).unwrap_or(file);
                format!("sqlite://{}", file.display())
            }
            Pools::Postgres(pool) => {
                let options = pool.connect_options();
                let database = options.get_database().unwrap_or_default();
                format!(
                    "postgres://{}:{}/{database}",
                    options.get_host(),
                    options.get_port()
                )
            }
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.0, Pools::Sqlite { .. })
    }

    /// Closes all connections; on SQLite this also merges the write-ahead log into the file.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// The variant for this transaction's database.
    fn by_database(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// Opens a transaction in its own task, which continues when the caller is dropped.
///
/// sqlx counts a transaction only once PostgreSQL has answered. A caller dropped before that would return the
/// connection with an open transaction that is never ended, and the next writer on it might be inside a read-only one.
async fn begin_in_task(
    pool: &PgPool,
    statement: &'static str,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
    begun.unwrap_or(Err(sqlx::Error::PoolClosed))
}
