//! Notices before they travel: planned, gathered into mails, cancelled, held.

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
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
            count += match self {
                Self::Sqlite(tx) => {
                    let mut query = QueryBuilder::<Sqlite>::new(INSERT);
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
                            .push_bind(&notice.title)
                            .push_bind(&notice.detail)
                            .push_bind(now)
                            .push_bind(plan)
                            .push("'planned'");
                    });
                    query.push(REVIVE);
                    let query = query.build().persistent(notices.len() == CHUNK);
                    query.execute(&mut **tx).await?.rows_affected()
                }
                Self::Postgres(tx) => {
                    let of =
                        |get: fn(&NewNotice) -> &str| notices.iter().map(get).collect::<Vec<_>>();
                    let ids: Vec<_> = notices.iter().map(|n| n.id).collect();
                    let tokens: Vec<_> =
                        notices.iter().map(|n| n.token_id.map(|id| id.0)).collect();
                    let subjects: Vec<_> = notices.iter().map(|n| n.subject.as_deref()).collect();
                    let generations: Vec<_> = notices.iter().map(|n| n.generation).collect();
                    let steps: Vec<_> = notices.iter().map(|n| n.step.map(Step::seconds)).collect();
                    let send_ats: Vec<_> = notices.iter().map(|n| n.send_at).collect();
                    let titles: Vec<_> = notices.iter().map(|n| n.title.as_deref()).collect();
                    let details: Vec<_> = notices.iter().map(|n| n.detail.as_deref()).collect();
                    let query = sqlx::query(INSERT_ARRAYS)
                        .bind(ids)
                        .bind(tokens)
                        .bind(subjects)
                        .bind(generations)
                        .bind(of(|n| n.topic.as_str()))
                        .bind(steps)
                        .bind(of(|n| n.recipient.as_str()))
                        .bind(of(|n| n.recipient.key()))
                        .bind(of(|n| n.ground.as_str()))
                        .bind(send_ats)
                        .bind(titles)
                        .bind(details)
                        .bind(now)
                        .bind(plan);
                    query.execute(&mut **tx).await?.rows_affected()
                }
            };
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

    /// Tells the database that many notices were added since it last looked. PostgreSQL plans by
    /// statistics that it renews at its leisure; by stale ones it reads all that is due over and over.
    pub async fn renew_statistics(&mut self) -> Result<()> {
        if let Self::Postgres(tx) = self {
            sqlx::query("ANALYZE notice").execute(&mut **tx).await?;
        }
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

    /// Opens a mail for each recipient who has none open; it may go at once. Gives the open mail of
    /// each: until this transaction ends nobody else can claim it, because what joins a mail that
    /// somebody is sending would count as sent.
    pub async fn open_mails(
        &mut self,
        mails: &[(Uuid, Address)],
        now: DateTime<Utc>,
    ) -> Result<Vec<OpenMail>> {
        let mut open = Vec::with_capacity(mails.len());
        for mails in mails.chunks(CHUNK) {
            open.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO mail (id, recipient, recipient_key, state, created_at, next_at) ");
                query.push_values(mails, |mut row, (id, address)| {
                    row.push_bind(*id).push_bind(address.as_str()).push_bind(address.key())
                        .push("'open'").push_bind(now).push_bind(now);
                });
                query.push(" ON CONFLICT (recipient_key) WHERE state = 'open'
                    DO UPDATE SET recipient_key = excluded.recipient_key RETURNING id, recipient_key");
                query.build_query_as::<OpenMail>().persistent(mails.len() == CHUNK).fetch_all(c).await
            })?);
        }
        Ok(open)
    }

    /// Puts into open mails all that is due to their recipients up to `horizon`, and what rides along
    /// whenever a mail goes. Tells how many notices found their mail.
    pub async fn fill_mails(&mut self, open: &[OpenMail], horizon: DateTime<Utc>) -> Result<u64> {
        let mut filled = 0;
        for open in open.chunks(CHUNK) {
            filled += match self {
                Self::Sqlite(tx) => {
                    let mut query = QueryBuilder::<Sqlite>::new(FILL);
                    let mut list = query.separated(", ");
                    for mail in open {
                        list.push_bind(&mail.recipient_key);
                    }
                    query.push(") AND (+send_at <= ").push_bind(horizon);
                    query.push(" OR +send_at = ").push_bind(FAR).push(")");
                    let query = query.build().persistent(open.len() == CHUNK);
                    query.execute(&mut **tx).await?.rows_affected()
                }
                Self::Postgres(tx) => {
                    let ids: Vec<_> = open.iter().map(|mail| mail.id).collect();
                    let keys: Vec<_> = open
                        .iter()
                        .map(|mail| mail.recipient_key.as_str())
                        .collect();
                    let query = sqlx::query(FILL_ARRAYS)
                        .bind(ids)
                        .bind(keys)
                        .bind(horizon)
                        .bind(FAR);
                    query.execute(&mut **tx).await?.rows_affected()
                }
            };
        }
        Ok(filled)
    }

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

/// A mail that still takes notices in.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OpenMail {
    /// Its id.
    pub id: Uuid,
    /// Its recipient's address as it is compared.
    pub recipient_key: String,
}

macro_rules! insert {
    () => {
        "INSERT INTO notice (id, token_id, subject, generation, topic, step, recipient, recipient_key, ground,
            send_at, title, detail, planned_at, plan_id, state) "
    };
}
macro_rules! revive {
    () => {
        " ON CONFLICT (id) DO UPDATE SET state = 'planned', mail_id = NULL, reason = NULL,
            send_at = excluded.send_at, planned_at = excluded.planned_at, plan_id = excluded.plan_id
          WHERE notice.state = 'cancelled'"
    };
}
const INSERT: &str = insert!();
const REVIVE: &str = revive!();
/// Arrays instead of a parameter a value: one text, which the server parses and plans once.
const INSERT_ARRAYS: &str = concat!(
    insert!(),
    "SELECT v.*, $13, $14, 'planned' FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[],
        $6::bigint[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::text[]) AS v",
    revive!()
);

/// The plus signs keep SQLite from entering by the time, which would read all that is due.
const FILL: &str = "UPDATE notice SET mail_id = (
        SELECT m.id FROM mail m WHERE m.recipient_key = notice.recipient_key AND m.state = 'open')
     WHERE state = 'planned' AND mail_id IS NULL AND recipient_key IN (";
/// `OFFSET 0` keeps PostgreSQL from joining the other way round, which it likes while it has no
/// statistics: that would read all that is due for each page.
const FILL_ARRAYS: &str = "UPDATE notice SET mail_id = due.mail_id FROM (
        SELECT n.id, v.mail_id FROM unnest($1::uuid[], $2::text[]) AS v (mail_id, key)
        CROSS JOIN LATERAL (
            SELECT id FROM notice WHERE recipient_key = v.key AND state = 'planned' AND mail_id IS NULL
              AND (send_at <= $3 OR send_at = $4) OFFSET 0) AS n) AS due
     WHERE notice.id = due.id";
