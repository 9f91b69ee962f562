//! Runs the statements of the configuration that write, each in its own transaction.

use super::record::Scalar;
use super::{Connection, Database, Error, Mode};

pub(crate) struct WriteConnection<'a> {
    database: &'a Database,
    connection: Connection,
}

impl Database {
    /// Opens the database for writing, but never creates it.
    pub(crate) async fn open_for_writing(&self) -> Result<WriteConnection<'_>, Error> {
        Ok(WriteConnection {
            database: self,
            connection: self.connect(Mode::ReadWrite).await?,
        })
    }

    /// Makes SQLite roll back what a killed program left half written. SQLite does so when a connection with
    /// write access begins a transaction; a read-only one cannot.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let mut connection = self.open_for_writing().await?;
        connection.run("BEGIN IMMEDIATE").await?;
        connection.run("ROLLBACK").await?;
        connection.close().await;
        Ok(())
    }
}

impl WriteConnection<'_> {
    pub fn is_sqlite(&self) -> bool {
        self.database.is_sqlite()
    }

    /// Runs a statement, and commits it only if `accept` returns true for the number of affected rows. Returns
    /// that number.
    pub async fn execute(
        &mut self,
        statement: &str,
        values: &[Scalar],
        accept: impl FnOnce(u64) -> bool,
    ) -> Result<u64, Error> {
        let result = self.change(statement, values).await;
        if let Ok(affected) = result
            && accept(affected)
        {
            self.run("COMMIT").await.map_err(|error| {
                if error.is_transient() {
                    Error::CommitUnknown(Box::new(error))
                } else {
                    // The database refused to commit.
                    error
                }
            })?;
        } else {
            // If the rollback fails, the connection is broken, and the database rolls back.
            let _ = self.run("ROLLBACK").await;
        }
        result
    }

    async fn change(&mut self, statement: &str, values: &[Scalar]) -> Result<u64, Error> {
        let begin = if self.is_sqlite() {
            "BEGIN IMMEDIATE"
        } else {
            "BEGIN READ WRITE"
        };
        self.run(begin).await?;
        let database = self.database;
        let connection = &mut self.connection;
        database.set_transaction_settings(connection).await?;
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
