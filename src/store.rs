//! The store, on SQLite or PostgreSQL. It holds all SQL about what lapsed owns.
//!
//! A [`Store`] opens transactions; every query is a method of [`Tx`], written once for both databases.
//! Dropping a transaction rolls it back.

mod account_notices;
mod addresses;
mod changes;
mod cluster;
mod columns;
mod copy;
mod credentials;
mod erasure;
mod error;
mod file;
mod findings;
mod idempotency;
mod internal_pages;
mod issued;
mod mails;
mod notices;
mod open;
mod people;
mod plans;
mod postgres;
mod preferences;
mod removal;
mod replicas;
mod retrying;
mod revocations;
mod runs;
mod schema;
mod service_accounts;
mod service_purge;
mod service_users;
mod session;
mod sign_in_links;
mod token_pages;
mod tokens;
mod unusable;
mod upstreams;
mod uses;
mod views;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Sqlite, SqlitePool, Transaction};

use cluster::{Cluster, LinkPool, SHORT_LIMIT};
use file::OpenFile;
use session::{LONG_LIMIT, Session, guarded};

pub use account_notices::AccountNotice;
pub use addresses::RefusedAddress;
pub use changes::Change;
#[cfg(feature = "test-support")]
pub use copy::TABLES;
pub use erasure::Erased;
#[cfg(feature = "test-support")]
pub use erasure::TEXT_COLUMNS;
pub use error::{Error, Result};
pub use findings::{
    FindingCount, FindingFilter, FindingRow, NewFinding, OpenFinding, OutlivedToken,
};
pub use idempotency::IdempotencyRow;
pub use issued::MAX_CHAIN;
pub use mails::{ClaimedMail, Holder, MailRecord, Verdict};
#[cfg(feature = "test-support")]
pub use notices::UnlistedTokens;
pub use notices::{ContentRow, MailContent, MailNotice, RetriedNotices};
#[cfg(feature = "test-support")]
pub use people::{IdentityCount, IssuerIdentity};
pub use people::{IdentityFilter, IdentityRow};
pub use plans::OpenMail;
pub use removal::GhostFinding;
pub use retrying::Retries;
pub use revocations::{DueLoss, LossRow};
pub use runs::{AuditFilter, AuditRow, PurgeCutoffs, RunRow};
pub use schema::{Access, Versions};
#[cfg(feature = "test-support")]
pub use schema::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS};
pub use sign_in_links::SignInLink;
pub use token_pages::{PageFilter, PageKey, PageOrder, Reach, TokenSort, TokenSummary};
pub use upstreams::{Decision, DirectoryRow, SourceRow};
pub use uses::{AddressUse, HourOfUse, UseRow, Uses};
pub use views::{MailPreview, NoticeFilter, NoticeRow, TokenFilter, TokenView};
pub use watch::Watch;

/// Rows per statement. SQLite takes 32,766 parameters per statement, PostgreSQL 65,535.
const CHUNK_ROWS: usize = 1000;

/// The database that holds everything lapsed knows.
#[derive(Clone)]
pub struct Store(Pools);

#[derive(Clone)]
enum Pools {
    /// One connection writes, several read, because SQLite has a single write lock.
    Sqlite {
        write: SqlitePool,
        read: SqlitePool,
        /// Of a store that is written.
        file: Option<Arc<OpenFile>>,
    },
    Postgres {
        cluster: Arc<Cluster>,
        pool: LinkPool,
    },
}

/// A transaction; all queries are its methods.
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Session),
}

/// Runs one statement on the transaction's database. `$db` names the database type, for query builders.
macro_rules! on {
    ($tx:expr, $conn:ident : $db:ident => $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                #[allow(dead_code, clippy::allow_attributes, reason = "some need no builder")]
                type $db = sqlx::Sqlite;
                let $conn = &mut **tx;
                ($body).map_err($crate::store::Error::from)
            }
            $crate::store::Tx::Postgres(session) => {
                #[allow(dead_code, clippy::allow_attributes, reason = "some need no builder")]
                type $db = sqlx::Postgres;
                $crate::store::guarded!(session, $conn => $body)
            }
        }
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

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.place()).finish()
    }
}

impl Store {
    /// Opens a transaction that writes.
    ///
    /// On SQLite it takes the write lock at once: a deferred transaction that first reads and then
    /// writes fails with "database is locked", regardless of the busy time-out.
    pub async fn begin(&self) -> Result<Tx> {
        self.begin_within(LONG_LIMIT).await
    }

    /// As [`Store::begin`], for statements that take milliseconds and that others wait for: PostgreSQL counts as lost
    /// if it does not answer within ten seconds.
    pub async fn begin_short(&self) -> Result<Tx> {
        self.begin_within(SHORT_LIMIT).await
    }

    async fn begin_within(&self, limit: Duration) -> Result<Tx> {
        Ok(match &self.0 {
            Pools::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres { cluster, pool } => {
                Tx::Postgres(Session::begin(cluster, pool, "BEGIN", limit).await?)
            }
        })
    }

    pub async fn begin_read(&self) -> Result<Tx> {
        self.begin_read_within(LONG_LIMIT).await
    }

    /// As [`Store::begin_read`], with the limit of [`Store::begin_short`].
    pub async fn begin_short_read(&self) -> Result<Tx> {
        self.begin_read_within(SHORT_LIMIT).await
    }

    async fn begin_read_within(&self, limit: Duration) -> Result<Tx> {
        const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        Ok(match &self.0 {
            Pools::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Pools::Postgres { cluster, pool } => {
                Tx::Postgres(Session::begin(cluster, pool, BEGIN, limit).await?)
            }
        })
    }

    /// Whether PostgreSQL was lost and is being looked for.
    pub fn is_away(&self) -> bool {
        matches!(&self.0, Pools::Postgres { cluster, .. } if cluster.is_away())
    }

    /// Waits until PostgreSQL is found, if it was lost.
    pub async fn wait_while_away(&self) {
        if let Pools::Postgres { cluster, .. } = &self.0 {
            cluster.wait_while_away().await;
        }
    }

    /// Gives back the pages that SQLite's writer keeps, after many rows were written.
    pub async fn release_memory(&self) -> Result<()> {
        if let Pools::Sqlite { write, .. } = &self.0 {
            sqlx::query("PRAGMA shrink_memory").execute(write).await?;
        }
        Ok(())
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
        match (&self.0, self.file()) {
            (Pools::Postgres { cluster, .. }, _) => cluster.place(),
            (_, file) => format!("sqlite://{}", file.unwrap_or_default().display()),
        }
    }

    /// The file of an SQLite store.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.0 {
            Pools::Sqlite { write, .. } => {
                let file = write.connect_options().get_filename().to_owned();
                Some(std::path::absolute(&file).unwrap_or(file))
            }
            Pools::Postgres { .. } => None,
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
            Pools::Postgres { cluster, pool } => cluster.close(pool).await,
        }
    }
}

impl Tx {
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(session) => session.commit().await?,
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
