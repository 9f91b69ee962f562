//! The URL of a database: the store, or one of others that a source reads.

use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::field::Field;

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

/// What differs between our database and those of others when a URL is explained.
struct Words {
    what: &'static str,
    does: &'static str,
    forms: &'static str,
    options: &'static str,
    memory: &'static str,
}

const OURS: Words = Words {
    what: "store",
    does: "lapsed keeps its data in",
    forms: "write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database",
    options: "whether the file is created is decided by store.create",
    memory: "in memory, lapsed would forget whom it told",
};

const THEIRS: Words = Words {
    what: "database",
    does: "lapsed reads",
    forms: "write sqlite:///path/to/file.db or postgres://user:password@host/database",
    options: "lapsed never creates the file, and opens it for reading where that is enough",
    memory: "nobody else can reach what is in memory",
};

/// The URL of the store. A path is resolved against the folder of the configuration.
pub(super) fn ours(field: &Field) -> Result<SecretString, String> {
    url(field, &OURS)
}

/// The URL of a database that is not ours. A path is resolved against the folder of the configuration.
pub(super) fn theirs(field: &Field) -> Result<SecretString, String> {
    url(field, &THEIRS)
}

fn url(field: &Field, words: &Words) -> Result<SecretString, String> {
    let secret = field.secret()?;
    let text = secret.expose_secret().trim();
    if let Some(path) = text.strip_prefix("sqlite:") {
        return Ok(sqlite(path, field.base(), words)?.into());
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
                "{} SQLite or PostgreSQL, not by {scheme}://; {}",
                words.does, words.forms
            ))
        }
        _ => Err(format!(
            "is not the URL of a {}; {}",
            words.what, words.forms
        )),
    }
}

/// The URL with an absolute path.
fn sqlite(path: &str, base: &Path, words: &Words) -> Result<String, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains('?') {
        return Err(format!("takes no options after `?`; {}", words.options));
    }
    if path.contains(":memory:") {
        return Err(format!("must be a file: {}", words.memory));
    }
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| "holds a percent-encoded character that is not UTF-8")?;
    if path.is_empty() || path.contains('\0') {
        return Err(format!("names no file; {}", words.forms));
    }
    let path = base.join(&*path);
    let path = path
        .to_str()
        .ok_or("lies in a folder whose name is not UTF-8")?;
    Ok(format!("sqlite://{}", utf8_percent_encode(path, IN_PATH)))
}
