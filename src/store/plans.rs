//! Plans, which have the notices that one sweep planned, and open mails, into which due notices are put.
//!
//! A plan is closed when complete, and held when too large.

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::Address;
use crate::time::MAX_INSTANT;

use super::columns::push_list;
use super::{CHUNK_ROWS, Result, Tx, guarded, on};

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OpenMail {
    pub id: Uuid,
    pub recipient_key: String,
}

macro_rules! insert_open {
    () => {
        "INSERT INTO mail (id, recipient, recipient_key, state, created_at, next_at, plan_id) "
    };
}
macro_rules! or_find {
    () => {
        " ON CONFLICT (recipient_key) WHERE state = 'open' DO UPDATE SET plan_id = excluded.plan_id
          RETURNING id, recipient_key"
    };
}
const OPEN_ARRAYS: &str = concat!(
    insert_open!(),
    "SELECT v.id, v.recipient, v.key, 'open', $4, $4, $5
     FROM unnest($1::uuid[], $2::text[], $3::text[]) AS v (id, recipient, key)",
    or_find!()
);

/// Puts notices into the open mails of their recipients; ends before the recipients' keys. The conditions that follow
/// begin with a plus sign, which keeps SQLite from using the index on `send_at`: that would read everything due.
const FILL: &str = "UPDATE notice SET mail_id = (
        SELECT m.id FROM mail m WHERE m.recipient_key = notice.recipient_key AND m.state = 'open')
     WHERE state = 'planned' AND NOT held AND mail_id IS NULL AND recipient_key IN (";
/// The same for PostgreSQL, where an added interval keeps it from the index. Without statistics it would join the
/// other way round, which reads everything due for each page; `OFFSET 0` prevents that.
const FILL_ARRAYS: &str = "UPDATE notice SET mail_id = due.mail_id FROM (
        SELECT n.id, v.mail_id FROM unnest($1::uuid[], $2::text[]) AS v (mail_id, key)
        CROSS JOIN LATERAL (
            SELECT id FROM notice WHERE recipient_key = v.key AND state = 'planned' AND NOT held AND mail_id IS NULL
              AND (send_at + '0'::interval <= $3 OR send_at + '0'::interval = $4) OFFSET 0) AS n) AS due
     WHERE notice.id = due.id";

