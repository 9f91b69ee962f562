//! Whether another connection has changed the store: cheap enough to be asked several times a second.

use std::fmt;

use sqlx::{Connection, SqliteConnection};

use super::{Pools, Result, Store};

/// Notices commits of others, this process's other connections included.
pub struct Watch(Option<SqliteWatch>);

struct SqliteWatch {
    /// Kept, because `data_version` only means something within one connection.
    connection: SqliteConnection,
    version: i64,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").finish()
    }
}

impl Store {
    pub async fn watch(&self) -> Result<Watch> {
        let Pools::Sqlite { read, .. } = &self.0 else {
            return Ok(Watch(None));
        };
        let mut connection = SqliteConnection::connect_with(&read.connect_options()).await?;
        let version = find_data_version(&mut connection).await?;
        Ok(Watch(Some(SqliteWatch {
            connection,
            version,
        })))
    }
}

impl Watch {
    /// Whether the store may have changed since the last call. PostgreSQL cannot say, so it always may.
    pub async fn has_changed(&mut self) -> Result<bool> {
        let Some(watch) = &mut self.0 else {
            return Ok(true);
        };
        let version = find_data_version(&mut watch.connection).await?;
        let has_changed = version != watch.version;
        watch.version = version;
        Ok(has_changed)
    }
}

async fn find_data_version(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(connection)
        .await
}
