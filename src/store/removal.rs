//! Sources that are no longer configured: ghosts, and what an operator removes or renames.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{Severity, TokenId, silent_since};

use super::columns::push_list;
use super::notices::unsent;
use super::{CHUNK_ROWS, Result, SourceRow, Tx, on};

/// Prefix of the settings that name the sources which `import` fills.
const IMPORTED: &str = "import.";

/// The open finding that a source is no longer configured.
#[derive(Debug, Clone, FromRow)]
pub struct GhostFinding {
    pub id: Uuid,
    pub source: String,
    pub severity: Severity,
    pub since: DateTime<Utc>,
    pub evidence: String,
}

impl Tx {
    /// Records that `import` fills this source, so that it never is a ghost.
    pub async fn mark_imported(&mut self, source: &str) -> Result<()> {
        self.insert_setting(&format!("{IMPORTED}{source}"), "1")
            .await
    }

    /// Sources that a sync has read and that are not configured, neither under their name nor under one that they had
    /// before; except those that `import` fills.
    pub async fn list_ghosts(
        &mut self,
        is_configured: impl Fn(&str) -> bool,
    ) -> Result<Vec<SourceRow>> {
        let rows: Vec<SourceRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM source s WHERE NOT EXISTS (SELECT 1 FROM meta m WHERE m.key = $1 || s.name) ORDER BY s.name")
            .bind(IMPORTED).fetch_all(c).await)?;
        let configured: HashSet<_> = rows
            .iter()
            .filter(|row| is_configured(&row.name))
            .map(|row| row.renamed_to.as_ref().unwrap_or(&row.name).clone())
            .collect();
        let is_ghost = |row: &SourceRow| {
            row.sync_state.last_good_sync_at.is_some()
                && row.renamed_to.is_none()
                && !configured.contains(&row.name)
        };
        Ok(rows.into_iter().filter(is_ghost).collect())
    }

    pub async fn load_ghost_findings(&mut self) -> Result<Vec<GhostFinding>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, source, severity, since, evidence FROM finding
             WHERE kind = 'unconfigured' AND token_id IS NULL AND state <> 'resolved' ORDER BY source")
            .fetch_all(c).await)
    }

    /// Sources whose tokens are not warned about at `now`, because their grace is over.
    pub async fn list_silent_sources(&mut self, now: DateTime<Utc>) -> Result<HashSet<String>> {
        let names: Vec<String> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT source FROM finding
             WHERE kind = 'unconfigured' AND token_id IS NULL AND state <> 'resolved' AND since <= $1")
            .bind(silent_since(now)).fetch_all(c).await)?;
        Ok(names.into_iter().collect())
    }

    /// Cancels the unsent warnings about the tokens of a source.
    pub async fn cancel_warnings_of_source(&mut self, source: &str, reason: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query(concat!(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $2
             WHERE topic = 'expiry' AND token_id IN (SELECT id FROM token WHERE source = $1) AND ", unsent!()))
            .bind(source).bind(reason).execute(c).await.map(drop))
    }

    /// Makes the tokens of a source due now, to be planned again. What was sent is in the ledger.
    pub async fn replan_source(&mut self, source: &str, now: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "UPDATE token SET planned_step = NULL, due_at = $2
             WHERE source = $1 AND status = 'active' AND expires_at > $2")
            .bind(source).bind(now).execute(c).await.map(drop))
    }

    /// Whether a source has tokens.
    pub async fn has_tokens_of(&mut self, source: &str) -> Result<bool> {
        let first: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT 1 FROM token WHERE source = $1 LIMIT 1").bind(source).fetch_optional(c).await)?;
        Ok(first.is_some())
    }

    /// All names of sources that have a row or tokens.
    pub async fn list_source_names(&mut self) -> Result<Vec<String>> {
        let mut names: Vec<String> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT name FROM source UNION SELECT DISTINCT source FROM token").fetch_all(c).await)?;
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes tokens with their findings, and cancels what is unsent about them; returns how many notices. The
    /// ledger keeps what was sent, under `SOURCE/EXTERNAL_ID`.
    pub async fn remove_tokens(&mut self, ids: &[TokenId]) -> Result<u64> {
        let mut cancelled = 0;
        for chunk in ids.chunks(CHUNK_ROWS) {
            cancelled += self.change_rows_of(chunk, concat!(
                "UPDATE notice SET state = 'cancelled', held = FALSE, reason = 'the token was removed'
                 WHERE ", unsent!(), " AND token_id IN (")).await?;
            for sql in [
                "UPDATE notice SET subject = (SELECT t.source || '/' || t.external_id FROM token t WHERE t.id = notice.token_id)
                 WHERE token_id IN (",
                "DELETE FROM finding WHERE token_id IN (",
                "DELETE FROM token_owner WHERE token_id IN (",
                "DELETE FROM token WHERE id IN (",
            ] {
                self.change_rows_of(chunk, sql).await?;
            }
        }
        Ok(cancelled)
    }

    /// Runs a statement that ends before the ids of tokens; returns how many rows it changed.
    async fn change_rows_of(&mut self, tokens: &[TokenId], sql: &'static str) -> Result<u64> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(sql);
            push_list(&mut query, tokens);
            query.push(")");
            query.build().execute(c).await.map(|done| done.rows_affected())
        })
    }

    /// Deletes what is known about a source itself; its tokens are removed before.
    pub async fn delete_source(&mut self, name: &str) -> Result<()> {
        self.refuse_newer_schema().await?;
        for sql in [
            "DELETE FROM source WHERE name = $1",
            "DELETE FROM source_admin WHERE source = $1",
            "DELETE FROM finding WHERE source = $1",
        ] {
            on!(self, c: Db => sqlx::query(sql).bind(name).execute(c).await.map(drop))?;
        }
        on!(self, c: Db => sqlx::query("DELETE FROM meta WHERE key = $1")
            .bind(format!("{IMPORTED}{name}")).execute(c).await.map(drop))
    }

    /// Gives a source a new name, which must be free. Its old name is reserved until it is deleted.
    pub async fn rename_source(&mut self, old: &str, new: &str) -> Result<()> {
        self.refuse_newer_schema().await?;
        // A row that only reserved the new name.
        on!(self, c: Db => sqlx::query("DELETE FROM source WHERE name = $1 AND renamed_to IS NOT NULL")
            .bind(new).execute(c).await.map(drop))?;
        for sql in [
            "UPDATE source SET name = $2 WHERE name = $1",
            "UPDATE source SET renamed_to = $2 WHERE renamed_to = $1",
            "UPDATE source_admin SET source = $2 WHERE source = $1",
            "UPDATE token SET source = $2 WHERE source = $1",
            "UPDATE finding SET source = $2 WHERE source = $1",
            "INSERT INTO source (name, kind, renamed_to)
             VALUES ($1, COALESCE((SELECT kind FROM source WHERE name = $2), 'import'), $2)",
        ] {
            on!(self, c: Db => sqlx::query(sql).bind(old).bind(new).execute(c).await.map(drop))?;
        }
        on!(self, c: Db => sqlx::query("UPDATE meta SET key = $2 WHERE key = $1")
            .bind(format!("{IMPORTED}{old}")).bind(format!("{IMPORTED}{new}")).execute(c).await.map(drop))
    }
}
