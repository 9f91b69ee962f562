//! Runs an operator's statements that write, each in its own transaction.

use sqlx::Executor as _;

use super::record::{Scalar, postgres_arguments, sqlite_arguments};
use super::{Connection, Database, Error, trust};

pub(crate) struct WriteConnection<'a> {
    database: &'a Database,
    connection: Connection,
}

impl Database {
    /// Opens the database for writing, but never creates it.
    pub(crate) async fn open_for_writing(&self) -> Result<WriteConnection<'_>, Error> {
        Ok(WriteConnection {
            database: self,
            connection: self.connect(false).await?,
        })
    }

    /// Rolls back an interrupted write of a killed program, as SQLite does on connections with write access.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let mut writing = self.open_for_writing().await?;
        writing.run_plain("BEGIN IMMEDIATE").await?;
        writing.run_plain("ROLLBACK").await?;
        writing.close().await;
        Ok(())
    }
}

impl WriteConnection<'_> {
    pub fn is_sqlite(&self) -> bool {
        self.database.is_sqlite()
    }

    /// Runs a statement, and commits it only if `is_right` accepts the number of affected rows. Returns that
    /// number.
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
            let committed = self.run_plain("COMMIT").await;
            committed.map_err(|error| match error {
                error if error.is_transient() => Error::CommitUnknown(Box::new(error)),
                // The database refused to commit.
                error => error,
            })?;
        } else {
            // A connection that breaks here also ends the transaction.
            let _ = self.run_plain("ROLLBACK").await;
        }
        done
    }

    async fn run(&mut self, statement: &str, values: &[Scalar]) -> Result<u64, Error> {
        let database = self.database;
        let statement = trust(statement.to_owned());
        let begin = match self.connection {
            Connection::Sqlite { .. } => "BEGIN IMMEDIATE",
            Connection::Postgres(_) => "BEGIN READ WRITE",
        };
        self.run_plain(begin).await?;
        let affected = match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let query = sqlx::query_with(statement, sqlite_arguments(values));
                let done = query.persistent(false).execute(&mut **connection);
                database.with_timeout(done).await?.rows_affected()
            }
            Connection::Postgres(connection) => {
                database.set_limits(connection).await?;
                let query = sqlx::query_with(statement, postgres_arguments(values));
                let done = query.persistent(false).execute(&mut **connection);
                database.with_timeout(done).await?.rows_affected()
            }
        };
        Ok(affected)
    }

    async fn run_plain(&mut self, statement: &'static str) -> Result<(), Error> {
        let database = self.database;
        match &mut self.connection {
            Connection::Sqlite { connection, .. } => {
                let done = connection.execute(sqlx::raw_sql(statement));
                database.with_timeout(done).await.map(drop)
            }
            Connection::Postgres(connection) => {
                let done = connection.execute(sqlx::raw_sql(statement));
                database.with_timeout(done).await.map(drop)
            }
        }
    }

    pub async fn close(self) {
        self.connection.close(self.database.timeout).await;
    }
}
