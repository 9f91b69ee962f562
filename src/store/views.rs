//! Lists of tokens and notices for people, and counts for metrics.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::domain::service::Networks;
use crate::domain::{Address, FindingKind, NoticeState, Status, Token, TokenId, Topic};
use crate::time::MAX_INSTANT;

use super::columns::{expiry_counts, impl_from_row, push_list};
use super::findings::push_open;
use super::people::push_owned_by;
use super::{CHUNK_ROWS, Result, Tx, guarded, on};

/// A token with the kinds of its open findings.
#[derive(Debug, Clone)]
pub struct TokenView {
    pub token: Token,
    pub findings: Vec<FindingKind>,
    /// Of a token that lapsed issued.
    pub kind: Option<String>,
    /// From where a token that lapsed issued may be used.
    pub networks: Networks,
}

impl_from_row!(TokenView, row => {
    let kinds: Option<String> = row.try_get("findings")?;
    let mut findings = Vec::new();
    for kind in kinds.iter().flat_map(|kinds| kinds.split(',')) {
        findings.push(kind.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?);
    }
    findings.sort_unstable_by_key(|kind: &FindingKind| kind.as_str());
    let networks: Option<Networks> = row.try_get("networks")?;
    Ok(Self {
        token: Token::from_row(row)?,
        findings,
        kind: row.try_get("kind")?,
        networks: networks.unwrap_or_default(),
    })
});

#[derive(Debug, Clone, Default)]
pub struct TokenFilter {
    /// Compared with the status now.
    pub status: Option<Status>,
    pub owner_key: Option<String>,
    pub has_no_issuer: bool,
    pub role: Option<String>,
    pub source: Option<String>,
    pub name: Option<String>,
    /// Compared without case.
    pub account: Option<String>,
    /// The kind of an open finding.
    pub finding: Option<FindingKind>,
    /// `never`, `at` or `unknown`.
    pub expiry: Option<String>,
    /// Of tokens that lapsed issued.
    pub kind: Option<String>,
    /// Only tokens that expire between now and this instant, in order of expiry.
    pub expires_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, FromRow)]
pub struct NoticeRow {
    pub id: Uuid,
    pub token_id: Option<TokenId>,
    /// The token's name, or the subject of a notice without a token.
    pub token_name: Option<String>,
    pub topic: Topic,
    /// In seconds; for expiry only.
    pub step: Option<i64>,
    pub recipient: Address,
    pub state: NoticeState,
    /// Whether its plan waits for an operator.
    pub held: bool,
    pub send_at: DateTime<Utc>,
    pub planned_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    #[sqlx(try_from = "i64")]
    pub attempts: u32,
    pub mail_id: Option<Uuid>,
    pub next_at: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    /// The expiry it is about.
    pub generation: DateTime<Utc>,
    #[sqlx(try_from = "i64")]
    pub secret_version: u32,
}

/// One of the first notices of a mail.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct MailPreview {
    pub mail_id: Uuid,
    pub recipient: Address,
    /// The name of its token or its title.
    pub name: String,
    pub topic: Topic,
    /// In seconds.
    pub step: Option<i64>,
    /// How many notices the mail has.
    pub notices: i64,
}

#[derive(Debug, Clone, Default)]
pub struct NoticeFilter {
    pub recipient_key: Option<String>,
    pub state: Option<NoticeState>,
    pub token: Option<TokenId>,
    /// Compared with when they were planned.
    pub since: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Status, source and number.
    pub tokens: Vec<(String, String, i64)>,
    /// Kind, and number of open ones.
    pub findings: Vec<(String, i64)>,
    /// State, step in seconds, and number.
    pub notices: Vec<(String, Option<i64>, i64)>,
    /// Since when the longest waiting notice has been due.
    pub oldest_due_at: Option<DateTime<Utc>>,
    pub plans_held: i64,
    pub directories_held: i64,
}

/// A notice with its delivery state and the name of its token or subject.
const SELECT_NOTICE_VIEW: &str = "SELECT l.id, l.token_id,
        COALESCE(NULLIF(t.name, ''), t.external_id, CASE WHEN l.token_id IS NULL THEN l.title END, l.subject) AS token_name,
        l.topic, l.step, l.recipient, l.state, l.send_at, l.planned_at, l.sent_at,
        l.attempts, l.mail_id, l.next_at, l.reason, l.held, l.generation, l.secret_version
    FROM ledger l LEFT JOIN token t ON t.id = l.token_id";

