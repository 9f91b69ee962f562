//! Judging: the tokens that must be evaluated, and their open findings.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{FindingKind, RuleFinding, Severity, Token, TokenId};

use super::mails::parse_stored;
use super::tokens::{TokenRow, parse_tokens};
use super::{CHUNK_ROWS, Result, Tx, on};

/// An open or acknowledged finding, as far as judging compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFinding {
    pub id: Uuid,
    /// `None` for a finding about a source.
    pub token_id: Option<TokenId>,
    pub kind: FindingKind,
    pub severity: Severity,
    pub since: DateTime<Utc>,
    pub evidence: String,
}

#[derive(FromRow)]
struct OpenFindingRow {
    id: Uuid,
    token_id: Option<Uuid>,
    kind: String,
    severity: String,
    since: DateTime<Utc>,
    evidence: String,
}

/// Findings that only time opens, dated in the future. `COALESCE` prevents the use of the index on the kind:
/// with that on `since` there is normally nothing to read.
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
        let sql = self.by_database(
            "SELECT * FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT $2",
            "SELECT * FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT $2 FOR UPDATE",
        );
        let rows: Vec<TokenRow> = on!(self, c: Db => sqlx::query_as(sql)
            .bind(now).bind(limit).fetch_all(c).await)?;
        parse_tokens(rows)
    }

    /// Whether any token must be judged by `now`, or has a finding from a clock that was ahead.
    pub async fn has_tokens_to_judge(&mut self, now: DateTime<Utc>) -> Result<bool> {
        let (found,): (Option<Uuid>,) = on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT COALESCE((SELECT id FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT 1),
                             (SELECT id FROM finding WHERE ", in_future!(), " ORDER BY since DESC LIMIT 1))"))
            .bind(now).fetch_one(c).await)?;
        Ok(found.is_some())
    }

    /// Has the tokens judged again whose findings come from a clock that was ahead.
    pub async fn rejudge_future_findings(&mut self, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE token SET judge_at = $1 WHERE id IN (SELECT token_id FROM finding WHERE ", in_future!(), ")"))
            .bind(now).execute(c).await.map(drop))?;
        Ok(())
    }

    /// A page of all tokens in order of id, locked until the transaction ends.
    pub async fn lock_all_tokens(&mut self, after: Uuid, limit: i64) -> Result<Vec<Token>> {
        let sql = self.by_database(
            "SELECT * FROM token WHERE id > $1 ORDER BY id LIMIT $2",
            "SELECT * FROM token WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE",
        );
        let rows: Vec<TokenRow> = on!(self, c: Db => sqlx::query_as(sql)
            .bind(after).bind(limit).fetch_all(c).await)?;
        parse_tokens(rows)
    }

    pub async fn set_judge_at(
        &mut self,
        judged: &[(TokenId, Option<DateTime<Utc>>)],
    ) -> Result<()> {
        for judged in judged.chunks(CHUNK_ROWS) {
            match self {
                Self::Sqlite(tx) => {
                    let mut query =
                        QueryBuilder::<Sqlite>::new("UPDATE token SET judge_at = v.column2 FROM (");
                    query.push_values(judged, |mut row, (id, at)| {
                        row.push_bind(id.0).push_bind(*at);
                    });
                    query.push(") AS v WHERE token.id = v.column1");
                    let query = query.build().persistent(judged.len() == CHUNK_ROWS);
                    query.execute(&mut **tx).await?;
                }
                Self::Postgres(tx) => {
                    let ids: Vec<_> = judged.iter().map(|(id, _)| id.0).collect();
                    let ats: Vec<_> = judged.iter().map(|(_, at)| *at).collect();
                    sqlx::query(
                        "UPDATE token SET judge_at = v.judge_at
                         FROM unnest($1::uuid[], $2::timestamptz[]) AS v (id, judge_at) WHERE token.id = v.id",
                    )
                    .bind(ids)
                    .bind(ats)
                    .execute(&mut **tx)
                    .await?;
                }
            }
        }
        Ok(())
    }

    /// Findings of these tokens that are not resolved, except those of lost access.
    pub async fn load_open_findings(&mut self, ids: &[TokenId]) -> Result<Vec<OpenFinding>> {
        let mut found = Vec::new();
        for ids in ids.chunks(CHUNK_ROWS) {
            let rows: Vec<OpenFindingRow> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT id, token_id, kind, severity, since, evidence FROM finding
                     WHERE kind <> 'sso_revoked' AND state <> 'resolved' AND token_id IN (");
                let mut list = query.separated(", ");
                for id in ids { list.push_bind(id.0); }
                query.push(")");
                query.build_query_as().fetch_all(c).await
            })?;
            for row in rows {
                found.push(row.try_into()?);
            }
        }
        Ok(found)
    }

    /// Findings about a source that are not resolved.
    pub async fn load_open_source_findings(&mut self, source: &str) -> Result<Vec<OpenFinding>> {
        let rows: Vec<OpenFindingRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, token_id, kind, severity, since, evidence FROM finding
             WHERE source = $1 AND token_id IS NULL AND state <> 'resolved'")
            .bind(source).fetch_all(c).await)?;
        rows.into_iter().map(OpenFinding::try_from).collect()
    }

    /// Updates severity, evidence and start of a finding.
    pub async fn update_finding(
        &mut self,
        id: Uuid,
        defect: &RuleFinding,
        since: DateTime<Utc>,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE finding SET severity = $2, evidence = $3, since = $4 WHERE id = $1")
            .bind(id).bind(defect.severity.as_str()).bind(&defect.evidence).bind(since)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    pub async fn resolve_findings(&mut self, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        for ids in ids.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "UPDATE finding SET revoke_at = NULL, state = 'resolved', resolved_at = ");
                query.push_bind(now).push(" WHERE id IN (");
                let mut list = query.separated(", ");
                for id in ids { list.push_bind(*id); }
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }
}

impl TryFrom<OpenFindingRow> for OpenFinding {
    type Error = super::Error;

    fn try_from(row: OpenFindingRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            token_id: row.token_id.map(TokenId),
            kind: parse_stored(&row.kind, "a finding's kind")?,
            severity: parse_stored(&row.severity, "a finding's severity")?,
            since: row.since,
            evidence: row.evidence,
        })
    }
}
