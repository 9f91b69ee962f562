//! How the values on the command line become domain values. Every refusal says what to write
//! instead.

use std::{convert::Infallible, error::Error, fmt, path::PathBuf, str::FromStr};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::domain::TokenRef;
use crate::store::FAR;

/// The mails that can be previewed, by the name of their template folder.
pub const TEMPLATES: [&str; 7] = [
    "expiring",
    "expired",
    "digest",
    "revoked_access",
    "revoked",
    "alert",
    "summary",
];

/// A hundred years: beyond it a span is a slip of the pen.
const LONGEST: TimeDelta = TimeDelta::days(36_500);

/// Parses one of a closed set of words; clap lists them and names the nearest.
pub fn word<T>(allowed: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(allowed).try_map(|word| word.parse::<T>())
}

/// Why a text is none of what an argument takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a span of time.
    #[error("write a span of time as 7d, 36h or 90m, at most 36500d")]
    Span,
    /// Nothing that could name a token.
    #[error(
        "write the first digits of an id (as in the first column of `lapsed token list`), or \
         SOURCE/EXTERNAL_ID"
    )]
    TokenRef,
    /// Nothing that an id begins with.
    #[error("write the first digits of an id, as in the first column of `lapsed finding list`")]
    Prefix,
    /// Neither a day nor an instant.
    #[error("write a day as 2027-03-31, or an instant as 2027-03-31T12:00:00Z")]
    Instant,
    /// No word.
    #[error("say why, in a few words")]
    Reason,
}

/// Parses a span of time such as `7d`.
///
/// # Errors
/// [`Invalid::Span`] when it is none, or longer than a hundred years.
pub fn span(text: &str) -> Result<TimeDelta, Invalid> {
    humantime::parse_duration(text.trim())
        .ok()
        .and_then(|span| TimeDelta::from_std(span).ok())
        .filter(|span| *span <= LONGEST)
        .ok_or(Invalid::Span)
}

/// Parses a reference to a token: a prefix of its id, or `source/external_id`.
///
/// # Errors
/// [`Invalid::TokenRef`] when it could name no token; so an empty variable in a script does not
/// become "any token".
pub fn token_ref(text: &str) -> Result<TokenRef, Invalid> {
    let reference = text
        .trim()
        .parse::<TokenRef>()
        .unwrap_or_else(|never: Infallible| match never {});
    let possible = match &reference {
        TokenRef::Prefix(digits) => {
            (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        TokenRef::External(source, external_id) => !source.is_empty() && !external_id.is_empty(),
    };
    possible.then_some(reference).ok_or(Invalid::TokenRef)
}

/// Parses the first digits of an id, dashes left out.
///
/// # Errors
/// [`Invalid::Prefix`] when no id begins so; an empty variable in a script does not become "any".
pub fn prefix(text: &str) -> Result<String, Invalid> {
    let digits = text.trim().replace('-', "").to_lowercase();
    let possible =
        (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    possible.then_some(digits).ok_or(Invalid::Prefix)
}

/// Parses an instant; a day is its beginning in UTC.
///
/// # Errors
/// [`Invalid::Instant`] when it is neither.
pub fn instant(text: &str) -> Result<DateTime<Utc>, Invalid> {
    let text = text.trim();
    let day = || {
        Some(
            text.parse::<NaiveDate>()
                .ok()?
                .and_time(NaiveTime::MIN)
                .and_utc(),
        )
    };
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .ok()
        .or_else(day)
        .filter(|at| *at < FAR)
        .ok_or(Invalid::Instant)
}

/// Parses a text that says something, on one line.
///
/// # Errors
/// [`Invalid::Reason`] when it says nothing.
pub fn reason(text: &str) -> Result<String, Invalid> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let said = words.join(" ");
    (!said.is_empty()).then_some(said).ok_or(Invalid::Reason)
}

/// Where an import reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
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
    fn a_span_needs_a_unit_and_an_end() {
        assert_eq!(span("7d"), Ok(TimeDelta::days(7)));
        assert_eq!(span(" 1h 30m "), Ok(TimeDelta::minutes(90)));
        for bad in ["", "7", "-7d", "soon", "40000d", "99999999999999999999d"] {
            assert_eq!(span(bad), Err(Invalid::Span), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_named_by_digits_or_by_source_and_external_id() {
        let id = "0B5E17c2-9d2c-5e0a-8d1e-2f9b6c1a7e44";
        assert_eq!(
            token_ref(id),
            Ok(TokenRef::Prefix("0b5e17c29d2c5e0a8d1e2f9b6c1a7e44".into()))
        );
        assert_eq!(
            token_ref("exports/ci/deploy"),
            Ok(TokenRef::External("exports".into(), "ci/deploy".into()))
        );
    }

    #[test]
    fn what_could_name_no_token_or_any_token_is_refused() {
        for bad in ["", " ", "-", "ci-deploy", "/x", "x/", "/", &"a".repeat(33)] {
            assert_eq!(token_ref(bad), Err(Invalid::TokenRef), "{bad:?}");
        }
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!("-".parse(), Ok(Input::Stdin));
        assert_eq!("./-".parse(), Ok(Input::File("./-".into())));
    }
}
