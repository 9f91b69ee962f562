//! Mails on their way: claimed under a lease, loaded, recorded.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{Address, Step, TokenId, Topic};

use super::{CHUNK, Error, Pools, Result, Store, Tx, on};

/// A mail that this process holds under a lease.
#[derive(Debug, Clone)]
pub struct ClaimedMail {
    /// Its id, which its Message-ID is made of.
    pub id: Uuid,
    /// Who gets it.
    pub recipient: Address,
    /// Attempts before this one.
    pub attempts: u32,
    /// How often it was left in doubt before.
    pub unknowns: u32,
    /// The first attempt; giving up counts from here.
    pub first_tried_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct ClaimedRow {
    id: Uuid,
    recipient: String,
    attempts: i64,
    unknowns: i64,
    first_tried_at: Option<DateTime<Utc>>,
}

impl TryFrom<ClaimedRow> for ClaimedMail {
    type Error = Error;

    fn try_from(row: ClaimedRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            recipient: parsed(&row.recipient, "a mail's recipient")?,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            unknowns: u32::try_from(row.unknowns).unwrap_or(u32::MAX),
            first_tried_at: row.first_tried_at,
        })
    }
}

/// What became of a mail that was in hand, as it is written down.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The mail.
    pub id: Uuid,
    /// What became of it.
    pub verdict: Verdict,
    /// What the server said, for people.
    pub reason: Option<String>,
}

/// What becomes of a mail in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An attempt begins: from here on a copy may exist.
    Sending,
    /// The server took it.
    Sent,
    /// It goes again at this time.
    Again(DateTime<Utc>),
    /// It may have been taken; it goes again at this time.
    Doubtful(DateTime<Utc>),
    /// Given up.
    Failed,
    /// Nothing is left to say.
    Cancelled,
    /// Given back untouched: no attempt was made.
    Untouched,
}

