//! Identities and directories: what directories report about people, and how their syncs went.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::{Identity, IdentityStatus, SyncState};

use super::mails::parse_stored;
use super::{CHUNK_ROWS, Result, Tx, on};

/// A person's status at one directory.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct IdentityRow {
    pub directory: String,
    pub email_key: String,
    /// As written.
    pub email: String,
    /// The account that the person was matched to for good.
    pub account_id: Option<String>,
    pub name: Option<String>,
    #[sqlx(try_from = "String")]
    pub status: IdentityStatus,
    /// The last clear status; differs from `status` while that is unknown.
    #[sqlx(try_from = "String")]
    pub known_status: IdentityStatus,
    /// Why the status is what it is.
    pub reason: Option<String>,
    pub evidence: String,
    /// Whether a lookup by id gave or confirmed the evidence.
    pub checked_by_id: bool,
    pub since: Option<DateTime<Utc>>,
    /// When the directory first reported this; `None` if it has not reported anything yet.
    pub observed_at: Option<DateTime<Utc>>,
    /// A loss that awaits confirmation, or that an operator rejected.
    pub candidate: Option<String>,
    pub candidate_since: Option<DateTime<Utc>>,
    pub candidate_evidence: Option<String>,
}

impl IdentityRow {
    #[must_use]
    pub fn new(directory: &str, identity: Identity) -> Self {
        Self {
            directory: directory.to_owned(),
            email_key: identity.email.key().to_owned(),
            email: identity.email.to_string(),
            account_id: identity.account_id,
            name: identity.name,
            status: identity.status,
            known_status: identity.known_status,
            reason: identity.reason.map(|reason| reason.to_string()),
            evidence: identity.evidence,
            checked_by_id: identity.checked_by_id,
            since: identity.since,
            observed_at: identity.observed_at,
            candidate: identity.candidate.map(|status| status.to_string()),
            candidate_since: identity.candidate_since,
            candidate_evidence: identity.candidate_evidence,
        }
    }

    /// # Errors
    /// When the row holds a value that no version of lapsed writes.
    pub fn into_identity(self) -> Result<Identity> {
        let reason = self
            .reason
            .map(|text| parse_stored(&text, "an identity's reason"));
        let candidate = self
            .candidate
            .map(|text| parse_stored(&text, "an identity's candidate"));
        Ok(Identity {
            email: parse_stored(&self.email, "an identity's address")?,
            account_id: self.account_id,
            name: self.name,
            status: self.status,
            known_status: self.known_status,
            reason: reason.transpose()?,
            evidence: self.evidence,
            checked_by_id: self.checked_by_id,
            since: self.since,
            observed_at: self.observed_at,
            candidate: candidate.transpose()?,
            candidate_since: self.candidate_since,
            candidate_evidence: self.candidate_evidence,
        })
    }
}

#[derive(Debug, Clone, Default)]
pub struct IdentityFilter {
    pub status: Option<IdentityStatus>,
    pub directory: Option<String>,
    pub email_key: Option<String>,
    /// Directories without a good sync for too long; their known statuses count as unknown.
    pub stale: Vec<String>,
}

/// An operator's decision on held changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They are right; the next sync applies them.
    Released,
    /// They are wrong; the next sync rejects the losses.
    Rejected,
}

impl Decision {
    #[must_use]
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
    /// The query that `cursor` belongs to.
    pub query_digest: Option<String>,
    /// Why a mass change waits for an operator.
    pub held: Option<String>,
    pub held_at: Option<DateTime<Utc>>,
    /// Fingerprint of the held losses.
    pub held_changes: Option<String>,
    /// The operator's [`Decision`]; the next sync follows it.
    pub decision: Option<String>,
}

