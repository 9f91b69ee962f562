//! The source `sql`: tokens in a third-party SQLite or PostgreSQL database, read by a query whose columns have
//! the names of those of a file.
//!
//! Listings always use a read-only transaction; statements that write use a separate connection.

mod people;
mod query;
mod statement;

use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::domain::{Cell, ListedToken, Status, Token};

use super::file::run_blocking;
use super::listing::{ListingBuilder, Place};
use super::{
    CheckReport, Error, ExpiryAck, Fetched, LastListing, Listing, RefusedRow, RefusedRows, Right,
    Source, hex,
};
use crate::upstream::database::{self, Database, ReadTransaction, Scalar};
use people::People;
use query::TokenQuery;
use statement::{Dialect, ID, Statement, TOKEN_PARAMETERS};

/// An incremental listing goes back this far before the last one: rows may have been committed later than
/// their timestamp, and the clocks may differ.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// Marks in the fingerprint that the last listing had no refused rows.
const COMPLETE_MARK: &str = "good";

/// How many rows [`Source::check`] reads.
const CHECKED_ROWS: u64 = 100;

const COUNT_WRITABLE_TABLES: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
       AND has_schema_privilege(n.oid, 'USAGE')
       AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')";

const REVOKE_ADVICE: &str = "set revoke, such as revoke = \"UPDATE … WHERE id = :external_id\"";

#[derive(Debug, Clone)]
pub struct Config {
    pub url: SecretString,
    /// Returns the tokens; with `:since` in it, those that have changed since.
    pub query: String,
    /// Returns the people among whom issuers are looked up.
    pub people_query: Option<String>,
    /// Run once for each expired token.
    pub mark_expired: Option<String>,
    pub revoke: Option<String>,
}

pub struct SqlSource {
    database: Database,
    query: TokenQuery,
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
        let parse = |place: &str, text: &str, names: &[&'static str]| {
            let parsed = Statement::parse(text, names, dialect);
            parsed.map_err(|reason| Error::content(place, reason))
        };
        let optional = |place, text: &Option<String>, names: &[&'static str]| {
            let text = text.as_ref();
            text.map(|text| parse(place, text, names)).transpose()
        };
        Ok(SqlSource {
            database,
            query: TokenQuery {
                statement: parse("query", &self.query, &["since"])?,
                dialect,
            },
            people: optional("people_query", &self.people_query, &[])?,
            mark_expired: optional("mark_expired", &self.mark_expired, TOKEN_PARAMETERS)?,
            revoke: optional("revoke", &self.revoke, &[ID])?,
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
        let mut builder = ListingBuilder::default();
        let push = |line, token: Result<ListedToken, String>| {
            match token {
                Ok(mut token) => {
                    if let Some(people) = &people {
                        people.describe_issuer(&mut token);
                    }
                    builder.push_row(Place { file: 0, line }, &token)?;
                }
                Err(reason) => refusals.add(refused_row(line, reason)),
            }
            Ok(ControlFlow::Continue(()))
        };
        self.query.for_each_token(&mut reading, since, push).await?;
        reading.close().await;
        let listing = run_blocking(move || finish(builder, refusals)).await?;
        let mark = match listing.refusals.count {
            0 => COMPLETE_MARK.to_owned(),
            // Read the refused rows again.
            _ => since.to_rfc3339_opts(SecondsFormat::Micros, true),
        };
        let is_partial = self.query.is_incremental();
        Ok(Fetched::New(Listing {
            is_partial,
            admins: people.and_then(People::into_admins),
            fingerprint: is_partial.then(|| format!("{} {mark}", self.hash)),
            ..listing
        }))
    }

    /// Checks whether the queries run, which columns they return, and which permissions the role has but does not
    /// need.
    async fn check(&self) -> Result<CheckReport, Error> {
        let mut reading = self.begin_read().await?;
        let mut parts = vec![self.check_query(&mut reading).await?];
        if self.query.is_incremental() {
            parts
                .push("the query returns only changes, so no token is ever marked gone".to_owned());
        }
        if let Some(query) = &self.people {
            let people = People::load(&mut reading, query, &mut RefusedRows::default()).await?;
            parts.push(format!("{} people", people.count()));
        }
        let mut rights = Vec::new();
        let statements = [
            ("mark_expired", &self.mark_expired),
            ("revoke", &self.revoke),
        ];
        for (name, statement) in statements {
            if let Some(statement) = statement {
                rights.push(check_statement(&mut reading, name, statement).await?);
            }
        }
        if rights.is_empty()
            && let Some(warning) = self.excess_permissions(&mut reading).await?
        {
            parts.push(warning);
        }
        reading.close().await;
        Ok(CheckReport {
            summary: parts.join("; "),
            rights,
        })
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let Some(statement) = &self.revoke else {
            let what = "the source has no statement that revokes tokens";
            return Err(Error::rights(what, REVOKE_ADVICE));
        };
        let no_such = || Error::NoSuchToken(external_id.to_owned());
        let before = self.find_token(external_id).await;
        let before = before.map_err(Error::not_attempted)?.ok_or_else(no_such)?;
        if before.status == Cell::Value(Status::Revoked) {
            return Err(no_such());
        }
        let id = |_| Scalar::Text(external_id.to_owned());
        let values: Vec<_> = statement.names.iter().map(id).collect();
        let mut writing = self.database.open_for_writing().await?;
        let affected = statement
            .run(&mut writing, values, |affected| affected == 1)
            .await?;
        writing.close().await;
        if affected != 1 {
            let why = format!("would change {affected} rows instead of one; nothing was changed");
            return Err(Error::RolledBack(Box::new(Error::content("revoke", why))));
        }
        match self.find_token(external_id).await {
            Ok(Some(after)) if !has_ended(&before, &after) => Err(Error::StillThere),
            Ok(_) => Ok(()),
            Err(error) => Err(error.outcome_unknown()),
        }
    }

    fn missing_to_revoke(&self) -> Option<&'static str> {
        self.revoke.is_none().then_some(REVOKE_ADVICE)
    }

