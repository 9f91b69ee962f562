//! The source `sql`: tokens in a third-party SQLite or PostgreSQL database, read by a query whose columns have
//! the names of those of a file.
//!
//! Listings always use a read-only transaction; statements that write use a separate connection.

mod columns;
mod people;
mod probe;
mod statement;
mod write;

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::domain::Token;

use super::file::run_blocking;
use super::listing::{ListingBuilder, Place};
use super::{
    CheckReport, Error, ExpiryAck, Fetched, LastListing, Listing, RefusedRow, RefusedRows, Source,
    hex,
};
use crate::upstream::database::{self, Database, ReadTransaction, Scalar};
use columns::ColumnMap;
use people::People;
use statement::Statement;

/// An incremental listing goes back this far before the last one: rows may have been committed later than
/// their timestamp, and the clocks may differ.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// Marks in the fingerprint that the last listing had no refused rows.
const COMPLETE_MARK: &str = "good";

#[derive(Debug, Clone)]
pub struct Config {
    /// `sqlite:///path` or `postgres://…`.
    pub url: SecretString,
    /// Returns the tokens; with `:since` in it, those that have changed since.
    pub query: String,
    /// Returns the people among whom issuers are looked up.
    pub people_query: Option<String>,
    /// Run once for each expired token.
    pub mark_expired: Option<String>,
    pub revoke: Option<String>,
}

/// The databases differ in their syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    fn placeholder_sign(self) -> char {
        match self {
            Self::Sqlite => '?',
            Self::Postgres => '$',
        }
    }
}

pub struct SqlSource {
    database: Database,
    dialect: Dialect,
    query: Statement,
    people: Option<Statement>,
    mark_expired: Option<Statement>,
    revoke: Option<Statement>,
    /// Of the queries, so that other queries start with a full listing.
    hash: String,
}

impl Config {
    /// # Errors
    /// If the URL or a statement is invalid.
    pub fn build(&self, timeout: Duration) -> Result<SqlSource, Error> {
        let database = Database::new(&self.url, timeout)?;
        let dialect = if database.is_sqlite() {
            Dialect::Sqlite
        } else {
            Dialect::Postgres
        };
        let parse = |place: &str, text: &str, names: &[&str]| {
            let parsed = Statement::parse(text, names, dialect);
            parsed.map_err(|reason| Error::content(place, reason))
        };
        let optional = |place, text: &Option<String>, names: &[&str]| {
            let text = text.as_ref();
            text.map(|text| parse(place, text, names)).transpose()
        };
        Ok(SqlSource {
            database,
            dialect,
            query: parse("query", &self.query, &["since"])?,
            people: optional("people_query", &self.people_query, &[])?,
            mark_expired: optional("mark_expired", &self.mark_expired, &write::TOKEN_PARAMETERS)?,
            revoke: optional("revoke", &self.revoke, &["external_id"])?,
            hash: self.hash(),
        })
    }

    fn hash(&self) -> String {
        let people = self.people_query.as_deref().unwrap_or_default();
        let hash = Sha256::new_with_prefix(&self.query).chain_update([0]);
        let mut hash = hex(hash.chain_update(people));
        hash.truncate(16);
        hash
    }
}

