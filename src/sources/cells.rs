//! Converts values of rows and of responses into cells of the domain.
//!
//! Messages quote a value only if a date, a status or an address is expected, and then only its beginning: a
//! secret in the wrong column must not get into a log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::{Address, Cell, Expiry};
use crate::text::{clean, cut, is_control};
use crate::time::{self, NoInstant};

const MAX_CELL_LENGTH: usize = 64 * 1024;

/// A cell of at most this length is quoted in full. Many secrets are longer, dates are not.
const MAX_FULL_QUOTE: usize = 32;

const PARTIAL_QUOTE_LENGTH: usize = 24;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    /// The cell is empty, blank or null.
    Empty,
    /// A text that is trimmed, not blank, and without control characters.
    Text(String),
    List(Vec<String>),
    /// The name of a JSON type that is always wrong.
    Other(&'static str),
}

impl Value {
    /// Trims the text, and replaces control characters and line separators by spaces. Marks of the direction
    /// remain, because an id must match at its source; outputs replace them.
    pub fn text(column: &str, text: &str) -> Result<Self, String> {
        if text.len() > MAX_CELL_LENGTH {
            return Err(format!("{column} is longer than 64 KiB; cut it"));
        }
        let text = if text.contains(is_control) {
            text.replace(is_control, " ").trim().to_owned()
        } else {
            text.trim().to_owned()
        };
        Ok(if text.is_empty() {
            Self::Empty
        } else {
            Self::Text(text)
        })
    }

    pub fn into_text(self, column: &str) -> Result<Cell<String>, String> {
        match self {
            Self::Absent => Ok(Cell::Absent),
            Self::Empty => Ok(Cell::Empty),
            Self::Text(text) => Ok(Cell::Value(text)),
            Self::List(_) => Err(format!("{column} must be a text, not a list")),
            Self::Other(what) => Err(format!("{column} must be a text, not {what}")),
        }
    }