impl Verdict {
    fn state(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Again(_) | Self::Untouched => "waiting",
            Self::Doubtful(_) => "unknown",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Who holds mails, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// This process.
    pub id: Uuid,
    /// When its claims lapse unless renewed.
    pub until: DateTime<Utc>,
}

impl Tx {
    /// Claims up to `limit` mails whose time has come, the longest waiting first; none of a plan that
    /// is open, because it may yet be held.
    ///
    /// A next attempt beyond `far`, the longest back-off from now, was set by a clock that jumped;
    /// it counts as due.
    pub async fn claim_mails(
        &mut self,
        holder: Holder,
        now: DateTime<Utc>,
        far: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedMail>> {
        // A statement of its own: asked for in the next one with an OR, both databases sort all that
        // is due for each claim instead of reading the index in its order.
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET next_at = $1 WHERE state IN ('open', 'waiting', 'unknown') AND next_at > $2")
            .bind(now).bind(far).execute(c).await.map(drop))?;
        let sql = self.pick(
            "UPDATE mail SET state = 'claimed', holder = $1, lease_until = $2 WHERE id IN (
                SELECT id FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                AND next_at <= $3 AND (plan_id IS NULL OR plan_id NOT IN (SELECT id FROM plan WHERE state = 'open'))
                ORDER BY next_at LIMIT $4)
             RETURNING id, recipient, attempts, unknowns, first_tried_at",
            // An array is made once; PostgreSQL may run a sub-select again, and then claims too many.
            "UPDATE mail SET state = 'claimed', holder = $1, lease_until = $2 WHERE id = ANY (ARRAY (
                SELECT id FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                AND next_at <= $3 AND (plan_id IS NULL OR plan_id NOT IN (SELECT id FROM plan WHERE state = 'open'))
                ORDER BY next_at LIMIT $4 FOR UPDATE SKIP LOCKED))
             RETURNING id, recipient, attempts, unknowns, first_tried_at",
        );
        let rows: Vec<ClaimedRow> = on!(self, c: Db => sqlx::query_as(sql)
            .bind(holder.id).bind(holder.until).bind(now).bind(limit)
            .fetch_all(c).await)?;
        rows.into_iter().map(ClaimedMail::try_from).collect()
    }

    /// Takes out of claimed mails what is no longer owed, and of several steps of one token all but
    /// the tightest that is due.
    pub async fn settle_claimed(&mut self, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        for ids in ids.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "-- One that may have arrived must not revive: a second copy would not be recognisable.
                     UPDATE notice SET reason = 'the token has changed',
                        state = CASE WHEN m.unknowns > 0 THEN 'suppressed' ELSE 'cancelled' END
                     FROM token t, mail m
                     WHERE t.id = notice.token_id AND m.id = notice.mail_id
                       AND notice.topic = 'expiry' AND notice.state = 'planned'
                       AND (t.expires_at IS NULL OR t.expires_at <> notice.generation
                            OR t.status IN ('disabled', 'revoked', 'gone'))
                       AND notice.mail_id IN (");
                let mut list = query.separated(", ");
                for id in ids { list.push_bind(*id); }
                query.push(")");
                query.build().persistent(false).execute(c).await.map(drop)
            })?;
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE notice SET state = 'suppressed', reason = 'a tighter step is due'
                     WHERE topic = 'expiry' AND state = 'planned' AND EXISTS (
                        SELECT 1 FROM notice n WHERE n.token_id = notice.token_id
                          AND n.generation = notice.generation AND n.recipient_key = notice.recipient_key
                          AND n.topic = 'expiry' AND n.step < notice.step AND n.state = 'planned'
                          AND (n.mail_id IS NOT NULL OR n.send_at <= ");
                query.push_bind(now);
                query.push(")) AND mail_id IN (");
                let mut list = query.separated(", ");
                for id in ids { list.push_bind(*id); }
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Writes down what became of mails in hand, in one statement; tells how many were written.
    ///
    /// A mail whose lease has lapsed is still its holder's until another process claims it; then it
    /// is left as it is.
    pub async fn record(
        &mut self,
        records: &[Recorded],
        holder: Holder,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mut written = 0;
        for records in records.chunks(CHUNK) {
            written += match self {
                Self::Sqlite(tx) => record_in_sqlite(&mut **tx, records, holder, now).await?,
                Self::Postgres(tx) => record_in_postgres(&mut **tx, records, holder, now).await?,
            };
        }
        Ok(written)
    }

    /// Which of these mails are not as they were written down: another process has claimed them.
    pub async fn taken_over(
        &mut self,
        records: &[Recorded],
        holder: Uuid,
    ) -> Result<HashSet<Uuid>> {
        let mut gone = HashSet::new();
        for records in records.chunks(CHUNK) {
            let rows: Vec<(Uuid, String)> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT id, state FROM mail WHERE holder = ");
                query.push_bind(holder).push(" AND id IN (");
                let mut list = query.separated(", ");
                for record in records { list.push_bind(record.id); }
                query.push(")");
                query.build_query_as().fetch_all(c).await
            })?;
            let held: HashMap<Uuid, String> = rows.into_iter().collect();
            let is_lost = |record: &&Recorded| {
                held.get(&record.id)
                    .is_none_or(|state| state != record.verdict.state())
            };
            gone.extend(records.iter().filter(is_lost).map(|record| record.id));
        }
        Ok(gone)
    }

    /// Lets what rides along leave mails that do not go after all, so that it goes with the next.
    pub async fn release_riders(&mut self, mails: &[Uuid]) -> Result<()> {
        for mails in mails.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE notice SET mail_id = NULL WHERE topic = 'unreachable' AND state = 'planned' AND mail_id IN (");
                let mut list = query.separated(", ");
                for id in mails { list.push_bind(*id); }
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Holds on to everything in hand until `holder.until`.
    pub async fn renew_mails(&mut self, holder: Holder) -> Result<u64> {
        Ok(on!(self, c: Db => sqlx::query(
            "UPDATE mail SET lease_until = $2 WHERE holder = $1 AND state IN ('claimed', 'sending')")
            .bind(holder.id).bind(holder.until).execute(c).await.map(|done| done.rows_affected()))?)
    }

    /// Takes mails away from holders that are no more. One that was being sent may have been taken:
    /// it is in doubt, and goes again after the back-off. Gives those with their doubts so far.
    pub async fn lapsed_mails(
        &mut self,
        now: DateTime<Utc>,
        far: DateTime<Utc>,
    ) -> Result<Vec<ClaimedMail>> {
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET state = 'waiting', next_at = $1, lease_until = NULL
             WHERE state IN ('claimed', 'sending') AND state = 'claimed' AND (lease_until <= $1 OR lease_until > $2)")
            .bind(now).bind(far).execute(c).await.map(drop))?;
        let rows: Vec<ClaimedRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, recipient, attempts, unknowns, first_tried_at FROM mail
             WHERE state IN ('claimed', 'sending') AND state = 'sending' AND (lease_until <= $1 OR lease_until > $2)")
            .bind(now).bind(far).fetch_all(c).await)?;
        rows.into_iter().map(ClaimedMail::try_from).collect()
    }

    /// Settles a mail whose holder is no more.
    pub async fn doubt(
        &mut self,
        mail: &ClaimedMail,
        verdict: Verdict,
        reason: &str,
    ) -> Result<()> {
        let next_at = match verdict {
            Verdict::Doubtful(at) => Some(at),
            _ => None,
        };
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET state = $2, next_at = COALESCE($3, next_at), unknowns = unknowns + 1,
                attempts = attempts + 1, reason = $4, lease_until = NULL
             WHERE id = $1 AND state = 'sending'")
            .bind(mail.id).bind(verdict.state()).bind(next_at).bind(reason)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// Whether any mail waits for its time, and when the first one comes.
    pub async fn next_mail_at(&mut self) -> Result<Option<DateTime<Utc>>> {
        let (next,): (Option<DateTime<Utc>>,) = on!(self, c: Db => sqlx::query_as(
            "SELECT MIN(next_at) FROM mail WHERE state IN ('open', 'waiting', 'unknown')").fetch_one(c).await)?;
        Ok(next)
    }

    /// Takes note that a server refused a mailbox as such.
    pub async fn bury_address(
        &mut self,
        address: &Address,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO address (key, dead_since, reason) VALUES ($1, $2, $3)
             ON CONFLICT (key) DO UPDATE SET dead_since = excluded.dead_since, reason = excluded.reason")
            .bind(address.key()).bind(now).bind(reason).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Every mailbox that is taken for dead, with what was said of it. Those refused before
    /// `retry_before` are due for another try and forgotten.
    pub async fn dead_addresses(
        &mut self,
        retry_before: DateTime<Utc>,
    ) -> Result<Vec<(String, String)>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT key, reason FROM address WHERE dead_since > $1")
            .bind(retry_before).fetch_all(c).await)?,
        )
    }

    /// The tokens that the notices in a mail are about, with what a successor needs to know.
    pub async fn notices_in(&mut self, mail: Uuid, after: Uuid, limit: i64) -> Result<Vec<InMail>> {
        let rows: Vec<InMailRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, token_id, generation, topic, step, send_at FROM notice
             WHERE mail_id = $1 AND state = 'planned' AND id > $2 ORDER BY id LIMIT $3")
            .bind(mail).bind(after).bind(limit).fetch_all(c).await)?;
        rows.into_iter()
            .map(|row| {
                Ok(InMail {
                    id: row.id,
                    token_id: row.token_id.map(TokenId),
                    generation: row.generation,
                    topic: parsed(&row.topic, "a notice's topic")?,
                    step: row.step.map(Step::from_seconds),
                    send_at: row.send_at,
                })
            })
            .collect()
    }
}

