//! What the program remembers of itself: runs, leases, the audit trail, and small facts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use super::{FAR, Result, Tx, mails::Holder, on};

/// One pass.
#[derive(Debug, Clone, FromRow)]
pub struct RunRow {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it goes on, or when it died.
    pub ended_at: Option<DateTime<Utc>>,
    /// `ok` or what went wrong.
    pub outcome: Option<String>,
}

/// An entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct AuditRow {
    /// Its id.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Why, or what came of it.
    pub reason: Option<String>,
}

impl Tx {
    /// Takes or renews a lease; `false` when somebody else holds it.
    ///
    /// One that ends later than `far`, now and a whole lease, was taken by a clock that jumped; it
    /// counts as lapsed.
    pub async fn take_lease(
        &mut self,
        name: &str,
        holder: Holder,
        now: DateTime<Utc>,
        far: DateTime<Utc>,
    ) -> Result<bool> {
        let taken = on!(self, c: Db => sqlx::query(
            "INSERT INTO lease (name, holder, until) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE lease.holder = excluded.holder OR lease.until <= $4 OR lease.until > $5")
            .bind(name).bind(holder.id).bind(holder.until).bind(now).bind(far)
            .execute(c).await.map(|done| done.rows_affected()))?;
        Ok(taken > 0)
    }

    /// Gives a lease back.
    pub async fn drop_lease(&mut self, name: &str, holder: Uuid) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM lease WHERE name = $1 AND holder = $2")
            .bind(name).bind(holder).execute(c).await.map(drop))?;
        Ok(())
    }

    /// A small fact.
    pub async fn meta(&mut self, key: &str) -> Result<Option<String>> {
        let row: Option<(String,)> = on!(self, c: Db => sqlx::query_as("SELECT value FROM meta WHERE key = $1")
            .bind(key).fetch_optional(c).await)?;
        Ok(row.map(|(value,)| value))
    }

    /// Several small facts; those that are not there are left out.
    pub async fn metas(&mut self, keys: &[&str]) -> Result<HashMap<String, String>> {
        let rows: Vec<(String, String)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT key, value FROM meta WHERE key IN (");
            let mut list = query.separated(", ");
            for key in keys { list.push_bind(*key); }
            query.push(")");
            query.build_query_as().fetch_all(c).await
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Keeps a small fact unless there is one of that name.
    pub async fn put_meta_once(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(key).bind(value).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Keeps a small fact.
    pub async fn put_meta(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(key).bind(value).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Keeps a small fact about a store that has no tokens yet, unless it is known.
    pub async fn put_meta_of_empty(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO meta (key, value) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM token)
             ON CONFLICT (key) DO NOTHING")
            .bind(key).bind(value).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Forgets a small fact, unless it has another value by now.
    pub async fn drop_meta(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM meta WHERE key = $1 AND value = $2")
            .bind(key).bind(value).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Writes down a finished pass.
    pub async fn add_run(&mut self, id: Uuid, run: &RunRow, report: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO run (id, started_at, ended_at, outcome, report) VALUES ($1, $2, $3, $4, $5)")
            .bind(id).bind(run.started_at).bind(run.ended_at).bind(&run.outcome).bind(report)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// The last pass, or the last that went well.
    pub async fn last_run(&mut self, only_good: bool) -> Result<Option<RunRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT started_at, ended_at, outcome FROM run WHERE outcome = 'ok' OR NOT $1
             ORDER BY started_at DESC LIMIT 1")
            .bind(only_good).fetch_optional(c).await)?)
    }

    /// Adds to the trail: who did what to what, and why.
    pub async fn audit(
        &mut self,
        id: Uuid,
        at: DateTime<Utc>,
        entry: [&str; 3],
        reason: Option<&str>,
    ) -> Result<()> {
        let [actor, action, subject] = entry;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO audit (id, at, actor, action, subject, reason) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(id).bind(at).bind(actor).bind(action).bind(subject).bind(reason)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// A page of the trail, the latest first, from before `before`.
    pub async fn list_audit(
        &mut self,
        before: Option<&AuditRow>,
        limit: i64,
    ) -> Result<Vec<AuditRow>> {
        let (at, id) = before.map_or((FAR, Uuid::max()), |entry| (entry.at, entry.id));
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM audit WHERE at <= $1 AND (at, id) < ($1, $2) ORDER BY at DESC, id DESC LIMIT $3")
            .bind(at).bind(id).bind(limit).fetch_all(c).await)?)
    }

    /// The last entry about a subject, if there is any.
    pub async fn last_audit_of(&mut self, subject: &str) -> Result<Option<AuditRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM audit WHERE subject = $1 ORDER BY at DESC, id DESC LIMIT 1")
            .bind(subject).fetch_optional(c).await)?)
    }

    /// Drops what is older than its rule in `docs/retention.md` allows; tells how many rows.
    pub async fn purge(&mut self, kept: &Kept, limit: i64) -> Result<u64> {
        let mut dropped = 0;
        for (sql, until) in [
            ("DELETE FROM run WHERE id IN (SELECT id FROM run WHERE started_at < $1 LIMIT $2)", kept.runs_from),
            ("DELETE FROM plan WHERE id IN (
                SELECT id FROM plan WHERE state IN ('released', 'discarded') AND created_at < $1 LIMIT $2)", kept.runs_from),
            ("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 LIMIT $2)", kept.audit_from),
            ("DELETE FROM finding WHERE id IN (
                SELECT id FROM finding WHERE state = 'resolved' AND resolved_at < $1 LIMIT $2)", kept.findings_from),
            ("DELETE FROM notice WHERE id IN (
                SELECT id FROM notice WHERE token_id IS NULL AND planned_at < $1 LIMIT $2)", kept.notices_from),
        ] {
            dropped += on!(self, c: Db => sqlx::query(sql).bind(until).bind(limit)
                .execute(c).await.map(|done| done.rows_affected()))?;
        }
        // The ids of mails are in order of time (RFC 9562 §5.7), which saves an index.
        let before = Uuid::from_u128(
            u128::try_from(kept.notices_from.timestamp_millis()).unwrap_or(0) << 80,
        );
        dropped += on!(self, c: Db => sqlx::query(
            "DELETE FROM mail WHERE id IN (
                SELECT m.id FROM mail m WHERE m.state IN ('sent', 'failed', 'cancelled') AND m.id < $1
                  AND NOT EXISTS (SELECT 1 FROM notice n WHERE n.mail_id = m.id) ORDER BY m.id LIMIT $2)")
            .bind(before).bind(limit).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(dropped)
    }
}

/// From when on rows are kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Runs.
    pub runs_from: DateTime<Utc>,
    /// The audit trail.
    pub audit_from: DateTime<Utc>,
    /// Resolved findings.
    pub findings_from: DateTime<Utc>,
    /// Notices that are about no token that still exists, and mails without notices.
    pub notices_from: DateTime<Utc>,
}
