//! Opening a store, bringing its schema up to date, and copying it aside.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::{Error, Pools, Result, Store};

/// The schema of the embedded store, forward only.
pub static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
/// The same schema on PostgreSQL.
pub static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a statement waits for a connection or for SQLite's write lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to open a store that another process is making.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection that was idle for longer is asked whether it still works.
const FRESH: Duration = Duration::from_secs(1);
/// Connections of a daemon: sweep, delivery, HTTP and room for one more.
const CONNECTIONS: u32 = 6;

/// What may be done to a store that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Make it where it is missing and bring its schema up to date.
    Create,
    /// It must be there; its schema is brought up to date.
    Migrate,
    /// It must be there and up to date; nothing is written.
    ReadOnly,
    /// It must be there, of whatever version; nothing is written. Good for a copy only.
    AsIs,
}

/// Schema versions of a store; 0 is none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// When it was opened.
    pub before: i64,
    /// Now.
    pub now: i64,
}

impl Store {
    /// Opens the store at `url`.
    pub async fn open(url: &str, access: Access) -> Result<Self> {
        Ok(Self::open_versioned(url, access).await?.0)
    }

    /// Opens the store at `url` and tells which schema it had and has.
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
            .busy_timeout(PATIENCE)
            // Of pages: 16 MiB for the one connection that writes, 2 MiB for each that reads. The
            // daemon is to stay under 64 MiB with a million tokens.
            .pragma("cache_size", "-2048");
        let file = options.get_filename().to_owned();
        let place = file.display().to_string();
        if !file.exists() && access != Access::Create {
            return Err(Error::Missing(place));
        }
        if access == Access::Create {
            // The store names people and what they hold: it is its owner's. SQLite gives the files
            // beside it the same mode. What is wrong with the place is told by SQLite's own error.
            let _ = create_private(&file);
        }
        let opened = |source| Error::Open {
            place: place.clone(),
            source,
        };
        let (reading, writing) = if matches!(access, Access::ReadOnly | Access::AsIs) {
            // Opened for writing, but kept from it: of a reader that opened the file for reading
            // SQLite leaves the files of the write-ahead log behind.
            let reading = options.pragma("query_only", "ON");
            (reading.clone(), reading)
        } else {
            let writing = options
                .clone()
                .pragma("cache_size", "-16384")
                .journal_mode(SqliteJournalMode::Wal);
            (
                options.read_only(true),
                writing.synchronous(SqliteSynchronous::Full),
            )
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE * 3)
            // A full disk makes SQLite roll back by itself, and sqlx then believes for ever that the
            // transaction is still open: such a connection is given up for a fresh one.
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            });
        let given_up_at = Instant::now() + PATIENCE;
        let write = loop {
            match pool.clone().connect_with(writing.clone()).await {
                // The change to WAL waits for nobody: of two processes that make the store at once
                // one is turned away.
                Err(error) if is_locked(&error) && Instant::now() < given_up_at => {
                    tokio::time::sleep(PAUSE).await;
                }
                connected => break connected.map_err(opened)?,
            }
        };
        let mut connection = write.acquire().await?;
        let versions = versions(&mut *connection, &SQLITE_MIGRATIONS, access).await?;
        if versions.before == 0 && matches!(access, Access::Migrate | Access::ReadOnly) {
            return Err(Error::Missing(place));
        }
        if versions.before < versions.now {
            // Under the write lock, so that of two processes the second finds it done.
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            migrate(&mut *tx, &SQLITE_MIGRATIONS).await?;
            tx.commit().await?;
        }
        drop(connection);
        let read = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
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
        let opened = |source| Error::Open {
            place: place.clone(),
            source,
        };
        let options = PgConnectOptions::from_str(url)
            .map_err(opened)?
            .application_name("lapsed")
            // A statement that hangs must not hang the daemon; a schema change may take its time.
            .options([
                ("statement_timeout", "300s"),
                ("idle_in_transaction_session_timeout", "60s"),
                ("timezone", "UTC"),
            ])
            .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
        // Not through the pool, which tries again until its time is up and then tells nothing else.
        let connecting = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options));
        let connected = connecting.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let mut connection = connected.map_err(opened)?;
        let versions = versions(&mut connection, &POSTGRES_MIGRATIONS, access).await?;
        if versions.before == 0 && matches!(access, Access::Migrate | Access::ReadOnly) {
            return Err(Error::Missing(place));
        }
        if versions.before < versions.now {
            migrate(&mut connection, &POSTGRES_MIGRATIONS).await?;
        }
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            // A connection that was used a moment ago is there; to ask costs a round trip each time.
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for > FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok((Self(Pools::Postgres(pool)), versions))
    }

    /// Copies the embedded store to `file`, which must not exist, while others use it. Only its
    /// owner may read the copy.
    ///
    /// The copy is consistent as of one moment: `VACUUM INTO` reads in one transaction.
    pub async fn backup(&self, file: &Path) -> Result<()> {
        let Pools::Sqlite { read, .. } = &self.0 else {
            return Err(Error::NotEmbedded);
        };
        let failed = |source| Error::Copy {
            file: file.to_owned(),
            source,
        };
        // SQLite would take a relative name that begins with `file:` for a URI.
        let absolute = std::path::absolute(file).map_err(failed)?;
        let name = absolute
            .to_str()
            .ok_or_else(|| failed(io::Error::other("its name is not UTF-8")))?;
        let copy = create_private(&absolute).map_err(failed)?;
        // SQLite takes an empty file for one that is not there.
        let mut connection = read.acquire().await?;
        // A reader's connection takes the copy, too, for something that it must not write.
        let unlocked = sqlx::query("PRAGMA query_only = OFF")
            .execute(&mut *connection)
            .await;
        let copied = match unlocked {
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
            .and_then(|_| copy.sync_all().map_err(failed));
        if copied.is_err() {
            // Half a copy is worse than none, and the error is told already.
            let _ = std::fs::remove_file(&absolute);
        }
        copied
    }
}

/// Creates a file that was not there and that only its owner may read.
fn create_private(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// Which schema the store has and is to have; an error when it cannot be used as it is.
async fn versions<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
    access: Access,
) -> Result<Versions> {
    let applied = match connection.list_applied_migrations(MIGRATION_TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_no_such_table(&error) => Vec::new(),
        Err(error) => return Err(refused(error)),
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
    let becomes = |now| Ok(Versions { before: found, now });
    match (found.cmp(&known), access) {
        (_, Access::AsIs) | (Ordering::Equal, _) => becomes(found),
        (Ordering::Greater, _) => Err(Error::Newer { found, known }),
        (Ordering::Less, Access::ReadOnly) if found > 0 => Err(Error::Older),
        (Ordering::Less, Access::ReadOnly) => becomes(found),
        (Ordering::Less, Access::Create | Access::Migrate) => becomes(known),
    }
}

async fn migrate<C: Migrate>(connection: &mut C, migrator: &Migrator) -> Result<()> {
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(refused)
}

/// A statement that failed beside a migration may succeed later; a migration that failed will not.
fn refused(error: MigrateError) -> Error {
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

/// PostgreSQL has a code for it (42P01, undefined table), SQLite only words.
fn is_no_such_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
    })
}

const MIGRATION_TABLE: &str = "_sqlx_migrations";
