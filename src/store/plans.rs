//! Plans: what one sweep planned, closed when all of it is there, held when it is too much.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Result, Tx, on};

impl Tx {
    /// The plan that is open, which a sweep that died may have left, or else a new one. Until this
    /// transaction ends nobody can close it.
    pub async fn open_plan(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<Uuid> {
        // The write locks it, and no notice of a plan is older than it, whatever clocks do.
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

    /// The plan that a sweep which died has left open.
    pub async fn unfinished_plan(&mut self) -> Result<Option<Uuid>> {
        let left: Option<(Uuid,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT id FROM plan WHERE state = 'open' LIMIT 1").fetch_optional(c).await)?;
        Ok(left.map(|(id,)| id))
    }

    /// How many people the unsent notices of an open plan are owed to.
    pub async fn planned_recipients(&mut self, plan: Uuid) -> Result<i64> {
        let since = self.plan_created_at(plan).await?;
        let (count,): (i64,) = on!(self, c: Db => sqlx::query_as(
            "SELECT COUNT(DISTINCT recipient_key) FROM notice
             WHERE planned_at >= $2 AND plan_id = $1 AND state = 'planned'")
            .bind(plan).bind(since).fetch_one(c).await)?;
        Ok(count)
    }

    /// The instant from which the index of notices is read to find those of a plan.
    async fn plan_created_at(&mut self, plan: Uuid) -> Result<DateTime<Utc>> {
        let (at,): (DateTime<Utc>,) = on!(self, c: Db => sqlx::query_as(
            "SELECT created_at FROM plan WHERE id = $1").bind(plan).fetch_one(c).await)?;
        Ok(at)
    }

    /// Closes a plan: its mails may go, or its notices are held for an operator.
    pub async fn close_plan(&mut self, plan: Uuid, mails: i64, hold: bool) -> Result<()> {
        let state = if hold { "held" } else { "released" };
        on!(self, c: Db => sqlx::query("UPDATE plan SET state = $2, mails = $3 WHERE id = $1")
            .bind(plan).bind(state).bind(mails).execute(c).await.map(drop))?;
        if hold {
            self.hold_plan(plan).await?;
        }
        Ok(())
    }

    /// Takes a plan's notices out of their mails, and the mails away; what else was in them waits for
    /// the next.
    async fn hold_plan(&mut self, plan: Uuid) -> Result<()> {
        let since = self.plan_created_at(plan).await?;
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'held', mail_id = NULL
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

    /// Plans that are held, and how many mails they are.
    pub async fn held_plans(&mut self) -> Result<Vec<(Uuid, DateTime<Utc>, i64)>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT id, created_at, mails FROM plan WHERE state = 'held' ORDER BY created_at").fetch_all(c).await)?)
    }

    /// Lets every held plan go, or drops its notices for good; tells how many notices.
    pub async fn settle_held(&mut self, discard: bool) -> Result<u64> {
        let (notice, plan) = if discard {
            (
                "UPDATE notice SET state = 'suppressed', reason = 'discarded by an operator' WHERE state = 'held'",
                "UPDATE plan SET state = 'discarded' WHERE state = 'held'",
            )
        } else {
            (
                "UPDATE notice SET state = 'planned' WHERE state = 'held'",
                "UPDATE plan SET state = 'released' WHERE state = 'held'",
            )
        };
        let count = on!(self, c: Db => sqlx::query(notice).execute(c).await.map(|done| done.rows_affected()))?;
        on!(self, c: Db => sqlx::query(plan).execute(c).await.map(drop))?;
        Ok(count)
    }
}
