//! Identities: what directories report about people, and which issuers they cover.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, FromRow, QueryBuilder, Type};

use crate::domain::{Address, Identity, IdentityStatus, Reason, Token, TokenId};

use super::columns::{expiry_counts, push_list};
use super::{CHUNK_ROWS, Result, Tx, on};

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct IdentityRow {
    pub directory: String,
    #[sqlx(flatten)]
    pub identity: Identity,
}

#[derive(Debug, Clone, Default)]
pub struct IdentityFilter {
    pub status: Option<IdentityStatus>,
    pub directory: Option<String>,
    pub email_key: Option<String>,
    /// Directories without a good sync for too long; the statuses that they reported count as unknown.
    pub stale: Vec<String>,
}

#[derive(FromRow)]
struct IdentityTokens {
    #[sqlx(flatten)]
    identity: IdentityRow,
    tokens: i64,
}

/// What one directory reports about an owner of working tokens; only the address if no directory knows them.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct IssuerIdentity {
    pub email_key: String,
    pub directory: Option<String>,
    pub status: Option<IdentityStatus>,
    pub reason: Option<Reason>,
}

/// How many people of one directory have this status.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct IdentityCount {
    pub directory: String,
    pub status: IdentityStatus,
    pub reason: Option<String>,
    pub count: i64,
}

/// The statuses of people without access.
macro_rules! lost_statuses {
    () => {
        "('disabled', 'deleted', 'out_of_group')"
    };
}
pub(super) use lost_statuses;

/// The identity `i` has lost access, or its status is unknown now and had lost access before.
macro_rules! lost_before {
    () => {
        concat!(
            "(i.status IN ",
            lost_statuses!(),
            " OR i.status = 'unknown' AND i.known_status IN ",
            lost_statuses!(),
            ")"
        )
    };
}
pub(super) use lost_before;

/// The keys of all owners of tokens, as `owner`. Each step looks up the next key in an index.
macro_rules! with_owners {
    () => {
        "WITH RECURSIVE issuer (key) AS (
             SELECT MIN(issuer_key) FROM token WHERE issuer_key IS NOT NULL
             UNION ALL
             SELECT (SELECT MIN(t.issuer_key) FROM token t WHERE t.issuer_key > issuer.key)
             FROM issuer WHERE issuer.key IS NOT NULL),
         other (key) AS (
             SELECT MIN(owner_key) FROM token_owner
             UNION ALL
             SELECT (SELECT MIN(o.owner_key) FROM token_owner o WHERE o.owner_key > other.key)
             FROM other WHERE other.key IS NOT NULL),
         owner (key) AS (
             SELECT key FROM issuer WHERE key IS NOT NULL UNION SELECT key FROM other WHERE key IS NOT NULL)"
    };
}

/// Only if the token `t` has this owner.
pub(super) fn push_owned_by<'a, DB, T>(query: &mut QueryBuilder<DB>, key: T)
where
    DB: Database,
    T: Copy + Encode<'a, DB> + Type<DB>,
{
    query
        .push("(t.issuer_key = ")
        .push_bind(key)
        .push(" OR t.id IN (SELECT o.token_id FROM token_owner o WHERE o.owner_key = ")
        .push_bind(key)
        .push("))");
}

/// The token `t` works at its source, where an expiry by our own policy has no effect.
pub(super) fn push_works<DB: Database>(query: &mut QueryBuilder<DB>, now: DateTime<Utc>)
where
    DateTime<Utc>: for<'q> Encode<'q, DB> + Type<DB>,
{
    query
        .push(concat!(
            "t.status IN ('active', 'expired') AND (t.expires_at IS NULL OR t.expiry_origin = 'policy' OR NOT ",
            expiry_counts!("t."),
            " OR t.expires_at > "
        ))
        .push_bind(now)
        .push(")");
}

