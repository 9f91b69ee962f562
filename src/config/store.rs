//! `[store]`: where lapsed keeps what it knows.

use secrecy::{ExposeSecret, SecretString};

use super::{database, field::Field, table::Table};

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:///absolute/path`, percent-encoded, or a `postgres://` URL. It may hold a password.
    pub url: SecretString,
    /// Whether a store that is not there is created.
    pub create: bool,
}

const DEFAULT_URL: &str = "sqlite:///var/lib/lapsed/lapsed.db";

impl Store {
    pub(super) fn read(mut table: Table) -> Self {
        let store = Self {
            url: table.or("url", DEFAULT_URL.into(), database::ours),
            create: table.or("create", true, Field::flag),
        };
        table.finish();
        store
    }

    /// Whether it is SQLite, a file of our own, rather than PostgreSQL.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }
}
