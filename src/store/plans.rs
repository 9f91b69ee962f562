//! Plans: what one sweep planned, closed when all of it is there, held when it is too much.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Result, Tx, on};

impl Tx {
    /// Opens a plan, or takes over the one that a sweep which died has left open.
    pub async fn open_plan(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<Uuid> {
        if let Some(left) = self.unfinished_plan().await? {
            return Ok(left);
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

    /// How many people the unsent notices of a plan are owed to.
    pub async fn planned_recipients(&mut self, plan: Uuid) -> Result<i64> {
        let (count,): (i64,) = on!(self, c: Db => sqlx::query_as(
            "SELECT COUNT(DISTINCT recipient_key) FROM notice
             WHERE state = 'planned' AND mail_id IS NULL AND plan_id = $1")
            .bind(plan).fetch_one(c).await)?;
        Ok(count)
    }

    /// Closes a plan: its notices may go, or are held for an operator.
    pub async fn close_plan(&mut self, plan: Uuid, mails: i64, hold: bool) -> Result<()> {
        let state = if hold { "held" } else { "released" };
        on!(self, c: Db => sqlx::query("UPDATE plan SET state = $2, mails = $3 WHERE id = $1")
            .bind(plan).bind(state).bind(mails).execute(c).await.map(drop))?;
        if hold {
            on!(self, c: Db => sqlx::query(
                "UPDATE notice SET state = 'held'
                 WHERE state = 'planned' AND mail_id IS NULL AND plan_id = $1")
                .bind(plan).execute(c).await.map(drop))?;
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
