//! What can go wrong with the store, and what that means for those who use it.

use std::io;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("store.url {0:?} is neither sqlite: nor postgres:")]
    Url(String),
    /// There is no store, and it must not be created: `[store] create` is off, or the command only reads.
    #[error(
        "there is no store at {0}; create it with `lapsed migrate`, or by a sweep with `[store] create = true`"
    )]
    Missing(String),
    #[error(
        "the store has schema version {found}, this program knows {known}: it was used by a newer \
         lapsed; run that version, or restore a backup made before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    /// The schema is older, and the access mode does not allow an upgrade.
    #[error("the store has an older schema; upgrade it with `lapsed migrate`")]
    Older,
    /// Its first migration is not ours: migrations change in place until the first release.
    #[error(
        "the store has an older schema, of a build of lapsed before 0.1.0, which cannot be upgraded; set another \
         store.url and run `lapsed migrate`"
    )]
    EarlierBuild,
    #[error("cannot open the store at {place}")]
    Open {
        place: String,
        #[source]
        source: sqlx::Error,
    },
    /// It cannot be opened until a person has followed the advice in `fix`.
    #[error("cannot open the store at {place}: {reason}")]
    Unusable {
        place: String,
        reason: String,
        fix: String,
    },
    #[error("the store at {place} is not the file that was opened: {change}")]
    FileChanged { place: String, change: &'static str },
    #[error("cannot upgrade the store's schema")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("a statement of the store failed")]
    Statement(#[source] sqlx::Error),
    /// PostgreSQL does not answer, or is not the server that takes writes. The connection is of no more use.
    #[error("the store cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    #[error("no server of the store at {place} can be used: {}", reasons.join("; "))]
    NoServer {
        place: String,
        reasons: Vec<String>,
        is_transient: bool,
    },
    /// It is committed on one server only.
    #[error(
        "PostgreSQL did not wait for its standby, so what was written may be lost with the server: {0}"
    )]
    NotReplicated(String),
    #[error("lapsed can back up an SQLite store only; back up PostgreSQL with pg_dump")]
    NotEmbedded,
    #[error("cannot write the backup {}", file.display())]
    Copy {
        file: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Nothing was committed.
    #[error("the copied table {0} differs from the original, so the copy was discarded")]
    CopyDiffers(&'static str),
    #[error("cannot move the store: {0}")]
    NotMoved(&'static str),
    #[error("the store was moved to {0}; set [store] url to it")]
    Moved(String),
    /// A row holds a value that no version of lapsed writes.
    #[error("the store is inconsistent: {0}")]
    Inconsistent(sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Inconsistent(error),
            error if is_loss(&error) => Self::Unreachable(explain_loss(error)),
            error => Self::Statement(error),
        }
    }
}

/// Whether PostgreSQL is lost: the connection broke, or the server ends, starts, or takes no writes.
fn is_loss(error: &sqlx::Error) -> bool {
    // Classes 08 connection exception, 57P shutdown and start; 25006 read-only transaction (the server was demoted),
    // 25P03 idle in a transaction for too long.
    const CODES: [&str; 4] = ["08", "57P", "25006", "25P03"];
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        error => CODES.iter().any(|class| has_class(error, class)),
    }
}

/// Says what it means that a connection ended; sqlx reports bytes that it did not get.
fn explain_loss(error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            closed("the server closed the connection")
        }
        error => error,
    }
}

/// The same for a connection that is being made: a proxy that has no server to connect to accepts and closes it.
pub(super) fn explain_refusal(error: sqlx::Error) -> sqlx::Error {
    let is_closed = match &error {
        sqlx::Error::Protocol(text) => text.contains("SSLRequest"),
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    };
    if !is_closed {
        return error;
    }
    closed("the server closed the connection, as a proxy does that has no server to connect to")
}

fn closed(text: &str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionReset, text))
}

impl Error {
    /// Whether the store's file is damaged, or is not a database.
    pub fn is_corruption(&self) -> bool {
        let (Self::Statement(source) | Self::Open { source, .. }) = self else {
            return false;
        };
        // SQLite: 11 malformed, 26 not a database. PostgreSQL's codes are longer.
        let code = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| matches!(code.as_ref(), "11" | "26"))
    }

    /// Whether a later attempt may succeed: the store is unreachable, busy, or was restarted.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NotReplicated(_) => true,
            Self::NoServer { is_transient, .. } => *is_transient,
            Self::Statement(source) | Self::Open { source, .. } => is_transient(source),
            _ => false,
        }
    }

    /// Whether a person at the server may end it: they cancelled a statement, or changed who may connect.
    pub fn may_pass(&self) -> bool {
        const CODES: [&str; 4] = ["28", "42501", "57014", "58"];
        let (Self::Statement(source) | Self::Open { source, .. }) = self else {
            return self.is_transient();
        };
        self.is_transient() || CODES.iter().any(|class| has_class(source, class))
    }

    /// Whether PostgreSQL did not answer a statement in time.
    pub fn is_time_out(&self) -> bool {
        matches!(self, Self::Unreachable(sqlx::Error::Io(error)) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether another row has the value that must be unique. On PostgreSQL, the transaction is of no more use.
    pub fn is_taken(&self) -> bool {
        let Self::Statement(source) = self else {
            return false;
        };
        let error = source.as_database_error();
        error.is_some_and(sqlx::error::DatabaseError::is_unique_violation)
    }

    /// Whether the connection to PostgreSQL is of no more use, and the server may be away.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }

    pub(super) fn costs_connection(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Statement(source) => has_class(source, STALE_PLAN),
            _ => false,
        }
    }
}

/// "cached plan must not change result type": another version of lapsed has changed a table since the statement was
/// prepared.
const STALE_PLAN: &str = "0A000";

/// Whether the whole transaction is to be tried again at once: it lost a race, or a prepared statement is out of date.
pub(super) fn is_retryable(error: &sqlx::Error) -> bool {
    has_class(error, "40") || has_class(error, STALE_PLAN)
}

/// Whether the SQLSTATE begins with `class`. Codes of SQLite are shorter.
fn has_class(error: &sqlx::Error, class: &str) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.len() == 5 && code.starts_with(class))
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        _ if is_loss(error) => true,
        // Class 40 rollback, 53 out of a resource; 55P03 waited too long for a lock.
        _ if ["40", "53", "55P03", STALE_PLAN]
            .iter()
            .any(|class| has_class(error, class)) =>
        {
            true
        }
        // SQLite: 5 busy, 6 locked, 13 full.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| matches!(code.as_ref(), "5" | "6" | "13" | "261" | "517")),
        _ => false,
    }
}
