//! Databases of others: SQLite and PostgreSQL, through one connection and in one transaction that only
//! reads. Rows stream; none is kept.
//!
//! For rows whose columns are known there is [`Reading::rows`], for those that an operator's statement
//! names there is `records`.

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

pub use error::Error;
pub(crate) use record::{Record, Scalar};
pub(crate) use writing::Writing;

/// So many rows are asked for at once.
const BATCH: u32 = 2000;

/// SQLite looks after so many steps of its machine whether anybody still waits for it.
const STEPS: i32 = 10_000;

/// Where a database of others is, and how to get in.
#[derive(Clone)]
pub struct Database {
    url: SecretString,
    place: String,
    timeout: Duration,
}

impl Database {
    /// The database at `url`: `sqlite:///path` or `postgres://user:password@host/database`, where
    /// `?sslmode=verify-full&sslrootcert=FILE` says how its certificate is checked. `timeout` is for each
    /// step: to connect, and to have the next rows.
    ///
    /// # Errors
    /// When the URL is none of those.
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

    /// Where it is, without user and password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether it is SQLite rather than PostgreSQL.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }

    /// Begins to read: all that is read until the end is of one moment.
    ///
    /// # Errors
    /// When it is away, or does not let us in.
    pub async fn read(&self) -> Result<Reading<'_>, Error> {
        let mut connection = self.connect(true).await?;
        match &mut connection {
            Connection::Sqlite { connection, .. } => {
                let begun = sqlx::query("BEGIN").execute(&mut **connection);
                self.in_time(begun).await?;
                // Begins in earnest, so that what a killed program left shows here.
                let looked = sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1");
                self.in_time(looked.fetch_optional(&mut **connection))
                    .await?;
            }
            Connection::Postgres(connection) => {
                // Within the transaction rather than at the start of the session, which a pooler in
                // between would refuse, or lend to others.
                let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
                self.in_time(sqlx::raw_sql(begin).execute(&mut **connection))
                    .await?;
                self.limit(connection).await?;
            }
        }
        Ok(Reading {
            database: self,
            connection,
        })
    }

    /// The time-out of each statement of a transaction, and its time zone.
    async fn limit(&self, connection: &mut PgConnection) -> Result<(), Error> {
        // The plan is to be the one that has all rows soonest, not the first ones.
        let limits = sqlx::query(
            "SELECT set_config('statement_timeout', $1, true), set_config('timezone', 'UTC', true),
                    set_config('cursor_tuple_fraction', '1', true)",
        );
        let limits = limits
            .bind(self.timeout.as_millis().to_string())
            .persistent(false);
        self.in_time(limits.execute(connection)).await.map(drop)
    }

    async fn connect(&self, reads_only: bool) -> Result<Connection, Error> {
        let text = self.url.expose_secret();
        if self.is_sqlite() {
            let options = SqliteConnectOptions::from_str(text)
                .map_err(|_| Error::Url)?
                .create_if_missing(false)
                .read_only(reads_only)
                .busy_timeout(self.timeout)
                .disable_statement_logging();
            let mut connection = self
                .in_time(SqliteConnection::connect_with(&options))
                .await?;
            let given_up = GivenUp::default();
            let asked = given_up.0.clone();
            let mut handle = self.in_time(connection.lock_handle()).await?;
            handle.set_progress_handler(STEPS, move || !asked.load(Ordering::Relaxed));
            drop(handle);
            Ok(Connection::Sqlite {
                connection: Box::new(connection),
                _given_up: given_up,
            })
        } else {
            let options = PgConnectOptions::from_str(text)
                .map_err(|_| Error::Url)?
                .application_name("lapsed")
                .disable_statement_logging();
            let connecting = PgConnection::connect_with(&options);
            let connection = self.in_time(connecting).await?;
            Ok(Connection::Postgres(Box::new(connection)))
        }
    }

    /// What the database answers, if it does so in time.
    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.map_err(|error| Error::of(&error, &self.place, self.timeout)),
            Err(_) => Err(Error::TimedOut {
                place: self.place.clone(),
                limit: self.timeout,
            }),
        }
    }
}

