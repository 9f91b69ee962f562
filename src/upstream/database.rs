//! Reads third-party databases, SQLite or PostgreSQL, in one read-only transaction. Rows are streamed.
//!
//! [`ReadTransaction::for_each_row`] runs lapsed's own queries, whose columns are known; `for_each_record` runs
//! queries from the configuration.

mod error;
mod record;
mod writing;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{
    Column as _, ConnectOptions, Connection as _, Executor as _, FromRow, PgConnection,
    SqlSafeStr as _, SqliteConnection, Statement as _,
};
use url::Url;

use crate::network::require_tls;
pub use error::Error;
use record::Row;
pub(crate) use record::{Record, Scalar};
pub(crate) use writing::WriteConnection;

const FETCH_SIZE: u32 = 2000;

/// The number of SQLite's virtual machine instructions between two checks for cancellation.
const STEPS_PER_CHECK: i32 = 10_000;

#[derive(Clone)]
pub struct Database {
    url: SecretString,
    place: String,
    timeout: Duration,
}

impl Database {
    /// `url` is `sqlite:///path` or `postgres://user:password@host/database`, where
    /// `?sslmode=verify-full&sslrootcert=FILE` configures how the certificate is verified. `timeout` applies
    /// to each step: to connect, and to fetch the next rows.
    ///
    /// # Errors
    /// If the URL is invalid.
    pub fn new(url: &SecretString, timeout: Duration) -> Result<Self, Error> {
        let text = url.expose_secret();
        let place = if text.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(text).map_err(|_| Error::Url)?;
            options.get_filename().display().to_string()
        } else {
            PgConnectOptions::from_str(text).map_err(|_| Error::Url)?;
            let url = Url::parse(text).map_err(|_| Error::Url)?;
            if !matches!(url.scheme(), "postgres" | "postgresql") {
                return Err(Error::Url);
            }
            let host = url.host_str().unwrap_or("localhost");
            format!("postgres://{host}{}", url.path())
        };
        Ok(Self {
            url: url.clone(),
            place,
            timeout,
        })
    }

    /// The location, without user and password.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }

    /// Begins a transaction in which everything is read from one snapshot.
    ///
    /// # Errors
    /// If the database cannot be reached, or refuses the login.
    pub async fn begin_read(&self) -> Result<ReadTransaction<'_>, Error> {
        let mut connection = self.connect(Mode::ReadOnly).await?;
        if self.is_sqlite() {
            self.run(&mut connection, "BEGIN").await?;
            // Takes the lock, so that an interrupted write of another program is detected here.
            self.run(&mut connection, "SELECT 1 FROM sqlite_schema LIMIT 1")
                .await?;
        } else {
            // Set for the transaction, not for the session: a pooler refuses session settings, or passes the
            // session on to other clients.
            let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
            self.run(&mut connection, begin).await?;
        }
        self.set_transaction_settings(&mut connection).await?;
        Ok(ReadTransaction {
            database: self,
            connection,
        })
    }

    /// Sets the time-out of each statement of a transaction in PostgreSQL, and its time zone.
    async fn set_transaction_settings(&self, connection: &mut Connection) -> Result<(), Error> {
        let Connection::Postgres(connection) = connection else {
            return Ok(());
        };
        // `cursor_tuple_fraction` plans for the fastest delivery of all rows, not of the first ones.
        let settings = sqlx::query(
            "SELECT set_config('statement_timeout', $1, true), set_config('timezone', 'UTC', true),
                    set_config('cursor_tuple_fraction', '1', true)",
        )
        .bind(self.timeout.as_millis().to_string())
        .persistent(false);
        self.with_timeout(settings.execute(&mut **connection))
            .await
            .map(drop)
    }

    /// Runs a statement of lapsed.
    async fn run(&self, connection: &mut Connection, statement: &'static str) -> Result<(), Error> {
        let statement = sqlx::raw_sql(statement);
        match connection {
            Connection::Sqlite { connection, .. } => self
                .with_timeout(connection.execute(statement))
                .await
                .map(drop),
            Connection::Postgres(connection) => self
                .with_timeout(connection.execute(statement))
                .await
                .map(drop),
        }
    }

    /// Runs a statement from the configuration. Returns the number of affected rows.
    async fn execute(
        &self,
        connection: &mut Connection,
        statement: String,
        values: &[Scalar],
    ) -> Result<u64, Error> {
        let statement = trust(statement);
        match connection {
            Connection::Sqlite { connection, .. } => {
                let query = sqlx::query_with(statement, record::sqlite_arguments(values))
                    .persistent(false)
                    .execute(&mut **connection);
                Ok(self.with_timeout(query).await?.rows_affected())
            }
            Connection::Postgres(connection) => {
                let query = sqlx::query_with(statement, record::postgres_arguments(values))
                    .persistent(false)
                    .execute(&mut **connection);
                Ok(self.with_timeout(query).await?.rows_affected())
            }
        }
    }

    async fn connect(&self, mode: Mode) -> Result<Connection, Error> {
        let text = self.url.expose_secret();
        if self.is_sqlite() {
            let options = SqliteConnectOptions::from_str(text)
                .map_err(|_| Error::Url)?
                .create_if_missing(false)
                .read_only(mode == Mode::ReadOnly)
                .busy_timeout(self.timeout)
                .disable_statement_logging();
            let mut connection = self
                .with_timeout(SqliteConnection::connect_with(&options))
                .await?;
            let cancel_on_drop = CancelOnDrop::default();
            let is_cancelled = cancel_on_drop.0.clone();
            let mut handle = self.with_timeout(connection.lock_handle()).await?;
            handle.set_progress_handler(STEPS_PER_CHECK, move || {
                !is_cancelled.load(Ordering::Relaxed)
            });
            drop(handle);
            Ok(Connection::Sqlite {
                connection: Box::new(connection),
                _cancel_on_drop: cancel_on_drop,
            })
        } else {
            let options = PgConnectOptions::from_str(text).map_err(|_| Error::Url)?;
            let options = require_tls(options)
                .application_name("lapsed")
                .disable_statement_logging();
            let connection = self
                .with_timeout(PgConnection::connect_with(&options))
                .await?;
            Ok(Connection::Postgres(Box::new(connection)))
        }
    }

    /// Waits for the database, up to the time-out.
    async fn with_timeout<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, operation).await {
            Ok(result) => {
                result.map_err(|error| Error::from_sqlx(&error, &self.place, self.timeout))
            }
            Err(_) => Err(Error::TimedOut {
                place: self.place.clone(),
                timeout: self.timeout,
            }),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Mode {
    ReadOnly,
    ReadWrite,
}

enum Connection {
    Sqlite {
        connection: Box<SqliteConnection>,
        /// Dropped with the connection, to stop SQLite.
        _cancel_on_drop: CancelOnDrop,
    },
    Postgres(Box<PgConnection>),
}

impl Connection {
    async fn close(self, timeout: Duration) {
        let _ = match self {
            Self::Sqlite { connection, .. } => {
                tokio::time::timeout(timeout, connection.close()).await
            }
            Self::Postgres(connection) => tokio::time::timeout(timeout, connection.close()).await,
        };
    }
}

/// Stops SQLite, which would otherwise continue in its thread, when the caller no longer waits.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct ReadTransaction<'a> {
    database: &'a Database,
    connection: Connection,
}

