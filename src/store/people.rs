//! What directories say of people.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::{Identity, IdentityStatus, Standing};

use super::mails::parsed;
use super::{CHUNK, Result, Tx, on};

/// What is known of a person from one directory.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct IdentityRow {
    /// The directory's name.
    pub directory: String,
    /// The address as it is compared.
    pub email_key: String,
    /// The address as written.
    pub email: String,
    /// The account that the person was matched to once and for all.
    pub account_id: Option<String>,
    /// The person's name.
    pub name: Option<String>,
    /// What is believed now.
    #[sqlx(try_from = "String")]
    pub status: IdentityStatus,
    /// The last clear statement; differs from `status` while that is unknown.
    #[sqlx(try_from = "String")]
    pub known_status: IdentityStatus,
    /// Why the status is what it is.
    pub reason: Option<String>,
    /// The directory's own words.
    pub evidence: String,
    /// Since when the status holds.
    pub since: Option<DateTime<Utc>>,
    /// When the directory said so; `None` where it has said nothing yet.
    pub observed_at: Option<DateTime<Utc>>,
    /// A loss that awaits its confirmation, or that an operator rejected.
    pub candidate: Option<String>,
    /// Since when it does.
    pub candidate_since: Option<DateTime<Utc>>,
    /// In whose words.
    pub candidate_evidence: Option<String>,
}

impl IdentityRow {
    /// The row for what is known from this directory.
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
            since: identity.since,
            observed_at: identity.observed_at,
            candidate: identity.candidate.map(|status| status.to_string()),
            candidate_since: identity.candidate_since,
            candidate_evidence: identity.candidate_evidence,
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// When it holds what no version of lapsed writes.
    pub fn identity(self) -> Result<Identity> {
        let word = |word: Option<String>| {
            word.map(|word| parsed(&word, "an identity's reason"))
                .transpose()
        };
        let status = |word: Option<String>| {
            word.map(|word| parsed(&word, "an identity's candidate"))
                .transpose()
        };
        Ok(Identity {
            email: parsed(&self.email, "an identity's address")?,
            account_id: self.account_id,
            name: self.name,
            status: self.status,
            known_status: self.known_status,
            reason: word(self.reason)?,
            evidence: self.evidence,
            since: self.since,
            observed_at: self.observed_at,
            candidate: status(self.candidate)?,
            candidate_since: self.candidate_since,
            candidate_evidence: self.candidate_evidence,
        })
    }
}

/// Which people to list.
#[derive(Debug, Clone, Default)]
pub struct IdentityFilter {
    /// What is believed now.
    pub status: Option<IdentityStatus>,
    /// The directory's name.
    pub directory: Option<String>,
    /// The person's address as it is compared.
    pub email_key: Option<String>,
    /// Directories whose word no longer counts, because they have not been read well for too long.
    pub stale: Vec<String>,
}

/// An operator's word on what a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldVerdict {
    /// It is right: the next sync believes it.
    Released,
    /// It is wrong: the losses are not believed.
    Rejected,
}

impl HoldVerdict {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Rejected => "rejected",
        }
    }
}

/// What is known of a directory.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct DirectoryRow {
    /// Its configured name.
    pub name: String,
    /// Its configured kind.
    pub kind: String,
    /// How it goes.
    #[sqlx(flatten)]
    pub standing: Standing,
    /// How many people the last pull of everybody told of.
    pub people: i64,
    /// The allowed groups with how many people were in each, as JSON.
    pub groups: Option<String>,
    /// Where the next pull takes up.
    pub cursor: Option<String>,
    /// What was asked for when it was given.
    pub asked: Option<String>,
    /// Why a pull waits for an operator.
    pub held: Option<String>,
    /// Since when it waits.
    pub held_at: Option<DateTime<Utc>>,
    /// The losses that wait.
    pub held_turns: Option<String>,
    /// An operator's word on them; the next sync follows it.
    pub verdict: Option<String>,
}

