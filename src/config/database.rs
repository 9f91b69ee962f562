//! Database URLs: of the store and of databases that sources read.

use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::field::{Field, Parsed};
use super::secret::is_unread;

/// Characters that must be percent-encoded in the path of a URL.
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

/// The parts of the messages that differ between the store and the database of a source.
struct UrlHelp {
    what: &'static str,
    does: &'static str,
    forms: &'static str,
    options: &'static str,
    memory: &'static str,
}

const STORE: UrlHelp = UrlHelp {
    what: "store",
    does: "lapsed keeps its data in",
    forms: "write sqlite:///path/to/lapsed.db, sqlite:lapsed.db or postgres://user@host/database",
    options: "store.create decides whether the file is created",
    memory: "in memory, lapsed would forget which mails it sent",
};

const SOURCE: UrlHelp = UrlHelp {
    what: "database",
    does: "lapsed reads",
    forms: "write sqlite:///path/to/file.db or postgres://user:password@host/database",
    options: "lapsed never creates the file and opens it read-only if that is enough",
    memory: "lapsed cannot read the memory of another program",
};

pub(super) fn store_url(field: &Field) -> Parsed<SecretString> {
    parse_url(field, &STORE)
}

pub(super) fn source_url(field: &Field) -> Parsed<SecretString> {
    parse_url(field, &SOURCE)
}

fn parse_url(field: &Field, help: &UrlHelp) -> Parsed<SecretString> {
    let secret = field.secret()?;
    if is_unread(&secret) {
        return Ok(secret);
    }
    let text = secret.expose_secret().trim();
    if let Some(path) = text.strip_prefix("sqlite:") {
        return Ok(sqlite_url(path, field.base(), help)?.into());
    }
    // The text may contain a password, so only its scheme is shown.
    match text.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => match Url::parse(text) {
            Ok(_) => Ok(text.to_owned().into()),
            Err(error) => Err(format!(
                "is not a URL ({error}); write postgres://user:password@host/database, with special \
                 characters in the password percent-encoded"
            )),
        },
        Some(scheme) if scheme.len() < 20 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Err(format!(
                "{} SQLite or PostgreSQL, not {scheme}://; {}",
                help.does, help.forms
            ))
        }
        _ => Err(format!("is not the URL of a {}; {}", help.what, help.forms)),
    }
}

/// The URL with its path made absolute, resolved against `base`.
fn sqlite_url(path: &str, base: &Path, help: &UrlHelp) -> Parsed<String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains('?') {
        return Err(format!("takes no options after `?`; {}", help.options));
    }
    if path.contains(":memory:") {
        return Err(format!("must be a file: {}", help.memory));
    }
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| "contains a percent-encoded character that is not UTF-8")?;
    if path.is_empty() || path.contains('\0') {
        return Err(format!("does not name a file; {}", help.forms));
    }
    let file = base.join(&*path);
    let file = file
        .to_str()
        .ok_or("is in a folder whose name is not UTF-8")?;
    Ok(format!("sqlite://{}", utf8_percent_encode(file, IN_PATH)))
}
