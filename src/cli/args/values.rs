//! Parsers of command-line values. Every error says what to write instead.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::domain::service::{InvalidScope, Lifetime, Networks, PublicId, Scopes};
use crate::domain::{Address, InvalidAddress, LOCAL_SOURCE, TokenRef};
use crate::time;

/// The mails that `lapsed preview` knows, named after their template folders.
pub const TEMPLATES: [&str; 8] = [
    "expiring",
    "expired",
    "digest",
    "revoked_access",
    "revoked",
    "old_secret",
    "alert",
    "summary",
];

/// A hundred years: a longer span is a typing error.
const MAX_SPAN: TimeDelta = TimeDelta::days(36_500);

/// Parses one of these words; clap lists them and suggests the nearest.
pub fn one_of<T>(
    allowed: impl IntoIterator<Item = &'static str>,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(allowed).try_map(|word| word.parse::<T>())
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("write a span of time as 7d, 36h or 90m, at most 36500d")]
    Span,
    #[error(
        "write the first digits of an id (as in the first column of `lapsed token list`), or \
         SOURCE/EXTERNAL_ID; a name does not suffice here, because several tokens may have it"
    )]
    TokenRef,
    #[error("write the first digits of an id, SOURCE/EXTERNAL_ID, or a name")]
    TokenText,
    #[error("write the first digits of an id, as in the first column of `lapsed finding list`")]
    Prefix,
    #[error("write a day as 2027-03-31, or a time as 2027-03-31T12:00:00Z")]
    Instant,
    #[error("write a reason, in a few words")]
    Reason,
    #[error("is empty")]
    Name,
    #[error("write COLUMN=NAME, such as expires_at=endDateTime")]
    Mapping,
    #[error("write a time zone such as UTC or Europe/Berlin")]
    Zone,
    #[error("write a span such as 30d, a date such as 2027-03-31, or never")]
    Lifetime,
    #[error("write a network such as 10.0.0.0/8, or an address")]
    Network,
    #[error("write an address such as ada@example.org, or the name of a machine user")]
    User,
}

/// Parses a span of time such as `7d`, up to [`MAX_SPAN`].
pub fn parse_span(text: &str) -> Result<TimeDelta, Invalid> {
    humantime::parse_duration(text.trim())
        .ok()
        .and_then(|span| TimeDelta::from_std(span).ok())
        .filter(|span| *span <= MAX_SPAN)
        .ok_or(Invalid::Span)
}

/// Parses when a token expires; a date is its first instant in UTC.
pub fn parse_lifetime(text: &str) -> Result<Lifetime, Invalid> {
    let text = text.trim();
    if text == "never" {
        return Ok(Lifetime::Never);
    }
    let span = parse_span(text).map(Lifetime::For);
    span.or_else(|_| parse_instant(text).map(Lifetime::Until))
        .map_err(|_| Invalid::Lifetime)
}

/// Parses scopes; an empty text is none.
pub fn parse_scopes(text: &str) -> Result<Scopes, InvalidScope> {
    text.parse()
}

/// Parses networks; an empty text is none.
pub fn parse_networks(text: &str) -> Result<Networks, Invalid> {
    text.parse().map_err(|_| Invalid::Network)
}

/// Parses the key of a user of the token service.
pub fn parse_user(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    let is_possible = !text.is_empty() && !text.contains(char::is_whitespace);
    is_possible
        .then(|| text.to_lowercase())
        .ok_or(Invalid::User)
}

/// A text, or none where it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrNone(pub Option<String>);

impl FromStr for OrNone {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(parse_name(text).ok()))
    }
}

/// Joins a name to one line, which must not be empty.
pub fn parse_name(text: &str) -> Result<String, Invalid> {
    parse_reason(text).map_err(|_| Invalid::Name)
}

