//! Parsers of command-line values. Every error says what to write instead.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::domain::{Address, InvalidAddress, TokenRef};
use crate::time;

/// The mails that `lapsed preview` knows, named after their template folders.
pub const TEMPLATES: [&str; 7] = [
    "expiring",
    "expired",
    "digest",
    "revoked_access",
    "revoked",
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
    #[error("write COLUMN=NAME, such as expires_at=endDateTime")]
    Mapping,
    #[error("write a time zone such as UTC or Europe/Berlin")]
    Zone,
}

/// Parses a span of time such as `7d`, up to [`MAX_SPAN`].
pub fn parse_span(text: &str) -> Result<TimeDelta, Invalid> {
    humantime::parse_duration(text.trim())
        .ok()
        .and_then(|span| TimeDelta::from_std(span).ok())
        .filter(|span| *span <= MAX_SPAN)
        .ok_or(Invalid::Span)
}

/// Parses a reference to a token: a prefix of its id, or `source/external_id`. Rejects what cannot name
/// a token, so that an empty variable in a script does not match every token.
pub fn parse_token_ref(text: &str) -> Result<TokenRef, Invalid> {
    let reference = text
        .trim()
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
