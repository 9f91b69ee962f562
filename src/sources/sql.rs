//! The source `sql`: tokens in a third-party SQLite or PostgreSQL database, read by a query whose columns have
//! the names of those of a file.
//!
//! Listings always use a read-only transaction; statements that write use a separate connection. A query with
//! `:since` returns only changes. The fingerprint of its listing is `QUERY_HASH good`, or `QUERY_HASH TIME` if
//! rows were refused: the next listing then starts at TIME again.

mod people;
mod query;
mod statement;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::domain::{Cell, ListedToken, Status, Token, column};

use super::cells::CellRules;
use super::file::run_blocking;
use super::{
    CheckReport, ColumnCounts, Error, ExpiryAck, Fetched, LastListing, Listing, RefusedRow,
    RefusedRows, Right, Source, hex,
};
use super::{ListingBuilder, RowPosition};
use crate::time::{DateRules, shift};
use crate::upstream::database::{self, Database, ReadTransaction, Scalar};
use people::People;
use query::TokenQuery;
use statement::{Dialect, ID, Statement, TOKEN_PARAMETERS};

/// An incremental listing goes back this far before the last one: rows may have been committed later than
/// their timestamp, and the clocks may differ.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// What the fingerprint says if no rows were refused.
const NO_REFUSED_ROWS: &str = "good";

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
    /// Dates without a time zone are in UTC, unless the rules say another one.
    pub rules: CellRules,
}

pub struct SqlSource {
    database: Database,
    query: TokenQuery,
    people: Option<Statement>,
    mark_expired: Option<Statement>,
    revoke: Option<Statement>,
    /// A hash of both queries. If it changes, the next listing is a full one.
    query_hash: String,
}

impl Config {
    /// Fails if the URL or a statement is invalid.
    pub fn build(&self, timeout: Duration) -> Result<SqlSource, Error> {
        let database = Database::new(&self.url, timeout)?;
        let dialect = if database.is_sqlite() {
            Dialect::Sqlite
        } else {
            Dialect::Postgres
        };
        let parse = |key: &str, text: &str, names: &[&'static str]| {
            Statement::parse(text, names, dialect).map_err(|reason| Error::content(key, reason))
        };
        let parse_optional = |key, text: &Option<String>, names: &[&'static str]| {
            text.as_ref()
                .map(|text| parse(key, text, names))
                .transpose()
        };
        Ok(SqlSource {
            database,
            query: TokenQuery {
                statement: parse("query", &self.query, &["since"])?,
                dialect,
                rules: CellRules {
                    dates: DateRules {
                        timezone: self.rules.dates.timezone.or(Some(Tz::UTC)),
                        ..self.rules.dates.clone()
                    },
                    ..self.rules.clone()
                },
            },
            people: parse_optional("people_query", &self.people_query, &[])?,
            mark_expired: parse_optional("mark_expired", &self.mark_expired, TOKEN_PARAMETERS)?,
            revoke: parse_optional("revoke", &self.revoke, &[ID])?,
            query_hash: self.query_hash(),
        })
    }

    fn query_hash(&self) -> String {
        let people = self.people_query.as_deref().unwrap_or_default();
        let digest = Sha256::new_with_prefix(&self.query)
            .chain_update([0])
            .chain_update(people)
            .chain_update(format!("{:?}", self.rules));
        hex(digest)[..16].to_owned()
    }
}

