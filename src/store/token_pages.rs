//! Pages of tokens for callers of the API: those they may see, filtered and sorted.

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, FromRow, QueryBuilder, Type};

use crate::domain::{FindingKind, LOCAL_SOURCE, Status, TokenId};

use super::columns::expiry_counts;
use super::people::push_owned_by;
use super::{Result, Tx, on};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSort {
    Name,
    CreatedAt,
    ExpiresAt,
    LastUsedAt,
}

/// Whose tokens a caller sees.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// All.
    pub is_all: bool,
    /// Those of this account, by its key.
    pub administers: Option<String>,
    /// Those of this person, in the account of their credential.
    pub owner: String,
    pub account: Option<String>,
    /// Whether tokens of the service are hidden, but for the caller's own credential.
    pub hides_local: bool,
    pub own_credential: TokenId,
    /// Whether tokens of the service count in every account.
    pub is_everywhere: bool,
}

#[derive(Debug, Clone, Default)]
pub struct PageFilter {
    pub issued_by: Option<String>,
    pub role: Option<String>,
    /// `None`: all but those that are gone or revoked.
    pub status: Option<Status>,
    pub kind: Option<String>,
    /// The key of the account.
    pub account: Option<String>,
    pub source: Option<String>,
    pub expires_until: Option<DateTime<Utc>>,
    /// Only those that never expire.
    pub is_never: bool,
    /// Only those with an open finding of this kind.
    pub finding: Option<FindingKind>,
    /// What the name or the external id begins with.
    pub prefix: Option<String>,
}

/// The last row of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageKey {
    /// The value by which the rows are sorted: a name or an instant; tokens without one are last.
    pub name: Option<String>,
    pub at: Option<DateTime<Utc>>,
    pub id: TokenId,
}

#[derive(Debug, Clone, Copy)]
pub struct PageOrder<'a> {
    pub sort: TokenSort,
    pub is_descending: bool,
    pub after: Option<&'a PageKey>,
}

/// How many tokens there are of each sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct TokenSummary {
    pub active: i64,
    pub expiring: i64,
    pub expired: i64,
    pub never: i64,
    pub disabled: i64,
}

impl TokenSort {
    fn column(self) -> &'static str {
        match self {
            Self::Name => "t.name",
            Self::CreatedAt => "t.created_at",
            Self::ExpiresAt => "t.expires_at",
            Self::LastUsedAt => "t.last_used_at",
        }
    }
}

impl Tx {
    /// The ids of a page of tokens, in order; those without the value by which they are sorted come last.
    pub async fn page_tokens(
        &mut self,
        reach: &Reach,
        filter: &PageFilter,
        order: PageOrder<'_>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<TokenId>> {
        let is_among_last = order.after.is_some_and(|after| after.at.is_none());
        let is_name = order.sort == TokenSort::Name;
        let mut ids = Vec::new();
        // Two queries, so that an index has the order of each.
        if is_name || !is_among_last {
            ids = self
                .page_tokens_with((reach, filter), (order, true), now, limit)
                .await?;
        }
        let left = limit - i64::try_from(ids.len()).unwrap_or(limit);
        if !is_name && left > 0 {
            let order = PageOrder {
                after: order.after.filter(|_| is_among_last),
                ..order
            };
            let last = self.page_tokens_with((reach, filter), (order, false), now, left);
            ids.extend(last.await?);
        }
        Ok(ids)
    }

