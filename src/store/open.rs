//! Opening a store, upgrading its schema, and backing it up.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgConnection, SqlitePool};

use super::{Error, Pools, Result, Store};

pub static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a statement waits for a connection or for SQLite's write lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between attempts to open a store that another process is creating.
const OPEN_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// A connection that was idle for longer is tested before use.
const MAX_UNTESTED_IDLE: Duration = Duration::from_secs(1);
/// Enough for sweep, delivery and HTTP, with some to spare.
const MAX_CONNECTIONS: u32 = 6;

/// What opening may do to a store that is missing or has an older schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Create it if missing, and upgrade its schema.
    Create,
    /// It must exist; its schema is upgraded.
    Migrate,
    /// It must exist and be up to date; nothing is written.
    ReadOnly,
    /// It must exist, with any schema version; nothing is written. For backups only.
    AsIs,
}

/// Schema versions of a store; 0 means no schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub before: i64,
    pub now: i64,
}

impl Store {
    pub async fn open(url: &str, access: Access) -> Result<Self> {
        Ok(Self::open_versioned(url, access).await?.0)
    }

    /// Opens the store at `url` and returns its schema version before and after.
    pub async fn open_versioned(url: &str, access: Access) -> Result<(Self, Versions)> {
        if url.starts_with("sqlite:") {
            Self::open_sqlite(url, access).await
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Self::open_postgres(url, access).await
        } else {
            Err(Error::Url(
                url.split(':').next().unwrap_or_default().to_owned(),
            ))
        }
    }

    async fn open_sqlite(url: &str, access: Access) -> Result<(Self, Versions)> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|source| Error::Open {
                place: url.to_owned(),
                source,
            })?
            .create_if_missing(access == Access::Create)
            .foreign_keys(true)
            .busy_timeout(LOCK_TIMEOUT)
            // Page cache: 16 MiB for the writing connection, 2 MiB for each reader. The daemon must
            // stay under 64 MiB with a million tokens.
            .pragma("cache_size", "-2048");
        let file = options.get_filename().to_owned();
        let place = file.display().to_string();
        if !file.exists() && access != Access::Create {
            return Err(Error::Missing(place));
        }
        if access == Access::Create {
            // The store names people and their tokens, so only its owner may read it. SQLite gives its
            // side files the same mode. If this fails, SQLite's own error below explains why.
            let _ = create_private(&file);
        }
        let (reading, writing) = if matches!(access, Access::ReadOnly | Access::AsIs) {
            // Opened read-write but with `query_only`: after a reader that opened the file read-only,
            // SQLite leaves the files of the write-ahead log behind.
            let reading = options.pragma("query_only", "ON");
            (reading.clone(), reading)
        } else {
            let writing = options.clone().pragma("cache_size", "-16384");
            let writing = writing.journal_mode(SqliteJournalMode::Wal);
            let writing = writing.synchronous(SqliteSynchronous::Full);
            (options.read_only(true), writing)
        };
        let write = connect_sqlite_writer(writing).await;
        let write = write.map_err(|source| Error::Open {
            place: place.clone(),
            source,
        })?;
        let mut connection = write.acquire().await?;
        let versions = check_versions(&mut *connection, &SQLITE_MIGRATIONS, access, place).await?;
        if versions.before < versions.now {
            // Under the write lock, so that of two processes the second finds it done.
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            migrate(&mut *tx, &SQLITE_MIGRATIONS).await?;
            tx.commit().await?;
        }
        drop(connection);
        let read = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(LOCK_TIMEOUT)
            .connect_lazy_with(reading);
        Ok((Self(Pools::Sqlite { write, read }), versions))
    }

    async fn open_postgres(url: &str, access: Access) -> Result<(Self, Versions)> {
        let place = url::Url::parse(url).map_or_else(
            |_| "postgres".to_owned(),
            |url| {
                let host = url.host_str().unwrap_or("localhost");
                format!("postgres://{host}{}", url.path())
            },
        );
        let open_error = |source| Error::Open {
            place: place.clone(),
            source,
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(open_error)?
            .application_name("lapsed")
            // A hanging statement must not hang the daemon, but a schema change may take minutes.
            .options([
                ("statement_timeout", "300s"),
                ("idle_in_transaction_session_timeout", "60s"),
                ("timezone", "UTC"),
            ])
            .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
        // Not through the pool, which retries until its time-out and then hides the cause.
        let connecting = tokio::time::timeout(LOCK_TIMEOUT, PgConnection::connect_with(&options));
        let connected = connecting.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let mut connection = connected.map_err(open_error)?;
        let versions = check_versions(&mut connection, &POSTGRES_MIGRATIONS, access, place).await?;
        if versions.before < versions.now {
            migrate(&mut connection, &POSTGRES_MIGRATIONS).await?;
        }
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(LOCK_TIMEOUT)
            // Testing costs a round trip; a connection used a moment ago surely works.
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for > MAX_UNTESTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok((Self(Pools::Postgres(pool)), versions))
    }

    /// Copies an SQLite store to `file`, which must not exist; others may use the store meanwhile. Only
    /// its owner may read the copy.
    ///
    /// The copy is consistent: `VACUUM INTO` reads in one transaction.
    pub async fn backup(&self, file: &Path) -> Result<()> {
        let Pools::Sqlite { read, .. } = &self.0 else {
            return Err(Error::NotEmbedded);
        };
        let copy_error = |source| Error::Copy {
            file: file.to_owned(),
            source,
        };
        // SQLite would take a relative name that begins with `file:` for a URI.
        let absolute = std::path::absolute(file).map_err(copy_error)?;
        let name = absolute
            .to_str()
            .ok_or_else(|| copy_error(io::Error::other("its name is not UTF-8")))?;
        let copy = create_private(&absolute).map_err(copy_error)?;
        // SQLite treats an empty file like a missing one.
        let mut connection = read.acquire().await?;
        // `query_only` would forbid writing the copy, too.
        let writable = sqlx::query("PRAGMA query_only = OFF")
            .execute(&mut *connection)
            .await;
        let copied = match writable {
            Ok(_) => {
                sqlx::query("VACUUM INTO $1")
                    .bind(name)
                    .execute(&mut *connection)
                    .await
            }
            Err(error) => Err(error),
        };
        connection.close().await?;
        let copied = copied
            .map_err(Error::from)
            .and_then(|_| copy.sync_all().map_err(copy_error));
        if copied.is_err() {
            // A partial copy is worse than none; the first error is the one to report.
            let _ = std::fs::remove_file(&absolute);
        }
        copied
    }
}