/// A connection of our own.
enum Connection {
    Sqlite {
        connection: Box<SqliteConnection>,
        /// Dropped with the connection, it tells SQLite to leave off.
        _given_up: GivenUp,
    },
    Postgres(Box<PgConnection>),
}

impl Connection {
    async fn close(self, limit: Duration) {
        let _ = match self {
            Self::Sqlite { connection, .. } => {
                tokio::time::timeout(limit, connection.close()).await
            }
            Self::Postgres(connection) => tokio::time::timeout(limit, connection.close()).await,
        };
    }
}

/// Tells SQLite, which would otherwise compute on in its thread, that nobody waits any more.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A database that is being read.
pub struct Reading<'a> {
    database: &'a Database,
    connection: Connection,
}

/// A row of either database.
#[derive(Clone, Copy)]
enum Row<'a> {
    Sqlite(&'a SqliteRow),
    Postgres(&'a PgRow),
}

/// What is done with a row.
type Each<'a> = dyn FnMut(Row<'_>) -> Result<ControlFlow<()>, super::Error> + Send + 'a;

impl Reading<'_> {
    /// Has a query of ours answered, row by row. In PostgreSQL the type of a column must be the field's;
    /// cast where versions of the other system differ. Let the query turn `infinity`, where a date may be
    /// that, into null: sqlx panics over it.
    ///
    /// # Errors
    /// When the database does not answer to the end, or `each` fails.
    pub async fn rows<T>(
        &mut self,
        query: &'static str,
        mut each: impl FnMut(T) -> Result<(), super::Error> + Send,
    ) -> Result<(), super::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow>,
    {
        let database = self.database;
        self.visit(query, &[], &mut |row| {
            let row = match row {
                Row::Sqlite(row) => T::from_row(row),
                Row::Postgres(row) => T::from_row(row),
            };
            let row = row.map_err(|error| Error::of(&error, &database.place, database.timeout))?;
            each(row)?;
            Ok(ControlFlow::Continue(()))
        })
        .await
    }

    /// Has an operator's query answered, row by row, until `each` breaks off. `values` are those of `$1`,
    /// `$2` and so on.
    ///
    /// # Errors
    /// When the database does not answer to the end, or `each` fails.
    pub(crate) async fn records(
        &mut self,
        query: &str,
        values: &[Scalar],
        mut each: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, super::Error> + Send,
    ) -> Result<(), super::Error> {
        self.visit(query, values, &mut |row| each(Record(row)))
            .await
    }

    /// The names of the columns that a query gives, with or without rows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn columns_of(
        &mut self,
        query: &str,
        values: &[Scalar],
    ) -> Result<Vec<String>, super::Error> {
        if let Connection::Sqlite { connection, .. } = &mut self.connection {
            // It would give columns of one name different ones in what follows.
            let statement = trusted(query.to_owned()).into_sql_str();
            let prepared = self.database.in_time(connection.prepare(statement)).await?;
            let columns = prepared.columns().iter();
            return Ok(columns.map(|column| column.name().to_owned()).collect());
        }
        let query = format!(
            "SELECT listed.* FROM (SELECT 1 AS one) AS one LEFT JOIN (\n{query}\n) AS listed ON 1 = 0"
        );
        let mut names = Vec::new();
        self.records(&query, values, |record| {
            names = record.columns();
            Ok(ControlFlow::Break(()))
        })
        .await?;
        Ok(names)
    }

    /// Has a statement planned without running it, so that what is wrong with it comes to light.
    ///
    /// # Errors
    /// When the database would refuse it.
    pub(crate) async fn explain(
        &mut self,
        statement: &str,
        values: &[Scalar],
    ) -> Result<(), Error> {
        let explain = trusted(format!("EXPLAIN {statement}"));
        match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let explain = sqlx::query_with(explain, record::sqlite_arguments(values));
                let asked = explain.persistent(false).execute(&mut **connection);
                self.database.in_time(asked).await?;
            }
            Connection::Postgres(connection) => {
                let explain = sqlx::query_with(explain, record::postgres_arguments(values));
                // So that what is refused here spoils nothing after it.
                let kept = sqlx::raw_sql("SAVEPOINT lapsed");
                self.database
                    .in_time(kept.execute(&mut **connection))
                    .await?;
                let asked = explain.persistent(false).execute(&mut **connection);
                let explained = self.database.in_time(asked).await;
                let back = sqlx::raw_sql("ROLLBACK TO SAVEPOINT lapsed");
                self.database
                    .in_time(back.execute(&mut **connection))
                    .await?;
                explained?;
            }
        }
        Ok(())
    }

    /// The names of the columns of a table that the role may read; none when there is no such table.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn columns(&mut self, table: &str) -> Result<BTreeSet<String>, super::Error> {
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
        self.records(query, &table, |record| {
            if let Scalar::Text(name) = record.scalar(0) {
                names.insert(name);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(names)
    }

    /// Ends the connection in good order. To drop it is as safe, and leaves a line in the log of
    /// PostgreSQL.
    pub async fn close(self) {
        self.connection.close(self.database.timeout).await;
    }

    async fn visit(
        &mut self,
        query: &str,
        values: &[Scalar],
        each: &mut Each<'_>,
    ) -> Result<(), super::Error> {
        let database = self.database;
        match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let arguments = record::sqlite_arguments(values);
                let mut rows = sqlx::query_with(trusted(query.to_owned()), arguments)
                    .persistent(false)
                    .fetch(&mut **connection);
                let mut count = 0_u32;
                while let Some(row) = database.in_time(rows.try_next()).await? {
                    if each(Row::Sqlite(&row))?.is_break() {
                        break;
                    }
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(BATCH) {
                        // Its thread is always ahead: nobody else in this task would have a turn.
                        tokio::task::yield_now().await;
                    }
                }
                Ok(())
            }
            Connection::Postgres(connection) => {
                fetch_all(database, connection, (query, values), each).await
            }
        }
    }
}

