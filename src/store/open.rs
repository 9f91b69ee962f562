//! Opening a store, and backing it up.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::copy::NOT_COPIED;
use super::file::{FILE_ID_OFFSET, OpenFile, find_file_id, new_file_id, resolve, set_file_id};
use super::schema::{Access, SQLITE_MIGRATIONS, Versions, check_versions, migrate};
use super::unusable::{check_access, explain_sqlite};
use super::{Error, Pools, Result, Store, postgres};
use crate::files::{create_private, create_private_for_owner};

/// How long a statement waits for a connection or for SQLite's write lock.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than [`LOCK_TIMEOUT`], because the only writer may itself wait for the lock.
const WRITER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before another attempt to open a store that another process is creating.
pub(super) const OPEN_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// More readers than sweep, delivery and HTTP need.
const MAX_CONNECTIONS: u32 = 6;
/// KiB of page cache for each reader; SQLite takes sizes in KiB as negative numbers. The daemon must stay under
/// 64 MiB with a million tokens.
const READER_CACHE: &str = "-2048";
const WRITER_CACHE: &str = "-16384";
/// In bytes; a file of this size is read within a second.
const MAX_QUICK_CHECK: u64 = 64 * 1024 * 1024;

impl Store {
    pub async fn open(url: &str, access: Access) -> Result<Self> {
        Ok(Self::open_versioned(url, access).await?.0)
    }

    /// Opens the store at `url` and returns its schema version before and after. Several URLs of PostgreSQL, separated
    /// by spaces, are servers of one cluster; the one that takes writes is used.
    pub async fn open_versioned(url: &str, access: Access) -> Result<(Self, Versions)> {
        let (store, versions) = if url.starts_with("sqlite:") {
            Self::open_sqlite(url, access).await?
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Box::pin(postgres::open(url, access)).await?
        } else {
            let scheme = url.split(':').next().unwrap_or_default();
            return Err(Error::Url(scheme.to_owned()));
        };
        if matches!(access, Access::AsIs | Access::Move | Access::Scratch) {
            return Ok((store, versions));
        }
        let usable = if versions.is_newer() {
            async { store.begin_read().await?.check_usable().await }.await
        } else {
            store.check_usable().await
        };
        if let Err(error) = usable {
            store.close().await;
            return Err(error);
        }
        Ok((store, versions))
    }

    async fn open_sqlite(url: &str, access: Access) -> Result<(Self, Versions)> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|source| Error::Open {
                place: url.to_owned(),
                source,
            })?
            .create_if_missing(access.creates())
            .foreign_keys(true)
            .busy_timeout(LOCK_TIMEOUT)
            .pragma("cache_size", READER_CACHE);
        let location = options.get_filename().display().to_string();
        let file = resolve(options.get_filename());
        let options = options.filename(&file);
        prepare_file(&file, access)?;
        let (reader_options, writer_options) = match access {
            Access::ReadOnly | Access::AsIs => {
                // Opened read-write but with `query_only`: after a reader that opened the file read-only,
                // SQLite leaves the files of the write-ahead log behind.
                let options = options.pragma("query_only", "ON");
                (options.clone(), options)
            }
            Access::Create | Access::Migrate | Access::Move | Access::Scratch => {
                let synchronous = match access {
                    Access::Scratch => SqliteSynchronous::Off,
                    _ => SqliteSynchronous::Full,
                };
                let writer_options = options
                    .clone()
                    .pragma("cache_size", WRITER_CACHE)
                    // What is deleted or changed leaves no trace, so that a person can be erased.
                    .pragma("secure_delete", "ON")
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(synchronous);
                (options.read_only(true), writer_options)
            }
        };
        let write = connect_sqlite_writer(writer_options)
            .await
            .map_err(|source| explain_sqlite(&file, source))?;
        let mut connection = write.acquire().await?;
        let versions =
            check_versions(&mut *connection, &SQLITE_MIGRATIONS, access, location).await?;
        if versions.before < versions.now {
            // Takes the write lock: if two processes upgrade at once, the second finds nothing to do.
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            migrate(&mut *tx, &SQLITE_MIGRATIONS).await?;
            set_file_id(&mut tx).await?;
            tx.commit().await?;
        }
        let opened = remember_file(&mut connection, &file, access).await?;
        drop(connection);
        let read = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(LOCK_TIMEOUT)
            // A connection to a file is not lost while it is idle.
            .test_before_acquire(false)
            .connect_lazy_with(reader_options);
        let pools = Pools::Sqlite {
            write,
            read,
            file: opened,
        };
        Ok((Self(pools), versions))
    }

    /// What is damaged in the file of an SQLite store: in every page or, if not `is_thorough`, in a cheaper look. `None` if
    /// nothing was looked at: a PostgreSQL store, or a file for which even that takes long.
    pub async fn find_damage(&self, is_thorough: bool) -> Result<Option<Vec<String>>> {
        let Pools::Sqlite { read, .. } = &self.0 else {
            return Ok(None);
        };
        let sql = if is_thorough {
            "PRAGMA integrity_check(5)"
        } else {
            let file = read.connect_options().get_filename().to_owned();
            if file
                .metadata()
                .is_ok_and(|file| file.len() > MAX_QUICK_CHECK)
            {
                return Ok(None);
            }
            "PRAGMA quick_check(5)"
        };
        let mut lines: Vec<String> = sqlx::query_scalar(sql).fetch_all(read).await?;
        lines.retain(|line| line != "ok");
        Ok(Some(lines))
    }

    /// Copies an SQLite store to `file`, which must not exist. Only the user that runs lapsed may read the
    /// copy. The store may be in use.
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
        let store = read.connect_options().get_filename().to_owned();
        let folder = |file: &Path| file.parent().and_then(|folder| folder.canonicalize().ok());
        // Created first, to set its mode: SQLite treats an empty file like a missing one.
        let copy = if folder(&store) == folder(&absolute) {
            create_private_for_owner(&absolute)
        } else {
            create_private(&absolute)
        };
        let copy = copy.map_err(copy_error)?;
        let mut connection = read.acquire().await?;
        let vacuumed = vacuum_into(&mut connection, name).await;
        connection.close().await?;
        let result = match vacuumed {
            // A file id of its own: a copy that is put over a store in use must be noticed.
            Ok(file_id) => copy
                .write_all_at(&file_id.to_be_bytes(), FILE_ID_OFFSET as u64)
                .and_then(|()| copy.sync_all())
                .map_err(copy_error),
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            // A partial copy is worse than none; the first error is the one to report.
            let _ = std::fs::remove_file(&absolute);
        }
        result
    }
}