#[async_trait]
impl Source for SqlSource {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let since = self.since(last);
        let mut refusals = RefusedRows::default();
        let mut transaction = self.begin_read().await?;
        let people = match &self.people {
            Some(query) => Some(People::load(&mut transaction, query, &mut refusals).await?),
            None => None,
        };
        let mut builder = ListingBuilder::default();
        let add_row = |line, token: Result<ListedToken, String>| {
            match token {
                Ok(mut token) => {
                    if let Some(people) = &people {
                        people.describe_issuer(&mut token);
                    }
                    let position = RowPosition {
                        line,
                        ..RowPosition::default()
                    };
                    builder.push_checked(position, &token)?;
                }
                Err(reason) => refusals.add(refused_row(line, reason)),
            }
            Ok(ControlFlow::Continue(()))
        };
        self.query
            .for_each_token(&mut transaction, since, add_row)
            .await?;
        transaction.close().await;
        let listing = run_blocking(move || finish_listing(builder, refusals)).await?;
        let next_start = match listing.refusals.count {
            0 => NO_REFUSED_ROWS.to_owned(),
            // The refused rows are read again.
            _ => since.to_rfc3339_opts(SecondsFormat::Micros, true),
        };
        let is_partial = self.query.is_incremental();
        Ok(Fetched::New(Listing {
            is_partial,
            admins: people.and_then(People::into_admins),
            fingerprint: is_partial.then(|| format!("{} {next_start}", self.query_hash)),
            ..listing
        }))
    }

    /// Checks whether the queries run, which columns they return, and which permissions the role has but does not
    /// need.
    async fn check(&self) -> Result<CheckReport, Error> {
        let mut transaction = self.begin_read().await?;
        let (summary, notes) = self.check_query(&mut transaction).await?;
        let mut parts = vec![summary];
        if self.query.is_incremental() {
            parts
                .push("the query returns only changes, so no token is ever marked gone".to_owned());
        }
        if let Some(query) = &self.people {
            let people = People::load(&mut transaction, query, &mut RefusedRows::default()).await?;
            parts.push(format!("{} people", people.count()));
        }
        let mut rights = Vec::new();
        if let Some(statement) = &self.mark_expired {
            rights.push(check_statement(&mut transaction, "mark_expired", statement).await?);
        }
        if let Some(statement) = &self.revoke {
            rights.push(check_statement(&mut transaction, "revoke", statement).await?);
        }
        if rights.is_empty()
            && let Some(warning) = self.excess_permission_warning(&mut transaction).await?
        {
            parts.push(warning);
        }
        transaction.close().await;
        Ok(CheckReport {
            summary: parts.join("; "),
            rights,
            notes,
        })
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let Some(statement) = &self.revoke else {
            let what = "the source has no statement that revokes tokens";
            return Err(Error::rights(what, REVOKE_ADVICE));
        };
        let before = self.find_token(external_id).await;
        let before = match before.map_err(Error::not_attempted)? {
            Some(token) if token.status != Cell::Value(Status::Revoked) => token,
            _ => return Err(Error::NoSuchToken(external_id.to_owned())),
        };
        // The id is the only parameter of the statement, but may occur in it several times.
        let values = vec![Scalar::Text(external_id.to_owned()); statement.names.len()];
        let mut connection = self.database.open_for_writing().await?;
        let affected = statement
            .run(&mut connection, values, |affected| affected == 1)
            .await?;
        connection.close().await;
        if affected != 1 {
            let why = format!("would change {affected} rows instead of one; nothing was changed");
            return Err(Error::RolledBack(Box::new(Error::content("revoke", why))));
        }
        match self.find_token(external_id).await {
            Ok(Some(after)) if has_ended(&before, &after) => Ok(()),
            Ok(Some(after)) => Err(unclear_end(&after).unwrap_or(Error::StillThere)),
            Ok(None) => Ok(()),
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
        let mut connection = match self.database.open_for_writing().await {
            Ok(connection) => connection,
            Err(error) => {
                ack.error = Some(error.into());
                return ack;
            }
        };
        for token in tokens {
            let values = statement.token_values(token);
            match statement.run(&mut connection, values, |_| true).await {
                Ok(_) => ack.done.push(token.id),
                Err(error) => {
                    let is_unreachable = error.is_transient();
                    ack.error.get_or_insert(error.into());
                    if is_unreachable {
                        break;
                    }
                    ack.failed.push(token.id);
                }
            }
        }
        connection.close().await;
        ack
    }
}