impl Tx {
    /// All identities of a directory in order of address.
    pub async fn load_identities(&mut self, directory: &str) -> Result<Vec<IdentityRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 ORDER BY email_key")
            .bind(directory).fetch_all(c).await)?)
    }

    pub async fn find_identity(
        &mut self,
        directory: &str,
        email_key: &str,
    ) -> Result<Option<IdentityRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 AND email_key = $2")
            .bind(directory).bind(email_key).fetch_optional(c).await)?)
    }

    /// Has the losses that an operator rejected evaluated again; returns for how many people.
    pub async fn clear_rejections(&mut self, directory: &str) -> Result<u64> {
        self.reset_cursor(directory).await?;
        Ok(on!(self, c: Db => sqlx::query(
            "UPDATE identity SET reason = 'unconfirmed', candidate = NULL
             WHERE directory = $1 AND reason = 'rejected'")
            .bind(directory).execute(c).await.map(|done| done.rows_affected()))?)
    }

    /// Deletes a directory and its identities; returns how many.
    pub async fn delete_directory(&mut self, name: &str) -> Result<u64> {
        on!(self, c: Db => sqlx::query("DELETE FROM directory WHERE name = $1")
            .bind(name).execute(c).await.map(drop))?;
        Ok(
            on!(self, c: Db => sqlx::query("DELETE FROM identity WHERE directory = $1")
            .bind(name).execute(c).await.map(|done| done.rows_affected()))?,
        )
    }

    pub async fn has_candidates(&mut self, directory: &str) -> Result<bool> {
        let found: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT 1 FROM identity WHERE directory = $1 AND candidate IS NOT NULL LIMIT 1")
            .bind(directory).fetch_optional(c).await)?;
        Ok(found.is_some())
    }

    /// A page of identities with the number of working tokens each person has issued; in order of
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
                "SELECT i.directory, i.email_key, i.email, i.account_id, i.name, i.known_status, i.evidence, i.checked_by_id,
                        i.since, i.candidate, i.candidate_since, i.candidate_evidence,
                        CASE WHEN i.status <> 'unknown' AND d.last_good_sync_at > i.observed_at
                             THEN d.last_good_sync_at ELSE i.observed_at END AS observed_at,
                        CASE WHEN i.status <> 'unknown' AND i.directory IN (");
            push_names(&mut query, &filter.stale);
            query.push(") THEN 'unknown' ELSE i.status END AS status,
                        CASE WHEN i.status <> 'unknown' AND i.directory IN (");
            push_names(&mut query, &filter.stale);
            query.push(") THEN 'stale' ELSE i.reason END AS reason,
                        (SELECT COUNT(*) FROM token t WHERE t.issuer_key = i.email_key
                              AND t.status IN ('active', 'expired')
                              AND (t.expires_at IS NULL OR t.expiry_origin = 'policy' OR t.expires_at > ");
            query.push_bind(now).push(")) AS tokens
                 FROM identity i LEFT JOIN directory d ON d.name = i.directory WHERE ");
            let key = after.map_or("", |row| row.email_key.as_str());
            if let Some(directory) = &filter.directory {
                query.push("i.directory = ").push_bind(directory).push(" AND i.email_key > ").push_bind(key);
            } else {
                let directory = after.map_or("", |row| row.directory.as_str());
                query.push("(i.directory, i.email_key) > (").push_bind(directory)
                    .push(", ").push_bind(key).push(")");
            }
            if let Some(status) = filter.status {
                query.push(" AND (CASE WHEN i.directory IN (");
                push_names(&mut query, &filter.stale);
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

    /// The addresses of all issuers in order. The cost grows with the issuers, not the tokens: each step
    /// looks up the next one in the index.
    pub async fn list_issuer_keys(&mut self) -> Result<Vec<String>> {
        let rows: Vec<(String,)> = on!(self, c: Db => sqlx::query_as(
            "WITH RECURSIVE issuer (key) AS (
                 SELECT MIN(issuer_key) FROM token WHERE issuer_key IS NOT NULL
                 UNION ALL
                 SELECT (SELECT MIN(t.issuer_key) FROM token t WHERE t.issuer_key > issuer.key)
                 FROM issuer WHERE issuer.key IS NOT NULL)
             SELECT key FROM issuer WHERE key IS NOT NULL")
            .fetch_all(c).await)?;
        Ok(rows.into_iter().map(|(key,)| key).collect())
    }

    pub async fn delete_identities(&mut self, directory: &str, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("DELETE FROM identity WHERE directory = ");
                query.push_bind(directory).push(" AND email_key IN (");
                let mut list = query.separated(", ");
                for key in keys { list.push_bind(key); }
                query.push(")");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    pub async fn save_identities(&mut self, rows: &[IdentityRow]) -> Result<()> {
        for rows in rows.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO identity (directory, email_key, email, account_id, name, status, known_status, reason,
                                           evidence, checked_by_id, since, observed_at, candidate, candidate_since, candidate_evidence) ");
                query.push_values(rows, |mut values, row| {
                    values.push_bind(&row.directory).push_bind(&row.email_key).push_bind(&row.email)
                        .push_bind(&row.account_id).push_bind(&row.name).push_bind(row.status.as_str())
                        .push_bind(row.known_status.as_str()).push_bind(&row.reason)
                        .push_bind(&row.evidence).push_bind(row.checked_by_id).push_bind(row.since).push_bind(row.observed_at)
                        .push_bind(&row.candidate).push_bind(row.candidate_since).push_bind(&row.candidate_evidence);
                });
                query.push(" ON CONFLICT (directory, email_key) DO UPDATE SET email = excluded.email,
                    account_id = excluded.account_id, name = excluded.name,
                    status = excluded.status, known_status = excluded.known_status, reason = excluded.reason,
                    evidence = excluded.evidence, checked_by_id = excluded.checked_by_id,
                    since = excluded.since, observed_at = excluded.observed_at, candidate = excluded.candidate, candidate_since = excluded.candidate_since,
                    candidate_evidence = excluded.candidate_evidence");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    pub async fn find_directory(&mut self, name: &str) -> Result<Option<DirectoryRow>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT * FROM directory WHERE name = $1")
            .bind(name).fetch_optional(c).await)?,
        )
    }

    /// All directories that were ever synced.
    pub async fn list_directories(&mut self) -> Result<Vec<DirectoryRow>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT * FROM directory ORDER BY name").fetch_all(c).await)?,
        )
    }

    /// Saves a directory. A decision on the same held changes that was made during this sync is kept.
    pub async fn save_directory(&mut self, row: &DirectoryRow) -> Result<()> {
        let sync_state = &row.sync_state;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO directory (name, kind, last_sync_at, last_good_sync_at, error, failures, failing_since,
                                    deferred_until, people, groups, cursor, query_digest,
                                    held, held_at, held_changes, decision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             ON CONFLICT (name) DO UPDATE SET kind = excluded.kind,
                last_sync_at = excluded.last_sync_at, last_good_sync_at = excluded.last_good_sync_at,
                error = excluded.error, failures = excluded.failures, failing_since = excluded.failing_since,
                deferred_until = excluded.deferred_until, people = excluded.people, groups = excluded.groups,
                cursor = excluded.cursor, query_digest = excluded.query_digest,
                held = excluded.held, held_at = excluded.held_at, held_changes = excluded.held_changes,
                decision = COALESCE(excluded.decision,
                    CASE WHEN directory.held_changes = excluded.held_changes THEN directory.decision END)")
            .bind(&row.name).bind(&row.kind).bind(sync_state.last_sync_at).bind(sync_state.last_good_sync_at)
            .bind(&sync_state.error).bind(sync_state.failures).bind(sync_state.failing_since)
            .bind(sync_state.deferred_until).bind(row.people).bind(&row.groups).bind(&row.cursor).bind(&row.query_digest)
            .bind(&row.held).bind(row.held_at).bind(&row.held_changes).bind(&row.decision)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// Makes the next listing of a directory a complete one.
    pub async fn reset_cursor(&mut self, name: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE directory SET cursor = NULL, query_digest = NULL WHERE name = $1")
            .bind(name).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Records an operator's decision; `false` when nothing is held.
    pub async fn decide_held_changes(&mut self, name: &str, decision: Decision) -> Result<bool> {
        let updated = on!(self, c: Db => sqlx::query(
            "UPDATE directory SET decision = $2 WHERE name = $1 AND held IS NOT NULL")
            .bind(name).bind(decision.as_str()).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(updated > 0)
    }
}

/// Pushes names for an IN list, which may be empty.
pub(super) fn push_names<DB>(query: &mut QueryBuilder<DB>, names: &[String])
where
    DB: sqlx::Database,
    String: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
{
    // SQL has no empty list, and nothing equals NULL.
    query.push("NULL");
    for name in names {
        query.push(", ").push_bind(name.clone());
    }
}

#[derive(FromRow)]
struct IdentityTokens {
    #[sqlx(flatten)]
    identity: IdentityRow,
    tokens: i64,
}
