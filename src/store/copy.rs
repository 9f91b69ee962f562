//! Copies a store table by table into a store on the other database, and compares what arrived.

use std::path::Path;

use chrono::{DateTime, SubsecRound, Utc};
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::{Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::schema::SCHEMA_MIN;
use super::{Access, Error, Result, Store, Tx, guarded, on};

/// Every table of the schema.
pub const TABLES: [&str; 26] = [
    "meta",
    "source",
    "source_admin",
    "token",
    "token_owner",
    "plan",
    "mail",
    "notice",
    "address",
    "directory",
    "identity",
    "finding",
    "run",
    "lease",
    "replica",
    "service_account",
    "service_user",
    "service_role",
    "credential",
    "change",
    "token_use",
    "token_address",
    "idempotency",
    "sign_in_link",
    "preference",
    "audit",
];

/// A copy lacks their rows: an answer to a request is for its caller alone, and a link signs in once.
pub(super) const NOT_COPIED: [&str; 2] = ["idempotency", "sign_in_link"];

/// Rows per statement: the widest table has fewer than 60 columns, and SQLite takes 32,766 parameters.
const ROWS_PER_INSERT: usize = 500;

/// The type of a column. The two databases store the same type differently.
#[derive(Clone, Copy)]
enum Kind {
    Id,
    Instant,
    Flag,
    Number,
    Text,
}

impl Kind {
    fn from_postgres(data_type: &str) -> Result<Self> {
        Ok(match data_type {
            "uuid" => Self::Id,
            "timestamp with time zone" => Self::Instant,
            "boolean" => Self::Flag,
            "bigint" => Self::Number,
            "text" => Self::Text,
            other => {
                let error = format!("lapsed does not copy columns of the type {other}");
                return Err(Error::Inconsistent(sqlx::Error::Decode(error.into())));
            }
        })
    }
}

struct Column {
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Value {
    Id(Option<Uuid>),
    Instant(Option<DateTime<Utc>>),
    Flag(Option<bool>),
    Number(Option<i64>),
    Text(Option<String>),
}

macro_rules! read_value {
    ($row:expr, $index:expr, $kind:expr) => {
        match $kind {
            Kind::Id => $row.try_get($index).map(Value::Id),
            // PostgreSQL stores microseconds.
            Kind::Instant => $row
                .try_get($index)
                .map(|at: Option<DateTime<Utc>>| Value::Instant(at.map(|at| at.trunc_subsecs(6)))),
            Kind::Flag => $row.try_get($index).map(Value::Flag),
            Kind::Number => $row.try_get($index).map(Value::Number),
            Kind::Text => $row.try_get($index).map(Value::Text),
        }
    };
}

/// The number of rows of a table, and the sum of their hashes, which does not depend on their order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Checksum {
    rows: u64,
    sum: u128,
}

impl Checksum {
    fn add(&mut self, row: &[Value]) {
        let hash = Sha256::digest(format!("{row:?}"));
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
    }
}

impl Store {
    /// Copies the store into a new SQLite file in `folder`, for work that must leave no trace. Takes no lock that a
    /// writer waits for.
    pub async fn copy_to_scratch(&self, folder: &Path) -> Result<Self> {
        let file = folder.join("scratch.db");
        if self.is_sqlite() {
            self.backup(&file).await?;
        }
        let url = format!("sqlite://{}", file.display());
        let scratch = Self::open(&url, Access::Scratch).await?;
        let mut tx = scratch.begin().await?;
        if !self.is_sqlite() {
            tx.clear_setting(SCHEMA_MIN).await?;
            copy_tables(&mut self.begin_read().await?, &mut tx, &mut |_| ()).await?;
        }
        // Their holders work on this store, not on the copy.
        tx.delete_leases().await?;
        tx.commit().await?;
        Ok(scratch)
    }
}

/// Setting: where the store was moved to.
const MOVED_TO: &str = "moved_to";

impl Store {
    /// Copies everything into an empty store on the other database, and marks this one as moved. No other process can
    /// write to either meanwhile. `on_rows` gets the number of rows copied since its last call.
    pub async fn move_to(&self, to: &Self, on_rows: &mut (impl FnMut(u64) + Send)) -> Result<()> {
        if self.is_sqlite() && to.is_sqlite() {
            return Err(Error::NotMoved(
                "both are SQLite files; stop lapsed, and move the file",
            ));
        }
        let mut to_tx = to.begin().await?;
        // The schema wrote it, and the same value is copied.
        to_tx.clear_setting(SCHEMA_MIN).await?;
        for table in TABLES {
            if to_tx.has_rows(table).await? {
                return Err(Error::NotMoved("the other store is not empty"));
            }
        }
        let mut from_tx = self.begin().await?;
        from_tx.lock_tables().await?;
        if from_tx.has_mails_in_flight().await? {
            return Err(Error::NotMoved(
                "mails are being sent; stop lapsed, or wait until they are sent",
            ));
        }
        to_tx.lock_tables().await?;
        copy_tables(&mut from_tx, &mut to_tx, on_rows).await?;
        to_tx.delete_leases().await?;
        to_tx.delete_replicas().await?;
        to_tx.clear_setting(MOVED_TO).await?;
        to_tx.commit().await?;
        from_tx.set_setting(MOVED_TO, &to.place()).await?;
        from_tx.commit().await
    }

    /// Fails if the store was moved, or upgraded so far that this program may not use it. Where that cannot be read, the
    /// statements report what is wrong.
    pub async fn check_usable(&self) -> Result<()> {
        let check = async { self.begin_short_read().await?.check_usable().await };
        match check.await {
            Err(refused @ (Error::Moved(_) | Error::Newer { .. })) => Err(refused),
            _ => Ok(()),
        }
    }
}

impl Tx {
    /// Fails if the store was moved, because another process sends its mails, or if its schema is newer and its setting
    /// `schema_min` does not allow this program.
    pub async fn check_usable(&mut self) -> Result<()> {
        let mut settings = self.load_settings(&[MOVED_TO, SCHEMA_MIN]).await?;
        if let Some(place) = settings.remove(MOVED_TO) {
            return Err(Error::Moved(place));
        }
        let needed = settings
            .get(SCHEMA_MIN)
            .and_then(|version| version.parse().ok());
        if needed.is_some_and(|needed: i64| needed <= self.known_version()) {
            return Ok(());
        }
        self.refuse_newer_schema().await
    }

    /// Lets no other process write until the transaction ends; on SQLite that is always so.
    async fn lock_tables(&mut self) -> Result<()> {
        if let Self::Postgres(session) = self {
            let tables = TABLES.join(", ");
            let sql = format!("LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE");
            let mut lock = QueryBuilder::<Postgres>::new(sql);
            guarded!(session, c => lock.build().execute(c).await)?;
        }
        Ok(())
    }

    async fn has_mails_in_flight(&mut self) -> Result<bool> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM mail WHERE state IN ('claimed', 'sending'))")
            .fetch_one(c).await)
    }

    async fn has_rows(&mut self, table: &str) -> Result<bool> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        on!(self, c: Db => QueryBuilder::<Db>::new(sql).build_query_scalar().fetch_one(c).await)
    }

    async fn clear_setting(&mut self, key: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM meta WHERE key = $1")
            .bind(key).execute(c).await.map(drop))
    }

    async fn delete_leases(&mut self) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM lease").execute(c).await.map(drop))
    }

    async fn delete_replicas(&mut self) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM replica").execute(c).await.map(drop))
    }

    /// Allows statements that take as long as a large table does.
    async fn lift_time_limit(&mut self) -> Result<()> {
        if let Self::Postgres(session) = self {
            for sql in [
                "SET LOCAL statement_timeout = 0",
                "SET LOCAL idle_in_transaction_session_timeout = 0",
            ] {
                guarded!(session, c => sqlx::query(sql).execute(c).await)?;
            }
            session.lift_limit();
        }
        Ok(())
    }

    /// The names of the columns of a table, on SQLite.
    async fn find_column_names(&mut self, table: &str) -> Result<Vec<String>> {
        let Self::Sqlite(tx) = self else {
            return Ok(Vec::new());
        };
        let names = sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(table);
        Ok(names.fetch_all(&mut **tx).await?)
    }

    /// Those columns of a table, on PostgreSQL, whose types are more precise.
    async fn find_columns(&mut self, table: &str, names: &[String]) -> Result<Vec<Column>> {
        let Self::Postgres(session) = self else {
            return Ok(Vec::new());
        };
        let query = sqlx::query_as(
            "SELECT column_name::text, data_type::text FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position",
        );
        let rows: Vec<(String, String)> =
            guarded!(session, c => query.bind(table).fetch_all(c).await)?;
        rows.into_iter()
            .filter(|(name, _)| names.contains(name))
            .map(|(name, data_type)| {
                let kind = Kind::from_postgres(&data_type)?;
                Ok(Column { name, kind })
            })
            .collect()
    }

    /// Passes on all rows of a table in pages, and returns their checksum.
    async fn read_table(
        &mut self,
        table: &str,
        columns: &[Column],
        mut on_page: impl AsyncFnMut(&[Vec<Value>]) -> Result<()>,
    ) -> Result<Checksum> {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let sql = format!("SELECT {} FROM {table}", names.join(", "));
        let mut checksum = Checksum::default();
        let mut page = Vec::with_capacity(ROWS_PER_INSERT);
        on!(self, c: Db => {
            let mut select = QueryBuilder::<Db>::new(sql);
            let mut rows = select.build().fetch(c);
            let read = async {
                while let Some(row) = rows.try_next().await? {
                    let values = columns.iter().enumerate();
                    let values: sqlx::Result<Vec<_>> =
                        values.map(|(index, column)| read_value!(row, index, column.kind)).collect();
                    let values = values?;
                    checksum.add(&values);
                    page.push(values);
                    if page.len() == ROWS_PER_INSERT {
                        on_page(&page).await?;
                        page.clear();
                    }
                }
                on_page(&page).await
            };
            read.await
        })?;
        Ok(checksum)
    }

    async fn insert_rows(
        &mut self,
        table: &str,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        on!(self, c: Db => {
            let mut query =
                QueryBuilder::<Db>::new(format!("INSERT INTO {table} ({}) ", names.join(", ")));
            query.push_values(rows, |mut out, row| {
                for value in row {
                    match value {
                        Value::Id(id) => out.push_bind(*id),
                        Value::Instant(at) => out.push_bind(*at),
                        Value::Flag(flag) => out.push_bind(*flag),
                        Value::Number(number) => out.push_bind(*number),
                        Value::Text(text) => out.push_bind(text.as_deref()),
                    };
                }
            });
            query.build().execute(c).await.map(drop)
        })
    }
}