#[async_trait]
impl Source for SqlSource {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let since = self.since(last);
        let mut refusals = RefusedRows::default();
        let mut reading = self.begin_read().await?;
        let people = match &self.people {
            Some(query) => Some(People::load(&mut reading, query, &mut refusals).await?),
            None => None,
        };
        let builder = self.read_tokens(&mut reading, since, people.as_ref(), &mut refusals);
        let builder = builder.await?;
        reading.close().await;
        let listing = run_blocking(move || finish(builder, refusals)).await?;
        let mark = match listing.refusals.count {
            0 => COMPLETE_MARK.to_owned(),
            // Read the refused rows again.
            _ => since.to_rfc3339_opts(SecondsFormat::Micros, true),
        };
        Ok(Fetched::New(Listing {
            is_partial: self.is_incremental(),
            admins: people.and_then(People::into_admins),
            fingerprint: self
                .is_incremental()
                .then(|| format!("{} {mark}", self.hash)),
            ..listing
        }))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        self.probe().await
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        self.run_revoke(external_id).await
    }

    fn missing_to_revoke(&self) -> Option<&'static str> {
        self.revoke.is_none().then_some(write::REVOKE_ADVICE)
    }

    fn marks_expired(&self) -> bool {
        self.mark_expired.is_some()
    }

    async fn mark_expired(&self, tokens: &[Token]) -> ExpiryAck {
        self.run_mark_expired(tokens).await
    }
}

impl SqlSource {
    /// Begins a read transaction. If lapsed was killed while it wrote, this rolls that back, as no other program
    /// may do so.
    async fn begin_read(&self) -> Result<ReadTransaction<'_>, database::Error> {
        match self.database.begin_read().await {
            Err(database::Error::NeedsRecovery { .. }) if self.writes() => {
                self.database.recover().await?;
                self.database.begin_read().await
            }
            reading => reading,
        }
    }

    fn writes(&self) -> bool {
        self.mark_expired.is_some() || self.revoke.is_some()
    }

    /// Whether the query returns only changes.
    fn is_incremental(&self) -> bool {
        !self.query.names.is_empty()
    }

    fn since(&self, last: &LastListing) -> DateTime<Utc> {
        let mark = last
            .fingerprint
            .as_deref()
            .and_then(|all| all.strip_prefix(self.hash.as_str()))
            .map(str::trim_start);
        let since = match mark {
            Some(COMPLETE_MARK) => last.asked_at.map(|at| at - OVERLAP),
            Some(kept) => kept.parse().ok(),
            None => None,
        };
        since.unwrap_or(DateTime::UNIX_EPOCH)
    }

    fn query_values(&self, since: DateTime<Utc>) -> Vec<Scalar> {
        let names = self.query.names.iter();
        names.map(|_| Scalar::Instant(since)).collect()
    }

    async fn read_tokens(
        &self,
        reading: &mut ReadTransaction<'_>,
        since: DateTime<Utc>,
        people: Option<&People>,
        refusals: &mut RefusedRows,
    ) -> Result<ListingBuilder, Error> {
        let values = self.query_values(since);
        let columns = self.token_columns(reading, &values).await?;
        let mut builder = ListingBuilder::default();
        let mut line = 0;
        reading
            .for_each_record(&self.query.text, &values, |record| {
                line += 1;
                match columns.token(record) {
                    Ok(mut token) => {
                        if let Some(people) = people {
                            people.describe_issuer(&mut token);
                        }
                        builder.push_row(Place { file: 0, line }, &token)?;
                    }
                    Err(reason) => refusals.add(refused_row("query", line, reason)),
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        Ok(builder)
    }

    async fn token_columns(
        &self,
        reading: &mut ReadTransaction<'_>,
        values: &[Scalar],
    ) -> Result<ColumnMap<13>, Error> {
        let names = reading.query_columns(&self.query.text, values).await?;
        ColumnMap::new("query", &columns::TOKEN_COLUMNS, &names, self.dialect)
    }
}

/// Refuses every row whose id an earlier row has.
fn finish(builder: ListingBuilder, mut refusals: RefusedRows) -> Result<Listing, Error> {
    let listing = builder.finish_rows(|kept, duplicate| {
        let reason = format!(
            "the external_id is already in row {}; the query must return it once",
            kept.line
        );
        refusals.add(refused_row("query", duplicate.line, reason));
    })?;
    Ok(Listing {
        refusals,
        ..listing
    })
}

fn refused_row(place: &str, line: u64, reason: String) -> RefusedRow {
    RefusedRow {
        file: place.to_owned(),
        line,
        reason,
    }
}
