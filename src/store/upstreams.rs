//! Sources and directories: how their syncs went, the account administrators that sources report, and operators' decisions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::{AccountAdmins, Address, SyncState, Token, account_key};

use super::columns::push_list;
use super::{CHUNK_ROWS, Result, Tx, on};

#[derive(Debug, Clone, Default, FromRow)]
pub struct SourceRow {
    pub name: String,
    pub kind: String,
    /// Fingerprint of the last good listing; an identical one is not read again.
    pub fingerprint: Option<String>,
    /// Tokens stored of the last complete listing or, after a partial one, tokens known to exist.
    pub tokens: i64,
    /// Records in the last complete listing, with those that are not stored; 0 before the first.
    pub listed: i64,
    #[sqlx(flatten)]
    pub sync_state: SyncState,
    /// The longest life that it allows, in seconds. `None` with evidence means unlimited.
    pub max_life: Option<i64>,
    /// Where the source states this limit; `None` when it does not.
    pub max_life_evidence: Option<String>,
    /// The columns that could mostly be read in the last good listing, as JSON.
    pub readable_columns: Option<String>,
    /// Its new name, once an operator has renamed it; the row then only reserves the old one.
    pub renamed_to: Option<String>,
}

/// An operator's decision on held changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The changes are right; the next sync applies them.
    Released,
    /// The changes are wrong; the next sync rejects the losses.
    Rejected,
}

impl Decision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Rejected => "rejected",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct DirectoryRow {
    pub name: String,
    pub kind: String,
    #[sqlx(flatten)]
    pub sync_state: SyncState,
    /// People in the last complete listing.
    pub people: i64,
    /// The allowed groups with their numbers of people, as JSON.
    pub groups: Option<String>,
    /// Where the next incremental listing continues.
    pub cursor: Option<String>,
    /// Why people may be missing from the last listing, though it counts.
    pub gaps: Option<String>,
    /// The query that `cursor` belongs to.
    pub query_digest: Option<String>,
    /// Why a mass change waits for an operator.
    pub held: Option<String>,
    pub held_at: Option<DateTime<Utc>>,
    /// The [`HeldChange`](crate::domain::access::HeldChange) as JSON.
    pub held_changes: Option<String>,
    /// The operator's [`Decision`]; the next sync follows it.
    pub decision: Option<String>,
}

impl SourceRow {
    /// The size of the last listing, for the guard against listings that shrank.
    pub fn size(&self) -> i64 {
        self.listed.max(self.tokens)
    }
}