/// The only connection that writes.
async fn connect_sqlite_writer(options: SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(LOCK_TIMEOUT * 3)
        // On a full disk SQLite rolls back by itself, but sqlx keeps believing that the transaction
        // is open: such a connection is replaced.
        .before_acquire(|connection, _| {
            Box::pin(async move { Ok(!connection.is_in_transaction()) })
        });
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match pool.clone().connect_with(options.clone()).await {
            // Switching to WAL ignores the busy time-out: of two processes that create the store at
            // the same time, one is refused.
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(OPEN_RETRY_INTERVAL).await;
            }
            result => return result,
        }
    }
}

/// Creates a new file that only its owner may read.
fn create_private(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// The schema version before and after opening; an error when `access` does not allow using the store.
async fn check_versions<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
    access: Access,
    place: String,
) -> Result<Versions> {
    let applied = match connection.list_applied_migrations(MIGRATION_TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_no_such_table(&error) => Vec::new(),
        Err(error) => return Err(migration_error(error)),
    };
    let found = applied
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let known = migrator
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let is_ours = applied.iter().all(|applied| {
        let same = migrator.iter().find(|ours| ours.version == applied.version);
        same.is_none_or(|ours| ours.checksum == applied.checksum)
    });
    let versions = |now| Ok(Versions { before: found, now });
    match (found.cmp(&known), access) {
        (_, Access::AsIs) => versions(found),
        (_, Access::Migrate | Access::ReadOnly) if found == 0 => Err(Error::Missing(place)),
        (Ordering::Greater, _) => Err(Error::Newer { found, known }),
        _ if !is_ours => Err(Error::EarlierBuild),
        (Ordering::Less, Access::ReadOnly) => Err(Error::Older),
        (Ordering::Equal, _) => versions(found),
        (Ordering::Less, Access::Create | Access::Migrate) => versions(known),
    }
}

async fn migrate<C: Migrate>(connection: &mut C, migrator: &Migrator) -> Result<()> {
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(migration_error)
}

/// A statement that failed outside a migration may succeed later; a failed migration will not.
fn migration_error(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => Error::Statement(error),
        error => Error::Migrate(error),
    }
}

/// SQLite: 5 busy, 261 busy while recovering the log, 517 busy with an old snapshot.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(code.as_ref(), "5" | "261" | "517"))
}

/// PostgreSQL has a code for it (42P01, undefined table), SQLite only a message.
fn is_no_such_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
    })
}

const MIGRATION_TABLE: &str = "_sqlx_migrations";
