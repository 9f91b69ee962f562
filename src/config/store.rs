//! `[store]`: where lapsed keeps what it knows.

use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{field::Field, table::Table};

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:///absolute/path`, percent-encoded, or a `postgres://` URL. It may hold a password.
    pub url: SecretString,
    /// Whether a store that is not there is created.
    pub create: bool,
}

const DEFAULT_URL: &str = "sqlite:///var/lib/lapsed/lapsed.db";

/// What a path may not hold when it stands in a URL.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

impl Store {
    pub(super) fn read(mut table: Table) -> Self {
        let store = Self {
            url: table.or("url", DEFAULT_URL.into(), url),
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

fn url(field: &Field) -> Result<SecretString, String> {
    let secret = field.secret()?;
    let text = secret.expose_secret().trim();
    if let Some(path) = text.strip_prefix("sqlite:") {
        return Ok(sqlite(path, field.base())?.into());
    }
    // The text may hold a password, so that only its scheme is shown.
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("postgres" | "postgresql") => match Url::parse(text) {
            Ok(_) => Ok(text.to_owned().into()),
            Err(error) => Err(format!(
                "is not a URL ({error}); write postgres://user:password@host/database, with special \
                 characters in the password percent-encoded"
            )),
        },
        Some(scheme) if scheme.len() < 20 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Err(format!(
                "lapsed keeps its data in SQLite or PostgreSQL, not by {scheme}://; {FORMS}"
            ))
        }
        _ => Err(format!("is not the URL of a store; {FORMS}")),
    }
}

const FORMS: &str =
    "write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database";

/// The URL with an absolute path.
fn sqlite(path: &str, base: &Path) -> Result<String, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains('?') {
        return Err(
            "takes no options after `?`; whether the file is created is decided by store.create"
                .into(),
        );
    }
    if path.contains(":memory:") {
        return Err("must be a file: in memory, lapsed would forget whom it told".into());
    }
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| "holds a percent-encoded character that is not UTF-8")?;
    if path.is_empty() || path.contains('\0') {
        return Err(format!("names no file; {FORMS}"));
    }
    let path = base.join(&*path);
    let path = path
        .to_str()
        .ok_or("lies in a folder whose name is not UTF-8")?;
    Ok(format!("sqlite://{}", utf8_percent_encode(path, IN_PATH)))
}