impl Tx {
    /// Everything a directory said, in order of address.
    pub async fn identities_of(&mut self, directory: &str) -> Result<Vec<IdentityRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 ORDER BY email_key")
            .bind(directory).fetch_all(c).await)?)
    }

    /// What a directory said of one person.
    pub async fn identity(
        &mut self,
        directory: &str,
        email_key: &str,
    ) -> Result<Option<IdentityRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 AND email_key = $2")
            .bind(directory).bind(email_key).fetch_optional(c).await)?)
    }

    /// Has what an operator refused to believe weighed anew; tells of how many people that is.
    pub async fn weigh_anew(&mut self, directory: &str) -> Result<u64> {
        self.have_read_whole(directory).await?;
        Ok(on!(self, c: Db => sqlx::query(
            "UPDATE identity SET reason = 'unconfirmed', candidate = NULL
             WHERE directory = $1 AND reason = 'rejected'")
            .bind(directory).execute(c).await.map(|done| done.rows_affected()))?)
    }

    /// Forgets a directory, and what it said of how many people.
    pub async fn drop_directory(&mut self, name: &str) -> Result<u64> {
        on!(self, c: Db => sqlx::query("DELETE FROM directory WHERE name = $1")
            .bind(name).execute(c).await.map(drop))?;
        Ok(
            on!(self, c: Db => sqlx::query("DELETE FROM identity WHERE directory = $1")
            .bind(name).execute(c).await.map(|done| done.rows_affected()))?,
        )
    }

    /// Whether a loss at a directory awaits its confirmation.
    pub async fn is_any_candidate(&mut self, directory: &str) -> Result<bool> {
        let found: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT 1 FROM identity WHERE directory = $1 AND candidate IS NOT NULL LIMIT 1")
            .bind(directory).fetch_optional(c).await)?;
        Ok(found.is_some())
    }

    /// A page of what directories say of people, with how many working tokens each has issued; in
    /// order of (directory, address), from after `after`.
    pub async fn list_identities(
        &mut self,
        filter: &IdentityFilter,
        after: Option<&IdentityRow>,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<(IdentityRow, i64)>> {
        let rows: Vec<IdentityTokens> = on!(self, c: Db => {
            // What a directory says holds as long as it is read well and says nothing else.
            let mut query = QueryBuilder::<Db>::new(
                "SELECT i.directory, i.email_key, i.email, i.account_id, i.name, i.known_status, i.evidence, i.since,
                        i.candidate, i.candidate_since, i.candidate_evidence,
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

    /// The addresses of all issuers as they are compared, in order. This costs what there are issuers, not
    /// tokens: each step looks up the next in the index.
    pub async fn issuer_keys(&mut self) -> Result<Vec<String>> {
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

    /// Forgets what a directory said of people.
    pub async fn drop_identities(&mut self, directory: &str, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(CHUNK) {
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

    /// Writes what a directory says of people.
    pub async fn put_identities(&mut self, rows: &[IdentityRow]) -> Result<()> {
        for rows in rows.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO identity (directory, email_key, email, account_id, name, status, known_status, reason,
                                           evidence, since, observed_at, candidate, candidate_since, candidate_evidence) ");
                query.push_values(rows, |mut values, row| {
                    values.push_bind(&row.directory).push_bind(&row.email_key).push_bind(&row.email)
                        .push_bind(&row.account_id).push_bind(&row.name).push_bind(row.status.as_str())
                        .push_bind(row.known_status.as_str()).push_bind(&row.reason)
                        .push_bind(&row.evidence).push_bind(row.since).push_bind(row.observed_at)
                        .push_bind(&row.candidate).push_bind(row.candidate_since).push_bind(&row.candidate_evidence);
                });
                query.push(" ON CONFLICT (directory, email_key) DO UPDATE SET email = excluded.email,
                    account_id = excluded.account_id, name = excluded.name,
                    status = excluded.status, known_status = excluded.known_status, reason = excluded.reason,
                    evidence = excluded.evidence, since = excluded.since, observed_at = excluded.observed_at,
                    candidate = excluded.candidate, candidate_since = excluded.candidate_since,
                    candidate_evidence = excluded.candidate_evidence");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// What is known of a directory.
    pub async fn directory(&mut self, name: &str) -> Result<Option<DirectoryRow>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT * FROM directory WHERE name = $1")
            .bind(name).fetch_optional(c).await)?,
        )
    }

    /// Every directory that was ever synchronised.
    pub async fn directories(&mut self) -> Result<Vec<DirectoryRow>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT * FROM directory ORDER BY name").fetch_all(c).await)?,
        )
    }

    /// Writes what is known of a directory. An operator's word about the listing that waits stays,
    /// although it came while another listing was being read.
    pub async fn put_directory(&mut self, row: &DirectoryRow) -> Result<()> {
        let standing = &row.standing;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO directory (name, kind, last_sync_at, last_good_sync_at, error, failures, failing_since,
                                    deferred_until, people, groups, cursor, asked,
                                    held, held_at, held_turns, verdict)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
             ON CONFLICT (name) DO UPDATE SET kind = excluded.kind,
                last_sync_at = excluded.last_sync_at, last_good_sync_at = excluded.last_good_sync_at,
                error = excluded.error, failures = excluded.failures, failing_since = excluded.failing_since,
                deferred_until = excluded.deferred_until, people = excluded.people, groups = excluded.groups,
                cursor = excluded.cursor, asked = excluded.asked,
                held = excluded.held, held_at = excluded.held_at, held_turns = excluded.held_turns,
                verdict = COALESCE(excluded.verdict,
                    CASE WHEN directory.held_turns = excluded.held_turns THEN directory.verdict END)")
            .bind(&row.name).bind(&row.kind).bind(standing.last_sync_at).bind(standing.last_good_sync_at)
            .bind(&standing.error).bind(standing.failures).bind(standing.failing_since)
            .bind(standing.deferred_until).bind(row.people).bind(&row.groups).bind(&row.cursor).bind(&row.asked)
            .bind(&row.held).bind(row.held_at).bind(&row.held_turns).bind(&row.verdict)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// Has the next reading of a directory be a whole one, and not only what changed.
    pub async fn have_read_whole(&mut self, name: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE directory SET cursor = NULL, asked = NULL WHERE name = $1")
            .bind(name).execute(c).await.map(drop))?;
        Ok(())
    }

    /// Writes an operator's word on what a directory holds; `false` when it holds nothing.
    pub async fn settle_directory(&mut self, name: &str, verdict: HoldVerdict) -> Result<bool> {
        let settled = on!(self, c: Db => sqlx::query(
            "UPDATE directory SET verdict = $2 WHERE name = $1 AND held IS NOT NULL")
            .bind(name).bind(verdict.as_str()).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(settled > 0)
    }
}

/// Names for an IN list, which may be empty.
pub(super) fn push_names<DB>(query: &mut QueryBuilder<DB>, names: &[String])
where
    DB: sqlx::Database,
    String: for<'q> sqlx::Encode<'q, DB> + sqlx::Type<DB>,
{
    // An empty list is no SQL; nothing equals NULL.
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