/// Parses a reference to a token: a prefix of its id, `source/external_id`, or the public id of a token of the token
/// service, also within its access key. Rejects what cannot name
/// a token, so that an empty variable in a script does not match every token.
pub fn parse_token_ref(text: &str) -> Result<TokenRef, Invalid> {
    let text = text.trim();
    let last = text.rsplit('_').next().unwrap_or_default();
    if !text.contains('/') && PublicId::parse(last).is_some() {
        return Ok(TokenRef::External(LOCAL_SOURCE.to_owned(), last.to_owned()));
    }
    let reference = text
        .parse::<TokenRef>()
        .unwrap_or_else(|never: Infallible| match never {});
    let is_possible = match &reference {
        TokenRef::Prefix(digits) => is_id_prefix(digits),
        TokenRef::External(source, external_id) => !source.is_empty() && !external_id.is_empty(),
    };
    is_possible.then_some(reference).ok_or(Invalid::TokenRef)
}

/// Trims a reference to a token or its name. Only the store shows which of the two it is.
pub fn parse_token_text(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    let is_possible = text.bytes().any(|byte| byte != b'/');
    is_possible
        .then(|| text.to_owned())
        .ok_or(Invalid::TokenText)
}

/// Parses an address, or the pseudonym of an erased person.
pub fn parse_recipient(text: &str) -> Result<Address, InvalidAddress> {
    Address::parse_stored(text)
}

/// Parses the first digits of an id, and drops the dashes. Rejects an empty text, so that an empty
/// variable in a script does not match every id.
pub fn parse_id_prefix(text: &str) -> Result<String, Invalid> {
    let digits = text.trim().replace('-', "").to_lowercase();
    is_id_prefix(&digits)
        .then_some(digits)
        .ok_or(Invalid::Prefix)
}

fn is_id_prefix(digits: &str) -> bool {
    (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Parses an instant, or a day, which counts from 00:00 UTC.
pub fn parse_instant(text: &str) -> Result<DateTime<Utc>, Invalid> {
    time::parse_instant(text.trim()).map_err(|_| Invalid::Instant)
}

/// Parses the name of a column in a file.
pub fn parse_mapping(text: &str) -> Result<(String, String), Invalid> {
    let (column, name) = text.split_once('=').ok_or(Invalid::Mapping)?;
    let (column, name) = (column.trim(), name.trim());
    if column.is_empty() || name.is_empty() {
        return Err(Invalid::Mapping);
    }
    Ok((column.to_owned(), name.to_owned()))
}

pub fn parse_zone(text: &str) -> Result<Tz, Invalid> {
    text.parse().map_err(|_| Invalid::Zone)
}

/// Joins a text to one line, which must not be empty.
pub fn parse_reason(text: &str) -> Result<String, Invalid> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let reason = words.join(" ");
    (!reason.is_empty())
        .then_some(reason)
        .ok_or(Invalid::Reason)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input, written `-`.
    Stdin,
    File(PathBuf),
}

impl FromStr for Input {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdin,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_needs_a_unit_and_has_a_limit() {
        assert_eq!(parse_span("7d"), Ok(TimeDelta::days(7)));
        assert_eq!(parse_span(" 1h 30m "), Ok(TimeDelta::minutes(90)));
        for bad in ["", "7", "-7d", "soon", "40000d", "99999999999999999999d"] {
            assert_eq!(parse_span(bad), Err(Invalid::Span), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_named_by_digits_or_by_source_and_external_id() {
        let id = "0B5E17c2-9d2c-5e0a-8d1e-2f9b6c1a7e44";
        assert_eq!(
            parse_token_ref(id),
            Ok(TokenRef::Prefix("0b5e17c29d2c5e0a8d1e2f9b6c1a7e44".into()))
        );
        assert_eq!(
            parse_token_ref("exports/ci/deploy"),
            Ok(TokenRef::External("exports".into(), "ci/deploy".into()))
        );
    }

    #[test]
    fn text_that_cannot_name_one_token_is_refused() {
        for bad in ["", " ", "-", "ci-deploy", "/x", "x/", "/", &"a".repeat(33)] {
            assert_eq!(parse_token_ref(bad), Err(Invalid::TokenRef), "{bad:?}");
        }
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!("-".parse(), Ok(Input::Stdin));
        assert_eq!("./-".parse(), Ok(Input::File("./-".into())));
    }
}
