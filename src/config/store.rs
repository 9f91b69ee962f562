//! `[store]`: the database of lapsed.

use secrecy::{ExposeSecret, SecretString};

use super::database;
use super::field::Field;
use super::table::Table;

#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:///absolute/path`, percent-encoded, or a `postgres://` URL. May contain a password.
    pub url: SecretString,
    /// Whether to create a store that does not exist.
    pub create: bool,
}

const DEFAULT_URL: &str = "sqlite:///var/lib/lapsed/lapsed.db";

impl Store {
    pub(super) fn from_table(mut table: Table) -> Self {
        let store = Self {
            url: table.with_default("url", DEFAULT_URL.into(), database::store_url),
            create: table.with_default("create", true, Field::boolean),
        };
        table.finish();
        store
    }

    /// Otherwise it is PostgreSQL.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }
}