impl Tx {
    pub async fn find_source(&mut self, name: &str) -> Result<Option<SourceRow>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM source WHERE name = $1")
            .bind(name).fetch_optional(c).await)
    }

    pub async fn list_sources(&mut self) -> Result<Vec<SourceRow>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM source ORDER BY name").fetch_all(c).await)
    }

    /// Counts the tokens that still exist at a source, as far as is known. Reads them all.
    pub async fn count_present_tokens(&mut self, source: &str) -> Result<i64> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT COUNT(*) FROM token WHERE source = $1 AND status IN ('active', 'expired', 'disabled')
               AND unlisted_since IS NULL")
            .bind(source).fetch_one(c).await)
    }

    /// Counts the active tokens of a source, and those of them without a known expiry. Reads them all.
    pub async fn count_unknown_expiries(
        &mut self,
        source: &str,
        now: DateTime<Utc>,
    ) -> Result<(i64, i64)> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT COUNT(*), COUNT(CASE WHEN expiry = 'unknown' THEN 1 END) FROM token
             WHERE source = $1 AND status = 'active' AND (expires_at IS NULL OR expires_at > $2)")
            .bind(source).bind(now).fetch_one(c).await)
    }

    pub async fn save_source(&mut self, row: &SourceRow) -> Result<()> {
        let sync_state = &row.sync_state;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO source (name, kind, fingerprint, tokens, last_sync_at, last_good_sync_at, error,
                                 failures, failing_since, deferred_until, max_life, max_life_evidence,
                                 readable_columns, listed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, fingerprint = excluded.fingerprint,
                tokens = excluded.tokens, listed = excluded.listed, last_sync_at = excluded.last_sync_at,
                last_good_sync_at = excluded.last_good_sync_at, error = excluded.error,
                failures = excluded.failures, failing_since = excluded.failing_since,
                deferred_until = excluded.deferred_until, max_life = excluded.max_life,
                max_life_evidence = excluded.max_life_evidence, readable_columns = excluded.readable_columns")
            .bind(&row.name).bind(&row.kind).bind(&row.fingerprint).bind(row.tokens)
            .bind(sync_state.last_sync_at).bind(sync_state.last_good_sync_at).bind(&sync_state.error)
            .bind(sync_state.failures).bind(sync_state.failing_since).bind(sync_state.deferred_until)
            .bind(row.max_life).bind(&row.max_life_evidence).bind(&row.readable_columns).bind(row.listed)
            .execute(c).await.map(drop))
    }

    /// `(account, address)` of the administrators that a source last reported, sorted. The account is its key.
    pub async fn load_source_admins(&mut self, source: &str) -> Result<Vec<(String, String)>> {
        let mut rows: Vec<(String, String)> = on!(self, c: Db => sqlx::query_as(
            "SELECT account, address FROM source_admin WHERE source = $1")
            .bind(source).fetch_all(c).await)?;
        // Sorted here: the order of the database depends on its locale.
        rows.sort_unstable();
        Ok(rows)
    }

    pub async fn replace_source_admins(
        &mut self,
        source: &str,
        admins: &[(String, String)],
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM source_admin WHERE source = $1")
            .bind(source).execute(c).await.map(drop))?;
        for chunk in admins.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO source_admin (source, account, address) ");
                query.push_values(chunk, |mut row, (account, address)| {
                    row.push_bind(source).push_bind(account).push_bind(address);
                });
                query.push(" ON CONFLICT DO NOTHING");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// The administrators of these tokens' accounts, as reported by their sources.
    pub async fn load_account_admins(&mut self, tokens: &[Token]) -> Result<AccountAdmins> {
        let mut account_admins = AccountAdmins::default();
        let mut accounts: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for token in tokens {
            if let Some(account) = &token.account {
                let accounts = accounts.entry(&token.source).or_default();
                accounts.insert(account_key(account));
            }
        }
        for (source, accounts) in accounts {
            let rows: Vec<(String, Address)> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT account, address FROM source_admin WHERE source = ");
                query.push_bind(source).push(" AND account IN (");
                push_list(&mut query, &accounts);
                query.push(") ORDER BY account, address");
                query.build_query_as().fetch_all(c).await
            })?;
            for (account, address) in rows {
                account_admins.add(source, &account, address);
            }
        }
        Ok(account_admins)
    }

    pub async fn find_directory(&mut self, name: &str) -> Result<Option<DirectoryRow>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM directory WHERE name = $1")
            .bind(name).fetch_optional(c).await)
    }

    pub async fn list_directories(&mut self) -> Result<Vec<DirectoryRow>> {
        on!(self, c: Db => sqlx::query_as("SELECT * FROM directory ORDER BY name").fetch_all(c).await)
    }

    /// Saves a directory. A decision on the same held changes that was made during this sync is kept.
    pub async fn save_directory(&mut self, row: &DirectoryRow) -> Result<()> {
        let sync_state = &row.sync_state;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO directory (name, kind, last_sync_at, last_good_sync_at, error, failures, failing_since,
                                    deferred_until, people, groups, cursor, query_digest, gaps,
                                    held, held_at, held_changes, decision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             ON CONFLICT (name) DO UPDATE SET kind = excluded.kind,
                last_sync_at = excluded.last_sync_at, last_good_sync_at = excluded.last_good_sync_at,
                error = excluded.error, failures = excluded.failures, failing_since = excluded.failing_since,
                deferred_until = excluded.deferred_until, people = excluded.people, groups = excluded.groups,
                cursor = excluded.cursor, query_digest = excluded.query_digest, gaps = excluded.gaps,
                held = excluded.held, held_at = excluded.held_at, held_changes = excluded.held_changes,
                decision = COALESCE(excluded.decision,
                    CASE WHEN directory.held_changes = excluded.held_changes THEN directory.decision END)")
            .bind(&row.name).bind(&row.kind).bind(sync_state.last_sync_at).bind(sync_state.last_good_sync_at)
            .bind(&sync_state.error).bind(sync_state.failures).bind(sync_state.failing_since)
            .bind(sync_state.deferred_until).bind(row.people).bind(&row.groups).bind(&row.cursor).bind(&row.query_digest)
            .bind(&row.gaps)            .bind(&row.held).bind(row.held_at).bind(&row.held_changes).bind(&row.decision)
            .execute(c).await.map(drop))
    }

    /// Makes the next listing of a directory a complete one. The cursor stays: it may hold what the directory
    /// remembers from one listing to the next.
    pub async fn reset_cursor(&mut self, name: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE directory SET query_digest = NULL WHERE name = $1")
            .bind(name).execute(c).await.map(drop))
    }

    /// Records an operator's decision; `false` when nothing is held.
    pub async fn decide_held_changes(&mut self, name: &str, decision: Decision) -> Result<bool> {
        let updated = on!(self, c: Db => sqlx::query(
            "UPDATE directory SET decision = $2 WHERE name = $1 AND held IS NOT NULL")
            .bind(name).bind(decision.as_str()).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(updated > 0)
    }

    /// Deletes a directory and its identities; returns how many.
    pub async fn delete_directory(&mut self, name: &str) -> Result<u64> {
        on!(self, c: Db => sqlx::query("DELETE FROM directory WHERE name = $1")
            .bind(name).execute(c).await.map(drop))?;
        on!(self, c: Db => sqlx::query("DELETE FROM identity WHERE directory = $1")
            .bind(name).execute(c).await.map(|done| done.rows_affected()))
    }
}