    /// Only tokens with the value by which they are sorted, or without it.
    async fn page_tokens_with(
        &mut self,
        (reach, filter): (&Reach, &PageFilter),
        (order, has_value): (PageOrder<'_>, bool),
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<TokenId>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT t.id FROM token t LEFT JOIN credential c ON c.id = t.id WHERE ");
            push_reach(&mut query, reach);
            push_filter(&mut query, filter, now);
            let column = order.sort.column();
            let (than, direction) = if order.is_descending { (" < (", " DESC") } else { (" > (", "") };
            query.push(" AND ").push(column).push(if has_value { " IS NOT NULL" } else { " IS NULL" });
            if let Some(after) = order.after {
                if has_value {
                    query.push(" AND (").push(column).push(", t.id)").push(than);
                    if order.sort == TokenSort::Name {
                        query.push_bind(after.name.as_deref().unwrap_or(""));
                    } else {
                        query.push_bind(after.at);
                    }
                    query.push(", ").push_bind(after.id).push(")");
                } else {
                    query.push(" AND t.id").push(if order.is_descending { " < " } else { " > " }).push_bind(after.id);
                }
            }
            query.push(" ORDER BY ").push(column).push(direction).push(", t.id").push(direction)
                .push(" LIMIT ").push_bind(limit);
            query.build_query_scalar().fetch_all(c).await
        })
    }

    /// When tokens expire, from `from` on.
    pub async fn list_expiries(
        &mut self,
        reach: &Reach,
        filter: &PageFilter,
        (from, now): (DateTime<Utc>, DateTime<Utc>),
        limit: i64,
    ) -> Result<Vec<DateTime<Utc>>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT t.expires_at FROM token t LEFT JOIN credential c ON c.id = t.id WHERE ");
            push_reach(&mut query, reach);
            push_filter(&mut query, filter, now);
            query.push(" AND t.expires_at >= ").push_bind(from)
                .push(" ORDER BY t.expires_at LIMIT ").push_bind(limit);
            query.build_query_scalar().fetch_all(c).await
        })
    }

    /// How many tokens there are, up to `limit`.
    pub async fn count_tokens(
        &mut self,
        reach: &Reach,
        filter: &PageFilter,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<i64> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT COUNT(*) FROM (SELECT 1 FROM token t LEFT JOIN credential c ON c.id = t.id WHERE ");
            push_reach(&mut query, reach);
            push_filter(&mut query, filter, now);
            query.push(" LIMIT ").push_bind(limit).push(") AS counted");
            query.build_query_scalar().fetch_one(c).await
        })
    }

    pub async fn summarize_tokens(
        &mut self,
        reach: &Reach,
        now: DateTime<Utc>,
        soon: DateTime<Utc>,
    ) -> Result<TokenSummary> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT COALESCE(SUM(CASE WHEN s = 'active' THEN 1 ELSE 0 END), 0) AS active,
                COALESCE(SUM(CASE WHEN s = 'active' AND expires_at <= ");
            query.push_bind(soon).push(" THEN 1 ELSE 0 END), 0) AS expiring,
                COALESCE(SUM(CASE WHEN s = 'expired' THEN 1 ELSE 0 END), 0) AS expired,
                COALESCE(SUM(CASE WHEN s = 'active' AND expiry = 'never' THEN 1 ELSE 0 END), 0) AS never,
                COALESCE(SUM(CASE WHEN s = 'disabled' THEN 1 ELSE 0 END), 0) AS disabled
                FROM (SELECT t.expires_at, t.expiry, CASE WHEN t.status IN ('active', 'expired') THEN
                    CASE WHEN t.expires_at <= ").push_bind(now).push(concat!(" AND ", expiry_counts!("t."), " THEN 'expired' ELSE 'active' END
                    ELSE t.status END AS s
                FROM token t LEFT JOIN credential c ON c.id = t.id WHERE "));
            push_reach(&mut query, reach);
            query.push(" AND t.status NOT IN ('revoked', 'gone')) AS seen");
            query.build_query_as().fetch_one(c).await
        })
    }

    /// Whether a token that the caller sees expires between now and `soon`.
    pub async fn has_expiring_token(
        &mut self,
        reach: &Reach,
        now: DateTime<Utc>,
        soon: DateTime<Utc>,
    ) -> Result<bool> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT EXISTS (SELECT 1 FROM token t LEFT JOIN credential c ON c.id = t.id WHERE t.expires_at > ");
            query.push_bind(now).push(" AND t.expires_at <= ").push_bind(soon)
                .push(" AND t.status IN ('active', 'expired') AND ");
            push_reach(&mut query, reach);
            query.push(")");
            query.build_query_scalar().fetch_one(c).await
        })
    }
}

