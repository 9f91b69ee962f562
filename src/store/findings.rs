//! Findings: what is wrong with tokens now, and was.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{FindingKind, Severity, Token, TokenId};

use super::mails::parsed;
use super::people::push_names;
use super::tokens::id_range;
use super::{CHUNK, IdentityRow, Result, Tx, on};

/// A finding with the token or source that it is about.
#[derive(Debug, Clone, FromRow)]
pub struct FindingRow {
    /// Its id.
    pub id: Uuid,
    /// The token, where it is about one.
    pub token_id: Option<Uuid>,
    /// The token's name, or that of the source.
    pub token_name: String,
    /// The source.
    pub source: String,
    /// `sso_revoked`, …
    pub kind: String,
    /// `medium`, `high` or `critical`.
    pub severity: String,
    /// Since when it holds.
    pub since: DateTime<Utc>,
    /// In words.
    pub evidence: String,
    /// `open`, `acknowledged` or `resolved`.
    pub state: String,
    /// When its token is to be ended by the policy; `None` where it is not.
    pub revoke_at: Option<DateTime<Utc>>,
}

/// A finding to be opened.
#[derive(Debug, Clone)]
pub struct NewFinding {
    /// Its id.
    pub id: Uuid,
    /// The token, where it is about one.
    pub token_id: Option<TokenId>,
    /// The source.
    pub source: String,
    /// What is wrong.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// Since when.
    pub since: DateTime<Utc>,
    /// In words.
    pub evidence: String,
}

/// Which findings to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct FindingFilter {
    /// Only of this kind.
    pub kind: Option<FindingKind>,
    /// Acknowledged and resolved ones too.
    pub all: bool,
}

/// How many findings of a kind are open at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCount {
    /// What is wrong.
    pub kind: FindingKind,
    /// The source.
    pub source: String,
    /// How many.
    pub count: i64,
}

/// A token whose issuer a directory says is out.
#[derive(Debug)]
pub struct Outlived {
    /// The token.
    pub token: Token,
    /// What the directory says.
    pub identity: IdentityRow,
}

impl Tx {
    /// Tokens that work although one of the `fresh` directories says that their issuer is out, and that
    /// nobody has found yet; in order of token, from after `after`.
    pub async fn outlived_tokens(
        &mut self,
        now: DateTime<Utc>,
        fresh: &[String],
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Outlived>> {
        let found: Vec<(Uuid, String, String)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT t.id, MIN(i.directory), i.email_key FROM identity i JOIN token t ON t.issuer_key = i.email_key
                 WHERE i.status IN ('disabled', 'deleted', 'out_of_group') AND i.directory IN (");
            push_names(&mut query, fresh);
            query.push(") AND t.status IN ('active', 'expired') AND (t.expires_at IS NULL OR t.expires_at > ")
                .push_bind(now).push(" OR t.expiry_origin = 'policy') AND t.id > ").push_bind(after)
                .push(" AND NOT EXISTS (SELECT 1 FROM finding f WHERE f.token_id = t.id AND f.kind = 'sso_revoked'
                                        AND f.state <> 'resolved')
                        GROUP BY t.id, i.email_key ORDER BY t.id LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })?;
        let ids: Vec<_> = found.iter().map(|(id, ..)| TokenId(*id)).collect();
        let mut by_id: std::collections::HashMap<_, _> = self
            .tokens_by_id(&ids)
            .await?
            .into_iter()
            .map(|token| (token.id.0, token))
            .collect();
        let mut outlived = Vec::with_capacity(found.len());
        for (id, directory, email_key) in found {
            let identity: IdentityRow = on!(self, c: Db => sqlx::query_as(
                "SELECT * FROM identity WHERE directory = $1 AND email_key = $2")
                .bind(&directory).bind(&email_key).fetch_one(c).await)?;
            outlived.extend(by_id.remove(&id).map(|token| Outlived { token, identity }));
        }
        Ok(outlived)
    }