impl Tx {
    /// The first three notices of each mail that `holder` has sent, in order of recipient.
    pub async fn list_mails_sent_by(&mut self, holder: Uuid) -> Result<Vec<MailPreview>> {
        let mut mails: Vec<MailPreview> = on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM (
                SELECT n.mail_id, m.recipient, m.recipient_key, n.topic, n.step,
                       COALESCE(NULLIF(t.name, ''), t.external_id, n.title, n.subject, n.topic) AS name,
                       COUNT(*) OVER (PARTITION BY n.mail_id) AS notices,
                       ROW_NUMBER() OVER (PARTITION BY n.mail_id ORDER BY n.generation, n.id) AS nth
                FROM mail m JOIN notice n ON n.mail_id = m.id LEFT JOIN token t ON t.id = n.token_id
                WHERE m.holder = $1 AND m.state = 'sent' AND n.state = 'planned') AS numbered
             WHERE nth <= 3 ORDER BY mail_id, nth")
            .bind(holder).fetch_all(c).await)?;
        // The collations of the databases differ.
        mails.sort_by(|a, b| (a.recipient.key(), a.mail_id).cmp(&(b.recipient.key(), b.mail_id)));
        Ok(mails)
    }

    /// A page of tokens after `after`, the last token of the previous page: in order of (source, external
    /// id), or of expiry if the filter has one. Each order has an index, so the cost is that of the page.
    pub async fn list_tokens(
        &mut self,
        filter: &TokenFilter,
        after: Option<&Token>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<TokenView>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT t.*, (SELECT string_agg(f.kind, ',') FROM finding f WHERE f.token_id = t.id AND ");
            push_open(&mut query, now);
            query.push(") AS findings, (SELECT c.kind FROM credential c WHERE c.id = t.id) AS kind, \
                (SELECT c.networks FROM credential c WHERE c.id = t.id) AS networks FROM token t WHERE ");
            let external_id = after.map_or("", |token| token.external_id.as_str());
            match (filter.expires_until, &filter.source) {
                (Some(until), source) => {
                    // The first comparisons select the index range.
                    let at = after.and_then(|token| token.expiry.at()).unwrap_or(now);
                    let id = after.map_or(Uuid::max(), |token| token.id.0);
                    query.push("t.expires_at >= ").push_bind(at).push(" AND t.expires_at <= ").push_bind(until)
                        .push(" AND (t.expires_at, t.id) > (").push_bind(at).push(", ").push_bind(id)
                        .push(") AND t.status IN ('active', 'expired')");
                    if let Some(source) = source {
                        query.push(" AND t.source = ").push_bind(source);
                    }
                }
                (None, Some(source)) => {
                    query.push("t.source = ").push_bind(source)
                        .push(" AND t.external_id > ").push_bind(external_id);
                }
                (None, None) => {
                    let source = after.map_or("", |token| token.source.as_str());
                    query.push("(t.source, t.external_id) > (").push_bind(source)
                        .push(", ").push_bind(external_id).push(")");
                }
            }
            if let Some(status) = filter.status {
                push_status_now(&mut query, status, now);
            }
            push_cells(&mut query, filter);
            if let Some(kind) = filter.finding {
                query.push(" AND EXISTS (SELECT 1 FROM finding f WHERE f.token_id = t.id AND f.kind = ")
                    .push_bind(kind.as_str()).push(" AND ");
                push_open(&mut query, now);
                query.push(")");
            }
            query.push(match filter.expires_until {
                Some(_) => " ORDER BY t.expires_at, t.id LIMIT ",
                None => " ORDER BY t.source, t.external_id LIMIT ",
            });
            query.push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// A page of notices before `before`, the (`planned_at`, id) of the last one of the previous page; newest first.
    pub async fn list_notices(
        &mut self,
        filter: &NoticeFilter,
        before: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<NoticeRow>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(SELECT_NOTICE_VIEW);
            let (at, id) = before.unwrap_or((MAX_INSTANT, Uuid::max()));
            query.push(" WHERE l.channel = 'mail' AND l.planned_at <= ").push_bind(at)
                .push(" AND (l.planned_at, l.id) < (").push_bind(at).push(", ").push_bind(id).push(")");
            if let Some(recipient) = &filter.recipient_key {
                query.push(" AND l.recipient_key = ").push_bind(recipient);
            }
            if let Some(state) = filter.state {
                query.push(" AND l.state = ").push_bind(state.as_str());
            }
            if let Some(token) = filter.token {
                query.push(" AND l.token_id = ").push_bind(token);
            }
            if let Some(since) = filter.since {
                query.push(" AND l.planned_at >= ").push_bind(since);
            }
            query.push(" ORDER BY l.planned_at DESC, l.id DESC LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// All notices about these tokens, the earliest due first.
    pub async fn list_notices_of_tokens(&mut self, tokens: &[TokenId]) -> Result<Vec<NoticeRow>> {
        let mut notices = Vec::new();
        for chunk in tokens.chunks(CHUNK_ROWS) {
            notices.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(SELECT_NOTICE_VIEW);
                query.push(" WHERE l.channel = 'mail' AND l.token_id IN (");
                push_list(&mut query, chunk);
                query.push(") ORDER BY l.send_at, l.recipient_key, l.id");
                query.build_query_as::<NoticeRow>().fetch_all(c).await
            })?);
        }
        Ok(notices)
    }

    /// A page of working tokens that expire in (now, until], in order of expiry, after `after`.
    pub async fn list_expiring_tokens(
        &mut self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        after: Option<&Token>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        let after_at = after.and_then(|token| token.expiry.at()).unwrap_or(now);
        let after_id = after.map_or(Uuid::max(), |token| token.id.0);
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM token WHERE expires_at > $1 AND expires_at <= $2 AND expires_at >= $3
               AND (expires_at, id) > ($3, $4) AND status IN ('active', 'expired')
             ORDER BY expires_at, id LIMIT $5")
            .bind(now).bind(until).bind(after_at).bind(after_id).bind(limit).fetch_all(c).await)
    }

    /// What PostgreSQL, or an engine with its protocol, says about itself.
    pub async fn load_engine_version(&mut self) -> Result<Option<String>> {
        let Self::Postgres(session) = self else {
            return Ok(None);
        };
        let version =
            guarded!(session, c => sqlx::query_scalar("SELECT version()").fetch_one(c).await)?;
        Ok(Some(version))
    }

    /// Counts everything for metrics. Reads all tokens, so it must not run often.
    pub async fn load_counts(&mut self, now: DateTime<Utc>) -> Result<Counts> {
        let tokens = on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT state, source, COUNT(*) FROM (
                SELECT CASE WHEN status IN ('active', 'expired') THEN
                       CASE WHEN expires_at <= $1 AND ", expiry_counts!(""), " THEN 'expired' ELSE 'active' END
                       ELSE status END AS state, source
                FROM token) AS now GROUP BY state, source ORDER BY state, source"))
            .bind(now).fetch_all(c).await)?;
        let findings = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT kind, COUNT(*) FROM finding f WHERE ");
            push_open(&mut query, now);
            query.push(" GROUP BY kind ORDER BY kind");
            query.build_query_as().fetch_all(c).await
        })?;
        let notices = on!(self, c: Db => sqlx::query_as(
            "SELECT state, step, COUNT(*) FROM ledger WHERE channel = 'mail' GROUP BY state, step ORDER BY state, step NULLS FIRST")
            .fetch_all(c).await)?;
        // A notice waits since it was planned or since `send_at`, whichever is later: one that was planned
        // after an outage has not waited from `send_at` on.
        let oldest_due_at = on!(self, c: Db => sqlx::query_scalar(
            "SELECT MIN(CASE WHEN n.send_at > n.planned_at THEN n.send_at ELSE n.planned_at END)
             FROM notice n LEFT JOIN mail m ON m.id = n.mail_id
             WHERE n.state = 'planned' AND n.send_at <= $1
               AND (m.state IS NULL OR m.state IN ('open', 'waiting', 'claimed', 'sending', 'unknown'))")
            .bind(now).fetch_one(c).await)?;
        let plans_held = on!(self, c: Db => sqlx::query_scalar(
            "SELECT COUNT(*) FROM plan WHERE state = 'held'").fetch_one(c).await)?;
        let directories_held = on!(self, c: Db => sqlx::query_scalar(
            "SELECT COUNT(*) FROM directory WHERE held IS NOT NULL").fetch_one(c).await)?;
        Ok(Counts {
            tokens,
            findings,
            notices,
            oldest_due_at,
            plans_held,
            directories_held,
        })
    }
}

