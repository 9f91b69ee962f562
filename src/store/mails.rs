//! Mails in delivery: claimed under a lease, loaded, recorded.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::Address;

use super::columns::push_list;
use super::session::{Session, check_replicated};
use super::{CHUNK_ROWS, Pools, Result, SHORT_LIMIT, Store, Tx, guarded, on};

/// A mail that this process holds under a lease.
#[derive(Debug, Clone, FromRow)]
pub struct ClaimedMail {
    /// The Message-ID is derived from it.
    pub id: Uuid,
    pub recipient: Address,
    #[sqlx(try_from = "i64")]
    pub attempts: u32,
    /// Attempts with an unknown outcome before this one.
    #[sqlx(try_from = "i64")]
    pub unknowns: u32,
    /// The first attempt; `give_up` counts from here.
    pub first_tried_at: Option<DateTime<Utc>>,
}

/// A result to be recorded for a claimed mail.
#[derive(Debug, Clone)]
pub struct MailRecord {
    pub id: Uuid,
    pub verdict: Verdict,
    /// The server's reply or an error text.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The text is about to be sent; from now on a copy may arrive.
    Sending,
    /// It was about to be sent but was not; its holder keeps it.
    Kept,
    Sent,
    /// It is tried again at this time.
    Retry(DateTime<Utc>),
    /// It may have been accepted; it is tried again at this time.
    Unknown(DateTime<Utc>),
    Failed,
    /// None of its notices is to be sent any more.
    Cancelled,
    /// Given back without an attempt.
    Returned,
}

