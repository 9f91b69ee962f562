//! Database URLs: of the store and of databases that sources read.

use std::path::Path;

use ::config::ValueKind;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::field::{Field, Parsed};
use super::secret::is_unread;
use crate::network::split_hosts;

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

/// The URLs of a list, or in one text, are separated by spaces.
pub(super) fn store_url(field: &Field) -> Parsed<SecretString> {
    let urls = match field.value.kind {
        ValueKind::Array(_) => {
            let items = field.items()?;
            items
                .iter()
                .map(Field::secret)
                .collect::<Parsed<Vec<_>>>()?
        }
        _ => vec![field.secret()?],
    };
    let texts = urls.iter().map(|url| url.expose_secret().trim());
    // The path of an SQLite file may contain spaces.
    let texts = texts.flat_map(|text| match text.split_once("://") {
        Some(("postgres" | "postgresql", _)) => split_urls(text),
        _ => vec![text.to_owned()],
    });
    let urls: Vec<_> = texts
        .map(|text| parse_url(&text, field, &STORE))
        .collect::<Parsed<_>>()?;
    if urls.is_empty() {
        return Err(format!("names no server; {}", STORE.forms));
    }
    if urls.len() > 1 && urls.iter().any(|url| url.starts_with("sqlite:")) {
        return Err(
            "is a list, which only servers of PostgreSQL can be; name one SQLite file".to_owned(),
        );
    }
    Ok(urls.join(" ").into())
}

/// Spaces separate them or, as in other lists of the environment, commas. A URL may itself contain commas.
fn split_urls(text: &str) -> Vec<String> {
    let text = text
        .replace(",postgres://", " postgres://")
        .replace(",postgresql://", " postgresql://");
    text.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn source_url(field: &Field) -> Parsed<SecretString> {
    let secret = field.secret()?;
    if is_unread(&secret) {
        return Ok(secret);
    }
    let url = parse_url(secret.expose_secret().trim(), field, &SOURCE)?;
    Ok(url.into())
}

fn parse_url(text: &str, field: &Field, help: &UrlHelp) -> Parsed<String> {
    if let Some(path) = text.strip_prefix("sqlite:") {
        return sqlite_url(path, field.base(), help);
    }
    // The text may contain a password, so only its scheme is shown.
    match text.split_once("://").map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => {
            let hosts = split_hosts(text);
            match hosts.iter().try_for_each(|url| Url::parse(url).map(drop)) {
                Ok(()) => Ok(text.to_owned()),
                Err(error) => Err(format!(
                    "is not a URL ({error}); write postgres://user:password@host/database, with special \
                     characters in the password percent-encoded"
                )),
            }
        }
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
