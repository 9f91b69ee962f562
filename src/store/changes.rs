//! The change feed: what changed that verification depends on. Whoever keeps copies in memory reads it.

use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::domain::{Address, TokenId};

use super::{CHUNK_ROWS, Result, Tx, guarded, on};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    Credential(TokenId),
    /// By [`ServicePerson::key`](crate::domain::service::ServicePerson::key).
    User(String),
    Everything,
}

impl Change {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Credential(_) => "credential",
            Self::User(_) => "user",
            Self::Everything => "everything",
        }
    }

    pub fn key(&self) -> String {
        match self {
            Self::Credential(id) => id.to_string(),
            Self::User(key) => key.clone(),
            Self::Everything => String::new(),
        }
    }

    /// Whether this change is the row `stored`, in which the erasure of a person replaced their key.
    pub fn is_stored_as(&self, stored: &Self) -> bool {
        let is_erased = |key: &String| key.starts_with(Address::PSEUDONYM_PREFIX);
        self == stored
            || matches!((self, stored), (Self::User(_), Self::User(key)) if is_erased(key))
    }

    /// One that a newer lapsed wrote counts as a change of everything.
    pub fn from_row(kind: &str, key: String) -> Self {
        match kind {
            "credential" => {
                Uuid::parse_str(&key).map_or(Self::Everything, |id| Self::Credential(TokenId(id)))
            }
            "user" => Self::User(key),
            _ => Self::Everything,
        }
    }
}

impl Tx {
    pub async fn record_change(&mut self, change: &Change) -> Result<()> {
        self.record_changes(std::slice::from_ref(change)).await
    }

    pub async fn record_changes(&mut self, changes: &[Change]) -> Result<()> {
        for chunk in changes.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO change (kind, key) ");
                query.push_values(chunk, |mut row, change| {
                    row.push_bind(change.kind()).push_bind(change.key());
                });
                query.build().persistent(chunk.len() == 1).execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// The changes after an id, in order.
    pub async fn load_changes(&mut self, after: i64) -> Result<Vec<(i64, Change)>> {
        let rows: Vec<(i64, String, String)> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, kind, key FROM change WHERE id > $1 ORDER BY id").bind(after).fetch_all(c).await)?;
        let change = |(id, kind, key): (i64, String, String)| (id, Change::from_row(&kind, key));
        Ok(rows.into_iter().map(change).collect())
    }

    /// Whether a change that was seen is there, or may have been deleted with all before it.
    pub async fn has_change(&mut self, id: i64, change: &Change) -> Result<bool> {
        let next: Option<(i64, String, String)> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, kind, key FROM change WHERE id >= $1 ORDER BY id LIMIT 1").bind(id).fetch_optional(c).await)?;
        let Some((next, kind, key)) = next else {
            return Ok(false);
        };
        if next == id {
            return Ok(change.is_stored_as(&Change::from_row(&kind, key)));
        }
        let first: i64 = on!(self, c: Db => sqlx::query_scalar("SELECT MIN(id) FROM change").fetch_one(c).await)?;
        Ok(first == next)
    }

    /// How many changes there are after an id, and the last id. As long as both stay the same, there is nothing new.
    pub async fn count_changes(&mut self, after: i64) -> Result<(i64, i64)> {
        on!(self, c: Db => sqlx::query_as("SELECT COUNT(*), COALESCE(MAX(id), 0) FROM change WHERE id > $1")
            .bind(after).fetch_one(c).await)
    }

    /// 0 if there is none.
    pub async fn last_change_id(&mut self) -> Result<i64> {
        on!(self, c: Db => sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM change").fetch_one(c).await)
    }

    /// After rows were inserted with their ids, new ones must not repeat them; SQLite sees to that by itself.
    pub(super) async fn continue_change_ids(&mut self) -> Result<()> {
        if let Self::Postgres(session) = self {
            let query = sqlx::query(
                "SELECT setval('change_id', MAX(id)) FROM change HAVING MAX(id) IS NOT NULL",
            );
            guarded!(session, c => query.execute(c).await)?;
        }
        Ok(())
    }
}
