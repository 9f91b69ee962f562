//! Notices before they travel: planned, cancelled, settled.

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{Address, NewNotice, Step, TokenId, Topic};

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
        let mails = vec![None; notices.len()];
        self.insert_into_mails(notices, &mails, plan, now).await
    }

    /// The same, each into its own of `mails`, which must be open and stay so.
    pub async fn insert_into_mails(
        &mut self,
        notices: &[NewNotice],
        mails: &[Option<Uuid>],
        plan: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        match self {
            Self::Sqlite(tx) => {
                let mut count = 0;
                for (notices, mails) in notices.chunks(CHUNK).zip(mails.chunks(CHUNK)) {
                    let mut query = QueryBuilder::<Sqlite>::new(INSERT);
                    query.push_values(notices.iter().zip(mails), |mut row, (notice, mail)| {
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
                            .push_bind(*mail)
                            .push_bind(now)
                            .push_bind(plan)
                            .push("'planned'");
                    });
                    query.push(REVIVE);
                    let query = query.build().persistent(notices.len() == CHUNK);
                    count += query.execute(&mut **tx).await?.rows_affected();
                }
                Ok(count)
            }
            Self::Postgres(tx) => {
                let query = sqlx::query(INSERT_ARRAYS)
                    .bind(of(notices, |n| n.id))
                    .bind(of(notices, |n| n.token_id.map(|id| id.0)))
                    .bind(of(notices, |n| n.subject.as_deref()))
                    .bind(of(notices, |n| n.generation))
                    .bind(of(notices, |n| n.topic.as_str()))
                    .bind(of(notices, |n| n.step.map(Step::seconds)))
                    .bind(of(notices, |n| n.recipient.as_str()))
                    .bind(of(notices, |n| n.recipient.key()))
                    .bind(of(notices, |n| n.ground.as_str()))
                    .bind(of(notices, |n| n.send_at))
                    .bind(of(notices, |n| n.title.as_deref()))
                    .bind(of(notices, |n| n.detail.as_deref()))
                    .bind(mails)
                    .bind(now)
                    .bind(plan);
                Ok(query.execute(&mut **tx).await?.rows_affected())
            }
        }
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

    /// Tells the database of `added` notices when it knows of fewer. PostgreSQL plans by statistics
    /// that it renews at its leisure, and by those of an empty table it reads all there is.
    pub async fn renew_statistics(&mut self, added: u64) -> Result<()> {
        if let Self::Postgres(tx) = self {
            let (known,): (i64,) = sqlx::query_as(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = 'notice'::regclass",
            )
            .fetch_one(&mut **tx)
            .await?;
            if u64::try_from(known).unwrap_or(0) < added {
                sqlx::query("ANALYZE notice").execute(&mut **tx).await?;
            }
        }
        Ok(())
    }
}

/// One column of many notices.
fn of<'a, T>(notices: &'a [NewNotice], get: fn(&'a NewNotice) -> T) -> Vec<T> {
    notices.iter().map(get).collect()
}

macro_rules! insert {
    () => {
        "INSERT INTO notice (id, token_id, subject, generation, topic, step, recipient, recipient_key, ground,
            send_at, title, detail, mail_id, planned_at, plan_id, state) "
    };
}
macro_rules! revive {
    () => {
        " ON CONFLICT (id) DO UPDATE SET state = 'planned', mail_id = excluded.mail_id, reason = NULL,
            send_at = excluded.send_at, planned_at = excluded.planned_at, plan_id = excluded.plan_id
          WHERE notice.state = 'cancelled'"
    };
}
const INSERT: &str = insert!();
const REVIVE: &str = revive!();
/// Arrays instead of a parameter a value: one text, which the server parses and plans once.
const INSERT_ARRAYS: &str = concat!(
    insert!(),
    "SELECT v.*, $14, $15, 'planned' FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::text[],
        $6::bigint[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::text[], $12::text[],
        $13::uuid[]) AS v",
    revive!()
);
