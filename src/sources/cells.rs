//! What systems write into their answers, as cells of a listing.
//!
//! A date that cannot be read is no reason to lose a token: it is taken for not told.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::{Address, Cell};

use super::rows::Value;

/// A text, cleaned as a cell of a file is: without control characters. Empty text is an empty cell.
#[must_use]
pub fn text(text: Option<&str>) -> Cell<String> {
    match Value::text("", text.unwrap_or_default()) {
        Ok(Value::Text(text)) => Cell::Value(text),
        _ => Cell::Empty,
    }
}

/// A mail address; what is none, such as a login name, is an empty cell.
#[must_use]
pub fn address(text: Option<&str>) -> Cell<Address> {
    match text.and_then(|text| text.trim().parse().ok()) {
        Some(address) => Cell::Value(address),
        None => Cell::Empty,
    }
}

/// Tells null, an empty cell, from a field that is not there at all. A field read so needs a `default`
/// besides.
///
/// # Errors
/// When the value is none of its type.
pub fn told<'de, D, T>(value: D) -> Result<Cell<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(value)?.map_or(Cell::Empty, Cell::Value))
}

/// An instant in any of the forms of [`instant`].
#[must_use]
pub fn at(text: Option<&str>) -> Cell<DateTime<Utc>> {
    match text.and_then(instant) {
        Some(at) => Cell::Value(at),
        None => Cell::Empty,
    }
}

/// Reads an instant: RFC 3339 with any fraction and offset, the same with a space for the `T` (with or
/// without a zone, then UTC), or as Go's `time.String` prints it
/// (`2026-11-20 08:01:44.123 +0000 UTC m=+0.1`, <https://pkg.go.dev/time#Time.String>). Go's zero time,
/// the year 1, is no instant.
#[must_use]
pub fn instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let parsed = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .map(|at| at.to_utc())
        .or_else(|_| go(text))
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|at| at.and_utc())
        })
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|at| at.and_utc())
        })
        .ok()?;
    millis_range(DateTime::from_timestamp_micros(parsed.timestamp_micros())?)
}

/// An instant as milliseconds since 1970, where zero and less is none.
#[must_use]
pub fn millis(millis: i64) -> Option<DateTime<Utc>> {
    millis_range(DateTime::from_timestamp_millis(millis)?)
}

/// Between 1970 and 9999, as both databases keep it.
fn millis_range(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (1..253_402_300_800).contains(&at.timestamp()).then_some(at)
}

/// Date, time and offset; the zone's name and the monotonic clock after them say nothing more.
fn go(text: &str) -> Result<DateTime<Utc>, chrono::ParseError> {
    let end = text
        .match_indices(' ')
        .nth(2)
        .map_or(text.len(), |(at, _)| at);
    let (stamp, _) = text.split_at(end);
    DateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S%.f %z").map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-20T08:01:44Z")]
    #[case("2026-11-20T08:01:44.000000Z")]
    #[case("2026-11-20T10:01:44+02:00")]
    #[case("2026-11-20 08:01:44+00:00")]
    #[case("2026-11-20 08:01:44")]
    #[case("2026-11-20T08:01:44")]
    #[case("2026-11-20 08:01:44 +0000 UTC")]
    #[case("2026-11-20 13:31:44 +0530 IST m=+0.000012")]
    #[case("2026-11-20 08:01:44.0000001 +0000 +0000")]
    fn an_instant_is_read_in_every_form_that_systems_write(#[case] text: &str) {
        let at = instant(text).unwrap_or_else(|| panic!("{text} was not read"));
        assert_eq!(at.to_rfc3339(), "2026-11-20T08:01:44+00:00");
    }

    #[rstest]
    #[case("")]
    #[case("0001-01-01T00:00:00Z")]
    #[case("0001-01-01 00:00:00 +0000 UTC")]
    #[case("soon")]
    #[case("99999-01-01T00:00:00Z")]
    fn what_is_no_instant_is_none(#[case] text: &str) {
        assert_eq!(instant(text), None);
    }

    #[test]
    fn milliseconds_count_from_1970_and_zero_is_none() {
        assert_eq!(
            millis(1_763_625_704_000).unwrap().to_rfc3339(),
            "2025-11-20T08:01:44+00:00"
        );
        assert_eq!(millis(0), None);
        assert_eq!(millis(i64::MAX), None);
    }
}
