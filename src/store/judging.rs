//! What judging needs: the tokens that must be looked at, what stands against them, and what of it is
//! another now.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::domain::{Defect, FindingKind, Severity, Token, TokenId};

use super::mails::parsed;
use super::tokens::{TokenRow, tokens};
use super::{CHUNK, Result, Tx, on};

/// A finding that holds, as far as it is compared with the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingFinding {
    /// Its id.
    pub id: Uuid,
    /// The token, where it is about one.
    pub token_id: Option<TokenId>,
    /// What is wrong.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// Since when it holds, as far as was known.
    pub since: DateTime<Utc>,
    /// In words.
    pub evidence: String,
}

#[derive(FromRow)]
struct StandingRow {
    id: Uuid,
    token_id: Option<Uuid>,
    kind: String,
    severity: String,
    since: DateTime<Utc>,
    evidence: String,
}

/// Findings that time alone opens, of a time that has not come. `COALESCE` keeps the index on the kind out
/// of it: that on the time has none to look at, that on the kind all.
macro_rules! ahead {
    () => {
        "state <> 'resolved' AND since > $1 AND COALESCE(kind, '') IN ('unused', 'never_expires')"
    };
}

impl Tx {
    /// Up to `limit` tokens that must be judged by `now`, locked until the transaction ends.
    pub async fn tokens_to_judge(&mut self, now: DateTime<Utc>, limit: i64) -> Result<Vec<Token>> {
        let sql = self.pick(
            "SELECT * FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT $2",
            "SELECT * FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT $2 FOR UPDATE",
        );
        let rows: Vec<TokenRow> = on!(self, c: Db => sqlx::query_as(sql)
            .bind(now).bind(limit).fetch_all(c).await)?;
        tokens(rows)
    }

    /// Whether any token must be judged by `now`, or was found at fault by a clock that was ahead.
    pub async fn is_any_to_judge(&mut self, now: DateTime<Utc>) -> Result<bool> {
        let (found,): (Option<Uuid>,) = on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT COALESCE((SELECT id FROM token WHERE judge_at <= $1 ORDER BY judge_at LIMIT 1),
                             (SELECT id FROM finding WHERE ", ahead!(), " ORDER BY since DESC LIMIT 1))"))
            .bind(now).fetch_one(c).await)?;
        Ok(found.is_some())
    }

    /// Has the tokens looked at that a clock which was ahead found at fault.
    pub async fn recall_judged_ahead(&mut self, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE token SET judge_at = $1 WHERE id IN (SELECT token_id FROM finding WHERE ", ahead!(), ")"))
            .bind(now).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Every token in order of id, from after `after`, locked until the transaction ends.
    pub async fn all_tokens(&mut self, after: Uuid, limit: i64) -> Result<Vec<Token>> {
        let sql = self.pick(
            "SELECT * FROM token WHERE id > $1 ORDER BY id LIMIT $2",
            "SELECT * FROM token WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE",
        );
        let rows: Vec<TokenRow> = on!(self, c: Db => sqlx::query_as(sql)
            .bind(after).bind(limit).fetch_all(c).await)?;
        tokens(rows)
    }

    /// Writes down when each of these tokens must be judged next.
    pub async fn put_judge_at(
        &mut self,
        judged: &[(TokenId, Option<DateTime<Utc>>)],
    ) -> Result<()> {
        for judged in judged.chunks(CHUNK) {
            match self {
                Self::Sqlite(tx) => {
                    let mut query =
                        QueryBuilder::<Sqlite>::new("UPDATE token SET judge_at = v.column2 FROM (");
                    query.push_values(judged, |mut row, (id, at)| {
                        row.push_bind(id.0).push_bind(*at);
                    });
                    query.push(") AS v WHERE token.id = v.column1");
                    let query = query.build().persistent(judged.len() == CHUNK);
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

    /// What stands against these tokens by their own facts: findings open or acknowledged.
    pub async fn standing_of(&mut self, ids: &[TokenId]) -> Result<Vec<StandingFinding>> {
        let mut found = Vec::new();
        for ids in ids.chunks(CHUNK) {
            let rows: Vec<StandingRow> = on!(self, c: Db => {
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

    /// What stands against a source: findings open or acknowledged.
    pub async fn standing_of_source(&mut self, source: &str) -> Result<Vec<StandingFinding>> {
        let rows: Vec<StandingRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, token_id, kind, severity, since, evidence FROM finding
             WHERE source = $1 AND token_id IS NULL AND state <> 'resolved'")
            .bind(source).fetch_all(c).await)?;
        rows.into_iter().map(StandingFinding::try_from).collect()
    }

    /// Writes down how bad a finding is by now, since when and on what evidence; it is the same finding.
    pub async fn refresh_finding(
        &mut self,
        id: Uuid,
        defect: &Defect,
        since: DateTime<Utc>,
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE finding SET severity = $2, evidence = $3, since = $4 WHERE id = $1")
            .bind(id).bind(defect.severity.as_str()).bind(&defect.evidence).bind(since)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// Closes findings.
    pub async fn resolve_findings(&mut self, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        for ids in ids.chunks(CHUNK) {
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

impl TryFrom<StandingRow> for StandingFinding {
    type Error = super::Error;

    fn try_from(row: StandingRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            token_id: row.token_id.map(TokenId),
            kind: parsed(&row.kind, "a finding's kind")?,
            severity: parsed(&row.severity, "a finding's severity")?,
            since: row.since,
            evidence: row.evidence,
        })
    }
}