/// Copies every table, reads the copy again and compares it. One of the two stores must be on PostgreSQL. `on_rows`
/// gets the number of rows copied since its last call.
pub(super) async fn copy_tables(
    from: &mut Tx,
    to: &mut Tx,
    on_rows: &mut (impl FnMut(u64) + Send),
) -> Result<()> {
    from.lift_time_limit().await?;
    to.lift_time_limit().await?;
    for table in TABLES
        .into_iter()
        .filter(|table| !NOT_COPIED.contains(table))
    {
        // A newer lapsed may have added columns to the original.
        let columns = match from {
            Tx::Postgres(_) => {
                let names = to.find_column_names(table).await?;
                from.find_columns(table, &names).await?
            }
            Tx::Sqlite(_) => {
                let names = from.find_column_names(table).await?;
                to.find_columns(table, &names).await?
            }
        };
        let copy = async |rows: &[Vec<Value>]| {
            to.insert_rows(table, &columns, rows).await?;
            on_rows(rows.len() as u64);
            Ok(())
        };
        let read = from.read_table(table, &columns, copy).await?;
        let written = to.read_table(table, &columns, async |_| Ok(())).await?;
        if read != written {
            return Err(Error::CopyDiffers(table));
        }
    }
    to.continue_change_ids().await
}
