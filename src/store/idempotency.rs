//! Answers to requests that a client may repeat.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::domain::TokenId;

use super::{Result, Tx, on};

/// Digests are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct IdempotencyRow {
    /// Of the key and the caller's secret.
    pub key_digest: String,
    pub body_digest: String,
    /// The token that was made, with the number of its secret; `None` until then.
    pub token_id: Option<TokenId>,
    pub secret_number: Option<i64>,
    /// The answer, encrypted with a key that only the caller can make.
    pub sealed: Option<String>,
    pub created_at: DateTime<Utc>,
}

impl Tx {
    /// Returns `false` if there is one with this key.
    pub async fn insert_idempotency(&mut self, row: &IdempotencyRow) -> Result<bool> {
        let inserted = on!(self, c: Db => sqlx::query(
            "INSERT INTO idempotency (key_digest, body_digest, token_id, secret_number, sealed, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (key_digest) DO NOTHING")
            .bind(&row.key_digest).bind(&row.body_digest).bind(row.token_id).bind(row.secret_number).bind(&row.sealed)
            .bind(row.created_at).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(inserted > 0)
    }

    pub async fn find_idempotency(&mut self, key_digest: &str) -> Result<Option<IdempotencyRow>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM idempotency WHERE key_digest = $1")
            .bind(key_digest).fetch_optional(c).await)
    }

    /// Records what was made, and the answer.
    pub async fn settle_idempotency(
        &mut self,
        key_digest: &str,
        token: TokenId,
        secret_number: u32,
        sealed: &str,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE idempotency SET token_id = $2, secret_number = $3, sealed = $4 WHERE key_digest = $1")
            .bind(key_digest).bind(token).bind(i64::from(secret_number)).bind(sealed).execute(c).await.map(drop))
    }

    /// Forgets a request that is too old to be repeated.
    pub async fn delete_idempotency(&mut self, key_digest: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM idempotency WHERE key_digest = $1")
            .bind(key_digest).execute(c).await.map(drop))
    }
}
