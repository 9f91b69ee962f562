//! Runs, leases, settings, the audit trail, and purging.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::time::MAX_INSTANT;

use super::columns::push_list;
use super::{CHUNK_ROWS, Holder, Result, Tx, on};

#[derive(Debug, Clone, FromRow)]
pub struct RunRow {
    pub started_at: DateTime<Utc>,
    /// `None` while it runs, or if it died.
    pub ended_at: Option<DateTime<Utc>>,
    /// `ok`, or what went wrong.
    pub outcome: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct AuditRow {
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub reason: Option<String>,
}

impl AuditRow {
    /// Where a list continues: nothing else of it matters.
    pub fn position(at: DateTime<Utc>, id: Uuid) -> Self {
        Self {
            id,
            at,
            actor: String::new(),
            action: String::new(),
            subject: String::new(),
            reason: None,
        }
    }
}

/// Each text is how the column begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    pub actor: Option<String>,
    pub action: Option<String>,
    pub subject: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct LeaseRow {
    /// Who holds it, or held it last.
    pub holder: Uuid,
    /// How often another process took it.
    pub changes: i64,
}

impl Tx {
    /// Takes or renews a lease; `false` when another process holds it.
    ///
    /// A lease that ends after `max_until`, now plus a full lease, was taken by a clock that jumped; it
    /// counts as lapsed.
    pub async fn take_lease(
        &mut self,
        name: &str,
        holder: Holder,
        now: DateTime<Utc>,
        max_until: DateTime<Utc>,
    ) -> Result<bool> {
        let taken = on!(self, c: Db => sqlx::query(
            "INSERT INTO lease (name, holder, until) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,
                 changes = lease.changes + CASE WHEN lease.holder = excluded.holder THEN 0 ELSE 1 END
             WHERE lease.holder = excluded.holder OR lease.until <= $4 OR lease.until > $5")
            .bind(name).bind(holder.id).bind(holder.until).bind(now).bind(max_until)
            .execute(c).await.map(|done| done.rows_affected()))?;
        Ok(taken > 0)
    }

    /// Gives a lease back. Its row keeps the last holder.
    pub async fn release_lease(&mut self, name: &str, holder: Uuid) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE lease SET until = $3 WHERE name = $1 AND holder = $2")
            .bind(name).bind(holder).bind(DateTime::UNIX_EPOCH).execute(c).await.map(drop))
    }

    pub async fn find_lease(&mut self, name: &str) -> Result<Option<LeaseRow>> {
        on!(self, c: Db => sqlx::query_as("SELECT holder, changes FROM lease WHERE name = $1")
            .bind(name).fetch_optional(c).await)
    }

    /// Whether a lease still belongs to this holder. On PostgreSQL no other process can take it until the transaction
    /// ends; on SQLite no other writes meanwhile.
    pub async fn lock_lease(&mut self, name: &str, holder: Uuid) -> Result<bool> {
        let sql = self.by_database(
            "SELECT name FROM lease WHERE name = $1 AND holder = $2",
            "SELECT name FROM lease WHERE name = $1 AND holder = $2 FOR SHARE",
        );
        let held: Option<String> = on!(self, c: Db => sqlx::query_scalar(sql)
            .bind(name).bind(holder).fetch_optional(c).await)?;
        Ok(held.is_some())
    }

    pub async fn find_setting(&mut self, key: &str) -> Result<Option<String>> {
        on!(self, c: Db => sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(key).fetch_optional(c).await)
    }

