//! The tokens that must be judged, because their findings may have changed.

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{Token, TokenId};

use super::{CHUNK_ROWS, Result, Tx, locking, on};

/// Findings with a start in the future: a clock was ahead. Only these two kinds begin with a time. `COALESCE`
/// keeps the planner from the index on `kind`; the index on `since` normally finds nothing.
macro_rules! in_future {
    () => {
        "state <> 'resolved' AND since > $1 AND COALESCE(kind, '') IN ('unused', 'never_expires')"
    };
}

impl Tx {
    /// Loads up to `limit` tokens that must be judged by `now`, and locks them until the transaction ends.
    pub async fn lock_tokens_to_judge(
        &mut self,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        let sql = locking!(
            self,
            "SELECT * FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT $2"
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(now).bind(limit).fetch_all(c).await)
    }

    /// Whether any token must be judged by `now`, or has a finding dated in the future.
    pub async fn has_tokens_to_judge(&mut self, now: DateTime<Utc>) -> Result<bool> {
        let first: Option<Uuid> = on!(self, c: Db => sqlx::query_scalar(concat!(
            "SELECT COALESCE((SELECT id FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT 1),
                             (SELECT id FROM finding WHERE ", in_future!(), " ORDER BY since DESC LIMIT 1))"))
            .bind(now).fetch_one(c).await)?;
        Ok(first.is_some())
    }

    /// Makes tokens due for judging if a finding about them is dated in the future.
    pub async fn rejudge_future_findings(&mut self, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE token SET judge_at = $1 WHERE id IN (SELECT token_id FROM finding WHERE ", in_future!(), ")"))
            .bind(now).execute(c).await.map(drop))
    }

    /// A page of all tokens in order of id, locked until the transaction ends.
    pub async fn lock_all_tokens(&mut self, after: Uuid, limit: i64) -> Result<Vec<Token>> {
        let sql = locking!(
            self,
            "SELECT * FROM token WHERE id > $1 ORDER BY id LIMIT $2"
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(after).bind(limit).fetch_all(c).await)
    }

    /// Sets when these tokens must be judged next; `None` if only a change can make that necessary.
    pub async fn set_judge_at(&mut self, times: &[(TokenId, Option<DateTime<Utc>>)]) -> Result<()> {
        for chunk in times.chunks(CHUNK_ROWS) {
            match self {
                Self::Sqlite(tx) => {
                    let mut query =
                        QueryBuilder::<Sqlite>::new("UPDATE token SET judge_at = v.column2 FROM (");
                    query.push_values(chunk, |mut row, (id, at)| {
                        row.push_bind(*id).push_bind(*at);
                    });
                    query.push(") AS v WHERE token.id = v.column1");
                    let query = query.build().persistent(chunk.len() == CHUNK_ROWS);
                    query.execute(&mut **tx).await?;
                }
                // Arrays: one statement for every number of tokens.
                Self::Postgres(tx) => {
                    let ids: Vec<_> = chunk.iter().map(|(id, _)| id.0).collect();
                    let ats: Vec<_> = chunk.iter().map(|(_, at)| *at).collect();
                    sqlx::query(
                        "UPDATE token SET judge_at = v.judge_at
                         FROM unnest($1::uuid[], $2::timestamptz[]) AS v (id, judge_at) WHERE token.id = v.id",
                    )
                    .bind(ids)
                    .bind(ats)
                    .execute(&mut **tx)
                    .await?;
                }
            }
        }
        Ok(())
    }
}