impl Verdict {
    fn state(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Kept => "claimed",
            Self::Sent => "sent",
            Self::Retry(_) | Self::Returned => "waiting",
            Self::Unknown(_) => "unknown",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Who holds a lease, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    pub id: Uuid,
    /// When the lease ends unless renewed.
    pub until: DateTime<Utc>,
}

impl Tx {
    /// Claims up to `limit` due mails, the longest waiting first. Mails of an open plan are left out, because it
    /// may yet be held.
    ///
    /// A next attempt after `max_next_at`, now plus the longest back-off, was set by a clock that jumped;
    /// it counts as due.
    pub async fn claim_mails(
        &mut self,
        holder: Holder,
        now: DateTime<Utc>,
        max_next_at: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedMail>> {
        // A separate statement: with an OR in the next one, both databases sort everything due for each
        // claim instead of reading the index in order.
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET next_at = $1 WHERE state IN ('open', 'waiting', 'unknown') AND next_at > $2")
            .bind(now).bind(max_next_at).execute(c).await.map(drop))?;
        let sql = self.by_database(
            "UPDATE mail SET state = 'claimed', holder = $1, lease_until = $2 WHERE id IN (
                SELECT id FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                AND next_at <= $3 AND (plan_id IS NULL OR plan_id NOT IN (SELECT id FROM plan WHERE state = 'open'))
                ORDER BY next_at LIMIT $4)
             RETURNING id, recipient, attempts, unknowns, first_tried_at",
            // PostgreSQL evaluates an array once, but may run a sub-select again and then claim too many.
            "UPDATE mail SET state = 'claimed', holder = $1, lease_until = $2 WHERE id = ANY (ARRAY (
                SELECT id FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                AND next_at <= $3 AND (plan_id IS NULL OR plan_id NOT IN (SELECT id FROM plan WHERE state = 'open'))
                ORDER BY next_at LIMIT $4 FOR UPDATE SKIP LOCKED))
             RETURNING id, recipient, attempts, unknowns, first_tried_at",
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(holder.id).bind(holder.until).bind(now).bind(limit)
            .fetch_all(c).await)
    }

    /// Removes from claimed mails the notices that are no longer to be sent, and of several steps of one token
    /// all but the tightest that is due.
    pub async fn settle_claimed(&mut self, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        for chunk in ids.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "-- One that may have arrived must not be revived: a second copy would not be recognisable.
                     UPDATE notice SET reason = 'the token has changed',
                        state = CASE WHEN m.unknowns > 0 THEN 'suppressed' ELSE 'cancelled' END
                     FROM token t, mail m
                     WHERE t.id = notice.token_id AND m.id = notice.mail_id
                       AND notice.topic = 'expiry' AND notice.state = 'planned'
                       AND (t.expires_at IS NULL OR t.expires_at <> notice.generation
                            OR t.secret_version <> notice.secret_version
                            OR t.status IN ('disabled', 'revoked', 'gone'))
                       AND notice.mail_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().persistent(false).execute(c).await.map(drop)
            })?;
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE notice SET state = 'suppressed', reason = 'a tighter step is due'
                     WHERE topic = 'expiry' AND state = 'planned' AND EXISTS (
                        SELECT 1 FROM notice n WHERE n.token_id = notice.token_id
                          AND n.generation = notice.generation AND n.secret_version = notice.secret_version
                          AND n.recipient_key = notice.recipient_key
                          AND n.topic = 'expiry' AND n.step < notice.step AND n.state = 'planned' AND NOT n.held
                          AND (n.mail_id IS NOT NULL OR n.send_at <= ");
                query.push_bind(now);
                query.push(")) AND mail_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Records results of claimed mails in one statement; returns how many were written.
    ///
    /// After its lease has lapsed, a mail still belongs to its holder until another process claims it; then
    /// nothing is written. If another has marked it unknown, only the holder knows what happened, and that mark does not
    /// count. An attempt that is recorded already, by a commit whose answer was lost, is not counted twice.
    pub async fn record_mails(
        &mut self,
        records: &[MailRecord],
        holder: Holder,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mut count = 0;
        for chunk in records.chunks(CHUNK_ROWS) {
            count += match self {
                Self::Sqlite(tx) => record_in_sqlite(&mut **tx, chunk, holder, now).await?,
                Self::Postgres(session) => {
                    guarded!(session, c => record_in_postgres(c, chunk, holder, now).await)?
                }
            };
        }
        Ok(count)
    }

    /// Which of these mails are not in the recorded state, because another process has claimed them.
    pub async fn find_lost_mails(
        &mut self,
        records: &[MailRecord],
        holder: Uuid,
    ) -> Result<HashSet<Uuid>> {
        let mut lost = HashSet::new();
        for chunk in records.chunks(CHUNK_ROWS) {
            let states: Vec<(Uuid, String)> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT id, state FROM mail WHERE holder = ");
                query.push_bind(holder).push(" AND id IN (");
                push_list(&mut query, chunk.iter().map(|record| record.id));
                query.push(")");
                query.build_query_as().fetch_all(c).await
            })?;
            let states: HashMap<Uuid, String> = states.into_iter().collect();
            for record in chunk {
                if states.get(&record.id).map(String::as_str) != Some(record.verdict.state()) {
                    lost.insert(record.id);
                }
            }
        }
        Ok(lost)
    }

    /// Removes "unreachable" notices from mails that are not sent after all, so that they go with the next.
    pub async fn detach_unreachable_notices(&mut self, mails: &[Uuid]) -> Result<()> {
        for chunk in mails.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE notice SET mail_id = NULL WHERE topic = 'unreachable' AND state = 'planned' AND mail_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Extends the lease of all mails of `holder`, and returns them.
    pub async fn renew_mail_leases(&mut self, holder: Holder) -> Result<Vec<Uuid>> {
        on!(self, c: Db => sqlx::query_scalar(
            "UPDATE mail SET lease_until = $2 WHERE holder = $1 AND state IN ('claimed', 'sending') RETURNING id")
            .bind(holder.id).bind(holder.until).fetch_all(c).await)
    }

    /// Takes mails back from holders whose lease has lapsed, or ends after `max_lease_until` because of a
    /// clock that jumped. Returns those that were being sent: they may have been accepted.
    pub async fn reclaim_lapsed_mails(
        &mut self,
        now: DateTime<Utc>,
        max_lease_until: DateTime<Utc>,
    ) -> Result<Vec<ClaimedMail>> {
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET state = 'waiting', next_at = $1, lease_until = NULL
             WHERE state IN ('claimed', 'sending') AND state = 'claimed' AND (lease_until <= $1 OR lease_until > $2)")
            .bind(now).bind(max_lease_until).execute(c).await.map(drop))?;
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, recipient, attempts, unknowns, first_tried_at FROM mail
             WHERE state IN ('claimed', 'sending') AND state = 'sending' AND (lease_until <= $1 OR lease_until > $2)")
            .bind(now).bind(max_lease_until).fetch_all(c).await)
    }

    /// Records the result of a mail whose sending holder is gone.
    pub async fn settle_lapsed_mail(
        &mut self,
        mail: &ClaimedMail,
        verdict: Verdict,
        reason: &str,
    ) -> Result<()> {
        let next_at = match verdict {
            Verdict::Unknown(at) => Some(at),
            _ => None,
        };
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET state = $2, next_at = COALESCE($3, next_at), unknowns = unknowns + 1,
                attempts = attempts + 1, reason = $4, lease_until = NULL
             WHERE id = $1 AND state = 'sending'")
            .bind(mail.id).bind(verdict.state()).bind(next_at).bind(reason)
            .execute(c).await.map(drop))
    }

    /// Moves half of a mail's notices, those about the latest expiries, into a new mail.
    pub async fn split_mail(&mut self, id: Uuid, new_id: Uuid, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO mail (id, recipient, recipient_key, state, created_at, next_at)
             SELECT $2, recipient, recipient_key, 'waiting', $3, $3 FROM mail WHERE id = $1")
            .bind(id).bind(new_id).bind(now).execute(c).await.map(drop))?;
        on!(self, c: Db => sqlx::query(
            "UPDATE notice SET mail_id = $2 WHERE id IN (
                SELECT id FROM notice WHERE mail_id = $1 AND state = 'planned' ORDER BY generation DESC, id DESC
                LIMIT (SELECT COUNT(*) / 2 FROM notice WHERE mail_id = $1 AND state = 'planned'))")
            .bind(id).bind(new_id).execute(c).await.map(drop))
    }

    /// Fails the mails that wait for another attempt to this address, and returns them.
    pub async fn fail_waiting_mails(
        &mut self,
        key: &str,
        reason: &str,
    ) -> Result<Vec<ClaimedMail>> {
        on!(self, c: Db => sqlx::query_as(
            "UPDATE mail SET state = 'failed', reason = $2
             WHERE state IN ('open', 'waiting', 'unknown') AND state = 'waiting' AND recipient_key = $1
             RETURNING id, recipient, attempts, unknowns, first_tried_at")
            .bind(key).bind(reason).fetch_all(c).await)
    }

    /// How many deferred mails wait for their next attempt, and when the first is due.
    pub async fn count_waiting_mails(
        &mut self,
        now: DateTime<Utc>,
    ) -> Result<(i64, Option<DateTime<Utc>>)> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT COUNT(*), MIN(next_at) FROM mail
             WHERE state IN ('open', 'waiting', 'unknown') AND state <> 'open' AND next_at > $1")
            .bind(now).fetch_one(c).await)
    }

    /// Since when the mail is due that waits longest: to be claimed, or to be taken back from a holder that is gone.
    pub async fn find_oldest_due_mail(&mut self) -> Result<Option<DateTime<Utc>>> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT MIN(at) FROM (
                SELECT MIN(next_at) AS at FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                UNION ALL SELECT MIN(lease_until) FROM mail WHERE state IN ('claimed', 'sending')) AS due")
            .fetch_one(c).await)
    }

    pub async fn find_next_mail_at(&mut self) -> Result<Option<DateTime<Utc>>> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT MIN(next_at) FROM mail WHERE state IN ('open', 'waiting', 'unknown')").fetch_one(c).await)
    }
}

