//! The few statements that write, where an operator configured some: each in a transaction of its own.

use sqlx::Executor as _;

use super::record::{Scalar, postgres_arguments, sqlite_arguments};
use super::{Connection, Database, Error, trusted};

/// A database that is being written to.
pub(crate) struct Writing<'a> {
    database: &'a Database,
    connection: Connection,
}

impl Database {
    /// Opens it for writing. It is never created.
    ///
    /// # Errors
    /// When it is away, or does not let us in.
    pub(crate) async fn write(&self) -> Result<Writing<'_>, Error> {
        Ok(Writing {
            database: self,
            connection: self.connect(false).await?,
        })
    }

    /// Takes back what a program that was killed left half written, as SQLite does for whoever may write.
    ///
    /// # Errors
    /// When it is away, or does not let us in.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let mut writing = self.write().await?;
        writing.plain("BEGIN IMMEDIATE").await?;
        writing.plain("ROLLBACK").await?;
        writing.close().await;
        Ok(())
    }
}

impl Writing<'_> {
    /// Whether it is SQLite rather than PostgreSQL.
    pub fn is_sqlite(&self) -> bool {
        self.database.is_sqlite()
    }

    /// Runs a statement; keeps what it did only if the number of rows is right. Tells the number.
    ///
    /// # Errors
    /// When the database refuses it, or is away.
    pub async fn execute(
        &mut self,
        statement: &str,
        values: &[Scalar],
        is_right: impl FnOnce(u64) -> bool,
    ) -> Result<u64, Error> {
        let done = self.run(statement, values).await;
        if let Ok(affected) = done
            && is_right(affected)
        {
            let kept = self.plain("COMMIT").await;
            kept.map_err(|error| match error {
                error if error.is_transient() => Error::Unkept(Box::new(error)),
                // It said no.
                error => error,
            })?;
        } else {
            // A connection that breaks here ends the transaction as well.
            let _ = self.plain("ROLLBACK").await;
        }
        done
    }

    async fn run(&mut self, statement: &str, values: &[Scalar]) -> Result<u64, Error> {
        let database = self.database;
        let statement = trusted(statement.to_owned());
        match &mut self.connection {
            Connection::Sqlite { .. } => self.plain("BEGIN IMMEDIATE").await?,
            Connection::Postgres(_) => {
                self.plain("BEGIN READ WRITE").await?;
                self.limit().await?;
            }
        }
        match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let query = sqlx::query_with(statement, sqlite_arguments(values));
                let done = query.persistent(false).execute(&mut **connection);
                Ok(database.in_time(done).await?.rows_affected())
            }
            Connection::Postgres(connection) => {
                let query = sqlx::query_with(statement, postgres_arguments(values));
                let done = query.persistent(false).execute(&mut **connection);
                Ok(database.in_time(done).await?.rows_affected())
            }
        }
    }

    /// The time-out of the transaction, and its zone.
    async fn limit(&mut self) -> Result<(), Error> {
        if let Connection::Postgres(connection) = &mut self.connection {
            self.database.limit(connection).await?;
        }
        Ok(())
    }

    async fn plain(&mut self, statement: &'static str) -> Result<(), Error> {
        let database = self.database;
        match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let done = connection.execute(sqlx::raw_sql(statement));
                database.in_time(done).await.map(drop)
            }
            Connection::Postgres(connection) => {
                let done = connection.execute(sqlx::raw_sql(statement));
                database.in_time(done).await.map(drop)
            }
        }
    }

    /// Ends the connection in good order.
    pub async fn close(self) {
        self.connection.close(self.database.timeout).await;
    }
}