/// Reads through a cursor, so that the time-out is for each batch and not for the whole table.
async fn fetch_all(
    database: &Database,
    connection: &mut PgConnection,
    (query, values): (&str, &[Scalar]),
    each: &mut Each<'_>,
) -> Result<(), super::Error> {
    // Unnamed statements: named ones are left behind at a pooler. The one that gives rows needs a name,
    // because sqlx asks for types that it does not know in between, and is closed in the end.
    let declare = trusted(format!("DECLARE lapsed NO SCROLL CURSOR FOR\n{query}"));
    let declare = sqlx::query_with(declare, record::postgres_arguments(values)).persistent(false);
    database.in_time(declare.execute(&mut *connection)).await?;
    let fetch = format!("FETCH {BATCH} FROM lapsed");
    loop {
        let mut rows = sqlx::query(trusted(fetch.clone())).fetch(&mut *connection);
        let mut count = 0;
        let mut wanted = true;
        while let Some(row) = database.in_time(rows.try_next()).await? {
            count += 1;
            if wanted {
                wanted = each(Row::Postgres(&row))?.is_continue();
            }
        }
        drop(rows);
        if count < BATCH || !wanted {
            break;
        }
    }
    let close = sqlx::query("CLOSE lapsed").persistent(false);
    database.in_time(close.execute(&mut *connection)).await?;
    database
        .in_time(connection.clear_cached_statements())
        .await?;
    Ok(())
}

/// A statement as sqlx wants it: it is ours, or the operator's own.
#[expect(
    clippy::disallowed_types,
    reason = "the statements of the configuration are run as they are written there"
)]
fn trusted(statement: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(statement)
}
