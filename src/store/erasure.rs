//! Erases what is known of a person: a pseudonym replaces their address in every column that can hold it.

use std::time::Instant;

use sqlx::QueryBuilder;

use super::notices::unsent;
use super::open::LOCK_TIMEOUT;
use super::{Pools, Result, Store, Tx, on};
use crate::domain::{Address, IdentityStatus, Status};

/// How many rows changed, and how many unsent notices to the person were cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    pub rows: u64,
    pub cancelled: u64,
}

/// The columns that can hold an address, by table.
pub const TEXT_COLUMNS: &[(&str, &[&str])] = &[
    ("meta", &["key", "value"]),
    ("source", &["fingerprint", "error", "max_life_evidence"]),
    ("source_admin", &["account", "address"]),
    (
        "token",
        &[
            "external_id",
            "name",
            "description",
            "issuer",
            "issuer_key",
            "issuer_name",
            "issuer_gone",
            "account",
            "role",
            "scope",
        ],
    ),
    ("mail", &["recipient", "recipient_key", "reason"]),
    (
        "notice",
        &[
            "subject",
            "recipient",
            "recipient_key",
            "reason",
            "title",
            "detail",
        ],
    ),
    ("address", &["key", "reason"]),
    (
        "directory",
        &["error", "groups", "cursor", "held", "held_changes"],
    ),
    (
        "identity",
        &[
            "email_key",
            "email",
            "account_id",
            "name",
            "evidence",
            "candidate_evidence",
        ],
    ),
    ("finding", &["evidence"]),
    ("run", &["outcome", "report"]),
    ("audit", &["actor", "subject", "reason"]),
];

impl Tx {
    /// Whether a mail to the person is being delivered, or may have arrived and is sent again.
    pub async fn has_mail_in_flight(&mut self, key: &str) -> Result<bool> {
        let first: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT 1 FROM mail WHERE recipient_key = $1 AND state IN ('claimed', 'sending', 'unknown') LIMIT 1")
            .bind(key).fetch_optional(c).await)?;
        Ok(first.is_some())
    }

    /// Source and status of the tokens that name the person, as issuer or in a text.
    pub async fn list_tokens_naming(&mut self, key: &str) -> Result<Vec<(String, Status)>> {
        let sql = self.by_database(
            "SELECT DISTINCT source, status FROM token WHERE issuer_key = $1 OR INSTR(LOWER(
                external_id || ' ' || name || ' ' || COALESCE(description, '') || ' ' || COALESCE(scope, '')), $1) > 0",
            "SELECT DISTINCT source, status FROM token WHERE issuer_key = $1 OR STRPOS(LOWER(
                external_id || ' ' || name || ' ' || COALESCE(description, '') || ' ' || COALESCE(scope, '')), $1) > 0",
        );
        on!(self, c: Db => sqlx::query_as(sql).bind(key).fetch_all(c).await)
    }

    /// Sources that report the person as an administrator of an account.
    pub async fn list_sources_of_admin(&mut self, key: &str) -> Result<Vec<String>> {
        on!(self, c: Db => sqlx::query_scalar("SELECT DISTINCT source FROM source_admin WHERE LOWER(address) = $1")
            .bind(key).fetch_all(c).await)
    }

    /// Directories with the person's status there, and the last clear one.
    pub async fn list_statuses_of(
        &mut self,
        key: &str,
    ) -> Result<Vec<(String, IdentityStatus, IdentityStatus)>> {
        on!(self, c: Db => sqlx::query_as("SELECT directory, status, known_status FROM identity WHERE email_key = $1")
            .bind(key).fetch_all(c).await)
    }

    /// Cancels what is unsent to the person, deletes what directories and mail servers reported about them, and
    /// replaces their address everywhere else.
    pub async fn erase_person(&mut self, person: &Address, pseudonym: &str) -> Result<Erased> {
        let key = person.key();
        let reason = "the recipient was erased";
        let cancelled = on!(self, c: Db => sqlx::query(concat!(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $2 WHERE recipient_key = $1 AND ", unsent!()))
            .bind(key).bind(reason).execute(c).await.map(|done| done.rows_affected()))?;
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET state = 'cancelled', reason = $2 WHERE recipient_key = $1 AND state IN ('open', 'waiting')")
            .bind(key).bind(reason).execute(c).await.map(drop))?;
        let mut rows = 0;
        for sql in [
            "DELETE FROM identity WHERE email_key = $1",
            "DELETE FROM address WHERE key = $1",
            "DELETE FROM source_admin WHERE LOWER(address) = $1",
        ] {
            rows += on!(self, c: Db => sqlx::query(sql).bind(key).execute(c).await.map(|done| done.rows_affected()))?;
        }
        // Without an address no one is mailed, and no directory is asked.
        rows += on!(self, c: Db => sqlx::query(
            "UPDATE token SET issuer = NULL, issuer_key = NULL, issuer_name = $2 WHERE issuer_key = $1")
            .bind(key).bind(pseudonym).execute(c).await.map(|done| done.rows_affected()))?;
        for (table, columns) in TEXT_COLUMNS {
            for column in *columns {
                rows += self
                    .replace_in_column(table, column, person, pseudonym)
                    .await?;
            }
        }
        Ok(Erased { rows, cancelled })
    }

    async fn replace_in_column(
        &mut self,
        table: &str,
        column: &str,
        person: &Address,
        pseudonym: &str,
    ) -> Result<u64> {
        let position = self.by_database("INSTR", "STRPOS");
        let texts: Vec<String> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(format!(
                "SELECT DISTINCT {column} FROM {table} WHERE {position}(LOWER({column}), "));
            query.push_bind(person.key()).push(") > 0");
            query.build_query_scalar().fetch_all(c).await
        })?;
        let mut rows = 0;
        for text in texts {
            let replaced = person.replace_in(&text, pseudonym);
            if replaced != text {
                rows += on!(self, c: Db => {
                    let mut query = QueryBuilder::<Db>::new(format!("UPDATE {table} SET {column} = "));
                    query.push_bind(replaced).push(format!(" WHERE {column} = ")).push_bind(text);
                    query.build().execute(c).await.map(|done| done.rows_affected())
                })?;
            }
        }
        Ok(rows)
    }
}

impl Store {
    /// Empties SQLite's write-ahead log, which holds earlier versions of pages. Returns `false` if readers of the store
    /// prevent that for too long.
    pub async fn empty_log(&self) -> Result<bool> {
        let Pools::Sqlite { write, .. } = &self.0 else {
            return Ok(true);
        };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(write)
                .await?;
            if busy == 0 || Instant::now() >= deadline {
                return Ok(busy == 0);
            }
            tokio::time::sleep(super::open::OPEN_RETRY_INTERVAL).await;
        }
    }
}