type RowCallback<'a> = dyn FnMut(Row<'_>) -> Result<ControlFlow<()>, super::Error> + Send + 'a;

impl ReadTransaction<'_> {
    /// Runs a query of lapsed and calls `each` for every row. In PostgreSQL the type of a column must match
    /// that of the field, so cast if it differs between versions. If a date may be `infinity`, the query must
    /// convert it to null, because sqlx panics on it.
    ///
    /// # Errors
    /// If the query fails or `each` does.
    pub async fn for_each_row<T>(
        &mut self,
        query: &'static str,
        mut each: impl FnMut(T) -> Result<(), super::Error> + Send,
    ) -> Result<(), super::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow>,
    {
        let database = self.database;
        self.run_query(query, &[], &mut |row| {
            let row = match row {
                Row::Sqlite(row) => T::from_row(row),
                Row::Postgres(row) => T::from_row(row),
            };
            let row =
                row.map_err(|error| Error::from_sqlx(&error, &database.place, database.timeout))?;
            each(row)?;
            Ok(ControlFlow::Continue(()))
        })
        .await
    }

    /// Runs a query from the configuration and calls `each` for every row until it breaks. `values` are those of `$1`,
    /// `$2` and so on.
    pub(crate) async fn for_each_record(
        &mut self,
        query: &str,
        values: &[Scalar],
        mut each: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, super::Error> + Send,
    ) -> Result<(), super::Error> {
        self.run_query(query, values, &mut |row| each(Record(row)))
            .await
    }

    /// The names of the columns of a query, even if it returns no rows.
    pub(crate) async fn query_columns(
        &mut self,
        query: &str,
        values: &[Scalar],
    ) -> Result<Vec<String>, super::Error> {
        if let Connection::Sqlite { connection, .. } = &mut self.connection {
            // With the query below, SQLite would rename columns of the same name.
            let statement = trust(query.to_owned()).into_sql_str();
            let prepared = self
                .database
                .with_timeout(connection.prepare(statement))
                .await?;
            let columns = prepared.columns().iter();
            return Ok(columns.map(|column| column.name().to_owned()).collect());
        }
        // This query returns one row of nulls even if the inner query has no rows, because the driver reports columns
        // only with a row.
        let query = format!(
            "SELECT listed.* FROM (SELECT 1 AS one) AS one LEFT JOIN (\n{query}\n) AS listed ON 1 = 0"
        );
        let mut names = Vec::new();
        self.for_each_record(&query, values, |record| {
            names = record.columns();
            Ok(ControlFlow::Break(()))
        })
        .await?;
        Ok(names)
    }

    /// Plans a statement without running it.
    ///
    /// # Errors
    /// If the database would refuse the statement.
    pub(crate) async fn explain(
        &mut self,
        statement: &str,
        values: &[Scalar],
    ) -> Result<(), Error> {
        let (database, connection) = (self.database, &mut self.connection);
        let explain = format!("EXPLAIN {statement}");
        if database.is_sqlite() {
            return database
                .execute(connection, explain, values)
                .await
                .map(drop);
        }
        // A refused statement must not abort the transaction.
        database.run(connection, "SAVEPOINT lapsed").await?;
        let result = database.execute(connection, explain, values).await;
        database
            .run(connection, "ROLLBACK TO SAVEPOINT lapsed")
            .await?;
        result.map(drop)
    }

    /// The names of the columns of a table that the role may read; empty if there is no such table.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn table_columns(&mut self, table: &str) -> Result<BTreeSet<String>, super::Error> {
        let query = match self.connection {
            Connection::Sqlite { .. } => "SELECT name FROM pragma_table_info($1)",
            Connection::Postgres(_) => {
                "SELECT a.attname::text FROM pg_attribute a
                 WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
                   AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')"
            }
        };
        let mut names = BTreeSet::new();
        let table = [Scalar::Text(table.to_owned())];
        self.for_each_record(query, &table, |record| {
            if let Scalar::Text(name) = record.scalar(0) {
                names.insert(name);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(names)
    }

    /// Closes the connection. Dropping it is safe too, but PostgreSQL logs an error.
    pub async fn close(self) {
        self.connection.close(self.database.timeout).await;
    }

    async fn run_query(
        &mut self,
        query: &str,
        values: &[Scalar],
        each: &mut RowCallback<'_>,
    ) -> Result<(), super::Error> {
        let database = self.database;
        match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let arguments = record::sqlite_arguments(values);
                let mut rows = sqlx::query_with(trust(query.to_owned()), arguments)
                    .persistent(false)
                    .fetch(&mut **connection);
                let mut count = 0_u32;
                while let Some(row) = database.with_timeout(rows.try_next()).await? {
                    if each(Row::Sqlite(&row))?.is_break() {
                        break;
                    }
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(FETCH_SIZE) {
                        // Rows are always ready, so this loop would never yield to other tasks.
                        tokio::task::yield_now().await;
                    }
                }
                Ok(())
            }
            Connection::Postgres(connection) => {
                run_with_cursor(database, connection, query, values, each).await
            }
        }
    }
}

