//! A separate database for each test, on SQLite and on PostgreSQL.

#[path = "../support/postgres.rs"]
mod postgres;

use std::path::Path;

use lapsed::store::{Access, POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, Store};
use sqlx::{Connection, PgConnection, SqliteConnection};

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Db {
    Sqlite,
    Postgres,
}

impl Db {
    /// As in names of folders and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// An empty database.
    pub fn empty(self) -> Fresh {
        let folder = tempfile::tempdir().unwrap();
        let (url, postgres) = match self {
            Self::Sqlite => (sqlite_url(&folder.path().join("lapsed.db")), None),
            Self::Postgres => {
                let database = postgres::Database::new();
                (database.url(), Some(database))
            }
        };
        Fresh {
            db: self,
            url,
            folder,
            _postgres: postgres,
        }
    }

    /// An empty store with the current schema, and its database.
    pub async fn store(self) -> (Store, Fresh) {
        let fresh = self.empty();
        (fresh.open(Access::Create).await, fresh)
    }
}

/// A database that is dropped after the test.
pub struct Fresh {
    pub db: Db,
    pub url: String,
    folder: tempfile::TempDir,
    _postgres: Option<postgres::Database>,
}

impl Fresh {
    pub async fn open(&self, access: Access) -> Store {
        Store::open(&self.url, access).await.unwrap()
    }

    /// A database that is already there.
    pub fn in_file(file: &Path) -> Self {
        Self {
            db: Db::Sqlite,
            url: sqlite_url(file),
            folder: tempfile::tempdir().unwrap(),
            _postgres: None,
        }
    }

    /// The folder of the SQLite file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs statements directly, for rows that the store cannot write.
    pub async fn execute(&self, sql: &str) -> sqlx::Result<()> {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        match self.db {
            Db::Sqlite => {
                let mut connection = self.sqlite().await?;
                sql.execute(&mut connection).await?;
                connection.close().await
            }
            Db::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await?;
                sql.execute(&mut connection).await?;
                connection.close().await
            }
        }
    }

    /// The rows of a query with one text column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self.db {
            Db::Sqlite => {
                let mut connection = self.sqlite().await.unwrap();
                sqlx::query_scalar(sql)
                    .fetch_all(&mut connection)
                    .await
                    .unwrap()
            }
            Db::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(sql)
                    .fetch_all(&mut connection)
                    .await
                    .unwrap()
            }
        }
    }

    /// Migrates the schema up to this version.
    pub async fn migrate_to(&self, version: i64) {
        match self.db {
            Db::Sqlite => {
                let mut connection = self.sqlite().await.unwrap();
                SQLITE_MIGRATIONS
                    .run_to(version, &mut connection)
                    .await
                    .unwrap();
            }
            Db::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                POSTGRES_MIGRATIONS
                    .run_to(version, &mut connection)
                    .await
                    .unwrap();
            }
        }
    }

    async fn sqlite(&self) -> sqlx::Result<SqliteConnection> {
        SqliteConnection::connect(&format!("{}?mode=rwc", self.url)).await
    }
}

pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}
