//! Pages of the credentials that lapsed issues for itself. They are not watched, and so have no row.

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::domain::{LOCAL_SOURCE, Status, TokenId};

use super::token_pages::{PageFilter, Reach, push_prefix};
use super::{Result, Tx, on};

impl Tx {
    /// The ids of a page of credentials of an internal kind, which are not watched, after `after`; in their order.
    pub async fn page_internal_credentials(
        &mut self,
        reach: &Reach,
        filter: &PageFilter,
        after: Option<TokenId>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<TokenId>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT c.id FROM credential c WHERE c.kind = ");
            query.push_bind(filter.kind.as_deref().unwrap_or("")).push(" AND c.id > ")
                .push_bind(after.map_or(Uuid::nil(), |id| id.0));
            push_reach(&mut query, reach);
            push_filter(&mut query, filter, now);
            query.push(" ORDER BY c.id LIMIT ").push_bind(limit);
            query.build_query_scalar().fetch_all(c).await
        })
    }
}

/// Those that the caller sees, as of tokens with a row.
fn push_reach<'a, DB>(query: &mut QueryBuilder<DB>, reach: &'a Reach)
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    TokenId: Encode<'a, DB> + Type<DB>,
{
    if reach.is_all {
        return;
    }
    query.push(" AND (c.id = ").push_bind(reach.own_credential);
    if !reach.hides_local {
        if let Some(account) = &reach.administers {
            query
                .push(" OR c.account_key = ")
                .push_bind(account.as_str());
        }
        query
            .push(" OR (c.issuer_key = ")
            .push_bind(reach.owner.as_str());
        match &reach.account {
            Some(account) => query
                .push(" AND c.account_key = ")
                .push_bind(account.as_str()),
            None => query.push(" AND c.account_key IS NULL"),
        };
        query.push(")");
    }
    query.push(")");
}

/// As of tokens with a row; the name is the kind, and there are no findings.
fn push_filter<'a, DB>(query: &mut QueryBuilder<DB>, filter: &'a PageFilter, now: DateTime<Utc>)
where
    DB: Database,
    &'a String: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
    DateTime<Utc>: for<'q> Encode<'q, DB> + Type<DB>,
{
    query.push(match filter.status {
        Some(Status::Revoked | Status::Gone) => " AND c.state = 'revoked'",
        Some(Status::Disabled) => " AND c.state IN ('disabled', 'locked')",
        Some(Status::Active | Status::Expired) => " AND c.state = 'active'",
        None => " AND c.state <> 'revoked'",
    });
    match filter.status {
        Some(Status::Active) => {
            query
                .push(" AND (c.expires_at IS NULL OR c.expires_at > ")
                .push_bind(now)
                .push(")");
        }
        Some(Status::Expired) => {
            query.push(" AND c.expires_at <= ").push_bind(now);
        }
        _ => {}
    }
    if let Some(person) = &filter.issued_by {
        query.push(" AND c.issuer_key = ").push_bind(person);
    }
    if let Some(role) = &filter.role {
        query.push(" AND c.role = ").push_bind(role);
    }
    if let Some(account) = &filter.account {
        query.push(" AND c.account_key = ").push_bind(account);
    }
    if filter
        .source
        .as_deref()
        .is_some_and(|source| source != LOCAL_SOURCE)
    {
        query.push(" AND 1 = 0");
    }
    if let Some(until) = filter.expires_until {
        query
            .push(" AND c.state = 'active' AND c.expires_at > ")
            .push_bind(now)
            .push(" AND c.expires_at <= ")
            .push_bind(until);
    }
    if filter.is_never {
        query.push(" AND c.expires_at IS NULL");
    }
    if filter.finding.is_some() {
        query.push(" AND 1 = 0");
    }
    if let Some(prefix) = &filter.prefix {
        push_prefix(query, ["c.kind", "c.public_id"], prefix);
    }
}
