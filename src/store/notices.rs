//! Notices before they travel: planned, gathered into mails, cancelled, held.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::domain::{Address, NewNotice, Step, TokenId, Topic};

use super::mails::parsed;
use super::{CHUNK, FAR, Result, Tx, on};

/// Tokens of a digest beyond those that are listed: how many of a source expire on a day.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Rest {
    /// Why they are in it.
    #[sqlx(try_from = "String")]
    pub topic: Topic,
    /// The source.
    pub source: String,
    /// The day in UTC, as `2026-11-28`; `None` where they do not expire.
    pub day: Option<String>,
    /// How many tokens.
    pub count: i64,
}

impl Tx {
    /// Adds notices. One whose key exists is left as it is, but for one that was cancelled: an
    /// expiry that went from A to B and back to A is owed its warning again. Tells how many are new.
    pub async fn insert_notices(
        &mut self,
        notices: &[NewNotice],
        plan: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mut count = 0;
        for notices in notices.chunks(CHUNK) {
            count += on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO notice (id, token_id, subject, generation, topic, step, recipient, recipient_key,
                        ground, send_at, planned_at, plan_id, state, title, detail) ");
                query.push_values(notices, |mut row, notice| {
                    row.push_bind(notice.id)
                        .push_bind(notice.token_id.map(|id| id.0))
                        .push_bind(&notice.subject)
                        .push_bind(notice.generation)
                        .push_bind(notice.topic.as_str())
                        .push_bind(notice.step.map(Step::seconds))
                        .push_bind(notice.recipient.as_str())
                        .push_bind(notice.recipient.key())
                        .push_bind(notice.ground.as_str())
                        .push_bind(notice.send_at)
                        .push_bind(now)
                        .push_bind(plan)
                        .push("'planned'")
                        .push_bind(&notice.title)
                        .push_bind(&notice.detail);
                });
                query.push(" ON CONFLICT (id) DO UPDATE SET state = 'planned', mail_id = NULL, reason = NULL,
                    send_at = excluded.send_at, planned_at = excluded.planned_at, plan_id = excluded.plan_id
                    WHERE notice.state = 'cancelled'");
                query.build().execute(c).await.map(|done| done.rows_affected())
            })?;
        }
        Ok(count)
    }

    /// Writes down a notice that nobody is left to receive.
    pub async fn insert_failed(
        &mut self,
        notice: &NewNotice,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let is_new = self
            .insert_notices(std::slice::from_ref(notice), None, now)
            .await?
            > 0;
        if is_new {
            on!(self, c: Db => sqlx::query("UPDATE notice SET state = 'failed', reason = $2 WHERE id = $1")
                .bind(notice.id).bind(reason).execute(c).await.map(drop))?;
        }
        Ok(is_new)
    }

    /// Takes back what is unsent about a token. With a `generation`, its own notices stay and those
    /// of it that were cancelled before are owed again.
    pub async fn cancel_notices(
        &mut self,
        token: TokenId,
        generation: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<u64> {
        // A mail in flight or in doubt is left alone: it may have been taken. Whoever claims it next
        // looks again.
        let cancelled = on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'cancelled', reason = $3
             WHERE token_id = $1 AND topic = 'expiry' AND generation <> $2 AND state IN ('planned', 'held')
               AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                               AND m.state IN ('sending', 'unknown', 'sent', 'failed'))")
            .bind(token.0).bind(generation.unwrap_or(FAR)).bind(reason)
            .execute(c).await.map(|done| done.rows_affected()))?;
        if let Some(generation) = generation {
            on!(self, c: Db => sqlx::query(
                "UPDATE notice SET state = 'planned', reason = NULL, mail_id = NULL
                 WHERE token_id = $1 AND topic = 'expiry' AND generation = $2 AND state = 'cancelled'")
                .bind(token.0).bind(generation).execute(c).await.map(drop))?;
        }
        Ok(cancelled)
    }

    /// Settles what is unsent to one recipient about a token.
    pub async fn suppress_notices(
        &mut self,
        token: TokenId,
        recipient: &Address,
        reason: &str,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'suppressed', reason = $3
             WHERE token_id = $1 AND recipient_key = $2 AND topic = 'expiry' AND state IN ('planned', 'held')
               AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                               AND m.state IN ('sending', 'unknown', 'sent', 'failed'))")
            .bind(token.0).bind(recipient.key()).bind(reason).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Takes back unsent notices of one topic about one token.
    pub async fn cancel_topic(&mut self, token: TokenId, topic: Topic, reason: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'cancelled', reason = $3
             WHERE token_id = $1 AND topic = $2 AND state IN ('planned', 'held')
               AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                               AND m.state IN ('sending', 'unknown', 'sent', 'failed'))")
            .bind(token.0).bind(topic.as_str()).bind(reason).execute(c).await.map(drop))?;
        Ok(())
    }

    /// The recipients of the `limit` notices that are due up to `horizon` and waiting longest.
    pub async fn due_recipients(
        &mut self,
        horizon: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Address>> {
        let rows: Vec<(String,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT MIN(recipient) FROM (
                SELECT recipient, recipient_key FROM notice
                WHERE state = 'planned' AND mail_id IS NULL AND send_at <= $1
                ORDER BY send_at LIMIT $2) AS due
             GROUP BY recipient_key")
            .bind(horizon).bind(limit).fetch_all(c).await)?;
        rows.into_iter()
            .map(|(text,)| parsed(&text, "a notice's recipient"))
            .collect()
    }

    /// Opens a mail for each recipient who has none open; it may go at once.
    pub async fn open_mails(
        &mut self,
        mails: &[(Uuid, Address)],
        now: DateTime<Utc>,
    ) -> Result<()> {
        for mails in mails.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO mail (id, recipient, recipient_key, state, created_at, next_at) ");
                query.push_values(mails, |mut row, (id, address)| {
                    row.push_bind(*id).push_bind(address.as_str()).push_bind(address.key())
                        .push("'open'").push_bind(now).push_bind(now);
                });
                query.push(" ON CONFLICT DO NOTHING");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Puts into the open mails of these recipients all that is due to them up to `horizon`, and
    /// what rides along whenever a mail goes. Tells how many notices found their mail.
    pub async fn fill_mails(&mut self, keys: &[String], horizon: DateTime<Utc>) -> Result<u64> {
        let mut filled = 0;
        for keys in keys.chunks(CHUNK) {
            self.lock_open_mails(keys).await?;
            filled += on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE notice SET mail_id = m.id FROM mail m
                     WHERE m.recipient_key = notice.recipient_key AND m.state = 'open'
                       AND notice.state = 'planned' AND notice.mail_id IS NULL
                       AND (notice.send_at <= ");
                query.push_bind(horizon).push(" OR notice.send_at = ").push_bind(FAR);
                query.push(") AND m.recipient_key IN (");
                let mut list = query.separated(", ");
                for key in keys { list.push_bind(key); }
                query.push(")");
                query.build().execute(c).await.map(|done| done.rows_affected())
            })?;
        }
        Ok(filled)
    }

    /// Keeps others from claiming the open mails of these recipients until the transaction ends: what
    /// joins a mail that somebody is sending would count as sent. On SQLite nobody else writes.
    async fn lock_open_mails(&mut self, keys: &[String]) -> Result<()> {
        if let Self::Postgres(tx) = self {
            sqlx::query("SELECT id FROM mail WHERE state = 'open' AND recipient_key = ANY($1) ORDER BY id FOR UPDATE")
                .bind(keys).execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// Opens a plan, or takes over the one that a sweep which died has left open.
    pub async fn open_plan(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<Uuid> {
        let left: Option<(Uuid,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT id FROM plan WHERE state = 'open' LIMIT 1").fetch_optional(c).await)?;
        if let Some((left,)) = left {
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
