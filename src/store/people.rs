//! What directories say of people.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::IdentityStatus;

use super::{CHUNK, Result, Tx, on};

/// A person's status at a directory.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct IdentityRow {
    /// The directory's name.
    pub directory: String,
    /// The address as it is compared.
    pub email_key: String,
    /// The address as written.
    pub email: String,
    /// What the directory says now.
    #[sqlx(try_from = "String")]
    pub status: IdentityStatus,
    /// Its last positive statement; differs from `status` while that is unknown.
    #[sqlx(try_from = "String")]
    pub known_status: IdentityStatus,
    /// Why the status is what it is, where the directory did not say it in its last listing.
    pub reason: Option<String>,
    /// The person's name.
    pub name: Option<String>,
    /// The directory's own words.
    pub evidence: String,
    /// Since when the status holds.
    pub since: Option<DateTime<Utc>>,
    /// When the directory said so.
    pub observed_at: DateTime<Utc>,
}

/// Which people to list.
#[derive(Debug, Clone, Default)]
pub struct IdentityFilter {
    /// What the directory says now.
    pub status: Option<IdentityStatus>,
    /// The directory's name.
    pub directory: Option<String>,
    /// The person's address as it is compared.
    pub email_key: Option<String>,
}

/// What is known of a directory.
#[derive(Debug, Clone, Default, PartialEq, FromRow)]
pub struct DirectoryRow {
    /// Its configured name.
    pub name: String,
    /// Its configured kind.
    pub kind: String,
    /// Of the last good listing.
    pub fingerprint: Option<String>,
    /// The last attempt.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// The last attempt that went well.
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// How many people the last good listing held.
    pub people: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Why a listing waits for an operator.
    pub held: Option<String>,
    /// Since when it waits.
    pub held_at: Option<DateTime<Utc>>,
    /// The listing that waits.
    pub held_fingerprint: Option<String>,
    /// An operator let the waiting listing through; the next sync takes it.
    pub released: bool,
}

impl Tx {
    /// Everything a directory said, in order of address.
    pub async fn identities_of(&mut self, directory: &str) -> Result<Vec<IdentityRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE directory = $1 ORDER BY email_key")
            .bind(directory).fetch_all(c).await)?)
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
            let mut query = QueryBuilder::<Db>::new(
                "SELECT i.*, (SELECT COUNT(*) FROM token t WHERE t.issuer_key = i.email_key
                              AND t.status IN ('active', 'expired')
                              AND (t.expires_at IS NULL OR t.expires_at > ");
            query.push_bind(now).push(")) AS tokens FROM identity i WHERE ");
            let key = after.map_or("", |row| row.email_key.as_str());
            if let Some(directory) = &filter.directory {
                query.push("i.directory = ").push_bind(directory).push(" AND i.email_key > ").push_bind(key);
            } else {
                let directory = after.map_or("", |row| row.directory.as_str());
                query.push("(i.directory, i.email_key) > (").push_bind(directory)
                    .push(", ").push_bind(key).push(")");
            }
            if let Some(status) = filter.status {
                query.push(" AND i.status = ").push_bind(status.as_str());
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

    /// Writes what a directory says of people.
    pub async fn put_identities(&mut self, rows: &[IdentityRow]) -> Result<()> {
        for rows in rows.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO identity (directory, email_key, email, status, known_status, reason, name, evidence, since, observed_at) ");
                query.push_values(rows, |mut values, row| {
                    values.push_bind(&row.directory).push_bind(&row.email_key).push_bind(&row.email)
                        .push_bind(row.status.as_str())
                        .push_bind(row.known_status.as_str()).push_bind(&row.reason).push_bind(&row.name)
                        .push_bind(&row.evidence).push_bind(row.since).push_bind(row.observed_at);
                });
                query.push(" ON CONFLICT (directory, email_key) DO UPDATE SET email = excluded.email,
                    status = excluded.status, known_status = excluded.known_status, reason = excluded.reason, name = excluded.name,
                    evidence = excluded.evidence, since = excluded.since, observed_at = excluded.observed_at");
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
        on!(self, c: Db => sqlx::query(
            "INSERT INTO directory (name, kind, fingerprint, last_sync_at, last_good_sync_at, people, error,
                                    held, held_at, held_fingerprint, released)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, fingerprint = excluded.fingerprint,
                last_sync_at = excluded.last_sync_at, last_good_sync_at = excluded.last_good_sync_at,
                people = excluded.people, error = excluded.error, held = excluded.held,
                held_at = excluded.held_at, held_fingerprint = excluded.held_fingerprint,
                released = excluded.released
                    OR COALESCE(directory.released AND directory.held_fingerprint = excluded.held_fingerprint, FALSE)")
            .bind(&row.name).bind(&row.kind).bind(&row.fingerprint).bind(row.last_sync_at)
            .bind(row.last_good_sync_at).bind(row.people).bind(&row.error)
            .bind(&row.held).bind(row.held_at).bind(&row.held_fingerprint).bind(row.released)
            .execute(c).await.map(drop))?;
        Ok(())
    }

    /// Lets the listing through that a directory holds; `false` when it holds none.
    pub async fn release_directory(&mut self, name: &str) -> Result<bool> {
        let released = on!(self, c: Db => sqlx::query(
            "UPDATE directory SET released = TRUE WHERE name = $1 AND held IS NOT NULL")
            .bind(name).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(released > 0)
    }
}

#[derive(FromRow)]
struct IdentityTokens {
    #[sqlx(flatten)]
    identity: IdentityRow,
    tokens: i64,
}
