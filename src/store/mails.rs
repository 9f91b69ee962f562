//! Mails on their way: claimed under a lease, loaded, recorded.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{Address, Ground, Step, Token, TokenId, Topic};

use super::{CHUNK, Error, Rest, Result, Tx, on};

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

/// What a mail says: its notices with their tokens, at most as many as a digest lists.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Most urgent first.
    pub rows: Vec<ContentRow>,
    /// Tokens beyond those, by source and day.
    pub rest: Vec<Rest>,
}

/// One notice in a mail.
#[derive(Debug, Clone)]
pub struct ContentRow {
    /// What it is about.
    pub topic: Topic,
    /// For expiry, the step.
    pub step: Option<Step>,
    /// Why this person gets it.
    pub ground: Ground,
    /// When it was to go.
    pub send_at: DateTime<Utc>,
    /// For alerts the subject line.
    pub title: Option<String>,
    /// For alerts the text; for an unreachable address what was said of it.
    pub detail: Option<String>,
    /// What else it is about: the unreachable address.
    pub subject: Option<String>,
    /// The token.
    pub token: Option<Token>,
    /// What the directory said of the issuer, while the finding is open.
    pub evidence: Option<String>,
    /// Since when.
    pub evidence_since: Option<DateTime<Utc>>,
    /// What a server said of the issuer's dead mailbox.
    pub issuer_dead: Option<String>,
}