    pub fn parse<T>(
        self,
        column: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Cell<T>, String> {
        Ok(match self.into_text(column)? {
            Cell::Absent => Cell::Absent,
            Cell::Empty => Cell::Empty,
            Cell::Value(text) => {
                Cell::Value(parse(&text).map_err(|why| format!("{column} {} {why}", quote(&text)))?)
            }
        })
    }

    pub fn into_address(self, column: &str) -> Result<Cell<Address>, String> {
        self.parse(column, |text| {
            Address::parse_cell(text).map_err(|invalid| invalid.reason.to_owned())
        })
    }

    /// A date means its first instant in UTC.
    pub fn into_instant(self, column: &str) -> Result<Cell<DateTime<Utc>>, String> {
        self.parse(column, |text| parse_instant(text, "or leave it empty"))
    }

    /// An expiry is an instant, `never`, or empty if it is unknown.
    pub fn into_expiry(self, column: &str) -> Result<Cell<Expiry>, String> {
        let expiry = self.parse(column, |text| {
            if text.eq_ignore_ascii_case("never") {
                return Ok(Expiry::Never);
            }
            parse_instant(text, "never, or leave it empty if it is unknown").map(Expiry::At)
        })?;
        Ok(match expiry {
            Cell::Empty => Cell::Value(Expiry::Unknown),
            Cell::Absent | Cell::Value(_) => expiry,
        })
    }

    /// A JSON array, or a text whose items are separated by semicolons or, if it has none, by commas.
    pub fn into_list(self, column: &str) -> Result<Vec<String>, String> {
        if let Self::List(list) = self {
            return Ok(list);
        }
        Ok(match self.into_text(column)? {
            Cell::Absent | Cell::Empty => Vec::new(),
            // Names of LDAP groups contain commas.
            Cell::Value(text) => {
                let separator = if text.contains(';') { ';' } else { ',' };
                text.split(separator)
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
        })
    }
}

/// `alternatives` says what else may be written.
fn parse_instant(text: &str, alternatives: &str) -> Result<DateTime<Utc>, String> {
    time::parse_instant(text).map_err(|error| match error {
        NoInstant::Format => {
            format!("is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, {alternatives}")
        }
        NoInstant::WithoutZone => {
            "has no time zone; write Z (UTC) or an offset like +02:00 after it".to_owned()
        }
        NoInstant::OutOfRange => {
            format!("is not between 1970 and 9999; write another date, {alternatives}")
        }
    })
}

/// The beginning of the text, in quotes.
pub(crate) fn quote(text: &str) -> String {
    let is_long = text.chars().nth(MAX_FULL_QUOTE).is_some();
    let limit = if is_long {
        PARTIAL_QUOTE_LENGTH + 1
    } else {
        MAX_FULL_QUOTE
    };
    format!("\"{}\"", clean(&cut(text, limit)))
}

// The functions below convert responses of systems. A date that cannot be read becomes an empty cell, because that
// is no reason to lose the token.

/// A text without control characters, as in a file. Empty text is an empty cell.
pub fn text(text: Option<&str>) -> Cell<String> {
    match Value::text("", text.unwrap_or_default()) {
        Ok(Value::Text(text)) => Cell::Value(text),
        _ => Cell::Empty,
    }
}

/// A mail address. Anything else, such as a login name, is an empty cell.
pub fn address(text: Option<&str>) -> Cell<Address> {
    text.and_then(|text| Address::parse_cell(text).ok()).into()
}

/// Reads null as an empty cell. With `default`, a missing field becomes an absent one.
pub fn null_as_empty<'de, D, T>(value: D) -> Result<Cell<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(value).map(Cell::from)
}

pub fn instant_cell(text: Option<&str>) -> Cell<DateTime<Utc>> {
    text.and_then(time::parse_system_instant).into()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[rstest]
    #[case("2026-11-12", "2026-11-12T00:00:00Z")]
    #[case("2026-11-12T09:30:00Z", "2026-11-12T09:30:00Z")]
    #[case("2026-11-12t09:30:00z", "2026-11-12T09:30:00Z")]
    #[case("2026-11-12 09:30:00+02:00", "2026-11-12T07:30:00Z")]
    #[case("2026-11-12T09:30:00.123456789Z", "2026-11-12T09:30:00.123456Z")]
    #[case("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z")]
    #[case("1970-01-01", "1970-01-01T00:00:00Z")]
    #[case("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999Z")]
    fn a_date_is_an_instant_in_utc(#[case] written: &str, #[case] expected: &str) {
        let expected: DateTime<Utc> = expected.parse().unwrap();
        let at = text(written).into_instant("created_at");
        assert_eq!(at, Ok(Cell::Value(expected)));
        let expiry = text(written).into_expiry("expires_at");
        assert_eq!(expiry, Ok(Cell::Value(Expiry::At(expected))));
    }

    #[rstest]
    #[case(
        "12.11.2026",
        "is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty"
    )]
    #[case(
        "2026-1-2",
        "is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty"
    )]
    #[case(
        "2026-02-30",
        "is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty"
    )]
    #[case(
        "1762940000",
        "is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty"
    )]
    #[case(
        "never",
        "is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty"
    )]
    #[case(
        "2026-11-12 09:30:00",
        "has no time zone; write Z (UTC) or an offset like +02:00 after it"
    )]
    #[case(
        "2026-11-12T09:30:00",
        "has no time zone; write Z (UTC) or an offset like +02:00 after it"
    )]
    #[case(
        "0001-01-01T00:00:00Z",
        "is not between 1970 and 9999; write another date, or leave it empty"
    )]
    #[case(
        "1969-12-31",
        "is not between 1970 and 9999; write another date, or leave it empty"
    )]
    #[case(
        "9999-12-31T23:59:59-01:00",
        "is not between 1970 and 9999; write another date, or leave it empty"
    )]
    fn anything_else_is_refused_with_what_to_write(#[case] written: &str, #[case] why: &str) {
        let refused = text(written).into_instant("created_at").unwrap_err();
        assert_eq!(refused, format!("created_at \"{written}\" {why}"));
    }

    #[test]
    fn an_expiry_may_also_be_never_or_unknown() {
        assert_eq!(
            text("Never").into_expiry("x"),
            Ok(Cell::Value(Expiry::Never))
        );
        assert_eq!(
            Value::Empty.into_expiry("x"),
            Ok(Cell::Value(Expiry::Unknown))
        );
        assert_eq!(Value::Absent.into_expiry("x"), Ok(Cell::Absent));
    }

    #[test]
    fn a_refusal_does_not_quote_a_secret_in_full() {
        let secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
        let refusals = [
            text(secret).into_address("issuer_email").unwrap_err(),
            text(secret).into_instant("created_at").unwrap_err(),
            text(secret).into_expiry("expires_at").unwrap_err(),
        ];
        for refusal in refusals {
            assert!(
                refusal.contains("\"ghp_0123456789abcdefghij…\""),
                "{refusal}"
            );
        }
        let name = Value::List(vec![secret.to_owned()]).into_text("name");
        assert_eq!(name.unwrap_err(), "name must be a text, not a list");
    }

    #[rstest]
    #[case("a, b,,c ", &["a", "b", "c"])]
    #[case("CN=a,DC=x; CN=b,DC=x;", &["CN=a,DC=x", "CN=b,DC=x"])]
    #[case("one", &["one"])]
    #[case(",", &[])]
    fn a_list_is_separated_by_semicolons_or_commas(#[case] written: &str, #[case] parts: &[&str]) {
        assert_eq!(text(written).into_list("groups").unwrap(), parts);
    }
}