impl Store {
    /// Like [`Tx::record_mails`], but without an explicit transaction, which saves two round trips.
    pub async fn record_mails(
        &self,
        records: &[MailRecord],
        holder: Holder,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mut count = 0;
        for chunk in records.chunks(CHUNK_ROWS) {
            count += match &self.0 {
                Pools::Sqlite { write, .. } => record_in_sqlite(write, chunk, holder, now).await?,
                Pools::Postgres { cluster, pool } => {
                    let mut session = Session::open(cluster, pool, SHORT_LIMIT).await?;
                    let (count, warning) = guarded!(
                        @warning &mut session, c => record_in_postgres(c, chunk, holder, now).await);
                    check_replicated(warning)?;
                    count?
                }
            };
        }
        Ok(count)
    }
}

/// The columns of a mail that a record changes.
struct MailChange {
    next_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    attempts: i64,
    unknowns: i64,
    lease_until: Option<DateTime<Utc>>,
    first_tried_at: Option<DateTime<Utc>>,
}

impl MailChange {
    fn new(verdict: Verdict, holder: Holder, now: DateTime<Utc>) -> Self {
        let is_held = matches!(verdict, Verdict::Sending | Verdict::Kept);
        let is_attempt = !is_held && !matches!(verdict, Verdict::Returned | Verdict::Cancelled);
        Self {
            next_at: match verdict {
                Verdict::Retry(at) | Verdict::Unknown(at) => Some(at),
                _ => None,
            },
            sent_at: (verdict == Verdict::Sent).then_some(now),
            attempts: i64::from(is_attempt),
            unknowns: i64::from(matches!(verdict, Verdict::Unknown(_))),
            lease_until: is_held.then_some(holder.until),
            first_tried_at: (is_attempt || verdict == Verdict::Sending).then_some(now),
        }
    }
}