impl Tx {
    /// All identities of a directory in order of address.
    pub async fn load_identities(&mut self, directory: &str) -> Result<Vec<Identity>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 ORDER BY email_key")
            .bind(directory).fetch_all(c).await)
    }

    pub async fn find_identity(
        &mut self,
        directory: &str,
        email_key: &str,
    ) -> Result<Option<Identity>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 AND email_key = $2")
            .bind(directory).bind(email_key).fetch_optional(c).await)
    }

    /// Lets the next sync evaluate again the losses that an operator rejected; returns for how many people.
    pub async fn clear_rejections(&mut self, directory: &str) -> Result<u64> {
        self.reset_cursor(directory).await?;
        on!(self, c: Db => sqlx::query(
            "UPDATE identity SET reason = 'unconfirmed', candidate = NULL
             WHERE directory = $1 AND reason = 'rejected'")
            .bind(directory).execute(c).await.map(|done| done.rows_affected()))
    }

    pub async fn has_candidates(&mut self, directory: &str) -> Result<bool> {
        let first: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT 1 FROM identity WHERE directory = $1 AND candidate IS NOT NULL LIMIT 1")
            .bind(directory).fetch_optional(c).await)?;
        Ok(first.is_some())
    }

    /// A page of identities with the number of working tokens each person owns; in order of
    /// (directory, address), after `after`.
    pub async fn list_identities(
        &mut self,
        filter: &IdentityFilter,
        after: Option<&IdentityRow>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<(IdentityRow, i64)>> {
        let rows: Vec<IdentityTokens> = on!(self, c: Db => {
            // A known status is confirmed by each later good sync that reports nothing else.
            let mut query = QueryBuilder::<Db>::new(
                "SELECT i.directory, i.email_key, i.email, i.account_id, i.account_chosen, i.name, i.known_status, i.evidence, i.checked_by_id,
                        i.since, i.candidate, i.candidate_since, i.candidate_evidence,
                        CASE WHEN i.status <> 'unknown' AND d.last_good_sync_at > i.observed_at
                             THEN d.last_good_sync_at ELSE i.observed_at END AS observed_at,
                        CASE WHEN i.status <> 'unknown' AND i.directory IN (");
            push_list(&mut query, &filter.stale);
            query.push(") THEN 'unknown' ELSE i.status END AS status,
                        CASE WHEN i.status <> 'unknown' AND i.directory IN (");
            push_list(&mut query, &filter.stale);
            query.push(") THEN 'stale' ELSE i.reason END AS reason,
                        (SELECT COUNT(*) FROM token t WHERE t.issuer_key = i.email_key AND ");
            push_works(&mut query, now);
            query.push(") + (SELECT COUNT(*) FROM token_owner o JOIN token t ON t.id = o.token_id
                             WHERE o.owner_key = i.email_key AND ");
            push_works(&mut query, now);
            query.push(") AS tokens
                 FROM identity i LEFT JOIN directory d ON d.name = i.directory WHERE ");
            let key = after.map_or("", |row| row.identity.email.key());
            if let Some(directory) = &filter.directory {
                query.push("i.directory = ").push_bind(directory).push(" AND i.email_key > ").push_bind(key);
            } else {
                let directory = after.map_or("", |row| row.directory.as_str());
                query.push("(i.directory, i.email_key) > (").push_bind(directory)
                    .push(", ").push_bind(key).push(")");
            }
            if let Some(status) = filter.status {
                query.push(" AND (CASE WHEN i.directory IN (");
                push_list(&mut query, &filter.stale);
                query.push(") THEN 'unknown' ELSE i.status END) = ").push_bind(status.as_str());
            }
            if let Some(email) = &filter.email_key {
                query.push(" AND i.email_key = ").push_bind(email);
            }
            query.push(" ORDER BY i.directory, i.email_key LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })?;
        Ok(rows
            .into_iter()
            .map(|row| (row.identity, row.tokens))
            .collect())
    }

    /// The addresses of all owners of tokens in order. The cost grows with the owners, not the tokens.
    pub async fn list_owner_keys(&mut self) -> Result<Vec<String>> {
        on!(self, c: Db => sqlx::query_scalar(concat!(with_owners!(), " SELECT key FROM owner ORDER BY key"))
            .fetch_all(c).await)
    }

    /// The owners of these tokens who have lost access: all where that is an open finding, and each by themselves where
    /// a token has several or they cannot all be read.
    pub async fn load_lost_owners(
        &mut self,
        tokens: &[Token],
    ) -> Result<HashMap<TokenId, Vec<Address>>> {
        let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
        let outlived = self.find_lost_access(&ids).await?;
        let may_be_lost =
            |token: &Token| !token.co_owners.is_empty() || token.has_unreadable_owners();
        let uncertain = tokens.iter().filter(|token| may_be_lost(token));
        let owners = uncertain.flat_map(Token::owners);
        let keys: BTreeSet<_> = owners.map(Address::key).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let mut lost = HashSet::new();
        for chunk in keys.chunks(CHUNK_ROWS) {
            lost.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(concat!(
                    "SELECT DISTINCT i.email_key FROM identity i WHERE ", lost_before!(), " AND i.email_key IN ("));
                push_list(&mut query, chunk.iter().copied());
                query.push(")");
                query.build_query_scalar::<String>().fetch_all(c).await
            })?);
        }
        let of_token = |token: &Token| {
            let is_outlived = outlived.contains(&token.id);
            let may_be_lost = may_be_lost(token);
            let owners = token
                .owners()
                .filter(|owner| is_outlived || may_be_lost && lost.contains(owner.key()));
            (token.id, owners.cloned().collect())
        };
        let mut owners: HashMap<_, Vec<_>> = tokens.iter().map(of_token).collect();
        owners.retain(|_, owners| !owners.is_empty());
        Ok(owners)
    }

    /// Unsent warnings to owners who have lost access, about tokens that have other owners.
    pub async fn find_warnings_to_lost_owners(&mut self) -> Result<Vec<(TokenId, Address)>> {
        on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT DISTINCT n.token_id, n.recipient
             FROM (SELECT t.id AS token_id, i.email_key FROM identity i JOIN token t ON t.issuer_key = i.email_key
                   WHERE t.co_owners IS NOT NULL AND i.status IN ", lost_statuses!(), "
                   UNION
                   SELECT o.token_id, i.email_key FROM identity i JOIN token_owner o ON o.owner_key = i.email_key
                   WHERE i.status IN ", lost_statuses!(), ") AS lost
             JOIN notice n ON n.token_id = lost.token_id AND n.recipient_key = lost.email_key
             LEFT JOIN mail m ON m.id = n.mail_id
             WHERE n.topic = 'expiry' AND n.state = 'planned' AND (m.id IS NULL OR m.state IN ('open', 'waiting', 'claimed'))"))
            .fetch_all(c).await)
    }

    pub async fn delete_identities(&mut self, directory: &str, keys: &[String]) -> Result<()> {
        for chunk in keys.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("DELETE FROM identity WHERE directory = ");
                query.push_bind(directory).push(" AND email_key IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    pub async fn save_identities(&mut self, rows: &[IdentityRow]) -> Result<()> {
        for chunk in rows.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO identity (directory, email_key, email, account_id, account_chosen, name, status, known_status, reason,
                                           evidence, checked_by_id, since, observed_at, candidate, candidate_since, candidate_evidence) ");
                query.push_values(chunk, |mut values, row| {
                    let IdentityRow { directory, identity } = row;
                    values.push_bind(directory).push_bind(identity.email.key()).push_bind(identity.email.as_str())
                        .push_bind(&identity.account_id).push_bind(identity.account_chosen).push_bind(&identity.name)
                        .push_bind(identity.status.as_str()).push_bind(identity.known_status.as_str())
                        .push_bind(identity.reason.map(Reason::as_str)).push_bind(&identity.evidence)
                        .push_bind(identity.checked_by_id).push_bind(identity.since).push_bind(identity.observed_at)
                        .push_bind(identity.candidate.map(IdentityStatus::as_str))
                        .push_bind(identity.candidate_since).push_bind(&identity.candidate_evidence);
                });
                query.push(" ON CONFLICT (directory, email_key) DO UPDATE SET email = excluded.email,
                    account_id = excluded.account_id, account_chosen = excluded.account_chosen, name = excluded.name,
                    status = excluded.status, known_status = excluded.known_status, reason = excluded.reason,
                    evidence = excluded.evidence, checked_by_id = excluded.checked_by_id,
                    since = excluded.since, observed_at = excluded.observed_at, candidate = excluded.candidate, candidate_since = excluded.candidate_since,
                    candidate_evidence = excluded.candidate_evidence");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// What these directories know about each owner of working tokens, in order of address. The cost grows
    /// with the owners, not the tokens: for each owner, one working token is looked up.
    pub async fn list_issuer_identities(
        &mut self,
        directories: &[String],
        now: DateTime<Utc>,
    ) -> Result<Vec<IssuerIdentity>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(concat!(
                with_owners!(), " SELECT owner.key AS email_key, i.directory, i.status, i.reason
                 FROM owner LEFT JOIN identity i ON i.email_key = owner.key AND i.directory IN ("));
            push_list(&mut query, directories);
            query.push(") WHERE (EXISTS (SELECT 1 FROM token t WHERE t.issuer_key = owner.key AND ");
            push_works(&mut query, now);
            query.push(") OR EXISTS (SELECT 1 FROM token_owner o JOIN token t ON t.id = o.token_id
                                     WHERE o.owner_key = owner.key AND ");
            push_works(&mut query, now);
            query.push(")) ORDER BY owner.key, i.directory");
            query.build_query_as().fetch_all(c).await
        })
    }

    /// Counts the working tokens without an issuer's address.
    pub async fn count_tokens_without_issuer(&mut self, now: DateTime<Utc>) -> Result<i64> {
        on!(self, c: Db => {
            let mut query =
                QueryBuilder::<Db>::new("SELECT COUNT(*) FROM token t WHERE t.issuer_key IS NULL AND ");
            push_works(&mut query, now);
            query.build_query_scalar().fetch_one(c).await
        })
    }

    /// Counts people by directory and status. At the directories in `stale` every known status counts as unknown.
    pub async fn count_identities(&mut self, stale: &[String]) -> Result<Vec<IdentityCount>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT directory, status, reason, COUNT(*) AS count FROM (
                     SELECT directory, CASE WHEN is_stale THEN 'unknown' ELSE status END AS status,
                            CASE WHEN is_stale THEN 'stale' WHEN status = 'unknown' THEN reason END AS reason
                     FROM (SELECT directory, status, reason, status <> 'unknown' AND directory IN (");
            push_list(&mut query, stale);
            query.push(") AS is_stale FROM identity) AS known) AS shown
                 GROUP BY directory, status, reason ORDER BY directory, status, reason");
            query.build_query_as().fetch_all(c).await
        })
    }
}