    /// Open findings of lost access whose ground is gone: the person is back, or the token works no
    /// longer or has another issuer.
    pub async fn groundless_findings(
        &mut self,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<(Uuid, TokenId)>> {
        let rows: Vec<(Uuid, Uuid)> = on!(self, c: Db => sqlx::query_as(
            "SELECT f.id, f.token_id FROM finding f JOIN token t ON t.id = f.token_id
             WHERE f.kind = 'sso_revoked' AND f.state <> 'resolved'
               AND (t.status NOT IN ('active', 'expired')
                    OR t.expires_at <= $1 AND (t.expiry_origin IS NULL OR t.expiry_origin <> 'policy')
                    OR NOT EXISTS (SELECT 1 FROM identity i WHERE i.email_key = t.issuer_key
                                   AND (i.status IN ('disabled', 'deleted', 'out_of_group')
                                        OR i.status = 'unknown'
                                           AND i.known_status IN ('disabled', 'deleted', 'out_of_group'))))
             LIMIT $2")
            .bind(now).bind(limit).fetch_all(c).await)?;
        Ok(rows
            .into_iter()
            .map(|(id, token)| (id, TokenId(token)))
            .collect())
    }

    /// Opens findings.
    pub async fn open_findings(&mut self, findings: &[NewFinding]) -> Result<()> {
        for findings in findings.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO finding (id, token_id, source, kind, severity, since, evidence, state) ");
                query.push_values(findings, |mut row, finding| {
                    row.push_bind(finding.id).push_bind(finding.token_id.map(|token| token.0))
                        .push_bind(&finding.source).push_bind(finding.kind.as_str())
                        .push_bind(finding.severity.as_str()).push_bind(finding.since)
                        .push_bind(&finding.evidence).push("'open'");
                });
                query.push(" ON CONFLICT DO NOTHING");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// Open findings about tokens of this issuer that say what this directory says, with the tokens' roles.
    pub async fn open_losses_of(
        &mut self,
        issuer_key: &str,
        directory: &str,
    ) -> Result<Vec<(Uuid, Option<String>)>> {
        let rows: Vec<(Uuid, Option<String>, String)> = on!(self, c: Db => sqlx::query_as(
            "SELECT f.id, t.role, f.evidence FROM token t JOIN finding f ON f.token_id = t.id
             WHERE t.issuer_key = $1 AND f.kind = 'sso_revoked' AND f.state <> 'resolved'")
            .bind(issuer_key).fetch_all(c).await)?;
        let prefix = format!("{directory} says ");
        let of_it = |(id, role, evidence): (Uuid, Option<String>, String)| {
            evidence.starts_with(&prefix).then_some((id, role))
        };
        Ok(rows.into_iter().filter_map(of_it).collect())
    }

    /// Says anew how bad a finding is, and why.
    pub async fn restate_finding(
        &mut self,
        id: Uuid,
        severity: Severity,
        evidence: &str,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE finding SET severity = $2, evidence = $3 WHERE id = $1")
            .bind(id).bind(severity.as_str()).bind(evidence).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Closes a finding.
    pub async fn resolve_finding(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE finding SET state = 'resolved', resolved_at = $2, revoke_at = NULL WHERE id = $1")
            .bind(id).bind(now).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Which of these tokens have an open finding of lost access.
    pub async fn lost_access(
        &mut self,
        ids: &[TokenId],
    ) -> Result<std::collections::HashSet<TokenId>> {
        let mut found = std::collections::HashSet::new();
        for ids in ids.chunks(CHUNK) {
            let rows: Vec<(Uuid,)> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT token_id FROM finding WHERE kind = 'sso_revoked' AND state <> 'resolved' AND token_id IN (");
                let mut list = query.separated(", ");
                for id in ids { list.push_bind(id.0); }
                query.push(")");
                query.build_query_as().fetch_all(c).await
            })?;
            found.extend(rows.into_iter().map(|(id,)| TokenId(id)));
        }
        Ok(found)
    }

    /// A page of findings, the last found first, from before `before`: the open ones, or all.
    ///
    /// Their ids begin with the time (RFC 9562 §5.7), so that the primary key is the order.
    pub async fn list_findings(
        &mut self,
        filter: FindingFilter,
        before: Option<Uuid>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<FindingRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(FINDING);
            query.push_bind(now).push(FINDING_FROM)
                .push(" WHERE f.id < ").push_bind(before.unwrap_or(Uuid::max()));
            if let Some(kind) = filter.kind {
                query.push(" AND f.kind = ").push_bind(kind.as_str());
            }
            if !filter.all {
                query.push(" AND f.state <> 'resolved' AND (f.state = 'open' OR f.acknowledged_until <= ")
                    .push_bind(now).push(")");
            }
            query.push(" ORDER BY f.id DESC LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })?)
    }

    /// Every finding about one token, the last found first.
    pub async fn findings_of(
        &mut self,
        token: TokenId,
        now: DateTime<Utc>,
    ) -> Result<Vec<FindingRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(FINDING);
            query.push_bind(now).push(FINDING_FROM).push(" WHERE f.token_id = ").push_bind(token.0).push(" ORDER BY f.id DESC");
            query.build_query_as().fetch_all(c).await
        })?)
    }

    /// The findings whose id begins with these hexadecimal digits, at most `limit`.
    pub async fn findings_matching(
        &mut self,
        prefix: &str,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<FindingRow>> {
        let Some((low, high)) = id_range(prefix) else {
            return Ok(Vec::new());
        };
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(FINDING);
            query.push_bind(now).push(FINDING_FROM).push(" WHERE f.id BETWEEN ").push_bind(low)
                .push(" AND ").push_bind(high).push(" ORDER BY f.id LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })?)
    }

    /// Accepts a finding until an instant; `false` when it is resolved by now.
    pub async fn acknowledge_finding(&mut self, id: Uuid, until: DateTime<Utc>) -> Result<bool> {
        let done = on!(self, c: Db => sqlx::query(
            "UPDATE finding SET state = 'acknowledged', acknowledged_until = $2, revoke_at = NULL
             WHERE id = $1 AND state <> 'resolved'")
            .bind(id).bind(until).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(done > 0)
    }

    /// How many findings are open at `now`, by kind and source, but those of the sources `without`.
    pub async fn open_counts(
        &mut self,
        now: DateTime<Utc>,
        without: &[String],
    ) -> Result<Vec<OpenCount>> {
        let rows: Vec<(String, String, i64)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT kind, source, COUNT(*) FROM finding
                 WHERE state <> 'resolved' AND (state = 'open' OR acknowledged_until <= ");
            query.push_bind(now).push(")");
            for source in without { query.push(" AND source <> ").push_bind(source); }
            query.push(" GROUP BY kind, source ORDER BY kind, source");
            query.build_query_as().fetch_all(c).await
        })?;
        let count = |(kind, source, count): (String, String, i64)| {
            Ok(OpenCount {
                kind: parsed(&kind, "a finding's kind")?,
                source,
                count,
            })
        };
        rows.into_iter().map(count).collect()
    }

    /// The most urgent findings that are open at `now`, but those of the sources `without`.
    pub async fn urgent_findings(
        &mut self,
        now: DateTime<Utc>,
        without: &[String],
        limit: i64,
    ) -> Result<Vec<FindingRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(FINDING);
            query.push_bind(now).push(FINDING_FROM)
                .push(" WHERE f.state <> 'resolved' AND (f.state = 'open' OR f.acknowledged_until <= ")
                .push_bind(now).push(")");
            for source in without { query.push(" AND f.source <> ").push_bind(source); }
            query.push(" ORDER BY CASE f.severity WHEN 'critical' THEN 0 WHEN 'high' THEN 1 ELSE 2 END, f.since, f.id LIMIT ")
                .push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })?)
    }
}

/// A finding as it is at the instant that follows, with what people call what it is about.
const FINDING: &str = "SELECT f.id, f.token_id, f.source,
        CASE WHEN t.id IS NULL THEN f.source WHEN t.name = '' THEN t.external_id ELSE t.name END AS token_name,
        f.kind, f.severity, f.since, f.evidence, f.revoke_at,
        CASE WHEN f.state = 'acknowledged' AND f.acknowledged_until <= ";
const FINDING_FROM: &str = " THEN 'open' ELSE f.state END AS state
    FROM finding f LEFT JOIN token t ON t.id = f.token_id";