/// Only tokens whose cells are as the filter says.
fn push_cells<'a, DB>(query: &mut QueryBuilder<DB>, filter: &'a TokenFilter)
where
    DB: sqlx::Database,
    &'a String: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
{
    if let Some(owner) = &filter.owner_key {
        query.push(" AND ");
        push_owned_by(query, owner);
    }
    if filter.has_no_issuer {
        query.push(" AND t.issuer_key IS NULL");
    }
    if let Some(role) = &filter.role {
        query.push(" AND t.role = ").push_bind(role);
    }
    if let Some(name) = &filter.name {
        query.push(" AND t.name = ").push_bind(name);
    }
    if let Some(account) = &filter.account {
        query
            .push(" AND LOWER(t.account) = LOWER(")
            .push_bind(account)
            .push(")");
    }
    if let Some(kind) = &filter.kind {
        query
            .push(" AND EXISTS (SELECT 1 FROM credential c WHERE c.id = t.id AND c.kind = ")
            .push_bind(kind)
            .push(")");
    }
    if let Some(expiry) = &filter.expiry {
        query.push(" AND t.expiry = ").push_bind(expiry);
    }
}

/// Only tokens with this status at `now`, whether or not their expiry is marked.
pub(super) fn push_status_now<DB>(query: &mut QueryBuilder<DB>, status: Status, now: DateTime<Utc>)
where
    DB: sqlx::Database,
    &'static str: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
    DateTime<Utc>: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
{
    query.push(" AND t.status ");
    match status {
        Status::Active => query
            .push("IN ('active', 'expired') AND (t.expires_at IS NULL OR t.expires_at > ")
            .push_bind(now)
            .push(concat!(" OR NOT ", expiry_counts!("t."), ")")),
        Status::Expired => query
            .push(concat!(
                "IN ('active', 'expired') AND ",
                expiry_counts!("t."),
                " AND t.expires_at <= "
            ))
            .push_bind(now),
        Status::Disabled | Status::Revoked | Status::Gone => {
            query.push("= ").push_bind(status.as_str())
        }
    };
}