    fn marks_expired(&self) -> bool {
        self.mark_expired.is_some()
    }

    async fn mark_expired(&self, tokens: &[Token]) -> ExpiryAck {
        let Some(statement) = &self.mark_expired else {
            return ExpiryAck::default();
        };
        let mut ack = ExpiryAck::default();
        let mut writing = match self.database.open_for_writing().await {
            Ok(writing) => writing,
            Err(error) => {
                ack.error = Some(error.into());
                return ack;
            }
        };
        for token in tokens {
            let values = statement.token_values(token);
            match statement.run(&mut writing, values, |_| true).await {
                Ok(_) => ack.done.push(token.id),
                Err(error) => {
                    let is_away = error.is_transient();
                    ack.error.get_or_insert(error.into());
                    if is_away {
                        break;
                    }
                    ack.failed.push(token.id);
                }
            }
        }
        writing.close().await;
        ack
    }
}

impl SqlSource {
    /// Begins a read transaction. If lapsed was killed while it wrote, this rolls that back, as no other program
    /// may do so.
    async fn begin_read(&self) -> Result<ReadTransaction<'_>, database::Error> {
        match self.database.begin_read().await {
            Err(database::Error::NeedsRecovery { .. })
                if self.mark_expired.is_some() || self.revoke.is_some() =>
            {
                self.database.recover().await?;
                self.database.begin_read().await
            }
            reading => reading,
        }
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

    async fn find_token(&self, external_id: &str) -> Result<Option<ListedToken>, Error> {
        let mut reading = self.begin_read().await?;
        let found = self.query.find_token(&mut reading, external_id).await?;
        reading.close().await;
        Ok(found)
    }

    /// Which columns the query returns, and how many of the first rows are valid.
    async fn check_query(&self, reading: &mut ReadTransaction<'_>) -> Result<String, Error> {
        let (mut seen, mut refused, mut first) = (0, 0, None);
        let count = |row, token| {
            seen = row;
            if let Err(reason) = token {
                refused += 1;
                first.get_or_insert(format!("row {row}: {reason}"));
            }
            Ok(if row < CHECKED_ROWS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        };
        let since = DateTime::UNIX_EPOCH;
        let columns = self.query.for_each_token(reading, since, count).await?;
        let columns = columns.describe();
        let refused = first.map_or(String::new(), |first| {
            format!(", {refused} refused, the first: {first}")
        });
        let kind = match self.query.dialect {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
        };
        Ok(format!("{kind}, {columns}; {seen} rows checked{refused}"))
    }

    /// A warning if the credentials permit writes although none are configured.
    async fn excess_permissions(
        &self,
        reading: &mut ReadTransaction<'_>,
    ) -> Result<Option<String>, Error> {
        if self.database.is_sqlite() {
            let file = Path::new(self.database.place());
            let is_writable = OpenOptions::new().append(true).open(file).is_ok();
            return Ok(is_writable.then(|| {
                "the user that runs lapsed can write the file, which is not needed".to_owned()
            }));
        }
        let mut tables = 0;
        reading
            .for_each_record(COUNT_WRITABLE_TABLES, &[], |record| {
                if let Scalar::Integer(count) = record.scalar(0) {
                    tables = count;
                }
                Ok(ControlFlow::Break(()))
            })
            .await?;
        Ok((tables > 0).then(|| {
            format!(
                "the role can write to {tables} table{}, which is not needed: give lapsed a role that has \
                 only SELECT",
                if tables == 1 { "" } else { "s" }
            )
        }))
    }
}

/// Plans a statement that writes, without running it.
async fn check_statement(
    reading: &mut ReadTransaction<'_>,
    name: &str,
    statement: &Statement,
) -> Result<Right, Error> {
    let names = statement.names.iter();
    let values = names.map(|name| match *name {
        "expires_at" => Scalar::Instant(DateTime::UNIX_EPOCH),
        _ => Scalar::Text("1".to_owned()),
    });
    let values: Vec<_> = values.collect();
    let planned = reading.explain(&statement.text, &values).await;
    let what = format!("run {name}");
    Ok(match planned {
        Ok(()) => Right::granted(&what),
        Err(error) => Right::missing(&what, error.to_string()),
    })
}

/// Whether a token that is still listed has ended: by its status, or by a new or earlier expiry.
fn has_ended(before: &ListedToken, after: &ListedToken) -> bool {
    let expires_at = |token: &ListedToken| match token.expiry {
        Cell::Value(expiry) => expiry.at(),
        _ => None,
    };
    let is_off = [Status::Revoked, Status::Disabled].map(Cell::Value);
    is_off.contains(&after.status)
        || expires_at(after)
            .is_some_and(|after| expires_at(before).is_none_or(|before| after < before))
}

/// Refuses every row whose id an earlier row has.
fn finish(builder: ListingBuilder, mut refusals: RefusedRows) -> Result<Listing, Error> {
    let listing = builder.finish_rows(|kept, duplicate| {
        let reason = format!(
            "the external_id is already in row {}; the query must return it once",
            kept.line
        );
        refusals.add(refused_row(duplicate.line, reason));
    })?;
    Ok(Listing {
        refusals,
        ..listing
    })
}

fn refused_row(line: u64, reason: String) -> RefusedRow {
    let file = "query".to_owned();
    RefusedRow { file, line, reason }
}