impl Store {
    /// [`Tx::record`] by itself: one statement is a transaction of its own, which saves the round
    /// trips that open and close one.
    pub async fn record(
        &self,
        records: &[Recorded],
        holder: Holder,
        now: DateTime<Utc>,
    ) -> Result<u64> {
        let mut written = 0;
        for records in records.chunks(CHUNK) {
            written += match &self.0 {
                Pools::Sqlite { write, .. } => {
                    record_in_sqlite(write, records, holder, now).await?
                }
                Pools::Postgres(pool) => record_in_postgres(pool, records, holder, now).await?,
            };
        }
        Ok(written)
    }
}

/// What of a mail's row a record changes.
struct Row {
    next_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    attempts: i64,
    unknowns: i64,
    lease_until: Option<DateTime<Utc>>,
    first_tried_at: Option<DateTime<Utc>>,
}

impl Row {
    fn of(verdict: Verdict, holder: Holder, now: DateTime<Utc>) -> Self {
        let is_sending = verdict == Verdict::Sending;
        let is_attempt = !is_sending && !matches!(verdict, Verdict::Untouched | Verdict::Cancelled);
        Self {
            next_at: match verdict {
                Verdict::Again(at) | Verdict::Doubtful(at) => Some(at),
                _ => None,
            },
            sent_at: (verdict == Verdict::Sent).then_some(now),
            attempts: i64::from(is_attempt),
            unknowns: i64::from(matches!(verdict, Verdict::Doubtful(_))),
            lease_until: is_sending.then_some(holder.until),
            first_tried_at: is_sending.then_some(now),
        }
    }
}

