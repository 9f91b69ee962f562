//! Links by which people sign in. Only hashes are stored.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::people::{lost_before, lost_statuses};
use super::{Result, Tx, on};

/// Digests are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct SignInLink {
    pub digest: String,
    pub user_key: String,
    /// Of the cookie of the browser that asked; `None` for a link of the command line.
    pub browser: Option<String>,
    /// What that browser shows.
    pub number: Option<String>,
    /// Wrong numbers.
    pub failures: i64,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub used_at: Option<DateTime<Utc>>,
}

impl Tx {
    pub async fn insert_sign_in_link(&mut self, link: &SignInLink) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO sign_in_link (digest, user_key, browser, number, failures, created_at, expires_at, used_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(&link.digest).bind(&link.user_key).bind(&link.browser).bind(&link.number).bind(link.failures)
            .bind(link.created_at).bind(link.expires_at).bind(link.used_at).execute(c).await.map(drop))
    }

    pub async fn find_sign_in_link(&mut self, digest: &str) -> Result<Option<SignInLink>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM sign_in_link WHERE digest = $1")
            .bind(digest).fetch_optional(c).await)
    }

    /// How many links a browser has asked for, for this user, since `since`.
    pub async fn count_sign_in_links(&mut self, user: &str, since: DateTime<Utc>) -> Result<i64> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT COUNT(*) FROM sign_in_link WHERE user_key = $1 AND created_at > $2 AND browser IS NOT NULL")
            .bind(user).bind(since).fetch_one(c).await)
    }

    /// Returns `false` if it was used before.
    pub async fn use_sign_in_link(&mut self, digest: &str, now: DateTime<Utc>) -> Result<bool> {
        let used = on!(self, c: Db => sqlx::query(
            "UPDATE sign_in_link SET used_at = $2 WHERE digest = $1 AND used_at IS NULL")
            .bind(digest).bind(now).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(used > 0)
    }

    /// Counts a wrong number.
    pub async fn fail_sign_in_link(&mut self, digest: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE sign_in_link SET failures = failures + 1 WHERE digest = $1")
            .bind(digest).execute(c).await.map(drop))
    }

    /// Whether a directory says that this person has lost access.
    pub async fn has_lost_access(&mut self, key: &str) -> Result<bool> {
        let first: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT 1 FROM identity i WHERE i.email_key = $1 AND ", lost_before!(), " LIMIT 1"))
            .bind(key).fetch_optional(c).await)?;
        Ok(first.is_some())
    }
}
