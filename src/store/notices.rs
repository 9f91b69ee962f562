//! Notices: planned, cancelled or suppressed, and as the contents of mails.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, FromRow, QueryBuilder, Sqlite, Type};
use uuid::Uuid;

use crate::domain::{
    Address, Basis, Generation, NewNotice, Occurrence, Step, Token, TokenId, Topic, silent_since,
};
use crate::time::MAX_INSTANT;

use super::columns::push_list;
use super::{CHUNK_ROWS, Result, Tx, guarded, on};

/// The notices of a mail with their tokens, at most as many as a digest lists.
#[derive(Debug, Clone, Default)]
pub struct MailContent {
    /// The most urgent come first.
    pub rows: Vec<ContentRow>,
    /// Tokens beyond those in `rows`, by source and day.
    pub unlisted: Vec<UnlistedTokens>,
}

#[derive(Debug, Clone, FromRow)]
pub struct ContentRow {
    mail_id: Uuid,
    token_id: Option<TokenId>,
    #[sqlx(skip)]
    pub token: Option<Token>,
    pub topic: Topic,
    /// In seconds, for topic expiry only.
    pub step: Option<i64>,
    pub basis: Basis,
    pub send_at: DateTime<Utc>,
    /// For an alert, the subject line; for a revoked token, who revoked it.
    pub title: Option<String>,
    /// For an alert, the text; for a revoked token, the reason; for an unreachable address, the server's reply.
    pub detail: Option<String>,
    /// For an unreachable address, the address.
    pub subject: Option<String>,
    /// What the directory reports about the issuer, while the finding is open.
    pub evidence: Option<String>,
    pub evidence_since: Option<DateTime<Utc>>,
    /// The finding that `evidence` belongs to.
    pub finding_id: Option<Uuid>,
    /// When the token is to be revoked because of it.
    pub revoke_at: Option<DateTime<Utc>>,
    /// The server's reply that marked the issuer's address as dead.
    pub issuer_dead: Option<String>,
}

#[derive(Debug, Clone, FromRow)]
pub struct MailNotice {
    pub id: Uuid,
    pub token_id: Option<TokenId>,
    pub topic: Topic,
    step: Option<i64>,
    generation: DateTime<Utc>,
    #[sqlx(try_from = "i64")]
    secret_version: u32,
}

impl MailNotice {
    pub fn occurrence(&self) -> Occurrence {
        Occurrence {
            topic: self.topic,
            generation: Generation {
                at: self.generation,
                secret_version: self.secret_version,
            },
            step: self.step.map(Step::from_seconds),
        }
    }
}

/// Tokens that a digest counts but does not list: how many of a source expire on one day.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct UnlistedTokens {
    pub topic: Topic,
    pub source: String,
    /// The UTC day, as `2026-11-28`; `None` for tokens without expiry.
    pub day: Option<String>,
    /// The plain date, if their source reports one.
    pub expiry_day: Option<String>,
    /// The latest expiry on that day.
    pub latest: Option<DateTime<Utc>>,
    pub count: i64,
}

/// How many failed notices are owed again, and how many are not because they no longer apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetriedNotices {
    pub owed: u64,
    pub skipped: u64,
}

/// The notice is planned and in no mail that may have been sent.
macro_rules! unsent {
    () => {
        "state = 'planned' AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = notice.mail_id
                                           AND m.state IN ('sending', 'unknown', 'sent', 'failed'))"
    };
}
pub(super) use unsent;

macro_rules! insert {
    () => {
        "INSERT INTO notice (id, token_id, subject, generation, secret_version, topic, step, recipient, recipient_key, basis,
            send_at, title, detail, mail_id, planned_at, plan_id, state) "
    };
}
macro_rules! revive {
    () => {
        " ON CONFLICT (id) DO UPDATE SET state = 'planned', mail_id = excluded.mail_id, reason = NULL,
            subject = excluded.subject, recipient = excluded.recipient, recipient_key = excluded.recipient_key,
            send_at = excluded.send_at, planned_at = excluded.planned_at, plan_id = excluded.plan_id
          WHERE notice.state = 'cancelled'"
    };
}
/// Arrays instead of one parameter per value, so that the server parses and plans one text once.
const INSERT_ARRAYS: &str = concat!(
    insert!(),
    "SELECT v.*, $15, $16, 'planned' FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[],
        $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::timestamptz[],
        $12::text[], $13::text[], $14::uuid[]) AS v",
    revive!()
);

