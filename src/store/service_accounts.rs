//! The accounts of the token service.

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::domain::service::ServiceAccount;

use super::columns::{impl_from_row, push_list};
use super::{CHUNK_ROWS, Change, Result, Tx, locking, on};

impl_from_row!(ServiceAccount, row => {
    let max_tokens: Option<i64> = row.try_get("max_tokens")?;
    let created_at: DateTime<Utc> = row.try_get("created_at")?;
    Ok(Self {
        key: row.try_get("key")?,
        name: row.try_get("name")?,
        max_tokens: max_tokens.map(|count| u64::try_from(count).unwrap_or(0)),
        created_at,
    })
});

fn encode_limit(max_tokens: Option<u64>) -> Option<i64> {
    max_tokens.map(|count| i64::try_from(count).unwrap_or(i64::MAX))
}

impl Tx {
    /// Returns `false` if there is one with this key.
    pub async fn insert_service_account(&mut self, account: &ServiceAccount) -> Result<bool> {
        let inserted = on!(self, c: Db => sqlx::query(
            "INSERT INTO service_account (key, name, max_tokens, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (key) DO NOTHING")
            .bind(&account.key).bind(&account.name).bind(encode_limit(account.max_tokens)).bind(account.created_at)
            .execute(c).await.map(|done| done.rows_affected()))?;
        Ok(inserted > 0)
    }

    pub async fn find_service_account(&mut self, key: &str) -> Result<Option<ServiceAccount>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM service_account WHERE key = $1")
            .bind(key).fetch_optional(c).await)
    }

    /// In order of their keys.
    pub async fn find_service_accounts(&mut self, keys: &[&str]) -> Result<Vec<ServiceAccount>> {
        self.load_locked_accounts(keys, "").await
    }

    /// Loads an account and locks it until the transaction ends, so that its tokens can be counted.
    pub async fn lock_service_account(&mut self, key: &str) -> Result<Option<ServiceAccount>> {
        Ok(self.lock_service_accounts(&[key]).await?.pop())
    }

    /// As [`Tx::lock_service_account`], in order of their keys.
    pub async fn lock_service_accounts(&mut self, keys: &[&str]) -> Result<Vec<ServiceAccount>> {
        let lock = self.by_database("", " FOR UPDATE");
        self.load_locked_accounts(keys, lock).await
    }

    /// Loads an account that cannot be removed or renamed until the transaction ends; others may hold it, too.
    pub async fn hold_service_account(&mut self, key: &str) -> Result<Option<ServiceAccount>> {
        Ok(self.hold_service_accounts(&[key]).await?.pop())
    }

    /// As [`Tx::hold_service_account`], in order of their keys.
    pub async fn hold_service_accounts(&mut self, keys: &[&str]) -> Result<Vec<ServiceAccount>> {
        let lock = self.by_database("", " FOR SHARE");
        self.load_locked_accounts(keys, lock).await
    }

    async fn load_locked_accounts(
        &mut self,
        keys: &[&str],
        lock: &'static str,
    ) -> Result<Vec<ServiceAccount>> {
        let mut accounts = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK_ROWS) {
            let rows: Vec<ServiceAccount> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT * FROM service_account WHERE key IN (");
                push_list(&mut query, chunk.iter().copied());
                query.push(") ORDER BY key").push(lock);
                query.build_query_as().persistent(chunk.len() == 1).fetch_all(c).await
            })?;
            accounts.extend(rows);
        }
        Ok(accounts)
    }

    /// A page of accounts after the key `after`.
    pub async fn list_service_accounts(
        &mut self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ServiceAccount>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM service_account WHERE key > $1 ORDER BY key LIMIT $2")
            .bind(after.unwrap_or("")).bind(limit).fetch_all(c).await)
    }

    pub async fn set_account_limit(&mut self, key: &str, max_tokens: Option<u64>) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE service_account SET max_tokens = $2 WHERE key = $1")
            .bind(key).bind(encode_limit(max_tokens)).execute(c).await.map(drop))
    }

    /// Gives an account a new name, whose key must be free or its own; its people and tokens follow.
    pub async fn rename_service_account(&mut self, key: &str, new: &ServiceAccount) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE service_account SET key = $2, name = $3 WHERE key = $1")
            .bind(key).bind(&new.key).bind(&new.name).execute(c).await.map(drop))?;
        // Credentials before tokens, and in order, as everywhere, so that no two transactions wait for each other.
        let sql = locking!(
            self,
            "SELECT id FROM credential WHERE account_key = $1 ORDER BY id"
        );
        on!(self, c: Db => sqlx::query(sql).bind(key).fetch_all(c).await.map(drop))?;
        for sql in [
            "UPDATE service_role SET account_key = $2 WHERE account_key = $1",
            "UPDATE credential SET account_key = $2 WHERE account_key = $1",
        ] {
            on!(self, c: Db => sqlx::query(sql).bind(key).bind(&new.key).execute(c).await.map(drop))?;
        }
        on!(self, c: Db => sqlx::query("UPDATE token SET account = $2 WHERE id IN (SELECT id FROM credential WHERE account_key = $1)")
            .bind(&new.key).bind(&new.name).execute(c).await.map(drop))?;
        self.record_change(&Change::Everything).await
    }

    /// Deletes an account with the roles of its people; its tokens have ended before.
    pub async fn remove_service_account(&mut self, key: &str) -> Result<()> {
        for sql in [
            "DELETE FROM service_role WHERE account_key = $1",
            "DELETE FROM service_account WHERE key = $1",
        ] {
            on!(self, c: Db => sqlx::query(sql).bind(key).execute(c).await.map(drop))?;
        }
        self.record_change(&Change::Everything).await
    }
}
