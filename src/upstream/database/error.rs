//! Errors of a third-party database, without any values of its rows.
//!
//! PostgreSQL quotes values in many messages (`invalid input syntax for type integer: "…"`), and functions
//! in either database may raise any text. Only messages about the statement itself are repeated, which
//! name tables, columns and types.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::network::TLS_ADVICE;
use crate::text::one_line;

/// In characters. Longer messages are cut.
const MAX_MESSAGE: usize = 200;

const GRANT_ADVICE: &str = "grant the role SELECT on what the query reads";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the URL is not that of a database; write sqlite:///path/to/file.db or \
         postgres://user:password@host/database, with special characters percent-encoded"
    )]
    Url,
    #[error("cannot reach {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error(
        "{place} did not answer within {} s; give the source a longer timeout, or the query an index",
        .timeout.as_secs()
    )]
    TimedOut { place: String, timeout: Duration },
    #[error("{place} refuses the user; check user and password in the URL, and pg_hba.conf")]
    Login { place: String },
    #[error("there is no database at {place}; correct the URL")]
    Missing { place: String },
    #[error("{place}: {what}; {fix}")]
    Denied {
        place: String,
        what: String,
        fix: String,
    },
    #[error("{place} refuses the statement: {reason}")]
    Statement {
        place: String,
        /// Contains names but no values.
        reason: String,
    },
    /// A program was killed while it wrote; a read-only connection cannot roll that back.
    #[error(
        "a program was killed while it wrote to {place}; the database can be read again after a program with \
         write access has opened it"
    )]
    NeedsRecovery { place: String },
    #[error("{place} failed: {reason}")]
    Failed { place: String, reason: String },
    /// The connection failed during COMMIT.
    #[error("it is not known whether the change was committed")]
    CommitUnknown(#[source] Box<Error>),
    #[error("{place}: column {column} does not contain the expected type of value")]
    Column { place: String, column: String },
}

impl Error {
    /// Converts an error of sqlx, and leaves out everything that may contain values.
    pub(super) fn from_sqlx(error: &sqlx::Error, place: &str, timeout: Duration) -> Self {
        let place = place.to_owned();
        let unreachable = |reason: String| Self::Unreachable {
            place: place.clone(),
            reason,
        };
        match error {
            sqlx::Error::Io(error) => unreachable(error.to_string()),
            sqlx::Error::Tls(error) => unreachable(format!("{error}; {TLS_ADVICE}")),
            sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => {
                unreachable("the connection broke".to_owned())
            }
            sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => from_postgres(error, place, timeout),
                None => from_sqlite(error.as_ref(), place, timeout),
            },
            sqlx::Error::ColumnNotFound(column)
            | sqlx::Error::ColumnDecode { index: column, .. } => Self::Column {
                place,
                column: column.clone(),
            },
            _ => Self::Failed {
                place,
                reason: "it sent an unexpected response".to_owned(),
            },
        }
    }

    pub fn is_transient(&self) -> bool {
        match self {
            Self::CommitUnknown(error) => error.is_transient(),
            error => matches!(error, Self::Unreachable { .. } | Self::TimedOut { .. }),
        }
    }

    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::CommitUnknown(_))
    }
}

/// By SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn from_postgres(error: &PgDatabaseError, place: String, timeout: Duration) -> Error {
    // Only errors raised by functions have a context, and those may contain any text.
    let is_plain = error.r#where().is_none();
    let message = || one_line(error.message(), MAX_MESSAGE);
    let denied = |what: String, fix: String| Error::Denied {
        place: place.clone(),
        what,
        fix,
    };
    let statement = |reason: String| Error::Statement {
        place: place.clone(),
        reason,
    };
    match error.code() {
        "57014" => Error::TimedOut { place, timeout },
        "3D000" => Error::Missing { place },
        code if code.starts_with("28") => Error::Login { place },
        "42501" if is_plain => denied(message(), grant_advice(error.message())),
        "42501" => denied("permission denied".to_owned(), GRANT_ADVICE.to_owned()),
        "25006" => statement("it would write, but lapsed only reads here".to_owned()),
        "42883" if is_plain => statement(format!(
            "{}; parameters are texts and timestamps, so cast them if the column has another type: \
             :external_id::bigint",
            message()
        )),
        code if is_plain && (code.starts_with("42") || code.starts_with("0A")) => {
            statement(message())
        }
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
            let reason = format!("it is starting, stopping or full (SQLSTATE {code})");
            Error::Unreachable { place, reason }
        }
        code => {
            let reason = if code.starts_with("22") {
                format!(
                    "a value cannot be converted to the type in the statement (SQLSTATE {code})"
                )
            } else {
                format!("SQLSTATE {code}; see the log of the database")
            };
            Error::Failed { place, reason }
        }
    }
}

/// Parses `permission denied for table x`.
fn grant_advice(message: &str) -> String {
    let grant = |what: &str, name: &str| format!("let its owner GRANT {what} {name} TO the role");
    let Some(rest) = message.strip_prefix("permission denied for ") else {
        return GRANT_ADVICE.to_owned();
    };
    match rest.split_once(' ') {
        Some(("schema", name)) => grant("USAGE ON SCHEMA", name),
        Some(("table" | "view" | "relation" | "materialized" | "foreign", name)) => {
            let name = name.rsplit(' ').next().unwrap_or(name);
            grant("SELECT (the columns that the query names) ON", name)
        }
        Some(("database", name)) => grant("CONNECT ON DATABASE", name),
        Some(("function", name)) => grant("EXECUTE ON FUNCTION", name),
        _ => GRANT_ADVICE.to_owned(),
    }
}

/// By result code (<https://www.sqlite.org/rescode.html>); the lowest byte is the kind.
fn from_sqlite(error: &dyn DatabaseError, place: String, timeout: Duration) -> Error {
    const MESSAGES_WITHOUT_VALUES: [&str; 9] = [
        "no such table: ",
        "no such column: ",
        "no such function: ",
        "no such collation sequence: ",
        "ambiguous column name: ",
        "near \"",
        "incomplete input",
        "wrong number of arguments to function ",
        "misuse of aggregate",
    ];
    let code: i32 = error.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    let message = error.message();
    // SQLITE_READONLY_RECOVERY and SQLITE_READONLY_ROLLBACK (<https://www.sqlite.org/rescode.html>).
    if matches!(code, 264 | 776) {
        return Error::NeedsRecovery { place };
    }
    match code & 0xff {
        1 if MESSAGES_WITHOUT_VALUES.iter().any(|start| message.starts_with(start)) => Error::Statement {
            place,
            reason: one_line(message, MAX_MESSAGE),
        },
        5 | 6 => Error::Unreachable {
            place,
            reason: "it is locked by another program".to_owned(),
        },
        8 => Error::Statement {
            place,
            reason: "it would write, but the database is opened read-only or its file is write-protected"
                .to_owned(),
        },
        9 => Error::TimedOut { place, timeout },
        3 | 14 | 23 => Error::Denied {
            place,
            what: "the file cannot be opened".to_owned(),
            fix: "correct the path, or give the user that runs lapsed access to the file and its folder \
                  (a database in WAL mode also needs write access to the folder)"
                .to_owned(),
        },
        11 | 26 => Error::Failed {
            place,
            reason: "the file is damaged or not a SQLite database".to_owned(),
        },
        _ => Error::Failed {
            place,
            reason: format!("SQLite error {code}"),
        },
    }
}
