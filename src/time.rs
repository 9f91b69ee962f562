//! Parses instants, and keeps them to the years that both databases store.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, ParseResult, TimeDelta, Utc};

/// The last instant in the store: years have four digits, so that text sorts, and seconds six decimals.
pub const MAX_INSTANT: DateTime<Utc> =
    DateTime::from_timestamp(253_402_300_799, 999_999_000).expect("the end of the year 9999");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoInstant {
    Format,
    /// It would be an instant with a time zone.
    WithoutZone,
    /// It is not between 1970 and 9999.
    OutOfRange,
}

/// An instant as people write it: by RFC 3339, or a date (00:00 UTC of that day). The offset may be short, as
/// PostgreSQL writes it (`+00`).
///
/// # Errors
/// When it is something else, or cannot be stored.
pub fn parse_instant(text: &str) -> Result<DateTime<Utc>, NoInstant> {
    let at = match parse_date(text) {
        Some(date) => date.and_time(NaiveTime::MIN).and_utc(),
        None => DateTime::parse_from_rfc3339(text)
            .or_else(|_| parse_short_offset(text))
            .map_err(|_| match add_utc(text) {
                Some(_) => NoInstant::WithoutZone,
                None => NoInstant::Format,
            })?
            .to_utc(),
    };
    to_storable(at).ok_or(NoInstant::OutOfRange)
}

/// An instant as systems write it: RFC 3339 with any fraction and offset, the same with a space for the `T` or
/// without a zone (then UTC), and the format of Go's `time.String`
/// (`2026-11-20 08:01:44.123 +0000 UTC m=+0.1`, <https://pkg.go.dev/time#Time.String>). Go's zero time (in
/// the year 1) and the first second of 1970 are not instants.
pub fn parse_system_instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let without_zone = |format| NaiveDateTime::parse_from_str(text, format).map(|at| at.and_utc());
    let at = DateTime::parse_from_rfc3339(text)
        .or_else(|_| parse_short_offset(text))
        .or_else(|_| parse_go_time(text))
        .map(|at| at.to_utc())
        .or_else(|_| without_zone("%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|_| without_zone("%Y-%m-%dT%H:%M:%S%.f"))
        .ok()?;
    to_storable(at).filter(|at| at.timestamp() > 0)
}

/// Zero and negative values are not instants.
pub fn from_millis(millis: i64) -> Option<DateTime<Utc>> {
    to_storable(DateTime::from_timestamp_millis(millis)?).filter(|at| at.timestamp() > 0)
}

/// The text with a `T` and the zone UTC, if that makes it an instant by RFC 3339.
pub fn add_utc(text: &str) -> Option<String> {
    let zoned = format!("{}Z", text.replacen(' ', "T", 1));
    DateTime::parse_from_rfc3339(&zoned).ok()?;
    Some(zoned)
}

/// The instant that is `by` later, or earlier where `by` is negative. A sum that the store cannot hold becomes its first
/// or last instant: as text, year 10000 sorts before year 2026.
pub fn shift(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    let beyond = if by < TimeDelta::zero() {
        DateTime::UNIX_EPOCH
    } else {
        MAX_INSTANT
    };
    at.checked_add_signed(by)
        .unwrap_or(beyond)
        .clamp(DateTime::UNIX_EPOCH, MAX_INSTANT)
}

/// Truncates to microseconds, which is what both databases store. A leap second becomes the next second.
fn to_storable(at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(at.timestamp_micros())
        .filter(|at| (DateTime::UNIX_EPOCH..=MAX_INSTANT).contains(at))
}

fn parse_date(text: &str) -> Option<NaiveDate> {
    // chrono also accepts 2026-1-2 and +2026-01-02.
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    plain.then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())?
}

/// `2026-11-20 08:01:44+00` or `…+0000`.
fn parse_short_offset(text: &str) -> ParseResult<DateTime<chrono::FixedOffset>> {
    DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z")
}

/// Reads date, time and offset, and ignores the zone's name and the monotonic clock after them.
fn parse_go_time(text: &str) -> ParseResult<DateTime<chrono::FixedOffset>> {
    let third_space = text.match_indices(' ').nth(2);
    let stamp = &text[..third_space.map_or(text.len(), |(at, _)| at)];
    DateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S%.f %z")
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
        let at = parse_system_instant(text).unwrap_or_else(|| panic!("{text} was not read"));
        assert_eq!(at.to_rfc3339(), "2026-11-20T08:01:44+00:00");
    }

    #[rstest]
    #[case("2026-11-20 08:01:44+00")]
    #[case("2026-11-20 08:01:44.000001+00")]
    #[case("2026-11-20 10:01:44+0200")]
    #[case("2026-11-20 08:01:44+00:00")]
    fn people_may_write_instants_as_postgresql_does(#[case] text: &str) {
        let at = parse_instant(text).unwrap();
        assert_eq!(at.timestamp(), 1_795_161_704);
    }

    #[rstest]
    #[case("")]
    #[case("0001-01-01T00:00:00Z")]
    #[case("0001-01-01 00:00:00 +0000 UTC")]
    #[case("soon")]
    #[case("99999-01-01T00:00:00Z")]
    fn anything_else_is_no_instant(#[case] text: &str) {
        assert_eq!(parse_system_instant(text), None);
    }

    #[test]
    fn milliseconds_count_from_1970_and_zero_is_no_instant() {
        assert_eq!(
            from_millis(1_763_625_704_000).unwrap().to_rfc3339(),
            "2025-11-20T08:01:44+00:00"
        );
        assert_eq!(from_millis(0), None);
        assert_eq!(from_millis(i64::MAX), None);
    }

    #[test]
    fn a_sum_stays_within_what_the_store_holds() {
        let day = TimeDelta::days(1);
        let at = DateTime::from_timestamp(1_763_625_704, 0).unwrap();
        assert_eq!(shift(shift(at, day), -day), at);
        assert_eq!(shift(MAX_INSTANT, day), MAX_INSTANT);
        assert_eq!(shift(at, TimeDelta::MAX), MAX_INSTANT);
        assert_eq!(shift(DateTime::UNIX_EPOCH, -day), DateTime::UNIX_EPOCH);
        assert_eq!(shift(at, TimeDelta::MIN), DateTime::UNIX_EPOCH);
    }

    #[test]
    fn the_last_instant_is_the_end_of_the_year_9999() {
        let last = "9999-12-31T23:59:59.999999Z";
        assert_eq!(parse_instant(last), Ok(MAX_INSTANT));
        assert_eq!(parse_system_instant(last), Some(MAX_INSTANT));
        let beyond = "9999-12-31T23:59:59-01:00";
        assert_eq!(parse_instant(beyond), Err(NoInstant::OutOfRange));
        assert_eq!(parse_system_instant(beyond), None);
    }
}
