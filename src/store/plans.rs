//! Plans: the notices that one sweep planned. A plan is closed when complete, and held when too large.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Result, Tx, on};

impl Tx {
    /// The open plan, perhaps left by a sweep that died, or else a new one. It cannot be closed by others
    /// until this transaction ends.
    pub async fn open_plan(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<Uuid> {
        // The write locks it, and keeps it older than all its notices even if the clock moves back.
        let open: Option<(Uuid,)> = on!(self, c: Db => sqlx::query_as(
            "UPDATE plan SET created_at = CASE WHEN created_at > $1 THEN $1 ELSE created_at END
             WHERE state = 'open' RETURNING id").bind(now).fetch_optional(c).await)?;
        if let Some((open,)) = open {
            return Ok(open);
        }
        on!(self, c: Db => sqlx::query("INSERT INTO plan (id, created_at, state) VALUES ($1, $2, 'open')")
            .bind(id).bind(now).execute(c).await.map(drop))?;
        Ok(id)
    }

    /// A plan left open by a sweep that died.
    pub async fn find_unfinished_plan(&mut self) -> Result<Option<Uuid>> {
        let open: Option<(Uuid,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT id FROM plan WHERE state = 'open' LIMIT 1").fetch_optional(c).await)?;
        Ok(open.map(|(id,)| id))
    }

    /// Counts the recipients of an open plan's notices.
    pub async fn count_planned_recipients(&mut self, plan: Uuid) -> Result<i64> {
        let since = self.load_plan_created_at(plan).await?;
        let (count,): (i64,) = on!(self, c: Db => sqlx::query_as(
            "SELECT COUNT(DISTINCT recipient_key) FROM notice
             WHERE planned_at >= $2 AND plan_id = $1 AND state = 'planned'")
            .bind(plan).bind(since).fetch_one(c).await)?;
        Ok(count)
    }

    /// No notice of a plan is older, which bounds the index scan.
    async fn load_plan_created_at(&mut self, plan: Uuid) -> Result<DateTime<Utc>> {
        let (at,): (DateTime<Utc>,) = on!(self, c: Db => sqlx::query_as(
            "SELECT created_at FROM plan WHERE id = $1").bind(plan).fetch_one(c).await)?;
        Ok(at)
    }

    /// Closes a plan: its mails may be sent, or its notices are held for an operator.
    pub async fn close_plan(&mut self, plan: Uuid, mails: i64, hold: bool) -> Result<()> {
        let state = if hold { "held" } else { "released" };
        on!(self, c: Db => sqlx::query("UPDATE plan SET state = $2, mails = $3 WHERE id = $1")
            .bind(plan).bind(state).bind(mails).execute(c).await.map(drop))?;
        if hold {
            self.hold_plan(plan).await?;
        }
        Ok(())
    }

    /// Removes a plan's notices from their mails and deletes the mails; other notices in them wait for the
    /// next mail.
    async fn hold_plan(&mut self, plan: Uuid) -> Result<()> {
        let since = self.load_plan_created_at(plan).await?;
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET held = TRUE, mail_id = NULL
             WHERE planned_at >= $2 AND plan_id = $1 AND state = 'planned'")
            .bind(plan).bind(since).execute(c).await.map(drop))?;
        for sql in [
            "UPDATE notice SET mail_id = NULL WHERE mail_id IN (
                SELECT id FROM mail WHERE state = 'open' AND plan_id = $1)",
            "DELETE FROM mail WHERE state = 'open' AND plan_id = $1",
        ] {
            on!(self, c: Db => sqlx::query(sql).bind(plan).execute(c).await.map(drop))?;
        }
        Ok(())
    }

    /// `(id, created at, mails)` of the held plans.
    pub async fn list_held_plans(&mut self) -> Result<Vec<(Uuid, DateTime<Utc>, i64)>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT id, created_at, mails FROM plan WHERE state = 'held' ORDER BY created_at").fetch_all(c).await)?)
    }

    /// Releases all held plans, or discards their notices; returns the number of notices.
    pub async fn settle_held_plans(&mut self, discard: bool) -> Result<u64> {
        let (notice, plan) = if discard {
            (
                "UPDATE notice SET state = 'suppressed', held = FALSE, reason = 'discarded by an operator' WHERE held",
                "UPDATE plan SET state = 'discarded' WHERE state = 'held'",
            )
        } else {
            (
                "UPDATE notice SET held = FALSE WHERE held",
                "UPDATE plan SET state = 'released' WHERE state = 'held'",
            )
        };
        let count = on!(self, c: Db => sqlx::query(notice).execute(c).await.map(|done| done.rows_affected()))?;
        on!(self, c: Db => sqlx::query(plan).execute(c).await.map(drop))?;
        Ok(count)
    }
}