/// Creates the file if that is wanted, and checks that this user may use it.
fn prepare_file(file: &Path, access: Access) -> Result<()> {
    if access.creates() {
        // The store names people and their tokens. SQLite gives its side files the same mode and, run
        // by root, the same owner.
        match create_private_for_owner(file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(explain_sqlite(file, error.into()));
            }
            _ => {}
        }
    } else if let Err(error) = file.metadata() {
        return Err(match explain_sqlite(file, error.into()) {
            Error::Open { place, .. } => Error::Missing(place),
            explained => explained,
        });
    }
    check_access(file)
}

/// The identity of a file that is written, to notice later that it was replaced.
async fn remember_file(
    connection: &mut SqliteConnection,
    file: &Path,
    access: Access,
) -> Result<Option<Arc<OpenFile>>> {
    Ok(match access {
        Access::Create | Access::Migrate | Access::Move => {
            let opened = OpenFile::open(file, find_file_id(connection).await?);
            Some(Arc::new(
                opened.map_err(|error| explain_sqlite(file, error.into()))?,
            ))
        }
        Access::ReadOnly | Access::AsIs | Access::Scratch => None,
    })
}

/// Copies the store in one transaction, so that the copy is consistent. Returns a file id for the copy.
async fn vacuum_into(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<i32> {
    // `query_only` would forbid writing the copy, too.
    sqlx::query("PRAGMA query_only = OFF")
        .execute(&mut *connection)
        .await?;
    sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(&mut *connection)
        .await?;
    remove_answers(name).await?;
    new_file_id(connection).await
}

/// Removes from a copy, without a trace, what only the store itself may have.
async fn remove_answers(name: &str) -> sqlx::Result<()> {
    let options = SqliteConnectOptions::new()
        .filename(name)
        .journal_mode(SqliteJournalMode::Off)
        .pragma("secure_delete", "ON");
    let mut copy = options.connect().await?;
    // The schema may be older.
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1)";
    for table in NOT_COPIED {
        let has_table = sqlx::query_scalar(sql).bind(table).fetch_one(&mut copy);
        if has_table.await? {
            let mut delete = QueryBuilder::<Sqlite>::new("DELETE FROM ");
            delete.push(table).build().execute(&mut copy).await?;
        }
    }
    copy.close().await
}

async fn connect_sqlite_writer(options: SqliteConnectOptions) -> sqlx::Result<SqlitePool> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WRITER_TIMEOUT)
        .test_before_acquire(false)
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

fn is_locked(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    // SQLITE_BUSY, SQLITE_BUSY_RECOVERY and SQLITE_BUSY_SNAPSHOT.
    code.is_some_and(|code| matches!(code.as_ref(), "5" | "261" | "517"))
}
