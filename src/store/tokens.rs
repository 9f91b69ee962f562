//! Tokens: loading, writing, rescheduling, marking as expired, purging.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{Address, ExpiryOrigin, Step, Token, TokenId};
use crate::time::MAX_INSTANT;

use super::columns::{encode_addresses, encode_unreadable, expiry_counts, push_list};
use super::{CHUNK_ROWS, Result, Tx, guarded, locking, on};

/// The columns of a token in insertion order.
macro_rules! token_columns {
    () => {
        "id, source, external_id, name, description, issuer, issuer_key, co_owners, issuer_name, issuer_gone, account, \
         role, scope, created_at, expiry, expires_at, expiry_origin, secret_version, status, last_used_at, \
         reports_use, first_seen_at, life_from, planned_step, due_at, unlisted_since, judge_at, revoked_at, \
         expiry_unreported, unreadable, expiry_day"
    };
}

/// A token, when it is due next, and the tightest step planned so far.
pub type Rescheduled = (TokenId, Option<DateTime<Utc>>, Option<Step>);

impl Tx {
    /// A page of a source's tokens after external id `after`.
    pub async fn load_tokens_of_source(
        &mut self,
        source: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM token WHERE source = $1 AND external_id > $2 ORDER BY external_id LIMIT $3")
            .bind(source).bind(after.unwrap_or("")).bind(limit).fetch_all(c).await)
    }

    pub async fn load_tokens(&mut self, ids: &[TokenId]) -> Result<Vec<Token>> {
        let mut tokens = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK_ROWS) {
            tokens.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT * FROM token WHERE id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_as::<Token>().fetch_all(c).await
            })?);
        }
        Ok(tokens)
    }

    pub async fn load_tokens_by_external_id(
        &mut self,
        source: &str,
        external_ids: &[&str],
    ) -> Result<Vec<Token>> {
        let mut tokens = Vec::with_capacity(external_ids.len());
        for chunk in external_ids.chunks(CHUNK_ROWS) {
            tokens.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT * FROM token WHERE source = ");
                query.push_bind(source).push(" AND external_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_as::<Token>().fetch_all(c).await
            })?);
        }
        Ok(tokens)
    }

    /// Which of these ids tokens have.
    pub async fn find_taken_ids(&mut self, ids: &[TokenId]) -> Result<HashSet<TokenId>> {
        let mut taken = HashSet::new();
        for chunk in ids.chunks(CHUNK_ROWS) {
            taken.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT id FROM token WHERE id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_scalar::<TokenId>().fetch_all(c).await
            })?);
        }
        Ok(taken)
    }

    /// Loads a token and locks it until the transaction ends.
    pub async fn lock_token(&mut self, id: TokenId) -> Result<Option<Token>> {
        let sql = locking!(self, "SELECT * FROM token WHERE id = $1");
        on!(self, c: Db => sqlx::query_as(sql).bind(id).fetch_optional(c).await)
    }

    /// A page of the tokens due by `horizon`, in order of (`due_at`, id), locked until the transaction ends.
    pub async fn lock_due_tokens(
        &mut self,
        horizon: DateTime<Utc>,
        after: Option<(DateTime<Utc>, TokenId)>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        let (after_at, after_id) = after.unwrap_or((DateTime::UNIX_EPOCH, TokenId(Uuid::nil())));
        // The first comparisons select the index range; the row comparison skips the previous pages.
        let sql = locking!(
            self,
            "SELECT * FROM token WHERE due_at <= $1 AND due_at >= $2 AND (due_at, id) > ($2, $3)
             ORDER BY due_at, id LIMIT $4"
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(horizon).bind(after_at).bind(after_id).bind(limit).fetch_all(c).await)
    }

    /// A page of all tokens that may ever be due, in order of id, locked until the transaction ends.
    pub async fn lock_tokens_with_expiry(&mut self, after: Uuid, limit: i64) -> Result<Vec<Token>> {
        let sql = locking!(
            self,
            "SELECT * FROM token WHERE id > $1 AND expires_at IS NOT NULL ORDER BY id LIMIT $2"
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(after).bind(limit).fetch_all(c).await)
    }

    pub async fn insert_tokens(&mut self, tokens: &[Token]) -> Result<()> {
        for chunk in tokens.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(concat!("INSERT INTO token (", token_columns!(), ") "));
                query.push_values(chunk, |mut row, token| {
                    row.push_bind(token.id).push_bind(&token.source).push_bind(&token.external_id)
                        .push_bind(&token.name).push_bind(&token.description)
                        .push_bind(token.issuer.as_ref().map(Address::as_str))
                        .push_bind(token.issuer.as_ref().map(Address::key))
                        .push_bind(encode_addresses(&token.co_owners))
                        .push_bind(&token.issuer_name).push_bind(&token.issuer_gone)
                        .push_bind(&token.account).push_bind(&token.role).push_bind(&token.scope)
                        .push_bind(token.created_at).push_bind(token.expiry.kind())
                        .push_bind(token.expiry.at())
                        .push_bind(token.expiry_origin.map(ExpiryOrigin::as_str))
                        .push_bind(i64::from(token.secret_version)).push_bind(token.status.as_str())
                        .push_bind(token.last_used_at).push_bind(token.reports_use)
                        .push_bind(token.first_seen_at).push_bind(token.life_from)
                        .push_bind(token.planned_step.map(Step::seconds)).push_bind(token.due_at)
                        .push_bind(token.unlisted_since).push_bind(token.judge_at)
                        .push_bind(token.revoked_at).push_bind(token.is_expiry_unreported)
                        .push_bind(encode_unreadable(&token.unreadable))
                        .push_bind(token.expiry_day.map(|day| day.to_string()));
                });
                query.build().execute(c).await.map(drop)
            })?;
        }
        self.insert_co_owners(tokens).await
    }

    /// Makes tokens be found by their other owners.
    async fn insert_co_owners(&mut self, tokens: &[Token]) -> Result<()> {
        let pairs = tokens
            .iter()
            .flat_map(|token| token.co_owners.iter().map(|owner| (token.id, owner.key())));
        let pairs: Vec<_> = pairs.collect();
        for chunk in pairs.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO token_owner (token_id, owner_key) ");
                query.push_values(chunk, |mut row, (token, owner)| {
                    row.push_bind(*token).push_bind(*owner);
                });
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Writes the other owners of a token.
    pub async fn replace_co_owners(&mut self, token: &Token) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE token SET co_owners = $2 WHERE id = $1")
            .bind(token.id).bind(encode_addresses(&token.co_owners)).execute(c).await.map(drop))?;
        on!(self, c: Db => sqlx::query("DELETE FROM token_owner WHERE token_id = $1")
            .bind(token.id).execute(c).await.map(drop))?;
        self.insert_co_owners(std::slice::from_ref(token)).await
    }

    /// Writes everything but [the other owners](Self::replace_co_owners).
    pub async fn update_token(&mut self, token: &Token) -> Result<()> {
        self.update_token_as_of(MAX_INSTANT, token).await.map(drop)
    }

    /// Like [`Tx::update_token`], with a listing requested at `requested_at`. Writes nothing and returns
    /// `false` if lapsed has revoked the token since then.
    pub async fn update_token_as_of(
        &mut self,
        requested_at: DateTime<Utc>,
        token: &Token,
    ) -> Result<bool> {
        let count = on!(self, c: Db => sqlx::query(
            "UPDATE token SET name = $2, description = $3, issuer = $4, issuer_key = $5, issuer_name = $6,
                account = $7, role = $8, scope = $9, created_at = $10, expiry = $11, expires_at = $12,
                expiry_origin = $13, status = $14, last_used_at = $15, life_from = $16,
                planned_step = $17, due_at = $18, unlisted_since = $19,
                reports_use = $20, issuer_gone = $21,
                mark_expired_at = CASE WHEN $14 = 'expired' THEN mark_expired_at END, judge_at = $22,
                first_seen_at = $23, revoked_at = $24, secret_version = $25,
                expiry_unreported = $26, unreadable = $27, expiry_day = $28
             WHERE id = $1 AND (revoked_at IS NULL OR revoked_at < $29)")
            .bind(token.id).bind(&token.name).bind(&token.description)
            .bind(token.issuer.as_ref().map(Address::as_str))
            .bind(token.issuer.as_ref().map(Address::key)).bind(&token.issuer_name).bind(&token.account)
            .bind(&token.role).bind(&token.scope).bind(token.created_at).bind(token.expiry.kind())
            .bind(token.expiry.at()).bind(token.expiry_origin.map(ExpiryOrigin::as_str))
            .bind(token.status.as_str()).bind(token.last_used_at).bind(token.life_from)
            .bind(token.planned_step.map(Step::seconds)).bind(token.due_at).bind(token.unlisted_since)
            .bind(token.reports_use).bind(&token.issuer_gone).bind(token.judge_at)
            .bind(token.first_seen_at).bind(token.revoked_at).bind(i64::from(token.secret_version))
            .bind(token.is_expiry_unreported).bind(encode_unreadable(&token.unreadable))
            .bind(token.expiry_day.map(|day| day.to_string())).bind(requested_at)
            .execute(c).await.map(|done| done.rows_affected()))?;
        Ok(count > 0)
    }

    pub async fn reschedule_tokens(&mut self, tokens: &[Rescheduled]) -> Result<()> {
        for chunk in tokens.chunks(CHUNK_ROWS) {
            match self {
                Self::Sqlite(tx) => {
                    let mut query = QueryBuilder::<Sqlite>::new(
                        "UPDATE token SET due_at = v.column2, planned_step = v.column3 FROM (",
                    );
                    query.push_values(chunk, |mut row, (id, due_at, step)| {
                        row.push_bind(*id)
                            .push_bind(*due_at)
                            .push_bind(step.map(Step::seconds));
                    });
                    query.push(") AS v WHERE token.id = v.column1");
                    let query = query.build().persistent(chunk.len() == CHUNK_ROWS);
                    query.execute(&mut **tx).await?;
                }
                Self::Postgres(session) => {
                    let ids: Vec<_> = chunk.iter().map(|(id, ..)| id.0).collect();
                    let due_ats: Vec<_> = chunk.iter().map(|(_, due_at, _)| *due_at).collect();
                    let steps: Vec<_> = chunk
                        .iter()
                        .map(|(.., step)| step.map(Step::seconds))
                        .collect();
                    let query = sqlx::query(
                        "UPDATE token SET due_at = v.due_at, planned_step = v.step
                         FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS v (id, due_at, step)
                         WHERE token.id = v.id",
                    );
                    let query = query.bind(ids).bind(due_ats).bind(steps);
                    guarded!(session, c => query.execute(c).await)?;
                }
            }
        }
        Ok(())
    }

    /// Marks up to `limit` active tokens as expired once their expiry has passed; returns how many. Those of
    /// the sources in `reporting_to` are to be reported to them.
    ///
    /// The order is that of the index: with a limit but no order, PostgreSQL's generic plan scans the table instead.
    pub async fn mark_expired(
        &mut self,
        now: DateTime<Utc>,
        limit: i64,
        reporting_to: &[&str],
    ) -> Result<u64> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("UPDATE token SET status = 'expired'");
            if !reporting_to.is_empty() {
                query.push(", mark_expired_at = CASE WHEN source IN (");
                push_list(&mut query, reporting_to);
                query.push(") AND (expiry_origin IS NULL OR expiry_origin <> 'policy') THEN ")
                    .push_bind(now).push(" END");
            }
            query.push(" WHERE id IN (SELECT id FROM token WHERE due_at <= ").push_bind(now)
                .push(" AND expires_at <= ").push_bind(now)
                .push(concat!(" AND status = 'active' AND ", expiry_counts!(""), " ORDER BY due_at LIMIT "))
                .push_bind(limit)
                .push(")");
            query.build().execute(c).await.map(|done| done.rows_affected())
        })
    }

    /// Expired tokens that are to be reported to their source now, the longest waiting first. Only those
    /// whose expiry was confirmed by a good listing requested after it: others may have been renewed, and so may those
    /// whose present expiry cannot be read. Tokens past an expiry of our own policy still work at their source and are
    /// left out.
    pub async fn find_tokens_to_mark_expired(
        &mut self,
        source: &str,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM token WHERE source = $1 AND mark_expired_at <= $2 AND status = 'expired'
               AND (expiry_origin IS NULL OR expiry_origin <> 'policy')
               AND expires_at <= (SELECT last_good_sync_at FROM source WHERE name = $1)
               AND (unreadable IS NULL OR unreadable NOT LIKE '%\"expires_at\":%')
             ORDER BY mark_expired_at LIMIT $3")
            .bind(source).bind(now).bind(limit).fetch_all(c).await)
    }

    /// Records that these tokens left the listing of their source.
    pub async fn set_unlisted_since(&mut self, ids: &[TokenId], at: DateTime<Utc>) -> Result<()> {
        for chunk in ids.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("UPDATE token SET unlisted_since = ");
                query.push_bind(at).push(" WHERE unlisted_since IS NULL AND id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Sets when the expiry of these tokens is reported to their source; `None` if it has been.
    pub async fn set_mark_expired_at(
        &mut self,
        ids: &[TokenId],
        at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        for chunk in ids.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("UPDATE token SET mark_expired_at = ");
                query.push_bind(at).push(" WHERE id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Up to `limit` tokens that a clock that was ahead marked as expired become active again. They are due at
    /// once and planned again: what was planned is in the ledger, and nothing was planned for a token first
    /// seen while the clock was ahead.
    pub async fn unmark_expired(&mut self, now: DateTime<Utc>, limit: i64) -> Result<u64> {
        on!(self, c: Db => sqlx::query(
            "UPDATE token SET status = 'active', planned_step = NULL, due_at = $1, judge_at = $1, mark_expired_at = NULL
             WHERE id IN (
                SELECT id FROM token WHERE status = 'expired' AND expires_at > $1
                ORDER BY expires_at LIMIT $2)")
            .bind(now).bind(limit).execute(c).await.map(|done| done.rows_affected()))
    }

    /// At most `limit` tokens whose id begins with these hexadecimal digits.
    pub async fn find_tokens_by_prefix(&mut self, prefix: &str, limit: i64) -> Result<Vec<Token>> {
        let Some((low, high)) = id_range(prefix) else {
            return Ok(Vec::new());
        };
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM token WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3")
            .bind(low).bind(high).bind(limit).fetch_all(c).await)
    }

    /// At most `limit` tokens with this label: a name, or an external id where there is no name.
    pub async fn find_tokens_by_name(&mut self, name: &str, limit: i64) -> Result<Vec<Token>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM token WHERE name = $1 OR (TRIM(name) = '' AND external_id = $1) ORDER BY id LIMIT $2")
            .bind(name).bind(limit).fetch_all(c).await)
    }

    /// The accounts of all tokens; an entry is `None` for tokens without one. Reads all tokens.
    pub async fn list_accounts(&mut self) -> Result<Vec<Option<String>>> {
        on!(self, c: Db => sqlx::query_scalar("SELECT DISTINCT account FROM token")
            .fetch_all(c).await)
    }

    /// Deletes up to `limit` tokens that left or expired before `until`, with their notices and findings. Expired
    /// tokens stay while the source that lists them is one of `listing`, and has had a complete listing, or one of
    /// `marking`, whose tokens are reported once.
    pub async fn purge_ended_tokens(
        &mut self,
        until: DateTime<Utc>,
        listing: &[&str],
        marking: &[&str],
        limit: i64,
    ) -> Result<u64> {
        let ids: Vec<TokenId> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT id FROM token WHERE unlisted_since < ");
            query.push_bind(until)
                .push(" AND status = 'gone' UNION ALL SELECT id FROM token WHERE status = 'expired' AND expires_at < ")
                .push_bind(until)
                .push(" AND (expiry_origin IS NULL OR expiry_origin <> 'policy')
                    AND (unlisted_since IS NOT NULL OR source NOT IN
                        (SELECT name FROM source WHERE (listed > 0 AND name IN (");
            push_list(&mut query, listing);
            query.push(")) OR name IN (");
            push_list(&mut query, marking);
            query.push("))) LIMIT ").push_bind(limit);
            query.build_query_scalar::<TokenId>().fetch_all(c).await
        })?;
        for chunk in ids.chunks(CHUNK_ROWS) {
            for sql in [
                "DELETE FROM notice WHERE token_id IN (",
                "DELETE FROM finding WHERE token_id IN (",
                "DELETE FROM token_owner WHERE token_id IN (",
                "DELETE FROM token_use WHERE token_id IN (",
                "DELETE FROM token_address WHERE token_id IN (",
                "DELETE FROM credential WHERE id IN (",
                "DELETE FROM token WHERE id IN (",
            ] {
                on!(self, c: Db => {
                    let mut query = QueryBuilder::<Db>::new(sql);
                    push_list(&mut query, chunk);
                    query.push(")");
                    query.build().execute(c).await.map(drop)
                })?;
            }
        }
        Ok(ids.len() as u64)
    }
}

/// The range of ids that begin with these hexadecimal digits.
pub(super) fn id_range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let is_hexadecimal = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    if prefix.is_empty() || prefix.len() > 32 || !is_hexadecimal {
        return None;
    }
    let padding = 32 - prefix.len();
    let low = format!("{prefix}{}", "0".repeat(padding));
    let high = format!("{prefix}{}", "f".repeat(padding));
    Some((low.parse().ok()?, high.parse().ok()?))
}