impl SqlSource {
    /// Begins a read transaction. If lapsed was killed while it wrote to SQLite, first rolls that back, which only
    /// a source with statements that write may do.
    async fn begin_read(&self) -> Result<ReadTransaction<'_>, database::Error> {
        match self.database.begin_read().await {
            Err(database::Error::NeedsRecovery { .. })
                if self.mark_expired.is_some() || self.revoke.is_some() =>
            {
                self.database.recover().await?;
                self.database.begin_read().await
            }
            result => result,
        }
    }

    /// From when the query must return changes: shortly before the last listing, or 1970 for a full one.
    fn since(&self, last: &LastListing) -> DateTime<Utc> {
        let start = last
            .fingerprint
            .as_deref()
            .and_then(|fingerprint| fingerprint.strip_prefix(self.query_hash.as_str()))
            .map(str::trim_start);
        let since = match start {
            Some(NO_REFUSED_ROWS) => last.asked_at.map(|at| shift(at, -OVERLAP)),
            Some(time) => time.parse().ok(),
            None => None,
        };
        since.unwrap_or(DateTime::UNIX_EPOCH)
    }

    async fn find_token(&self, external_id: &str) -> Result<Option<ListedToken>, Error> {
        let mut transaction = self.begin_read().await?;
        let token = self.query.find_token(&mut transaction, external_id).await?;
        transaction.close().await;
        Ok(token)
    }

    /// Reports which columns the query returns, and how many of the first rows are valid.
    async fn check_query(
        &self,
        transaction: &mut ReadTransaction<'_>,
    ) -> Result<(String, Vec<String>), Error> {
        let mut counts = ColumnCounts::default();
        let mut checked = 0;
        let mut refused = 0;
        let mut first_refusal = None;
        let mut first_unreadable = None;
        let check_row = |number, token: Result<ListedToken, String>| {
            checked = number;
            match token {
                Ok(token) => {
                    counts.count(&token);
                    if let Some((column, why)) = token.unreadable.first_key_value() {
                        first_unreadable.get_or_insert(format!("row {number}: {column} {why}"));
                    }
                }
                Err(reason) => {
                    refused += 1;
                    first_refusal.get_or_insert(format!("row {number}: {reason}"));
                }
            }
            if number == CHECKED_ROWS {
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        };
        let columns = self
            .query
            .for_each_token(transaction, DateTime::UNIX_EPOCH, check_row)
            .await?
            .describe();
        let kind = match self.query.dialect {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
        };
        let mut summary = format!("{kind}, {columns}; {checked} rows checked");
        if let Some(reason) = first_refusal {
            let _ = write!(summary, ", {refused} refused, the first: {reason}");
        }
        Ok((summary, counts.notes(first_unreadable)))
    }

    /// A warning if the credentials permit writes although none are configured.
    async fn excess_permission_warning(
        &self,
        transaction: &mut ReadTransaction<'_>,
    ) -> Result<Option<String>, Error> {
        if self.database.is_sqlite() {
            let file = Path::new(self.database.place());
            if OpenOptions::new().append(true).open(file).is_err() {
                return Ok(None);
            }
            let warning = "the user that runs lapsed can write the file, which is not needed";
            return Ok(Some(warning.to_owned()));
        }
        let mut tables = 0;
        transaction
            .for_each_record(COUNT_WRITABLE_TABLES, &[], |record| {
                if let Scalar::Integer(count) = record.scalar(0) {
                    tables = count;
                }
                Ok(ControlFlow::Break(()))
            })
            .await?;
        if tables == 0 {
            return Ok(None);
        }
        let plural = if tables == 1 { "" } else { "s" };
        Ok(Some(format!(
            "the role can write to {tables} table{plural}, which is not needed: give lapsed a role that has only SELECT"
        )))
    }
}

/// Plans a statement that writes, without running it.
async fn check_statement(
    transaction: &mut ReadTransaction<'_>,
    name: &str,
    statement: &Statement,
) -> Result<Right, Error> {
    let values: Vec<_> = statement
        .names
        .iter()
        .map(|name| match *name {
            "expires_at" => Scalar::Instant(DateTime::UNIX_EPOCH),
            // Any text will do, because the statement is only planned.
            _ => Scalar::Text("1".to_owned()),
        })
        .collect();
    let what = format!("run {name}");
    Ok(match transaction.explain(&statement.text, &values).await {
        Ok(()) => Right::granted(&what),
        Err(error) => Right::missing(&what, error.to_string()),
    })
}

/// Whether a token that is still listed has ended: by its status, or by a new or earlier expiry.
fn has_ended(before: &ListedToken, after: &ListedToken) -> bool {
    if let Cell::Value(Status::Revoked | Status::Disabled) = after.status {
        return true;
    }
    let expires_at = |token: &ListedToken| match token.expiry {
        Cell::Value(expiry) => expiry.at(),
        _ => None,
    };
    match (expires_at(before), expires_at(after)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => after < before,
    }
}

/// Whether the token may have ended, because what would say so cannot be read.
fn unclear_end(after: &ListedToken) -> Option<Error> {
    let columns = [column::STATUS, column::EXPIRES_AT];
    let (column, why) = columns
        .into_iter()
        .find_map(|column| Some((column, after.unreadable.get(column)?)))?;
    Some(Error::content("query", format!("{column} {why}")).outcome_unknown())
}

/// Builds the listing. A row with the id of an earlier row is refused.
fn finish_listing(builder: ListingBuilder, mut refusals: RefusedRows) -> Result<Listing, Error> {
    let mut listing = builder.finish_rows(|first, repeated| {
        let reason = format!(
            "the external_id is already in row {}; the query must return it once",
            first.line
        );
        refusals.add(refused_row(repeated.line, reason));
    })?;
    listing.refusals = refusals;
    Ok(listing)
}

fn refused_row(line: u64, reason: String) -> RefusedRow {
    let file = "query".to_owned();
    RefusedRow { file, line, reason }
}
