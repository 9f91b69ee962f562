//! Notices before they are sent: planned, cancelled, suppressed.

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{Address, Generation, NewNotice, Step, TokenId, Topic};

use super::{CHUNK_ROWS, Result, Tx, on};
use crate::time::MAX_INSTANT;

/// Tokens that a digest counts but does not list: how many of a source expire on one day.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UnlistedTokens {
    #[sqlx(try_from = "String")]
    pub topic: Topic,
    pub source: String,
    /// The UTC day, as `2026-11-28`; `None` for tokens without expiry.
    pub day: Option<String>,
    pub count: i64,
}

impl Tx {
    /// Inserts notices and returns how many are new. An existing one is unchanged unless it was cancelled:
    /// an expiry that went from A to B and back to A is owed its warning again.
    pub async fn insert_notices(
        &mut self,
        notices: &[NewNotice],
        plan: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mails = vec![None; notices.len()];
        self.insert_notices_into_mails(notices, &mails, plan, now)
            .await
    }

    /// Like [`Tx::insert_notices`], but puts each notice into the mail at the same index of `mails`. These
    /// must be open and stay so.
    pub async fn insert_notices_into_mails(
        &mut self,
        notices: &[NewNotice],
        mails: &[Option<Uuid>],
        plan: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        match self {
            Self::Sqlite(tx) => {
                let mut count = 0;
                for (notices, mails) in notices.chunks(CHUNK_ROWS).zip(mails.chunks(CHUNK_ROWS)) {
                    let mut query = QueryBuilder::<Sqlite>::new(INSERT);
                    query.push_values(notices.iter().zip(mails), |mut row, (notice, mail)| {
                        row.push_bind(notice.id)
                            .push_bind(notice.token_id.map(|id| id.0))
                            .push_bind(&notice.subject)
                            .push_bind(notice.generation.at)
                            .push_bind(i64::from(notice.generation.secret_version))
                            .push_bind(notice.topic.as_str())
                            .push_bind(notice.step.map(Step::seconds))
                            .push_bind(notice.recipient.as_str())
                            .push_bind(notice.recipient.key())
                            .push_bind(notice.basis.as_str())
                            .push_bind(notice.send_at)
                            .push_bind(&notice.title)
                            .push_bind(&notice.detail)
                            .push_bind(*mail)
                            .push_bind(now)
                            .push_bind(plan)
                            .push("'planned'");
                    });
                    query.push(REVIVE);
                    let query = query.build().persistent(notices.len() == CHUNK_ROWS);
                    count += query.execute(&mut **tx).await?.rows_affected();
                }
                Ok(count)
            }
            Self::Postgres(tx) => {
                let query = sqlx::query(INSERT_ARRAYS)
                    .bind(column(notices, |n| n.id))
                    .bind(column(notices, |n| n.token_id.map(|id| id.0)))
                    .bind(column(notices, |n| n.subject.as_deref()))
                    .bind(column(notices, |n| n.generation.at))
                    .bind(column(notices, |n| i64::from(n.generation.secret_version)))
                    .bind(column(notices, |n| n.topic.as_str()))
                    .bind(column(notices, |n| n.step.map(Step::seconds)))
                    .bind(column(notices, |n| n.recipient.as_str()))
                    .bind(column(notices, |n| n.recipient.key()))
                    .bind(column(notices, |n| n.basis.as_str()))
                    .bind(column(notices, |n| n.send_at))
                    .bind(column(notices, |n| n.title.as_deref()))
                    .bind(column(notices, |n| n.detail.as_deref()))
                    .bind(mails)
                    .bind(now)
                    .bind(plan);
                Ok(query.execute(&mut **tx).await?.rows_affected())
            }
        }
    }

    /// Records a notice as failed because it has no recipient. Returns whether it is new.
    pub async fn insert_failed_notice(
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

    /// Cancels the unsent notices of a token. Those of `generation` stay, and those of it that were
    /// cancelled before are owed again.
    pub async fn cancel_notices(
        &mut self,
        token: TokenId,
        generation: Option<Generation>,
        reason: &str,
    ) -> Result<u64> {
        // A mail in flight or with unknown outcome is skipped: it may have been accepted. The next claim
        // checks again.
        let current = generation.unwrap_or(MAX_INSTANT.into());
        let cancelled = on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $3
             WHERE token_id = $1 AND topic = 'expiry' AND (generation, secret_version) <> ($2, $4) AND state = 'planned'
               AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                               AND m.state IN ('sending', 'unknown', 'sent', 'failed'))")
            .bind(token.0).bind(current.at).bind(reason).bind(i64::from(current.secret_version))
            .execute(c).await.map(|done| done.rows_affected()))?;
        if generation.is_some() {
            on!(self, c: Db => sqlx::query(
                "UPDATE notice SET state = 'planned', reason = NULL, mail_id = NULL
                 WHERE token_id = $1 AND topic = 'expiry' AND generation = $2 AND secret_version = $3 AND state = 'cancelled'")
                .bind(token.0).bind(current.at).bind(i64::from(current.secret_version)).execute(c).await.map(drop))?;
        }
        Ok(cancelled)
    }

    /// Suppresses the unsent notices to one recipient about a token.
    pub async fn suppress_notices(
        &mut self,
        token: TokenId,
        recipient: &Address,
        reason: &str,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'suppressed', held = FALSE, reason = $3
             WHERE token_id = $1 AND recipient_key = $2 AND topic = 'expiry' AND state = 'planned'
               AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                               AND m.state IN ('sending', 'unknown', 'sent', 'failed'))")
            .bind(token.0).bind(recipient.key()).bind(reason).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Cancels the unsent notices of one topic about a token.
    pub async fn cancel_notices_of_topic(
        &mut self,
        token: TokenId,
        topic: Topic,
        reason: &str,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $3
             WHERE token_id = $1 AND topic = $2 AND state = 'planned'
               AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                               AND m.state IN ('sending', 'unknown', 'sent', 'failed'))")
            .bind(token.0).bind(topic.as_str()).bind(reason).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Refreshes PostgreSQL's statistics when they count fewer than `added` notices. It updates them only
    /// now and then, and with those of an empty table it plans full scans.
    pub async fn analyze_notices(&mut self, added: u64) -> Result<()> {
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

fn column<'a, T>(notices: &'a [NewNotice], get: fn(&'a NewNotice) -> T) -> Vec<T> {
    notices.iter().map(get).collect()
}

macro_rules! insert {
    () => {
        "INSERT INTO notice (id, token_id, subject, generation, secret_version, topic, step, recipient, recipient_key, basis,
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
/// Arrays instead of one parameter per value, so that the server parses and plans one text once.
const INSERT_ARRAYS: &str = concat!(
    insert!(),
    "SELECT v.*, $15, $16, 'planned' FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[],
        $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::timestamptz[],
        $12::text[], $13::text[], $14::uuid[]) AS v",
    revive!()
);
