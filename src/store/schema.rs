//! The schema's versions: which of them a program may use, and upgrading to its own.

use sqlx::migrate::{Migrate, MigrateError, Migrator};

use super::{Error, Result, Tx, on};

pub static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
pub static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const MIGRATION_TABLE: &str = "_sqlx_migrations";

/// What opening may do to a store that is missing or has an older schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Create it if missing, and upgrade its schema.
    Create,
    /// It must exist; its schema is upgraded.
    Migrate,
    /// It must exist and be up to date; nothing is written.
    ReadOnly,
    /// It must exist, with any schema version; nothing is written. For backups only.
    AsIs,
    /// As `Migrate`, also for a store that was moved. For moving it.
    Move,
    /// As `Create`, for a file that is deleted soon and need not survive a crash.
    Scratch,
}

impl Access {
    pub(super) fn creates(self) -> bool {
        matches!(self, Self::Create | Self::Scratch)
    }
}

/// Setting: the oldest schema version whose program may use the store. Migrations set it.
pub(super) const SCHEMA_MIN: &str = "schema_min";

/// Schema versions of a store; 0 means no schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub before: i64,
    pub now: i64,
    /// The one of this program.
    pub known: i64,
}

impl Versions {
    /// A newer lapsed has upgraded the schema.
    pub fn is_newer(&self) -> bool {
        self.now > self.known
    }
}

/// Checks that `access` allows using the store. Returns its schema version before and after opening. Whether this
/// program may use a newer one is for [`Tx::check_usable`](super::Tx::check_usable).
pub(super) async fn check_versions<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
    access: Access,
    location: String,
) -> Result<Versions> {
    let applied = match connection.list_applied_migrations(MIGRATION_TABLE).await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(error)) if is_no_such_table(&error) => Vec::new(),
        Err(error) => return Err(migration_error(error)),
    };
    let found = applied
        .iter()
        .map(|migration| migration.version)
        .fold(0, i64::max);
    let known = latest_version(migrator);
    let versions = |now| Versions {
        before: found,
        now,
        known,
    };
    if access == Access::AsIs {
        return Ok(versions(found));
    }
    if found == 0 && !access.creates() {
        return Err(Error::Missing(location));
    }
    // The copy would lack what this program does not know.
    if found > known && access == Access::Move {
        return Err(Error::Newer { found, known });
    }
    let checksums_match = applied.iter().all(|applied| {
        let same = migrator.iter().find(|ours| ours.version == applied.version);
        same.is_none_or(|ours| ours.checksum == applied.checksum)
    });
    if !checksums_match {
        return Err(Error::EarlierBuild);
    }
    if found < known && access == Access::ReadOnly {
        return Err(Error::Older);
    }
    Ok(versions(found.max(known)))
}

impl Tx {
    /// The schema version that this program knows.
    pub(super) fn known_version(&self) -> i64 {
        match self {
            Self::Sqlite(_) => latest_version(&SQLITE_MIGRATIONS),
            Self::Postgres(_) => latest_version(&POSTGRES_MIGRATIONS),
        }
    }

    /// Fails if there may be tables and columns that this program does not know.
    pub(super) async fn refuse_newer_schema(&mut self) -> Result<()> {
        let found: i64 = on!(self, c: Db => sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
            .fetch_one(c).await)?;
        let known = self.known_version();
        if found > known {
            return Err(Error::Newer { found, known });
        }
        Ok(())
    }
}

fn latest_version(migrator: &Migrator) -> i64 {
    let versions = migrator.iter().map(|migration| migration.version);
    versions.fold(0, i64::max)
}

pub(super) async fn migrate<C: Migrate>(connection: &mut C, migrator: &Migrator) -> Result<()> {
    migrator
        .run_direct(None, connection, false)
        .await
        .map_err(migration_error)
}

/// A statement that failed outside a migration may succeed later; a failed migration will not.
fn migration_error(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => Error::Statement(error),
        error => Error::Migrate(error),
    }
}

/// PostgreSQL has a code for it (42P01, undefined table), SQLite only a message.
fn is_no_such_table(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
    })
}