async fn record_in_sqlite(
    on: impl sqlx::Executor<'_, Database = Sqlite>,
    records: &[Recorded],
    holder: Holder,
    now: DateTime<Utc>,
) -> Result<u64> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "UPDATE mail SET state = v.column2, next_at = COALESCE(v.column3, next_at), sent_at = v.column4,
            attempts = attempts + v.column5, unknowns = unknowns + v.column6, reason = v.column7,
            lease_until = v.column8, first_tried_at = COALESCE(first_tried_at, v.column9)
         FROM (",
    );
    query.push_values(records, |mut row, record| {
        let changed = Row::of(record.verdict, holder, now);
        row.push_bind(record.id)
            .push_bind(record.verdict.state())
            .push_bind(changed.next_at)
            .push_bind(changed.sent_at)
            .push_bind(changed.attempts)
            .push_bind(changed.unknowns)
            .push_bind(record.reason.as_deref())
            .push_bind(changed.lease_until)
            .push_bind(changed.first_tried_at);
    });
    query.push(") AS v WHERE mail.id = v.column1 AND mail.state IN ('claimed', 'sending', 'waiting', 'unknown') AND mail.holder = ");
    query.push_bind(holder.id);
    // Said twice, because SQLite may otherwise walk all mails and look each up among the records.
    query.push(" AND mail.id IN (");
    let mut list = query.separated(", ");
    for record in records {
        list.push_bind(record.id);
    }
    query.push(")");
    // Few records come again in the same number; many do not.
    let query = query.build().persistent(records.len() <= 16);
    Ok(query.execute(on).await?.rows_affected())
}

async fn record_in_postgres(
    on: impl sqlx::Executor<'_, Database = sqlx::Postgres>,
    records: &[Recorded],
    holder: Holder,
    now: DateTime<Utc>,
) -> Result<u64> {
    let rows: Vec<_> = records
        .iter()
        .map(|record| Row::of(record.verdict, holder, now))
        .collect();
    let query = sqlx::query(
        "UPDATE mail SET state = v.state, next_at = COALESCE(v.next_at, mail.next_at), sent_at = v.sent_at,
            attempts = mail.attempts + v.attempts, unknowns = mail.unknowns + v.unknowns, reason = v.reason,
            lease_until = v.lease_until, first_tried_at = COALESCE(mail.first_tried_at, v.first_tried_at)
         FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::bigint[],
            $7::text[], $8::timestamptz[], $9::timestamptz[])
            AS v (id, state, next_at, sent_at, attempts, unknowns, reason, lease_until, first_tried_at)
         WHERE mail.id = v.id AND mail.state IN ('claimed', 'sending', 'waiting', 'unknown') AND mail.holder = $10",
    )
    .bind(records.iter().map(|record| record.id).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.verdict.state()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.next_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sent_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempts).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.unknowns).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.reason.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.lease_until).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.first_tried_at).collect::<Vec<_>>())
    .bind(holder.id);
    Ok(query.execute(on).await?.rows_affected())
}

/// A notice of a mail that failed.
#[derive(Debug, Clone)]
pub struct InMail {
    /// Its id.
    pub id: Uuid,
    /// The token it is about.
    pub token_id: Option<TokenId>,
    /// The occurrence.
    pub generation: DateTime<Utc>,
    /// What it is about.
    pub topic: Topic,
    /// For expiry, the step.
    pub step: Option<Step>,
    /// When it was to go.
    pub send_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct InMailRow {
    id: Uuid,
    token_id: Option<Uuid>,
    generation: DateTime<Utc>,
    topic: String,
    step: Option<i64>,
    send_at: DateTime<Utc>,
}

/// A word of ours in a row.
pub(super) fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::Inconsistent(format!("{what} is none that lapsed knows")))
}
