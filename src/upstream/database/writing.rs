//! Runs an operator's statements that write, each in its own transaction.

use super::record::Scalar;
use super::{Connection, Database, Error};

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
        writing.run("BEGIN IMMEDIATE").await?;
        writing.run("ROLLBACK").await?;
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
        let done = self.change(statement, values).await;
        if let Ok(affected) = done
            && is_right(affected)
        {
            let committed = self.run("COMMIT").await;
            committed.map_err(|error| match error {
                error if error.is_transient() => Error::CommitUnknown(Box::new(error)),
                // The database refused to commit.
                error => error,
            })?;
        } else {
            // A connection that breaks here also ends the transaction.
            let _ = self.run("ROLLBACK").await;
        }
        done
    }

    async fn change(&mut self, statement: &str, values: &[Scalar]) -> Result<u64, Error> {
        let begin = if self.is_sqlite() {
            "BEGIN IMMEDIATE"
        } else {
            "BEGIN READ WRITE"
        };
        self.run(begin).await?;
        let (database, connection) = (self.database, &mut self.connection);
        database.set_limits(connection).await?;
        database
            .execute(connection, statement.to_owned(), values)
            .await
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), Error> {
        self.database.run(&mut self.connection, statement).await
    }

    pub async fn close(self) {
        self.connection.close(self.database.timeout).await;
    }
}
