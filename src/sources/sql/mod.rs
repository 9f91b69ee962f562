//! Tokens in a table of somebody's SQLite or PostgreSQL, by a query whose columns are named as those of a
//! file are.
//!
//! Reading happens in a transaction that only reads, whatever else is configured; what writes opens a
//! connection of its own for it.

mod columns;
mod people;
mod probe;
mod statement;
mod write;

use std::ops::ControlFlow;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::domain::Token;

use super::database::{self, Database, Reading, Scalar};
use super::file::blocking;
use super::intake::{Intake, Place};
use super::{Checked, Common, Error, Fetched, Last, Listing, Refusal, Refusals, Source, Told};
use columns::Shape;
use people::People;
use statement::Statement;

/// What is read twice when only changes are asked for: rows whose transaction was still open when the last
/// listing was made, by a clock that is not ours.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// A source that keeps its last listing's word is asked for what changed since then.
const GOOD: &str = "good";

/// A table of tokens, as it is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// `sqlite:///path` or `postgres://…`.
    pub url: SecretString,
    /// Gives the tokens; with `:since` in it, those that changed since then.
    pub query: String,
    /// Gives the people among whom issuers are looked for.
    pub people_query: Option<String>,
    /// Run once for each token that has expired.
    pub mark_expired: Option<String>,
    /// Ends one token.
    pub revoke: Option<String>,
}

/// The databases differ in what they take for code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// A table of tokens.
pub struct SqlSource {
    database: Database,
    dialect: Dialect,
    query: Statement,
    people: Option<Statement>,
    mark_expired: Option<Statement>,
    revoke: Option<Statement>,
    /// Of the queries, so that a listing by others is no reason to ask for changes only.
    hash: String,
}

impl Config {
    /// The source.
    ///
    /// # Errors
    /// When the URL or a statement cannot be used as it is.
    pub fn build(&self, common: &Common) -> Result<SqlSource, Error> {
        let database = Database::new(&self.url, common.timeout)?;
        let dialect = if database.is_sqlite() {
            Dialect::Sqlite
        } else {
            Dialect::Postgres
        };
        let parse = |place: &str, text: &str, names: &[&str]| {
            let parsed = Statement::parse(text, names, dialect);
            parsed.map_err(|reason| content(place, reason))
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
            mark_expired: optional("mark_expired", &self.mark_expired, &write::OF_A_TOKEN)?,
            revoke: optional("revoke", &self.revoke, &["external_id"])?,
            hash: self.hash(),
        })
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.query.as_bytes());
        hash.update([0]);
        hash.update(self.people_query.as_deref().unwrap_or_default());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        format!("{:016x}", u64::from_be_bytes(first))
    }
}

fn content(place: &str, reason: impl Into<String>) -> Error {
    Error::Content {
        place: place.to_owned(),
        reason: reason.into(),
    }
}

#[async_trait]
impl Source for SqlSource {
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error> {
        let since = self.since(last);
        let mut refusals = Refusals::default();
        let mut reading = self.read().await?;
        let people = match &self.people {
            Some(query) => Some(People::read(&mut reading, query, &mut refusals).await?),
            None => None,
        };
        let intake = self.take_in(&mut reading, since, people.as_ref(), &mut refusals);
        let intake = intake.await?;
        reading.close().await;
        let (tokens, count, refusals) = blocking(move || finish(intake, refusals)).await?;
        let mark = match refusals.count {
            0 => GOOD.to_owned(),
            // The refused rows are to come again.
            _ => since.to_rfc3339_opts(SecondsFormat::Micros, true),
        };
        Ok(Fetched::New(Listing {
            tokens,
            count,
            is_partial: self.is_incremental(),
            admins: people.and_then(People::into_admins),
            refusals,
            fingerprint: self
                .is_incremental()
                .then(|| format!("{} {mark}", self.hash)),
            ..Listing::default()
        }))
    }

    async fn check(&self) -> Result<Checked, Error> {
        self.probe().await
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        self.end(external_id).await
    }

    fn lacks_to_revoke(&self) -> Option<&'static str> {
        self.revoke.is_none().then_some(write::NO_REVOKE)
    }

    fn hears_of_expiry(&self) -> bool {
        self.mark_expired.is_some()
    }

    async fn expired(&self, tokens: &[Token]) -> Told {
        self.mark(tokens).await
    }
}

impl SqlSource {
    /// Begins to read. It may be that lapsed itself was killed while it wrote, and nobody else writes.
    async fn read(&self) -> Result<Reading<'_>, database::Error> {
        match self.database.read().await {
            Err(database::Error::HalfWritten { .. }) if self.writes() => {
                self.database.recover().await?;
                self.database.read().await
            }
            reading => reading,
        }
    }

    fn writes(&self) -> bool {
        self.mark_expired.is_some() || self.revoke.is_some()
    }

    /// Whether the query asks for changes only.
    fn is_incremental(&self) -> bool {
        !self.query.names.is_empty()
    }

    /// From when changes are asked for.
    fn since(&self, last: &Last) -> DateTime<Utc> {
        let mark = last
            .fingerprint
            .as_deref()
            .and_then(|all| all.strip_prefix(self.hash.as_str()))
            .map(str::trim_start);
        let since = match mark {
            Some(GOOD) => last.asked_at.map(|at| at - OVERLAP),
            Some(kept) => kept.parse().ok(),
            None => None,
        };
        since.unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// The values of the query's parameters.
    fn values(&self, since: DateTime<Utc>) -> Vec<Scalar> {
        let names = self.query.names.iter();
        names.map(|_| Scalar::Instant(since)).collect()
    }

    /// Reads every row; none is kept in memory.
    async fn take_in(
        &self,
        reading: &mut Reading<'_>,
        since: DateTime<Utc>,
        people: Option<&People>,
        refusals: &mut Refusals,
    ) -> Result<Intake, Error> {
        let mut intake = Intake::default();
        let mut shape: Option<Shape<13>> = None;
        let mut line = 0;
        let values = self.values(since);
        reading
            .records(&self.query.text, &values, |record| {
                line += 1;
                let shape = match &mut shape {
                    Some(shape) => shape,
                    none => none.insert(Shape::of_tokens(&record.columns(), self.dialect)?),
                };
                match shape.token(record) {
                    Ok(mut token) => {
                        if let Some(people) = people {
                            people.look_for_issuer(&mut token);
                        }
                        intake.push(Place { file: 0, line }, &token)?;
                    }
                    Err(reason) => refusals.add(refusal("query", line, reason)),
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        if shape.is_none() {
            // Without rows the columns are to be right all the same.
            let columns = reading.columns_of(&self.query.text, &values).await?;
            Shape::of_tokens(&columns, self.dialect)?;
        }
        Ok(intake)
    }
}

/// Orders what was taken in; refuses every row whose id an earlier row has.
fn finish(intake: Intake, mut refusals: Refusals) -> Result<(super::Tokens, u64, Refusals), Error> {
    let (tokens, count) = intake.finish(|kept, double| {
        let reason = format!(
            "the external_id is already in row {}; let the query give it once",
            kept.line
        );
        refusals.add(refusal("query", double.line, reason));
    })?;
    Ok((tokens, count, refusals))
}

/// A row that was refused, by its number.
fn refusal(place: &str, line: u64, reason: String) -> Refusal {
    Refusal {
        file: place.to_owned(),
        line,
        reason,
    }
}