async fn record_in_sqlite(
    on: impl sqlx::Executor<'_, Database = Sqlite>,
    records: &[MailRecord],
    holder: Holder,
    now: DateTime<Utc>,
) -> Result<u64> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "UPDATE mail SET state = v.column2, next_at = COALESCE(v.column3, next_at), sent_at = v.column4,
            attempts = attempts + v.column5 - (state = 'unknown'),
            unknowns = unknowns + v.column6 - (state = 'unknown'), reason = v.column7,
            lease_until = v.column8, first_tried_at = COALESCE(first_tried_at, v.column9)
         FROM (",
    );
    query.push_values(records, |mut row, record| {
        let change = MailChange::new(record.verdict, holder, now);
        row.push_bind(record.id)
            .push_bind(record.verdict.state())
            .push_bind(change.next_at)
            .push_bind(change.sent_at)
            .push_bind(change.attempts)
            .push_bind(change.unknowns)
            .push_bind(record.reason.as_deref())
            .push_bind(change.lease_until)
            .push_bind(change.first_tried_at);
    });
    query.push(") AS v WHERE mail.id = v.column1 AND mail.state IN ('claimed', 'sending', 'waiting', 'unknown') AND mail.holder = ");
    query.push_bind(holder.id);
    query.push(
        " AND NOT (v.column3 IS NOT NULL AND mail.state = v.column2 AND mail.next_at = v.column3)",
    );
    // Redundant, but without it SQLite may scan all mails and look up each one among the records.
    query.push(" AND mail.id IN (");
    push_list(&mut query, records.iter().map(|record| record.id));
    query.push(")");
    // Only small batches repeat their size, so only these are worth caching.
    let query = query.build().persistent(records.len() <= 16);
    Ok(query.execute(on).await?.rows_affected())
}

async fn record_in_postgres(
    on: impl sqlx::Executor<'_, Database = sqlx::Postgres>,
    records: &[MailRecord],
    holder: Holder,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let changes: Vec<_> = records
        .iter()
        .map(|record| MailChange::new(record.verdict, holder, now))
        .collect();
    let query = sqlx::query(
        "UPDATE mail SET state = v.state, next_at = COALESCE(v.next_at, mail.next_at), sent_at = v.sent_at,
            attempts = mail.attempts + v.attempts - (mail.state = 'unknown')::int,
            unknowns = mail.unknowns + v.unknowns - (mail.state = 'unknown')::int, reason = v.reason,
            lease_until = v.lease_until, first_tried_at = COALESCE(mail.first_tried_at, v.first_tried_at)
         FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::bigint[],
            $7::text[], $8::timestamptz[], $9::timestamptz[])
            AS v (id, state, next_at, sent_at, attempts, unknowns, reason, lease_until, first_tried_at)
         WHERE mail.id = v.id AND mail.state IN ('claimed', 'sending', 'waiting', 'unknown') AND mail.holder = $10
            AND NOT (v.next_at IS NOT NULL AND mail.state = v.state AND mail.next_at = v.next_at)",
    )
    .bind(records.iter().map(|record| record.id).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.verdict.state()).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.next_at).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.sent_at).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.attempts).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.unknowns).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.reason.as_deref()).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.lease_until).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.first_tried_at).collect::<Vec<_>>())
    .bind(holder.id);
    Ok(query.execute(on).await?.rows_affected())
}
