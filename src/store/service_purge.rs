//! Deletes what the token service no longer needs.

use chrono::{DateTime, TimeDelta, Utc};

use crate::time::shift;

use super::credentials::internal_kinds;
use super::{Result, Tx, on};

/// An ended session, or a token that another was exchanged for, is kept this long, to say why it is refused.
const KEEP_INTERNAL: TimeDelta = TimeDelta::days(1);
const KEEP_USES: TimeDelta = TimeDelta::days(30);
/// How long an answer can be repeated, and how long it is known that there was one.
const KEEP_ANSWER: TimeDelta = TimeDelta::hours(1);
const KEEP_ANSWERED: TimeDelta = TimeDelta::hours(24);
/// Links are counted for an hour.
const KEEP_LINKS: TimeDelta = TimeDelta::hours(1);
/// Changes are kept for a day, and so many of the last ones however old: every reader has seen the others.
const KEEP_CHANGES: TimeDelta = TimeDelta::days(1);
const KEEP_CHANGE_IDS: i64 = 20_000;

/// Setting: the last id of the change feed at an instant, `ID INSTANT`. What is older by then may be deleted a day later.
const CHANGE_MARK: &str = "change.mark";

impl Tx {
    /// Deletes up to `limit` rows of each kind; returns how many.
    pub async fn purge_service(&mut self, now: DateTime<Utc>, limit: i64) -> Result<u64> {
        let mut deleted = self.purge_changes(now, limit).await?;
        on!(self, c: Db => sqlx::query(
            "UPDATE idempotency SET sealed = NULL WHERE created_at <= $1 AND sealed IS NOT NULL")
            .bind(shift(now, -KEEP_ANSWER)).execute(c).await.map(drop))?;
        for (sql, before) in [
            (
                concat!(
                    "DELETE FROM credential WHERE id IN (
                    SELECT id FROM credential WHERE kind IN ",
                    internal_kinds!(),
                    " AND expires_at < $1 LIMIT $2)"
                ),
                shift(now, -KEEP_INTERNAL),
            ),
            (
                "DELETE FROM token_use WHERE (token_id, hour) IN (
                    SELECT token_id, hour FROM token_use WHERE hour < $1 LIMIT $2)",
                shift(now, -KEEP_USES),
            ),
        ] {
            deleted += on!(self, c: Db => sqlx::query(sql).bind(before).bind(limit)
                .execute(c).await.map(|done| done.rows_affected()))?;
        }
        // These are not counted, because the copy of a dry run has none.
        on!(self, c: Db => sqlx::query(
            "DELETE FROM idempotency WHERE key_digest IN (
                SELECT key_digest FROM idempotency WHERE created_at < $1 LIMIT $2)")
            .bind(shift(now, -KEEP_ANSWERED)).bind(limit).execute(c).await.map(drop))?;
        on!(self, c: Db => sqlx::query(
            "DELETE FROM sign_in_link WHERE digest IN (
                SELECT digest FROM sign_in_link WHERE created_at < $1 LIMIT $2)")
            .bind(shift(now, -KEEP_LINKS)).bind(limit).execute(c).await.map(drop))?;
        // One that never expires is of no use once it is revoked.
        deleted += on!(self, c: Db => sqlx::query(concat!(
            "DELETE FROM credential WHERE id IN (SELECT id FROM credential
             WHERE kind IN ", internal_kinds!(), " AND expires_at IS NULL AND state = 'revoked' LIMIT $1)"))
            .bind(limit).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(deleted)
    }

    /// Ids tell nothing about time, so a mark is set and used a day later.
    async fn purge_changes(&mut self, now: DateTime<Utc>, limit: i64) -> Result<u64> {
        let last = self.last_change_id().await?;
        let mark = self.find_setting(CHANGE_MARK).await?;
        let mark = mark.as_deref().and_then(|mark| mark.split_once(' '));
        let mark =
            mark.and_then(|(id, at)| Some((id.parse().ok()?, at.parse::<DateTime<Utc>>().ok()?)));
        let (until, is_due) = match mark {
            // One in the future was set by a clock that was ahead.
            Some((id, at)) if at <= now => (id, at <= shift(now, -KEEP_CHANGES)),
            _ => (0_i64, true),
        };
        if !is_due || last == 0 {
            return Ok(0);
        }
        let until = until.min(last - KEEP_CHANGE_IDS);
        let deleted = on!(self, c: Db => sqlx::query(
            "DELETE FROM change WHERE id IN (SELECT id FROM change WHERE id <= $1 ORDER BY id LIMIT $2)")
            .bind(until).bind(limit).execute(c).await.map(|done| done.rows_affected()))?;
        if deleted < limit.unsigned_abs() {
            self.set_setting(CHANGE_MARK, &format!("{last} {}", now.to_rfc3339()))
                .await?;
        }
        Ok(deleted)
    }
}
