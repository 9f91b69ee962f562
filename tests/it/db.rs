//! A separate database for each test, on SQLite and on PostgreSQL.
//!
//! `LAPSED_TEST_POSTGRES` is the URL of a superuser on a throw-away server. Without it, the first test
//! that needs a server starts one with `tests/tools/postgres`; a watcher stops it when this process ends
//! for whatever reason. No test is ever skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

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
    pub async fn empty(self) -> Fresh {
        let folder = tempfile::tempdir().unwrap();
        let (url, name) = match self {
            Self::Sqlite => (sqlite_url(&folder.path().join("lapsed.db")), None),
            Self::Postgres => {
                let name = fresh_name();
                // Not in byte order, as on most servers.
                administer(&format!(
                    "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'
                     LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
                ))
                .await;
                (database_url(&name), Some(name))
            }
        };
        Fresh {
            db: self,
            url,
            folder,
            name,
        }
    }

    /// An empty store with the current schema, and its database.
    pub async fn store(self) -> (Store, Fresh) {
        let fresh = self.empty().await;
        (fresh.open(Access::Create).await, fresh)
    }
}

/// A database that is dropped after the test.
pub struct Fresh {
    pub db: Db,
    pub url: String,
    folder: tempfile::TempDir,
    name: Option<String>,
}

impl Fresh {
    pub async fn open(&self, access: Access) -> Store {
        Store::open(&self.url, access).await.unwrap()
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

impl Drop for Fresh {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        // A destructor cannot block on the runtime that is running it.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(administer(&format!("DROP DATABASE {name} WITH (FORCE)")));
        });
        let outcome = dropping.join();
        if !std::thread::panicking() {
            outcome.unwrap();
        }
    }
}

pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nth = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("lapsed_it_{}_{nth}", std::process::id())
}

/// Runs a statement on the server's default database.
async fn administer(sql: &str) {
    let mut server = PgConnection::connect(server()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(&mut server)
        .await
        .unwrap();
    server.close().await.unwrap();
}

fn database_url(name: &str) -> String {
    let mut url: url::Url = server().parse().unwrap();
    url.set_path(name);
    url.into()
}

/// The URL of the server that the tests of this process share.
pub fn server() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("LAPSED_TEST_POSTGRES")
            .ok()
            .filter(|url| !url.is_empty())
            .unwrap_or_else(start)
    })
}

/// Starts a server, and beside it a watcher that stops it when this process has gone.
fn start() -> String {
    let control = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/postgres");
    let home: PathBuf = tempfile::Builder::new()
        .prefix("lapsed-it-")
        .tempdir()
        .unwrap()
        .keep();
    let cluster = home.join("cluster");
    watch(&control, &home, &cluster);
    let started = Command::new(&control)
        .arg("start")
        .arg(&cluster)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&started.stderr);
    assert!(
        started.status.success(),
        "no PostgreSQL to test on: {stderr}; install postgresql, or set LAPSED_TEST_POSTGRES"
    );
    String::from_utf8(started.stdout).unwrap().trim().to_owned()
}

/// The watcher reads from a pipe without data, which closes when this process ends, even if it is killed.
/// Then it stops the server and removes its folder.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn watch(control: &Path, home: &Path, cluster: &Path) {
    const SCRIPT: &str =
        r#"trap '' INT HUP; cat >/dev/null; "$1" stop "$3" >/dev/null 2>&1; rm -rf "$2""#;
    let mut watcher = Command::new("sh");
    watcher
        .args(["-c", SCRIPT, "sh"])
        .arg(control)
        .arg(home)
        .arg(cluster);
    // The watcher must not keep pipes of the test run open.
    watcher
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut watcher = watcher.spawn().unwrap();
    let mut pipe = watcher.stdin.take().unwrap();
    pipe.flush().unwrap();
    // The system closes it when this process ends.
    std::mem::forget(pipe);
}
