//! Converts values from the responses of systems into cells. A date that cannot be read becomes an empty
//! cell, because that is no reason to lose the token.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::{Address, Cell};

use super::rows::Value;

/// A text without control characters, as in a file. Empty text is an empty cell.
#[must_use]
pub fn text(text: Option<&str>) -> Cell<String> {
    match Value::text("", text.unwrap_or_default()) {
        Ok(Value::Text(text)) => Cell::Value(text),
        _ => Cell::Empty,
    }
}

/// A mail address. Anything else, such as a login name, is an empty cell.
#[must_use]
pub fn address(text: Option<&str>) -> Cell<Address> {
    match text.and_then(|text| text.trim().parse().ok()) {
        Some(address) => Cell::Value(address),
        None => Cell::Empty,
    }
}

/// Reads null as an empty cell. With `default`, a missing field becomes an absent one.
///
/// # Errors
/// If the value is of another type.
pub fn null_as_empty<'de, D, T>(value: D) -> Result<Cell<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(value)?.map_or(Cell::Empty, Cell::Value))
}

#[must_use]
pub fn instant_cell(text: Option<&str>) -> Cell<DateTime<Utc>> {
    match text.and_then(parse_instant) {
        Some(at) => Cell::Value(at),
        None => Cell::Empty,
    }
}

/// Accepts RFC 3339 with any fraction and offset, the same with a space for the `T` or without a zone
/// (then UTC), and the format of Go's `time.String`
/// (`2026-11-20 08:01:44.123 +0000 UTC m=+0.1`, <https://pkg.go.dev/time#Time.String>), but not Go's zero
/// time, the year 1.
#[must_use]
pub fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let parsed = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .map(|at| at.to_utc())
        .or_else(|_| parse_go_time(text))
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").map(|at| at.and_utc())
        })
        .or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|at| at.and_utc())
        })
        .ok()?;
    in_storable_range(DateTime::from_timestamp_micros(parsed.timestamp_micros())?)
}

/// Zero and negative values are no instant.
#[must_use]
pub fn instant_from_millis(millis: i64) -> Option<DateTime<Utc>> {
    in_storable_range(DateTime::from_timestamp_millis(millis)?)
}

/// Both databases store instants between 1970 and 9999.
fn in_storable_range(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (1..253_402_300_800).contains(&at.timestamp()).then_some(at)
}

/// Reads date, time and offset, and ignores the zone's name and the monotonic clock after them.
fn parse_go_time(text: &str) -> Result<DateTime<Utc>, chrono::ParseError> {
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
    fn instants_are_read_in_every_format_of_the_systems(#[case] text: &str) {
        let at = parse_instant(text).unwrap_or_else(|| panic!("{text} was not read"));
        assert_eq!(at.to_rfc3339(), "2026-11-20T08:01:44+00:00");
    }

    #[rstest]
    #[case("")]
    #[case("0001-01-01T00:00:00Z")]
    #[case("0001-01-01 00:00:00 +0000 UTC")]
    #[case("soon")]
    #[case("99999-01-01T00:00:00Z")]
    fn anything_else_is_no_instant(#[case] text: &str) {
        assert_eq!(parse_instant(text), None);
    }

    #[test]
    fn milliseconds_count_from_1970_and_zero_is_no_instant() {
        assert_eq!(
            instant_from_millis(1_763_625_704_000).unwrap().to_rfc3339(),
            "2025-11-20T08:01:44+00:00"
        );
        assert_eq!(instant_from_millis(0), None);
        assert_eq!(instant_from_millis(i64::MAX), None);
    }
}