#[derive(FromRow)]
struct NoticeTokenRow {
    mail_id: Uuid,
    topic: String,
    step: Option<i64>,
    ground: String,
    send_at: DateTime<Utc>,
    title: Option<String>,
    detail: Option<String>,
    subject: Option<String>,
    token_id: Option<Uuid>,
    evidence: Option<String>,
    evidence_since: Option<DateTime<Utc>>,
    issuer_dead: Option<String>,
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
    /// Claims up to `limit` mails whose time has come, the longest waiting first.
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
        let sql = self.pick(
            "UPDATE mail SET state = 'claimed', holder = $1, lease_until = $2 WHERE id IN (
                SELECT id FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                AND (next_at <= $3 OR next_at > $4) ORDER BY next_at LIMIT $5)
             RETURNING id, recipient, attempts, unknowns, first_tried_at",
            // An array is made once; PostgreSQL may run a sub-select again, and then claims too many.
            "UPDATE mail SET state = 'claimed', holder = $1, lease_until = $2 WHERE id = ANY (ARRAY (
                SELECT id FROM mail WHERE state IN ('open', 'waiting', 'unknown')
                AND (next_at <= $3 OR next_at > $4) ORDER BY next_at LIMIT $5 FOR UPDATE SKIP LOCKED))
             RETURNING id, recipient, attempts, unknowns, first_tried_at",
        );
        let rows: Vec<ClaimedRow> = on!(self, c: Db => sqlx::query_as(sql)
            .bind(holder.id).bind(holder.until).bind(now).bind(far).bind(limit)
            .fetch_all(c).await)?;
        rows.into_iter()
            .map(|row| {
                Ok(ClaimedMail {
                    id: row.id,
                    recipient: parsed(&row.recipient, "a mail's recipient")?,
                    attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                    unknowns: u32::try_from(row.unknowns).unwrap_or(u32::MAX),
                    first_tried_at: row.first_tried_at,
                })
            })
            .collect()
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
                query.build().execute(c).await.map(drop)
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

    /// What claimed mails say, in the order of `ids`; at most `shown` tokens each.
    pub async fn contents(&mut self, ids: &[Uuid], shown: i64) -> Result<Vec<Content>> {
        let mut found: HashMap<Uuid, Content> = HashMap::new();
        for ids in ids.chunks(CHUNK) {
            let rows = self.notices_of(ids, shown).await?;
            let token_ids: Vec<_> = rows
                .iter()
                .filter_map(|row| row.token_id)
                .map(TokenId)
                .collect();
            let tokens = self.tokens_by_id(&token_ids).await?;
            let tokens: HashMap<Uuid, Token> = tokens
                .into_iter()
                .map(|token| (token.id.0, token))
                .collect();
            for row in rows {
                let token = row.token_id.and_then(|id| tokens.get(&id)).cloned();
                let mail_id = row.mail_id;
                found
                    .entry(mail_id)
                    .or_default()
                    .rows
                    .push(row.with(token)?);
            }
        }
        let mut contents = Vec::with_capacity(ids.len());
        for id in ids {
            let mut content = found.remove(id).unwrap_or_default();
            if content.rows.len() >= usize::try_from(shown).unwrap_or(usize::MAX) {
                content.rest = self.rest_of(*id, &content).await?;
            }
            contents.push(content);
        }
        Ok(contents)
    }

    async fn notices_of(&mut self, ids: &[Uuid], shown: i64) -> Result<Vec<NoticeTokenRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT * FROM (
                    SELECT n.mail_id, n.topic, n.step, n.ground, n.send_at, n.title, n.detail, n.subject, n.token_id,
                           f.evidence, f.since AS evidence_since, a.reason AS issuer_dead,
                           ROW_NUMBER() OVER (PARTITION BY n.mail_id
                               ORDER BY CASE n.topic WHEN 'alert' THEN 0 WHEN 'sso_revoked' THEN 1 ELSE 2 END,
                                        n.generation, n.id) AS place
                    FROM notice n
                    LEFT JOIN token t ON t.id = n.token_id
                    LEFT JOIN finding f ON f.token_id = n.token_id AND f.kind = 'sso_revoked' AND f.state <> 'resolved'
                    LEFT JOIN address a ON a.key = t.issuer_key
                    WHERE n.state = 'planned' AND n.mail_id IN (");
            let mut list = query.separated(", ");
            for id in ids { list.push_bind(*id); }
            query.push(")) AS numbered WHERE place <= ").push_bind(shown).push(" ORDER BY mail_id, place");
            query.build_query_as().fetch_all(c).await
        })?)
    }

    /// The tokens of a mail beyond those in `content`, by source and day.
    async fn rest_of(&mut self, mail: Uuid, content: &Content) -> Result<Vec<Rest>> {
        // Both databases write an instant as text with the day in its first ten characters.
        let mut all: Vec<Rest> = on!(self, c: Db => sqlx::query_as(
            "SELECT n.topic, t.source, SUBSTR(CAST(t.expires_at AS TEXT), 1, 10) AS day, COUNT(*) AS count
             FROM notice n JOIN token t ON t.id = n.token_id
             WHERE n.mail_id = $1 AND n.state = 'planned'
             GROUP BY n.topic, t.source, SUBSTR(CAST(t.expires_at AS TEXT), 1, 10)
             ORDER BY 3, 2, 1")
            .bind(mail).fetch_all(c).await)?;
        for row in &content.rows {
            let Some(token) = &row.token else { continue };
            let day = token
                .expiry
                .at()
                .map(|at| at.format("%Y-%m-%d").to_string());
            let mut same = all.iter_mut().filter(|rest| rest.topic == row.topic);
            if let Some(rest) = same.find(|rest| rest.source == token.source && rest.day == day) {
                rest.count -= 1;
            }
        }
        all.retain(|rest| rest.count > 0);
        Ok(all)
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
            written += on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE mail SET state = v.column2, next_at = COALESCE(v.column3, next_at), sent_at = v.column4,
                        attempts = attempts + v.column5, unknowns = unknowns + v.column6, reason = v.column7,
                        lease_until = v.column8,
                        first_tried_at = COALESCE(first_tried_at, v.column9)
                     FROM (");
                query.push_values(records, |mut row, record| {
                    let verdict = record.verdict;
                    let is_attempt = !matches!(verdict, Verdict::Untouched | Verdict::Cancelled | Verdict::Sending);
                    let next_at = match verdict {
                        Verdict::Again(at) | Verdict::Doubtful(at) => Some(at),
                        _ => None,
                    };
                    let is_sending = verdict == Verdict::Sending;
                    row.push_bind(record.id)
                        .push_bind(verdict.state())
                        .push_bind(next_at)
                        .push_bind((verdict == Verdict::Sent).then_some(now))
                        .push_bind(i64::from(is_attempt))
                        .push_bind(i64::from(matches!(verdict, Verdict::Doubtful(_))))
                        .push_bind(record.reason.as_deref())
                        .push_bind(is_sending.then_some(holder.until))
                        .push_bind(is_sending.then_some(now));
                });
                query.push(") AS v WHERE mail.id = v.column1 AND mail.state IN ('claimed', 'sending', 'waiting', 'unknown') AND mail.holder = ");
                query.push_bind(holder.id);
                query.build().execute(c).await.map(|done| done.rows_affected())
            })?;
        }
        Ok(written)
    }

    /// Which of these mails are not as they were written down: another process has claimed them.
    pub async fn taken_over(
        &mut self,
        records: &[Recorded],
        holder: Uuid,
    ) -> Result<HashSet<Uuid>> {
        let mut lost = HashSet::new();
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
            lost.extend(records.iter().filter(is_lost).map(|record| record.id));
        }
        Ok(lost)
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
             WHERE state = 'claimed' AND (lease_until <= $1 OR lease_until > $2)")
            .bind(now).bind(far).execute(c).await.map(drop))?;
        let rows: Vec<ClaimedRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, recipient, attempts, unknowns, first_tried_at FROM mail
             WHERE state = 'sending' AND (lease_until <= $1 OR lease_until > $2)")
            .bind(now).bind(far).fetch_all(c).await)?;
        rows.into_iter()
            .map(|row| {
                Ok(ClaimedMail {
                    id: row.id,
                    recipient: parsed(&row.recipient, "a mail's recipient")?,
                    attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                    unknowns: u32::try_from(row.unknowns).unwrap_or(u32::MAX),
                    first_tried_at: row.first_tried_at,
                })
            })
            .collect()
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

impl NoticeTokenRow {
    fn with(self, token: Option<Token>) -> Result<ContentRow> {
        Ok(ContentRow {
            topic: parsed(&self.topic, "a notice's topic")?,
            step: self.step.map(Step::from_seconds),
            ground: parsed(&self.ground, "a notice's ground")?,
            send_at: self.send_at,
            title: self.title,
            detail: self.detail,
            subject: self.subject,
            token,
            evidence: self.evidence,
            evidence_since: self.evidence_since,
            issuer_dead: self.issuer_dead,
        })
    }
}

/// A word of ours in a row.
pub(super) fn parsed<T: std::str::FromStr>(text: &str, what: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::Inconsistent(format!("{what} is none that lapsed knows")))
}
