//! Findings: what is or was wrong with tokens and sources, and the tokens that must be judged again.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, FromRow, QueryBuilder, Sqlite, Type};
use uuid::Uuid;

use crate::domain::{Address, FindingKind, FindingState, Severity, Token, TokenId, silent_since};

use super::columns::{expiry_counts, push_list};
use super::people::{lost_before, lost_statuses, push_owned_by, push_works};
use super::tokens::id_range;
use super::{CHUNK_ROWS, IdentityRow, Result, Tx, guarded, locking, on};

/// A finding with the token or source that it is about.
#[derive(Debug, Clone, FromRow)]
pub struct FindingRow {
    pub id: Uuid,
    /// `None` for a finding about a source.
    pub token_id: Option<TokenId>,
    /// The token's name, or that of the source.
    pub token_name: String,
    pub source: String,
    pub kind: FindingKind,
    pub severity: Severity,
    pub since: DateTime<Utc>,
    pub evidence: String,
    /// The state now: an acknowledgement that has ended counts as open.
    pub state: FindingState,
    /// When the policy revokes the token; `None` if it does not.
    pub revoke_at: Option<DateTime<Utc>>,
    pub issuer: Option<Address>,
    pub account: Option<String>,
    pub last_used_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone)]
pub struct NewFinding {
    pub id: Uuid,
    /// `None` for a finding about a source.
    pub token_id: Option<TokenId>,
    pub source: String,
    pub kind: FindingKind,
    pub severity: Severity,
    pub since: DateTime<Utc>,
    pub evidence: String,
    /// The directory that reports the loss of access; `None` for other kinds.
    pub directory: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct FindingFilter {
    pub kind: Option<FindingKind>,
    /// Includes acknowledged and resolved findings.
    pub all: bool,
}

/// Open findings of one kind at one source.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct FindingCount {
    pub kind: FindingKind,
    pub source: String,
    pub count: i64,
}

/// What judging compares of an open or acknowledged finding.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct OpenFinding {
    pub id: Uuid,
    /// `None` for a finding about a source.
    pub token_id: Option<TokenId>,
    pub kind: FindingKind,
    pub severity: Severity,
    pub since: DateTime<Utc>,
    pub evidence: String,
}

/// A working token whose owners have all lost access.
#[derive(Debug)]
pub struct OutlivedToken {
    pub token: Token,
    /// For each owner, the status that shows the loss.
    pub losses: Vec<IdentityRow>,
}

/// The source lists the owners of the token `t` in a way that can be read.
macro_rules! has_readable_owners {
    () => {
        "(t.unreadable IS NULL OR t.unreadable NOT LIKE '%\"issuer_email\":%')"
    };
}

/// Starts a query of findings `f` with their state at `now` and the name of the token or source.
fn select_findings<DB: Database>(now: DateTime<Utc>) -> QueryBuilder<DB>
where
    DateTime<Utc>: for<'q> Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "SELECT f.id, f.token_id, f.source, f.kind, f.severity, f.since, f.evidence, f.revoke_at, t.issuer, t.account, t.last_used_at,
            CASE WHEN t.id IS NULL THEN f.source WHEN t.name = '' THEN t.external_id ELSE t.name END AS token_name,
            CASE WHEN f.state = 'acknowledged' AND f.acknowledged_until <= ",
    );
    query.push_bind(now).push(
        " THEN 'open' ELSE f.state END AS state FROM finding f LEFT JOIN token t ON t.id = f.token_id",
    );
    query
}

/// The finding `f` is open at `now`: it is not acknowledged, or that has ended.
pub(super) fn push_open<DB: Database>(query: &mut QueryBuilder<DB>, now: DateTime<Utc>)
where
    DateTime<Utc>: for<'q> Encode<'q, DB> + Type<DB>,
{
    query
        .push("f.state <> 'resolved' AND (f.state = 'open' OR f.acknowledged_until <= ")
        .push_bind(now)
        .push(")");
}

fn push_excluded<'a, DB: Database>(query: &mut QueryBuilder<DB>, sources: &'a HashSet<String>)
where
    &'a String: Encode<'a, DB> + Type<DB>,
{
    for source in sources {
        query
            .push(" AND (f.kind = 'unconfigured' OR f.source <> ")
            .push_bind(source)
            .push(")");
    }
}

/// Findings with a start in the future: a clock was ahead. Only these two kinds begin with a time. `COALESCE`
/// keeps the planner from the index on `kind`; the index on `since` normally finds nothing.
macro_rules! in_future {
    () => {
        "state <> 'resolved' AND since > $1 AND COALESCE(kind, '') IN ('unused', 'never_expires')"
    };
}