impl Tx {
    /// Inserts notices and returns how many are new. An existing one is unchanged unless it was cancelled: if
    /// an expiry went from A to B and back to A, its warning is sent after all.
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
                for (notice_chunk, mail_chunk) in
                    notices.chunks(CHUNK_ROWS).zip(mails.chunks(CHUNK_ROWS))
                {
                    let mut query = QueryBuilder::<Sqlite>::new(insert!());
                    query.push_values(
                        notice_chunk.iter().zip(mail_chunk),
                        |mut row, (notice, mail)| {
                            row.push_bind(notice.id)
                                .push_bind(notice.token_id)
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
                        },
                    );
                    query.push(revive!());
                    let query = query.build().persistent(notice_chunk.len() == CHUNK_ROWS);
                    count += query.execute(&mut **tx).await?.rows_affected();
                }
                Ok(count)
            }
            Self::Postgres(session) => {
                let query = sqlx::query(INSERT_ARRAYS)
                    .bind(collect_column(notices, |n| n.id))
                    .bind(collect_column(notices, |n| n.token_id.map(|id| id.0)))
                    .bind(collect_column(notices, |n| n.subject.as_deref()))
                    .bind(collect_column(notices, |n| n.generation.at))
                    .bind(collect_column(notices, |n| {
                        i64::from(n.generation.secret_version)
                    }))
                    .bind(collect_column(notices, |n| n.topic.as_str()))
                    .bind(collect_column(notices, |n| n.step.map(Step::seconds)))
                    .bind(collect_column(notices, |n| n.recipient.as_str()))
                    .bind(collect_column(notices, |n| n.recipient.key()))
                    .bind(collect_column(notices, |n| n.basis.as_str()))
                    .bind(collect_column(notices, |n| n.send_at))
                    .bind(collect_column(notices, |n| n.title.as_deref()))
                    .bind(collect_column(notices, |n| n.detail.as_deref()))
                    .bind(mails)
                    .bind(now)
                    .bind(plan);
                guarded!(session, c => query.execute(c).await).map(|done| done.rows_affected())
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
        let notices = std::slice::from_ref(notice);
        let is_new = self.insert_notices(notices, None, now).await? > 0;
        if is_new {
            on!(self, c: Db => sqlx::query("UPDATE notice SET state = 'failed', reason = $2 WHERE id = $1")
                .bind(notice.id).bind(reason).execute(c).await.map(drop))?;
        }
        Ok(is_new)
    }

    /// Owes failed notices again: those of `ids`, or all. A notice is skipped if its token no longer has the expiry that
    /// it is about or is not active, if it is about lost access that is not open any more, or if the recipient has a
    /// notice about a tighter step.
    pub async fn retry_failed_notices(
        &mut self,
        ids: Option<&[Uuid]>,
        now: DateTime<Utc>,
    ) -> Result<RetriedNotices> {
        let mut counts = RetriedNotices {
            owed: 0,
            skipped: 0,
        };
        let all = [Uuid::nil()];
        for chunk in ids.unwrap_or(&all).chunks(CHUNK_ROWS) {
            let failed: i64 = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT COUNT(*)");
                push_failed(&mut query, ids.is_some().then_some(chunk));
                query.build_query_scalar().fetch_one(c).await
            })?;
            let owed = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE notice SET mail_id = NULL, plan_id = NULL, reason = NULL, send_at = ");
                query.push_bind(now).push(" WHERE id IN (SELECT n.id");
                push_failed(&mut query, ids.is_some().then_some(chunk));
                query.push(
                    " AND (n.token_id IS NULL OR EXISTS (SELECT 1 FROM token t WHERE t.id = n.token_id
                         AND t.status = 'active' AND CASE n.topic
                         WHEN 'expiry' THEN t.expires_at = n.generation AND t.secret_version = n.secret_version
                             AND t.expires_at > ");
                query.push_bind(now).push(
                    "        AND NOT EXISTS (SELECT 1 FROM finding g WHERE g.source = t.source
                                 AND g.kind = 'unconfigured' AND g.token_id IS NULL AND g.state <> 'resolved'
                                 AND g.since <= ");
                query.push_bind(silent_since(now)).push(
                    ")   WHEN 'sso_revoked' THEN EXISTS (SELECT 1 FROM finding f WHERE f.token_id = t.id
                             AND f.kind = 'sso_revoked' AND f.state <> 'resolved')
                         ELSE TRUE END))
                     AND NOT EXISTS (SELECT 1 FROM notice o WHERE o.token_id = n.token_id AND o.topic = n.topic
                         AND o.generation = n.generation AND o.secret_version = n.secret_version
                         AND o.recipient_key = n.recipient_key AND o.step < n.step AND o.state = 'planned'))");
                query.build().execute(c).await.map(|done| done.rows_affected())
            })?;
            counts.owed += owed;
            counts.skipped += u64::try_from(failed).unwrap_or(0).saturating_sub(owed);
        }
        Ok(counts)
    }

    /// Cancels the unsent notices of a token except those of `generation`, which are planned again if they were
    /// cancelled before.
    pub async fn cancel_notices(
        &mut self,
        token: TokenId,
        generation: Option<Generation>,
        reason: &str,
    ) -> Result<u64> {
        // A mail in flight or with unknown outcome is skipped: it may have been accepted. The next claim checks again.
        let current = generation.unwrap_or(MAX_INSTANT.into());
        let cancelled = on!(self, c: Db => sqlx::query(concat!(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $3
             WHERE token_id = $1 AND topic = 'expiry' AND (generation, secret_version) <> ($2, $4) AND ", unsent!()))
            .bind(token).bind(current.at).bind(reason).bind(i64::from(current.secret_version))
            .execute(c).await.map(|done| done.rows_affected()))?;
        if generation.is_some() {
            on!(self, c: Db => sqlx::query(
                "UPDATE notice SET state = 'planned', reason = NULL, mail_id = NULL
                 WHERE token_id = $1 AND topic = 'expiry' AND generation = $2 AND secret_version = $3 AND state = 'cancelled'")
                .bind(token).bind(current.at).bind(i64::from(current.secret_version)).execute(c).await.map(drop))?;
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
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE notice SET state = 'suppressed', held = FALSE, reason = $3
             WHERE token_id = $1 AND recipient_key = $2 AND topic = 'expiry' AND ", unsent!()))
            .bind(token).bind(recipient.key()).bind(reason).execute(c).await.map(drop))
    }

    /// Cancels the unsent notices of one topic about a token.
    pub async fn cancel_notices_of_topic(
        &mut self,
        token: TokenId,
        topic: Topic,
        reason: &str,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $3
             WHERE token_id = $1 AND topic = $2 AND ", unsent!()))
            .bind(token).bind(topic.as_str()).bind(reason).execute(c).await.map(drop))
    }

    /// Refreshes PostgreSQL's statistics if they count fewer than `added` notices. PostgreSQL updates them only
    /// now and then, and plans full scans as long as they are those of an empty table. An engine that keeps its
    /// statistics elsewhere has NULL.
    pub async fn analyze_notices(&mut self, added: u64) -> Result<()> {
        if let Self::Postgres(session) = self {
            let query = sqlx::query_scalar(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = 'notice'::regclass",
            );
            let counted: Option<i64> = guarded!(session, c => query.fetch_one(c).await)?;
            if counted.is_some_and(|counted| u64::try_from(counted).unwrap_or(0) < added) {
                guarded!(session, c => sqlx::query("ANALYZE notice").execute(c).await)?;
            }
        }
        Ok(())
    }

    /// The contents of claimed mails, in the order of `ids`, with at most `max_rows` rows each.
    pub async fn load_mail_contents(
        &mut self,
        ids: &[Uuid],
        max_rows: i64,
    ) -> Result<Vec<MailContent>> {
        let mut by_mail: HashMap<Uuid, MailContent> = HashMap::new();
        for chunk in ids.chunks(CHUNK_ROWS) {
            let rows = self.load_notice_rows(chunk, max_rows).await?;
            let token_ids: Vec<_> = rows.iter().filter_map(|row| row.token_id).collect();
            let tokens = self.load_tokens(&token_ids).await?.into_iter();
            let tokens: HashMap<_, _> = tokens.map(|token| (token.id, token)).collect();
            for mut row in rows {
                row.token = row.token_id.and_then(|id| tokens.get(&id)).cloned();
                by_mail.entry(row.mail_id).or_default().rows.push(row);
            }
        }
        let mut contents = Vec::with_capacity(ids.len());
        for id in ids {
            let mut content = by_mail.remove(id).unwrap_or_default();
            if content.rows.len() >= usize::try_from(max_rows).unwrap_or(usize::MAX) {
                content.unlisted = self.count_unlisted_tokens(*id, &content).await?;
            }
            contents.push(content);
        }
        Ok(contents)
    }

    async fn load_notice_rows(&mut self, ids: &[Uuid], max_rows: i64) -> Result<Vec<ContentRow>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT * FROM (
                    SELECT n.mail_id, n.topic, n.step, n.basis, n.send_at, n.title, n.detail, n.subject, n.token_id,
                           f.evidence, f.since AS evidence_since, f.id AS finding_id, f.revoke_at, a.reason AS issuer_dead,
                           ROW_NUMBER() OVER (PARTITION BY n.mail_id
                               ORDER BY CASE n.topic WHEN 'alert' THEN 0 WHEN 'summary' THEN 0 WHEN 'old_secret' THEN 0
                                        WHEN 'sso_revoked' THEN 1
                                        WHEN 'revoked' THEN 2 ELSE 3 END,
                                        n.generation, n.id) AS row_index
                    FROM notice n
                    LEFT JOIN token t ON t.id = n.token_id
                    LEFT JOIN finding f ON f.token_id = n.token_id AND f.kind = 'sso_revoked' AND f.state <> 'resolved'
                    LEFT JOIN address a ON a.key = t.issuer_key
                    LEFT JOIN address d ON n.topic = 'unreachable' AND d.key = n.subject AND d.dead_since IS NOT NULL
                    WHERE n.state = 'planned' AND (n.topic <> 'unreachable' OR d.key IS NOT NULL) AND n.mail_id IN (");
            push_list(&mut query, ids);
            query.push(")) AS numbered WHERE row_index <= ").push_bind(max_rows).push(" ORDER BY mail_id, row_index");
            query.build_query_as().fetch_all(c).await
        })
    }

    async fn count_unlisted_tokens(
        &mut self,
        mail: Uuid,
        content: &MailContent,
    ) -> Result<Vec<UnlistedTokens>> {
        // Cast to text, an instant begins with its day in both databases: ten characters.
        let mut all: Vec<UnlistedTokens> = on!(self, c: Db => sqlx::query_as(
            "SELECT n.topic, t.source, SUBSTR(CAST(t.expires_at AS TEXT), 1, 10) AS day, t.expiry_day,
                    MAX(t.expires_at) AS latest, COUNT(*) AS count
             FROM notice n JOIN token t ON t.id = n.token_id
             WHERE n.mail_id = $1 AND n.state = 'planned'
             GROUP BY n.topic, t.source, SUBSTR(CAST(t.expires_at AS TEXT), 1, 10), t.expiry_day
             ORDER BY 3, 2, 1")
            .bind(mail).fetch_all(c).await)?;
        for row in &content.rows {
            let Some(token) = &row.token else { continue };
            let day = token
                .expiry
                .at()
                .map(|at| at.format("%Y-%m-%d").to_string());
            let expiry_day = token.expiry_day.map(|day| day.to_string());
            let is_counted = |tokens: &&mut UnlistedTokens| {
                (tokens.topic, &tokens.source) == (row.topic, &token.source)
                    && (&tokens.day, &tokens.expiry_day) == (&day, &expiry_day)
            };
            if let Some(tokens) = all.iter_mut().find(is_counted) {
                tokens.count -= 1;
            }
        }
        all.retain(|tokens| tokens.count > 0);
        Ok(all)
    }

    /// A page of the notices in a mail, for notifying the fallback.
    pub async fn load_mail_notices(
        &mut self,
        mail: Uuid,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<MailNotice>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, token_id, generation, secret_version, topic, step FROM notice
             WHERE mail_id = $1 AND state = 'planned' AND id > $2 ORDER BY id LIMIT $3")
            .bind(mail).bind(after).bind(limit).fetch_all(c).await)
    }
}

/// From and where clause of the notices whose mails failed, except those to people who were erased.
fn push_failed<DB: Database>(query: &mut QueryBuilder<DB>, ids: Option<&[Uuid]>)
where
    for<'q> Uuid: Encode<'q, DB> + Type<DB>,
{
    query.push(
        " FROM notice n JOIN mail m ON m.id = n.mail_id WHERE n.state = 'planned' AND m.state = 'failed'
            AND n.recipient_key LIKE '%@%'",
    );
    if let Some(ids) = ids {
        query.push(" AND n.id IN (");
        push_list(query, ids);
        query.push(")");
    }
}

fn collect_column<'a, T>(notices: &'a [NewNotice], get: fn(&'a NewNotice) -> T) -> Vec<T> {
    notices.iter().map(get).collect()
}