/// With a cursor, the time-out applies to each batch and not to the whole table.
async fn run_with_cursor(
    database: &Database,
    connection: &mut PgConnection,
    query: &str,
    values: &[Scalar],
    each: &mut RowCallback<'_>,
) -> Result<(), super::Error> {
    // `persistent(false)` prepares a statement without a name: behind a pooler, named statements outlive the
    // connection. FETCH is the exception, because sqlx may look up types between its rows, so the cache of
    // statements is cleared at the end.
    let declare = trust(format!("DECLARE lapsed NO SCROLL CURSOR FOR\n{query}"));
    let declare = sqlx::query_with(declare, record::postgres_arguments(values)).persistent(false);
    database
        .with_timeout(declare.execute(&mut *connection))
        .await?;
    let fetch = format!("FETCH {FETCH_SIZE} FROM lapsed");
    loop {
        let mut rows = sqlx::query(trust(fetch.clone())).fetch(&mut *connection);
        let mut count = 0;
        let mut wants_more = true;
        // The batch must be read to its end before CLOSE.
        while let Some(row) = database.with_timeout(rows.try_next()).await? {
            count += 1;
            if wants_more {
                wants_more = each(Row::Postgres(&row))?.is_continue();
            }
        }
        drop(rows);
        if count < FETCH_SIZE || !wants_more {
            break;
        }
    }
    let close = sqlx::query("CLOSE lapsed").persistent(false);
    database
        .with_timeout(close.execute(&mut *connection))
        .await?;
    database
        .with_timeout(connection.clear_cached_statements())
        .await?;
    Ok(())
}

/// Marks a statement of lapsed or of the operator as safe for sqlx.
#[expect(
    clippy::disallowed_types,
    reason = "statements of the configuration are run as they are"
)]
fn trust(statement: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(statement)
}