impl Tx {
    /// Loads up to `limit` tokens that must be judged by `now`, and locks them until the transaction ends.
    pub async fn lock_tokens_to_judge(
        &mut self,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Token>> {
        let sql = locking!(
            self,
            "SELECT * FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT $2"
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(now).bind(limit).fetch_all(c).await)
    }

    /// Whether any token must be judged by `now`, or has a finding dated in the future.
    pub async fn has_tokens_to_judge(&mut self, now: DateTime<Utc>) -> Result<bool> {
        let first: Option<Uuid> = on!(self, c: Db => sqlx::query_scalar(concat!(
            "SELECT COALESCE((SELECT id FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT 1),
                             (SELECT id FROM finding WHERE ", in_future!(), " ORDER BY since DESC LIMIT 1))"))
            .bind(now).fetch_one(c).await)?;
        Ok(first.is_some())
    }

    /// Makes tokens due for judging if a finding about them is dated in the future.
    pub async fn rejudge_future_findings(&mut self, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE token SET judge_at = $1 WHERE id IN (SELECT token_id FROM finding WHERE ", in_future!(), ")"))
            .bind(now).execute(c).await.map(drop))
    }

    /// A page of all tokens in order of id, locked until the transaction ends.
    pub async fn lock_all_tokens(&mut self, after: Uuid, limit: i64) -> Result<Vec<Token>> {
        let sql = locking!(
            self,
            "SELECT * FROM token WHERE id > $1 ORDER BY id LIMIT $2"
        );
        on!(self, c: Db => sqlx::query_as(sql)
            .bind(after).bind(limit).fetch_all(c).await)
    }

    /// Sets when these tokens must be judged next; `None` if only a change can make that necessary.
    pub async fn set_judge_at(&mut self, times: &[(TokenId, Option<DateTime<Utc>>)]) -> Result<()> {
        for chunk in times.chunks(CHUNK_ROWS) {
            match self {
                Self::Sqlite(tx) => {
                    let mut query =
                        QueryBuilder::<Sqlite>::new("UPDATE token SET judge_at = v.column2 FROM (");
                    query.push_values(chunk, |mut row, (id, at)| {
                        row.push_bind(*id).push_bind(*at);
                    });
                    query.push(") AS v WHERE token.id = v.column1");
                    let query = query.build().persistent(chunk.len() == CHUNK_ROWS);
                    query.execute(&mut **tx).await?;
                }
                // Arrays: one statement for every number of tokens.
                Self::Postgres(session) => {
                    let ids: Vec<_> = chunk.iter().map(|(id, _)| id.0).collect();
                    let ats: Vec<_> = chunk.iter().map(|(_, at)| *at).collect();
                    let query = sqlx::query(
                        "UPDATE token SET judge_at = v.judge_at
                         FROM unnest($1::uuid[], $2::timestamptz[]) AS v (id, judge_at) WHERE token.id = v.id",
                    );
                    guarded!(session, c => query.bind(ids).bind(ats).execute(c).await)?;
                }
            }
        }
        Ok(())
    }

    /// Working tokens whose owners have all lost access at these directories and that have no finding yet;
    /// in order of token id, after `after`. Tokens of silent sources are left out.
    pub async fn find_outlived_tokens(
        &mut self,
        now: DateTime<Utc>,
        fresh_directories: &[String],
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<OutlivedToken>> {
        let ids: Vec<TokenId> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(concat!(
                "SELECT DISTINCT t.id FROM identity i JOIN token t ON t.issuer_key = i.email_key
                 WHERE i.status IN ", lost_statuses!(), " AND ", has_readable_owners!(), " AND i.directory IN ("));
            push_list(&mut query, fresh_directories);
            query.push(concat!(
                ") AND NOT EXISTS (SELECT 1 FROM token_owner o WHERE o.token_id = t.id AND NOT EXISTS (
                     SELECT 1 FROM identity j WHERE j.email_key = o.owner_key AND j.status IN ", lost_statuses!(),
                 " AND j.directory IN ("));
            push_list(&mut query, fresh_directories);
            query.push("))) AND ");
            push_works(&mut query, now);
            query.push(" AND t.id > ").push_bind(after)
                .push(" AND NOT EXISTS (SELECT 1 FROM finding f WHERE f.token_id = t.id AND f.kind = 'sso_revoked'
                                        AND f.state <> 'resolved')
                        AND NOT EXISTS (SELECT 1 FROM finding g WHERE g.token_id IS NULL AND g.source = t.source
                                        AND g.kind = 'unconfigured' AND g.state <> 'resolved' AND g.since <= ")
                .push_bind(silent_since(now)).push(") ORDER BY t.id LIMIT ").push_bind(limit);
            query.build_query_scalar().fetch_all(c).await
        })?;
        let mut tokens = self.load_tokens(&ids).await?;
        tokens.sort_unstable_by_key(|token| token.id);
        let mut outlived = Vec::with_capacity(tokens.len());
        for token in tokens {
            let losses = self.find_losses(&token, Some(fresh_directories)).await?;
            outlived.push(OutlivedToken { token, losses });
        }
        Ok(outlived)
    }

    /// For each owner of a token who has lost access, in order, the status that shows it: at one of these directories,
    /// or at any.
    pub async fn find_losses(
        &mut self,
        token: &Token,
        directories: Option<&[String]>,
    ) -> Result<Vec<IdentityRow>> {
        let mut losses = Vec::new();
        for owner in token.owners() {
            let mut rows = self.find_lost_identities(owner.key()).await?.into_iter();
            losses.extend(rows.find(|row| {
                directories.is_none_or(|directories| directories.contains(&row.directory))
            }));
        }
        Ok(losses)
    }

    /// Open findings of lost access that no longer hold, with their tokens: an owner is back, or the token
    /// no longer works or has another owner. Where the owners cannot be read, it is not known who they are.
    pub async fn find_obsolete_findings(
        &mut self,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<(Uuid, TokenId)>> {
        on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT f.id, f.token_id FROM finding f JOIN token t ON t.id = f.token_id
             WHERE f.kind = 'sso_revoked' AND f.state <> 'resolved'
               AND (t.status NOT IN ('active', 'expired')
                    OR t.expires_at <= $1 AND (t.expiry_origin IS NULL OR t.expiry_origin <> 'policy')
                       AND ", expiry_counts!("t."), "
                    OR ", has_readable_owners!(), "
                       AND (NOT EXISTS (SELECT 1 FROM identity i WHERE i.email_key = t.issuer_key AND ", lost_before!(), ")
                            OR EXISTS (SELECT 1 FROM token_owner o WHERE o.token_id = t.id AND NOT EXISTS (
                                SELECT 1 FROM identity i WHERE i.email_key = o.owner_key AND ", lost_before!(), "))))
             LIMIT $2"))
            .bind(now).bind(limit).fetch_all(c).await)
    }

    /// Opens findings; one that is already open stays as it is.
    pub async fn insert_findings(&mut self, findings: &[NewFinding]) -> Result<()> {
        for chunk in findings.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO finding (id, token_id, source, kind, severity, since, evidence, directory, state) ");
                query.push_values(chunk, |mut row, finding| {
                    row.push_bind(finding.id).push_bind(finding.token_id)
                        .push_bind(&finding.source).push_bind(finding.kind.as_str())
                        .push_bind(finding.severity.as_str()).push_bind(finding.since)
                        .push_bind(&finding.evidence).push_bind(&finding.directory).push("'open'");
                });
                query.push(" ON CONFLICT DO NOTHING");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Open findings of lost access about this owner's tokens, with the tokens: those that this directory reports, and
    /// those about several owners.
    pub async fn find_open_losses(
        &mut self,
        owner_key: &str,
        directory: &str,
    ) -> Result<Vec<(Uuid, TokenId)>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT f.id, t.id FROM token t JOIN finding f ON f.token_id = t.id WHERE ");
            push_owned_by(&mut query, owner_key);
            query.push(" AND (t.co_owners IS NOT NULL OR f.directory = ").push_bind(directory)
                .push(") AND f.kind = 'sso_revoked' AND f.state <> 'resolved'");
            query.build_query_as().fetch_all(c).await
        })
    }

    /// Which of these tokens have an open finding of lost access.
    pub async fn find_lost_access(&mut self, ids: &[TokenId]) -> Result<HashSet<TokenId>> {
        let mut found = HashSet::new();
        for chunk in ids.chunks(CHUNK_ROWS) {
            found.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT token_id FROM finding WHERE kind = 'sso_revoked' AND state <> 'resolved' AND token_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_scalar::<TokenId>().fetch_all(c).await
            })?);
        }
        Ok(found)
    }

    /// A page of findings older than `before`, newest first.
    ///
    /// Ids begin with the time (RFC 9562 §5.7), so the primary key gives the order.
    pub async fn list_findings(
        &mut self,
        filter: FindingFilter,
        before: Option<Uuid>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<FindingRow>> {
        on!(self, c: Db => {
            let mut query = select_findings::<Db>(now);
            query.push(" WHERE f.id < ").push_bind(before.unwrap_or(Uuid::max()));
            if let Some(kind) = filter.kind {
                query.push(" AND f.kind = ").push_bind(kind.as_str());
            }
            if !filter.all {
                query.push(" AND ");
                push_open(&mut query, now);
            }
            query.push(" ORDER BY f.id DESC LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// All findings about one token, newest first.
    pub async fn list_findings_of_token(
        &mut self,
        token: TokenId,
        now: DateTime<Utc>,
    ) -> Result<Vec<FindingRow>> {
        on!(self, c: Db => {
            let mut query = select_findings::<Db>(now);
            query.push(" WHERE f.token_id = ").push_bind(token).push(" ORDER BY f.id DESC");
            query.build_query_as().fetch_all(c).await
        })
    }

    /// At most `limit` findings whose id begins with these hexadecimal digits.
    pub async fn find_findings_by_prefix(
        &mut self,
        prefix: &str,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<FindingRow>> {
        let Some((low, high)) = id_range(prefix) else {
            return Ok(Vec::new());
        };
        on!(self, c: Db => {
            let mut query = select_findings::<Db>(now);
            query.push(" WHERE f.id BETWEEN ").push_bind(low)
                .push(" AND ").push_bind(high).push(" ORDER BY f.id LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// Acknowledges a finding until `until`; `false` when it is already resolved.
    pub async fn acknowledge_finding(&mut self, id: Uuid, until: DateTime<Utc>) -> Result<bool> {
        let count = on!(self, c: Db => sqlx::query(
            "UPDATE finding SET state = 'acknowledged', acknowledged_until = $2, revoke_at = NULL
             WHERE id = $1 AND state <> 'resolved'")
            .bind(id).bind(until).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(count > 0)
    }

    /// Counts the findings open at `now` by kind and source, except those of `excluded_sources`. That one
    /// is not configured counts all the same.
    pub async fn count_open_findings(
        &mut self,
        now: DateTime<Utc>,
        excluded_sources: &HashSet<String>,
    ) -> Result<Vec<FindingCount>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT kind, source, COUNT(*) AS count FROM finding f WHERE ");
            push_open(&mut query, now);
            push_excluded(&mut query, excluded_sources);
            query.push(" GROUP BY kind, source ORDER BY kind, source");
            query.build_query_as().fetch_all(c).await
        })
    }

    /// The most urgent findings open at `now`, except those of `excluded_sources`. That one
    /// is not configured counts all the same.
    pub async fn list_urgent_findings(
        &mut self,
        now: DateTime<Utc>,
        excluded_sources: &HashSet<String>,
        limit: i64,
    ) -> Result<Vec<FindingRow>> {
        on!(self, c: Db => {
            let mut query = select_findings::<Db>(now);
            query.push(" WHERE ");
            push_open(&mut query, now);
            push_excluded(&mut query, excluded_sources);
            query.push(" ORDER BY CASE f.severity WHEN 'critical' THEN 0 WHEN 'high' THEN 1 ELSE 2 END, f.since, f.id LIMIT ")
                .push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// Findings of these tokens that are not resolved, except those of lost access.
    pub async fn load_open_findings(&mut self, ids: &[TokenId]) -> Result<Vec<OpenFinding>> {
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK_ROWS) {
            found.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT id, token_id, kind, severity, since, evidence FROM finding
                     WHERE kind NOT IN ('sso_revoked', 'old_secret_in_use', 'new_place') AND state <> 'resolved' AND token_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_as::<OpenFinding>().fetch_all(c).await
            })?);
        }
        Ok(found)
    }

    /// Findings about a source that are not resolved.
    pub async fn load_open_source_findings(&mut self, source: &str) -> Result<Vec<OpenFinding>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, token_id, kind, severity, since, evidence FROM finding
             WHERE source = $1 AND token_id IS NULL AND state <> 'resolved'")
            .bind(source).fetch_all(c).await)
    }

    /// Updates a finding; without `since` its start stays.
    pub async fn update_finding(
        &mut self,
        id: Uuid,
        severity: Severity,
        evidence: &str,
        since: Option<DateTime<Utc>>,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE finding SET severity = $2, evidence = $3, since = COALESCE($4, since) WHERE id = $1")
            .bind(id).bind(severity.as_str()).bind(evidence).bind(since)
            .execute(c).await.map(drop))
    }

    pub async fn resolve_findings(&mut self, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        for chunk in ids.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE finding SET revoke_at = NULL, state = 'resolved', resolved_at = ");
                query.push_bind(now).push(" WHERE id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }
}
