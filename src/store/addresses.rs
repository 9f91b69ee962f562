//! Addresses that a mail server refused, and those that count as dead.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::Address;
use crate::time::shift;

use super::columns::push_list;
use super::{CHUNK_ROWS, Result, Tx, on};

/// A doubtful address is dead after refusals in this many passes over this time.
const MIN_PASSES: i64 = 3;
const MIN_REFUSED_FOR: TimeDelta = TimeDelta::hours(24);

/// A refusal that is about the address.
#[derive(Debug, Clone)]
pub struct RefusedAddress {
    pub address: Address,
    /// The enhanced status code (RFC 3463).
    pub code: String,
    /// The code alone never shows that the mailbox does not exist.
    pub is_doubtful: bool,
    pub reason: String,
}

#[derive(Debug, Clone, FromRow)]
pub struct KnownAddress {
    pub key: String,
    pub reason: String,
    /// `None` if the refusals do not suffice yet.
    pub dead_since: Option<DateTime<Utc>>,
}

impl Tx {
    /// Records a refusal in the pass that began at `pass_start`. Refusals with another code, and those before an
    /// address that was dead until `dead_before` is tried again, start a new count.
    pub async fn record_address_refusal(
        &mut self,
        refused: &RefusedAddress,
        pass_start: DateTime<Utc>,
        dead_before: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO address (key, domain, code, is_doubtful, reason, refused_since, refused_at, passes)
             VALUES ($1, $2, $3, $4, $5, $6, $6, 1)
             ON CONFLICT (key) DO UPDATE SET
                passes = CASE WHEN address.code <> excluded.code OR address.dead_since <= $8 THEN 1
                    WHEN address.refused_at < $7 THEN address.passes + 1 ELSE address.passes END,
                refused_since = CASE WHEN address.code <> excluded.code OR address.dead_since <= $8
                    THEN excluded.refused_since ELSE address.refused_since END,
                dead_since = CASE WHEN address.dead_since > $8 THEN address.dead_since END,
                code = excluded.code, is_doubtful = excluded.is_doubtful, reason = excluded.reason,
                refused_at = excluded.refused_at")
            .bind(refused.address.key()).bind(refused.address.domain()).bind(&refused.code).bind(refused.is_doubtful)
            .bind(&refused.reason).bind(now).bind(pass_start).bind(dead_before).execute(c).await.map(drop))
    }

    /// Marks addresses as dead: those refused since `pass_start` in a domain in which that suffices, and those
    /// refused long enough. Returns the new ones.
    pub async fn mark_dead_addresses(
        &mut self,
        sound_domains: &[&str],
        pass_start: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<KnownAddress>> {
        let mut dead = on!(self, c: Db => sqlx::query_as(
            "UPDATE address SET dead_since = $1
             WHERE dead_since IS NULL AND refused_at >= $2 AND passes >= $3 AND refused_since <= $4
             RETURNING key, reason, dead_since")
            .bind(now).bind(pass_start).bind(MIN_PASSES).bind(shift(now, -MIN_REFUSED_FOR)).fetch_all(c).await)?;
        for chunk in sound_domains.chunks(CHUNK_ROWS) {
            let newly: Vec<KnownAddress> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("UPDATE address SET dead_since = ");
                query.push_bind(now);
                query.push(" WHERE dead_since IS NULL AND NOT is_doubtful AND refused_at >= ").push_bind(pass_start);
                query.push(" AND domain IN (");
                push_list(&mut query, chunk.iter().map(|domain| (*domain).to_owned()));
                query.push(") RETURNING key, reason, dead_since");
                query.build_query_as().fetch_all(c).await
            })?;
            dead.extend(newly);
        }
        Ok(dead)
    }

    /// All refused addresses, the dead ones included.
    pub async fn list_addresses(&mut self) -> Result<Vec<KnownAddress>> {
        on!(self, c: Db => sqlx::query_as("SELECT key, reason, dead_since FROM address ORDER BY key")
            .fetch_all(c).await)
    }

    /// The dead addresses with the server's replies. Those marked before `retry_before` are left out, so
    /// that they are tried again.
    pub async fn load_dead_addresses(
        &mut self,
        retry_before: DateTime<Utc>,
    ) -> Result<Vec<(String, String)>> {
        on!(self, c: Db => sqlx::query_as("SELECT key, reason FROM address WHERE dead_since > $1")
            .bind(retry_before).fetch_all(c).await)
    }

    /// Forgets refusals of addresses that accept mail.
    pub async fn clear_addresses(&mut self, keys: &[String]) -> Result<u64> {
        let mut count = 0;
        for chunk in keys.chunks(CHUNK_ROWS) {
            count += on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("DELETE FROM address WHERE key IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(|done| done.rows_affected())
            })?;
        }
        Ok(count)
    }
}