impl Tx {
    /// Returns the open plan, which a sweep that died may have left, or a new one. No one else can close it
    /// until this transaction ends.
    pub async fn open_plan(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<Uuid> {
        // The write locks it, and keeps it older than all its notices even if the clock moves back.
        let open_plan: Option<Uuid> = on!(self, c: Db => sqlx::query_scalar(
            "UPDATE plan SET created_at = CASE WHEN created_at > $1 THEN $1 ELSE created_at END
             WHERE state = 'open' RETURNING id").bind(now).fetch_optional(c).await)?;
        if let Some(open_plan) = open_plan {
            return Ok(open_plan);
        }
        on!(self, c: Db => sqlx::query("INSERT INTO plan (id, created_at, state) VALUES ($1, $2, 'open')")
            .bind(id).bind(now).execute(c).await.map(drop))?;
        Ok(id)
    }

    /// A plan left open by a sweep that died.
    pub async fn find_unfinished_plan(&mut self) -> Result<Option<Uuid>> {
        on!(self, c: Db => sqlx::query_scalar("SELECT id FROM plan WHERE state = 'open' LIMIT 1").fetch_optional(c).await)
    }

    /// Counts the recipients of an open plan's notices.
    pub async fn count_planned_recipients(&mut self, plan: Uuid) -> Result<i64> {
        let since = self.load_plan_created_at(plan).await?;
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT COUNT(DISTINCT recipient_key) FROM notice
             WHERE planned_at >= $2 AND plan_id = $1 AND state = 'planned'")
            .bind(plan).bind(since).fetch_one(c).await)
    }

    /// When a plan was created. No notice of it is older, which bounds the index scan.
    async fn load_plan_created_at(&mut self, plan: Uuid) -> Result<DateTime<Utc>> {
        on!(self, c: Db => sqlx::query_scalar("SELECT created_at FROM plan WHERE id = $1").bind(plan).fetch_one(c).await)
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

    /// Removes a plan's notices from their mails and deletes the mails; other notices in them wait for the next mail.
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

    /// The held plans: id, creation time and number of mails.
    pub async fn list_held_plans(&mut self) -> Result<Vec<(Uuid, DateTime<Utc>, i64)>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, created_at, mails FROM plan WHERE state = 'held' ORDER BY created_at").fetch_all(c).await)
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

    /// The recipients of the `limit` notices due by `horizon` that have waited longest.
    pub async fn find_due_recipients(
        &mut self,
        horizon: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Address>> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT MIN(recipient) FROM (
                SELECT recipient, recipient_key FROM notice
                WHERE state = 'planned' AND NOT held AND mail_id IS NULL AND send_at <= $1
                ORDER BY send_at LIMIT $2) AS due
             GROUP BY recipient_key")
            .bind(horizon).bind(limit).fetch_all(c).await)
    }

    /// Opens a mail for each recipient who has none open, and returns the open mail of each. It may be sent
    /// at once, or once `plan` is closed. Until this transaction ends no one else can claim it: a notice
    /// added to a mail that is being sent would count as sent.
    pub async fn open_mails(
        &mut self,
        mails: &[(Uuid, Address)],
        plan: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<Vec<OpenMail>> {
        match self {
            Self::Sqlite(tx) => {
                let mut open = Vec::with_capacity(mails.len());
                for chunk in mails.chunks(CHUNK_ROWS) {
                    let mut query = QueryBuilder::<Sqlite>::new(insert_open!());
                    query.push_values(chunk, |mut row, (id, address)| {
                        row.push_bind(*id)
                            .push_bind(address.as_str())
                            .push_bind(address.key())
                            .push("'open'")
                            .push_bind(now)
                            .push_bind(now)
                            .push_bind(plan);
                    });
                    query.push(or_find!());
                    let query = query.build_query_as().persistent(chunk.len() == CHUNK_ROWS);
                    open.append(&mut query.fetch_all(&mut **tx).await?);
                }
                Ok(open)
            }
            Self::Postgres(session) => {
                let ids: Vec<_> = mails.iter().map(|(id, _)| *id).collect();
                let recipients: Vec<_> = mails.iter().map(|(_, to)| to.as_str()).collect();
                let keys: Vec<_> = mails.iter().map(|(_, to)| to.key()).collect();
                let query = sqlx::query_as(OPEN_ARRAYS)
                    .bind(ids)
                    .bind(recipients)
                    .bind(keys)
                    .bind(now)
                    .bind(plan);
                guarded!(session, c => query.fetch_all(c).await)
            }
        }
    }

    /// The open mails of a plan to one of the recipients in `keys`.
    pub async fn find_open_mails_of_plan(
        &mut self,
        plan: Uuid,
        keys: &[&str],
    ) -> Result<Vec<OpenMail>> {
        let mut open = Vec::new();
        for chunk in keys.chunks(CHUNK_ROWS) {
            open.append(&mut on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT id, recipient_key FROM mail WHERE state = 'open' AND plan_id = ");
                query.push_bind(plan).push(" AND recipient_key IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_as().persistent(chunk.len() == CHUNK_ROWS).fetch_all(c).await
            })?);
        }
        Ok(open)
    }

    /// Deletes the open mails that have no notices; returns their recipients' keys.
    pub async fn delete_empty_mails(&mut self, mails: &[OpenMail]) -> Result<Vec<String>> {
        let mut recipient_keys = Vec::new();
        for chunk in mails.chunks(CHUNK_ROWS) {
            recipient_keys.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "DELETE FROM mail WHERE state = 'open'
                       AND NOT EXISTS (SELECT 1 FROM notice n WHERE n.mail_id = mail.id) AND id IN (");
                push_list(&mut query, chunk.iter().map(|mail| mail.id));
                query.push(") RETURNING recipient_key");
                query.build_query_scalar::<String>().fetch_all(c).await
            })?);
        }
        Ok(recipient_keys)
    }

    /// Whether a notice without a mail is due by `horizon` or goes with the next mail, whenever that is.
    pub async fn has_waiting_notices(&mut self, horizon: DateTime<Utc>) -> Result<bool> {
        let (first, last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = on!(self, c: Db => sqlx::query_as(
            "SELECT (SELECT send_at FROM notice WHERE state = 'planned' AND NOT held AND mail_id IS NULL ORDER BY send_at LIMIT 1),
                    (SELECT send_at FROM notice WHERE state = 'planned' AND NOT held AND mail_id IS NULL ORDER BY send_at DESC LIMIT 1)")
            .fetch_one(c).await)?;
        Ok(first.is_some_and(|at| at <= horizon) || last == Some(MAX_INSTANT))
    }

    /// Puts into open mails all notices due to their recipients by `horizon`, and those that go with the
    /// next mail. Returns how many.
    pub async fn fill_mails(&mut self, open: &[OpenMail], horizon: DateTime<Utc>) -> Result<u64> {
        let mut filled = 0;
        for chunk in open.chunks(CHUNK_ROWS) {
            filled += match self {
                Self::Sqlite(tx) => {
                    let mut query = QueryBuilder::<Sqlite>::new(FILL);
                    push_list(&mut query, chunk.iter().map(|mail| &mail.recipient_key));
                    query.push(") AND (+send_at <= ").push_bind(horizon);
                    query
                        .push(" OR +send_at = ")
                        .push_bind(MAX_INSTANT)
                        .push(")");
                    let query = query.build().persistent(chunk.len() == CHUNK_ROWS);
                    query.execute(&mut **tx).await?.rows_affected()
                }
                Self::Postgres(session) => {
                    let ids: Vec<_> = chunk.iter().map(|mail| mail.id).collect();
                    let keys: Vec<_> = chunk
                        .iter()
                        .map(|mail| mail.recipient_key.as_str())
                        .collect();
                    let query = sqlx::query(FILL_ARRAYS)
                        .bind(ids)
                        .bind(keys)
                        .bind(horizon)
                        .bind(MAX_INSTANT);
                    guarded!(session, c => query.execute(c).await)?.rows_affected()
                }
            };
        }
        Ok(filled)
    }
}
