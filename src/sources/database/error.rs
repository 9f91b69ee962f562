//! Why a database did not answer, in words that hold nothing of its rows.
//!
//! PostgreSQL quotes values in many messages (`invalid input syntax for type integer: "…"`), and functions
//! in either database may say anything. What is repeated are messages about the statement itself, which
//! name tables, columns and types.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// Why a database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the URL of a database.
    #[error(
        "the URL is not that of a database; write sqlite:///path/to/file.db or \
         postgres://user:password@host/database, with special characters percent-encoded"
    )]
    Url,
    /// It cannot be reached.
    #[error("cannot reach {place}: {reason}")]
    Unreachable {
        /// Where it is.
        place: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "{place} did not answer within {} s; give the source a longer timeout, or the query an index",
        .limit.as_secs()
    )]
    TimedOut {
        /// Where it is.
        place: String,
        /// `timeout` of the source.
        limit: Duration,
    },
    /// It does not let us in.
    #[error("{place} refuses the user; check user and password in the URL, and pg_hba.conf")]
    Login {
        /// Where it is.
        place: String,
    },
    /// There is no such database.
    #[error("there is no database at {place}; correct the URL")]
    Missing {
        /// Where it should be.
        place: String,
    },
    /// The role may not read something.
    #[error("{place}: {what}; {mend}")]
    Denied {
        /// Where it is.
        place: String,
        /// What was refused.
        what: String,
        /// What to grant.
        mend: String,
    },
    /// The statement makes no sense to it.
    #[error("{place} refuses the statement: {reason}")]
    Statement {
        /// Where it is.
        place: String,
        /// Why, with names but no values.
        reason: String,
    },
    /// A program was killed while it wrote to it, and what it left cannot be taken back by who only reads.
    #[error(
        "a program was killed while it wrote to {place}; it can be read again once a program that may \
         write has opened it"
    )]
    HalfWritten {
        /// Where it is.
        place: String,
    },
    /// It is there, and did not do it.
    #[error("{place} failed: {reason}")]
    Failed {
        /// Where it is.
        place: String,
        /// Why, as far as that can be told without values.
        reason: String,
    },
    /// It was to keep what was written, and did not say whether it has.
    #[error("whether the change was kept is not known")]
    Unkept(#[source] Box<Error>),
    /// A column does not hold what was expected.
    #[error("{place}: column {column} does not hold what was expected there")]
    Column {
        /// Where it is.
        place: String,
        /// Its name, or its number.
        column: String,
    },
}

impl Error {
    /// What can be told of an error of sqlx.
    pub(super) fn of(error: &sqlx::Error, place: &str, limit: Duration) -> Self {
        let place = place.to_owned();
        match error {
            sqlx::Error::Io(error) => Self::Unreachable {
                place,
                reason: error.to_string(),
            },
            sqlx::Error::Tls(error) => Self::Unreachable {
                place,
                reason: format!("{error}; see sslmode and sslrootcert in the URL"),
            },
            sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => postgres(error, place, limit),
                None => sqlite(error.as_ref(), place, limit),
            },
            sqlx::Error::ColumnNotFound(column) => Self::Column {
                place,
                column: column.clone(),
            },
            sqlx::Error::ColumnDecode { index, .. } => Self::Column {
                place,
                column: index.clone(),
            },
            sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => Self::Unreachable {
                place,
                reason: "the connection broke".to_owned(),
            },
            _ => Self::Failed {
                place,
                reason: "it answered with something unexpected".to_owned(),
            },
        }
    }

    /// Whether it may answer later as it is.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unkept(error) => error.is_transient(),
            error => matches!(error, Self::Unreachable { .. } | Self::TimedOut { .. }),
        }
    }

    /// Whether what was to be written may have been.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Unkept(_))
    }
}

/// By SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn postgres(error: &PgDatabaseError, place: String, limit: Duration) -> Error {
    // A function that raises an error puts into it what it likes; what the server itself says of a
    // statement has no such trail.
    let is_plain = error.r#where().is_none();
    let message = || shortened(error.message());
    match error.code() {
        "57014" => Error::TimedOut { place, limit },
        "3D000" => Error::Missing { place },
        code if code.starts_with("28") => Error::Login { place },
        "42501" if is_plain => Error::Denied {
            place,
            what: message(),
            mend: mend(error.message()),
        },
        "42501" => Error::Denied {
            place,
            what: "permission denied".to_owned(),
            mend: "grant the role SELECT on what the query reads".to_owned(),
        },
        "25006" => Error::Statement {
            place,
            reason: "it would write, and lapsed only reads here".to_owned(),
        },
        "42883" if is_plain => Error::Statement {
            place,
            reason: format!(
                "{}; parameters are texts and timestamps, so cast where the column is another: \
                 :external_id::bigint",
                message()
            ),
        },
        code if is_plain && (code.starts_with("42") || code.starts_with("0A")) => {
            Error::Statement {
                place,
                reason: message(),
            }
        }
        code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
            Error::Unreachable {
                place,
                reason: format!("it is starting, stopping or full (SQLSTATE {code})"),
            }
        }
        code if code.starts_with("22") => Error::Failed {
            place,
            reason: format!("a value cannot be converted as the statement asks (SQLSTATE {code})"),
        },
        code => Error::Failed {
            place,
            reason: format!("SQLSTATE {code}; its own log says more"),
        },
    }
}

/// What to grant, by `permission denied for table x`.
fn mend(message: &str) -> String {
    let grant = |what: &str, name: &str| format!("let its owner GRANT {what} {name} TO the role");
    let Some(rest) = message.strip_prefix("permission denied for ") else {
        return "grant the role SELECT on what the query reads".to_owned();
    };
    match rest.split_once(' ') {
        Some(("schema", name)) => grant("USAGE ON SCHEMA", name),
        Some(("table" | "view" | "relation" | "materialized" | "foreign", name)) => {
            let name = name.rsplit(' ').next().unwrap_or(name);
            grant("SELECT (the columns that the query names) ON", name)
        }
        Some(("database", name)) => grant("CONNECT ON DATABASE", name),
        Some(("function", name)) => grant("EXECUTE ON FUNCTION", name),
        _ => "grant the role SELECT on what the query reads".to_owned(),
    }
}

/// By result code (<https://www.sqlite.org/rescode.html>); the lowest byte is the kind.
fn sqlite(error: &dyn DatabaseError, place: String, limit: Duration) -> Error {
    const NAMING: [&str; 9] = [
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
        return Error::HalfWritten { place };
    }
    match code & 0xff {
        1 if NAMING.iter().any(|start| message.starts_with(start)) => Error::Statement {
            place,
            reason: shortened(message),
        },
        5 | 6 => Error::Unreachable {
            place,
            reason: "others hold it locked".to_owned(),
        },
        8 => Error::Statement {
            place,
            reason: "it would write, and the database is opened for reading, or its file is write-protected"
                .to_owned(),
        },
        9 => Error::TimedOut { place, limit },
        3 | 14 | 23 => Error::Denied {
            place,
            what: "the file cannot be opened".to_owned(),
            mend: "correct the path, or let the user that lapsed runs as read the file and enter its \
                   folder (a database in WAL mode wants to be written beside, too)"
                .to_owned(),
        },
        11 | 26 => Error::Failed {
            place,
            reason: "the file is damaged, or no SQLite database".to_owned(),
        },
        _ => Error::Failed {
            place,
            reason: format!("SQLite error {code}"),
        },
    }
}

/// The beginning of a message.
fn shortened(message: &str) -> String {
    const MOST: usize = 200;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    message.chars().map(clean).take(MOST).collect()
}