    /// Several settings; missing ones are left out.
    pub async fn load_settings(&mut self, keys: &[&str]) -> Result<HashMap<String, String>> {
        let rows: Vec<(String, String)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT key, value FROM meta WHERE key IN (");
            push_list(&mut query, keys);
            query.push(")");
            query.build_query_as().fetch_all(c).await
        })?;
        Ok(rows.into_iter().collect())
    }

    pub async fn insert_setting(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(key).bind(value).execute(c).await.map(drop))
    }

    pub async fn set_setting(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(key).bind(value).execute(c).await.map(drop))
    }

    /// Inserts a setting unless it exists or the store has tokens.
    pub async fn insert_setting_if_empty(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO meta (key, value) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM token)
             ON CONFLICT (key) DO NOTHING")
            .bind(key).bind(value).execute(c).await.map(drop))
    }

    /// Deletes a setting unless its value has changed.
    pub async fn delete_setting(&mut self, key: &str, value: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM meta WHERE key = $1 AND value = $2")
            .bind(key).bind(value).execute(c).await.map(drop))
    }

    pub async fn insert_run(&mut self, id: Uuid, run: &RunRow, report: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO run (id, started_at, ended_at, outcome, report) VALUES ($1, $2, $3, $4, $5)")
            .bind(id).bind(run.started_at).bind(run.ended_at).bind(&run.outcome).bind(report)
            .execute(c).await.map(drop))
    }

    /// Makes an older copy of an SQLite file recognizable (`Store::check_file`).
    pub async fn count_generation(&mut self) -> Result<()> {
        let Self::Sqlite(tx) = self else {
            return Ok(());
        };
        let generation: i32 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut **tx)
            .await?;
        let sql = format!(
            "PRAGMA user_version = {}",
            generation.checked_add(1).unwrap_or(1)
        );
        let mut set = QueryBuilder::<Sqlite>::new(sql);
        set.build().execute(&mut **tx).await?;
        Ok(())
    }

    /// Changes the times of sweeps that are later than `now` to it.
    pub async fn end_runs_by(&mut self, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE run SET started_at = CASE WHEN started_at > $1 THEN $1 ELSE started_at END,
                            ended_at = CASE WHEN ended_at > $1 THEN $1 ELSE ended_at END
             WHERE started_at > $1 OR ended_at > $1")
            .bind(now).execute(c).await.map(drop))
    }

    /// The last run, or the last successful one.
    pub async fn find_last_run(&mut self, only_good: bool) -> Result<Option<RunRow>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT started_at, ended_at, outcome FROM run WHERE outcome = 'ok' OR NOT $1
             ORDER BY started_at DESC LIMIT 1")
            .bind(only_good).fetch_optional(c).await)
    }

    /// Adds an entry to the audit trail; `entry` is actor, action and subject.
    pub async fn insert_audit(
        &mut self,
        id: Uuid,
        at: DateTime<Utc>,
        entry: [&str; 3],
        reason: Option<&str>,
    ) -> Result<()> {
        self.insert_audits(at, &[(id, entry, reason)]).await
    }

    /// Entries of one time.
    pub async fn insert_audits(
        &mut self,
        at: DateTime<Utc>,
        entries: &[(Uuid, [&str; 3], Option<&str>)],
    ) -> Result<()> {
        for chunk in entries.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO audit (id, at, actor, action, subject, reason) ");
                query.push_values(chunk, |mut row, (id, [actor, action, subject], reason)| {
                    row.push_bind(*id).push_bind(at).push_bind(*actor).push_bind(*action).push_bind(*subject)
                        .push_bind(*reason);
                });
                query.build().persistent(chunk.len() == 1).execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// A page of the audit trail before `before`, newest first.
    pub async fn list_audit(
        &mut self,
        filter: &AuditFilter,
        before: Option<&AuditRow>,
        limit: i64,
    ) -> Result<Vec<AuditRow>> {
        let (at, id) = before.map_or((MAX_INSTANT, Uuid::max()), |entry| (entry.at, entry.id));
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT * FROM audit WHERE at <= ");
            query.push_bind(at).push(" AND (at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
            if let Some(since) = filter.since {
                query.push(" AND at >= ").push_bind(since);
            }
            if let Some(until) = filter.until {
                query.push(" AND at <= ").push_bind(until);
            }
            let begins = [("actor", &filter.actor), ("action", &filter.action), ("subject", &filter.subject)];
            for (column, begin) in begins {
                if let Some(begin) = begin {
                    query.push(format!(" AND substr({column}, 1, length(")).push_bind(begin).push(")) = ").push_bind(begin);
                }
            }
            query.push(" ORDER BY at DESC, id DESC LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// The last entries about a subject, newest first.
    pub async fn list_audit_of(&mut self, subject: &str, limit: i64) -> Result<Vec<AuditRow>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM audit WHERE subject = $1 ORDER BY at DESC, id DESC LIMIT $2")
            .bind(subject).bind(limit).fetch_all(c).await)
    }

    pub async fn find_last_audit(&mut self, subject: &str) -> Result<Option<AuditRow>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM audit WHERE subject = $1 ORDER BY at DESC, id DESC LIMIT 1")
            .bind(subject).fetch_optional(c).await)
    }

    /// Deletes up to `limit` rows of each kind that are older than `docs/retention.md` allows; returns how many.
    pub async fn purge(&mut self, cutoffs: &PurgeCutoffs, limit: i64) -> Result<u64> {
        let mut deleted = 0;
        for (sql, before) in [
            ("DELETE FROM run WHERE id IN (SELECT id FROM run WHERE started_at < $1 LIMIT $2)", cutoffs.runs),
            ("DELETE FROM plan WHERE id IN (
                SELECT id FROM plan WHERE state IN ('released', 'discarded') AND created_at < $1 LIMIT $2)", cutoffs.runs),
            ("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 LIMIT $2)", cutoffs.audit),
            ("DELETE FROM finding WHERE id IN (
                SELECT id FROM finding WHERE state = 'resolved' AND resolved_at < $1 LIMIT $2)", cutoffs.findings),
            ("DELETE FROM notice WHERE id IN (
                SELECT id FROM notice WHERE (token_id IS NULL OR subject IS NOT NULL) AND planned_at < $1
                  AND NOT EXISTS (SELECT 1 FROM token t WHERE t.id = notice.token_id) LIMIT $2)", cutoffs.notices),
        ] {
            deleted += on!(self, c: Db => sqlx::query(sql).bind(before).bind(limit)
                .execute(c).await.map(|done| done.rows_affected()))?;
        }
        // Mail ids are in order of time (RFC 9562 §5.7), which saves an index.
        let before =
            Uuid::from_u128(u128::try_from(cutoffs.notices.timestamp_millis()).unwrap_or(0) << 80);
        deleted += on!(self, c: Db => sqlx::query(
            "DELETE FROM mail WHERE id IN (
                SELECT m.id FROM mail m WHERE m.state IN ('sent', 'failed', 'cancelled') AND m.id < $1
                  AND NOT EXISTS (SELECT 1 FROM notice n WHERE n.mail_id = m.id) ORDER BY m.id LIMIT $2)")
            .bind(before).bind(limit).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(deleted)
    }
}

/// Rows before these instants are deleted.
#[derive(Debug, Clone, Copy)]
pub struct PurgeCutoffs {
    pub runs: DateTime<Utc>,
    pub audit: DateTime<Utc>,
    /// Compared with when a finding was resolved.
    pub findings: DateTime<Utc>,
    /// For notices about tokens that no longer exist, and mails without notices.
    pub notices: DateTime<Utc>,
}