fn push_reach<'a, DB>(query: &mut QueryBuilder<DB>, reach: &'a Reach)
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    TokenId: Encode<'a, DB> + Type<DB>,
{
    if reach.is_all {
        query.push("1 = 1");
        return;
    }
    push_candidates(query, reach);
    query.push(" AND (t.id = ").push_bind(reach.own_credential);
    query.push(" OR (");
    if reach.hides_local {
        query
            .push("t.source <> ")
            .push_bind(LOCAL_SOURCE)
            .push(" AND ");
    }
    query.push("(");
    if let Some(account) = &reach.administers {
        query
            .push("LOWER(t.account) = ")
            .push_bind(account.as_str())
            .push(" OR ");
    }
    query.push("((");
    push_owned_by(query, reach.owner.as_str());
    query
        .push(" OR c.issuer_key = ")
        .push_bind(reach.owner.as_str())
        .push(") AND (t.source <> ")
        .push_bind(LOCAL_SOURCE);
    match &reach.account {
        _ if reach.is_everywhere => query.push(" OR 1 = 1"),
        Some(account) => query
            .push(" OR c.account_key = ")
            .push_bind(account.as_str()),
        None => query.push(" OR c.account_key IS NULL"),
    };
    query.push(")))))");
}

/// Finds the few tokens that a caller may see by indexes, before the conditions on each.
fn push_candidates<'a, DB>(query: &mut QueryBuilder<DB>, reach: &'a Reach)
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    TokenId: Encode<'a, DB> + Type<DB>,
{
    let owner = reach.owner.as_str();
    query
        .push("t.id IN (SELECT id FROM token WHERE id = ")
        .push_bind(reach.own_credential);
    query
        .push(" UNION ALL SELECT id FROM token WHERE issuer_key = ")
        .push_bind(owner);
    query
        .push(" UNION ALL SELECT token_id FROM token_owner WHERE owner_key = ")
        .push_bind(owner);
    query
        .push(" UNION ALL SELECT id FROM credential WHERE issuer_key = ")
        .push_bind(owner);
    if let Some(account) = &reach.administers {
        query
            .push(" UNION ALL SELECT id FROM token WHERE LOWER(account) = ")
            .push_bind(account.as_str());
    }
    query.push(")");
}

fn push_filter<'a, DB>(query: &mut QueryBuilder<DB>, filter: &'a PageFilter, now: DateTime<Utc>)
where
    DB: Database,
    &'a String: Encode<'a, DB> + Type<DB>,
    &'static str: for<'q> Encode<'q, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
    DateTime<Utc>: for<'q> Encode<'q, DB> + Type<DB>,
{
    match filter.status {
        Some(Status::Revoked | Status::Gone) => {
            query.push(" AND t.status IN ('revoked', 'gone')");
        }
        Some(status) => super::views::push_status_now(query, status, now),
        None => {
            query.push(" AND t.status NOT IN ('revoked', 'gone')");
        }
    }
    if let Some(person) = &filter.issued_by {
        query.push(" AND (");
        push_owned_by(query, person);
        query
            .push(" OR c.issuer_key = ")
            .push_bind(person)
            .push(")");
    }
    if let Some(role) = &filter.role {
        query.push(" AND t.role = ").push_bind(role);
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND c.kind = ").push_bind(kind);
    }
    if let Some(account) = &filter.account {
        query.push(" AND LOWER(t.account) = ").push_bind(account);
    }
    if let Some(source) = &filter.source {
        query.push(" AND t.source = ").push_bind(source);
    }
    if let Some(until) = filter.expires_until {
        query
            .push(" AND t.status IN ('active', 'expired') AND t.expires_at > ")
            .push_bind(now)
            .push(" AND t.expires_at <= ")
            .push_bind(until);
    }
    if filter.is_never {
        query.push(" AND t.expiry = 'never'");
    }
    if let Some(kind) = filter.finding {
        query
            .push(
                " AND t.id IN (SELECT token_id FROM finding WHERE state <> 'resolved' AND kind = ",
            )
            .push_bind(kind.as_str())
            .push(")");
    }
    if let Some(prefix) = &filter.prefix {
        push_prefix(query, ["t.name", "t.external_id"], prefix);
    }
}

/// What one of these columns begins with, in upper or lower case.
pub(super) fn push_prefix<'a, DB>(
    query: &mut QueryBuilder<DB>,
    columns: [&str; 2],
    prefix: &'a String,
) where
    DB: Database,
    &'a String: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
    query.push(" AND (");
    for (nth, column) in columns.into_iter().enumerate() {
        query
            .push(if nth == 0 { "" } else { " OR " })
            .push("LOWER(SUBSTR(")
            .push(column)
            .push(", 1, CAST(")
            .push_bind(length)
            .push(" AS INTEGER))) = LOWER(")
            .push_bind(prefix)
            .push(")");
    }
    query.push(")");
}
