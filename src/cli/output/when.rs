//! Formats instants for people and for programs.

use chrono::{DateTime, Offset, SecondsFormat, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use crate::domain::When;

/// RFC 3339 in UTC with `Z`, with a fraction only if there is one.
pub fn rfc3339(at: impl Into<Option<DateTime<Utc>>>) -> Value {
    let precision = |at: DateTime<Utc>| match at.nanosecond() {
        0 => SecondsFormat::Secs,
        _ => SecondsFormat::Micros,
    };
    let at = at.into();
    at.map(|at| at.to_rfc3339_opts(precision(at), true)).into()
}

/// `2026-11-28 09:00Z (in 7 days)`, or `2026-11-28 10:00 CET (09:00Z, in 7 days)`.
pub fn format_when(at: DateTime<Utc>, now: DateTime<Utc>, zone: Tz) -> String {
    let distance = format_distance(at, now);
    match in_zone(at, zone) {
        Some((local, utc)) => format!("{local} ({utc}, {distance})"),
        None => format!("{} ({distance})", format_utc(at)),
    }
}

/// `2026-11-28 09:00Z`, or `2026-11-28 10:00 CET (09:00Z)`.
pub fn format_instant(at: DateTime<Utc>, zone: Tz) -> String {
    match in_zone(at, zone) {
        Some((local, utc)) => format!("{local} ({utc})"),
        None => format_utc(at),
    }
}

/// As [`format_when`]; a plain date as its source wrote it, with a distance in days: `2026-12-05 (in 7 days)`.
pub fn format_expiry(when: When, now: DateTime<Utc>, zone: Tz) -> String {
    let Some(day) = when.day else {
        return format_when(when.at, now, zone);
    };
    let ahead = when.at - now;
    match nearest(ahead.abs().num_seconds(), 86_400) {
        0 => day.to_string(),
        days => format!("{day} ({})", format_count(days, "day", ahead)),
    }
}

fn format_utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

/// The time in a zone, and in UTC with the date if that differs. `None` for UTC, and for an instant that has no
/// local time.
fn in_zone(at: DateTime<Utc>, zone: Tz) -> Option<(String, String)> {
    if zone == Tz::UTC {
        return None;
    }
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    at.naive_utc().checked_add_offset(offset)?;
    let local = at.with_timezone(&zone);
    let utc = if local.date_naive() == at.date_naive() {
        at.format("%H:%MZ").to_string()
    } else {
        format_utc(at)
    };
    Some((local.format("%Y-%m-%d %H:%M %Z").to_string(), utc))
}

/// `in 7 days`, `5 hours ago` or `now`. From 36 hours on in days, below in hours, below 90 minutes in
/// minutes, each rounded to the nearest.
pub fn format_distance(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ahead = at - now;
    let (count, unit) = round_span(ahead.abs());
    format_count(count, unit, ahead)
}

fn format_count(count: i64, unit: &str, ahead: TimeDelta) -> String {
    let plural = if count == 1 { "" } else { "s" };
    match (count, ahead > TimeDelta::zero()) {
        (0, _) => "now".to_owned(),
        (_, true) => format!("in {count} {unit}{plural}"),
        (_, false) => format!("{count} {unit}{plural} ago"),
    }
}

fn round_span(span: TimeDelta) -> (i64, &'static str) {
    let seconds = span.num_seconds();
    if span >= TimeDelta::hours(36) {
        (nearest(seconds, 86_400), "day")
    } else if span >= TimeDelta::minutes(90) {
        (nearest(seconds, 3_600), "hour")
    } else {
        (nearest(seconds, 60), "minute")
    }
}

fn nearest(seconds: i64, unit: i64) -> i64 {
    (seconds + unit / 2) / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_instant_is_shown_with_its_distance() {
        let now = at("2026-11-21T09:00:00Z");
        for (text, shown) in [
            ("2026-11-28T09:00:00Z", "2026-11-28 09:00Z (in 7 days)"),
            ("2026-11-27T22:00:00Z", "2026-11-27 22:00Z (in 7 days)"),
            ("2026-11-22T21:00:00Z", "2026-11-22 21:00Z (in 2 days)"),
            ("2026-11-22T20:59:00Z", "2026-11-22 20:59Z (in 36 hours)"),
            ("2026-11-21T10:30:00Z", "2026-11-21 10:30Z (in 2 hours)"),
            ("2026-11-21T10:29:00Z", "2026-11-21 10:29Z (in 89 minutes)"),
            ("2026-11-21T09:01:00Z", "2026-11-21 09:01Z (in 1 minute)"),
            ("2026-11-21T09:00:00Z", "2026-11-21 09:00Z (now)"),
            ("2026-11-21T08:59:00Z", "2026-11-21 08:59Z (1 minute ago)"),
            ("2024-11-21T09:00:00Z", "2024-11-21 09:00Z (730 days ago)"),
        ] {
            assert_eq!(format_when(at(text), now, Tz::UTC), shown);
        }
    }

    #[test]
    fn a_plain_date_is_the_same_in_every_zone() {
        let now = at("2026-11-28T09:00:00Z");
        for (text, day, shown) in [
            (
                "2026-12-05T00:00:00Z",
                "2026-12-05",
                "2026-12-05 (in 7 days)",
            ),
            (
                "2026-12-04T11:00:00Z",
                "2026-12-05",
                "2026-12-05 (in 6 days)",
            ),
            (
                "2026-11-29T00:00:00Z",
                "2026-11-29",
                "2026-11-29 (in 1 day)",
            ),
            ("2026-11-28T00:00:00Z", "2026-11-28", "2026-11-28"),
            (
                "2026-11-27T00:00:00Z",
                "2026-11-27",
                "2026-11-27 (1 day ago)",
            ),
        ] {
            let when = When {
                at: at(text),
                day: Some(day.parse().unwrap()),
            };
            for zone in [Tz::America__Los_Angeles, Tz::UTC, Tz::Pacific__Auckland] {
                assert_eq!(format_expiry(when, now, zone), shown);
            }
        }
        let instant = at("2026-11-29T09:00:00Z").into();
        assert_eq!(
            format_expiry(instant, now, Tz::UTC),
            "2026-11-29 09:00Z (in 24 hours)"
        );
    }

    #[test]
    fn an_instant_is_shown_in_a_zone_and_in_utc() {
        let now = at("2026-11-21T09:00:00Z");
        for (text, shown) in [
            ("2026-11-28T09:00:00Z", "2026-11-28 10:00 CET (09:00Z)"),
            (
                "2026-11-28T23:30:00Z",
                "2026-11-29 00:30 CET (2026-11-28 23:30Z)",
            ),
            ("2026-07-01T09:00:00Z", "2026-07-01 11:00 CEST (09:00Z)"),
        ] {
            assert_eq!(format_instant(at(text), Tz::Europe__Berlin), shown);
        }
        let shown = format_when(at("2026-11-28T09:00:00Z"), now, Tz::Europe__Berlin);
        assert_eq!(shown, "2026-11-28 10:00 CET (09:00Z, in 7 days)");
    }

    #[test]
    fn json_has_rfc_3339_in_utc() {
        for (text, json) in [
            ("2026-11-28T10:00:00+01:00", "\"2026-11-28T09:00:00Z\""),
            ("2026-11-28T09:00:00.5Z", "\"2026-11-28T09:00:00.500000Z\""),
            (
                "2026-11-28T09:00:00.000001Z",
                "\"2026-11-28T09:00:00.000001Z\"",
            ),
        ] {
            assert_eq!(rfc3339(at(text)).to_string(), json);
        }
    }

    #[test]
    fn extreme_instants_do_not_overflow() {
        let far = DateTime::<Utc>::MAX_UTC;
        for zone in [Tz::UTC, Tz::Europe__Berlin] {
            assert!(format_when(far, DateTime::<Utc>::MIN_UTC, zone).contains("in "));
        }
    }
}
