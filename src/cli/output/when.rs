//! Formats instants for people and for programs.

use chrono::{DateTime, SecondsFormat, TimeDelta, Timelike, Utc};
use serde_json::Value;

/// RFC 3339 in UTC with `Z`, with a fraction only if there is one.
pub fn rfc3339(at: impl Into<Option<DateTime<Utc>>>) -> Value {
    let precision = |at: DateTime<Utc>| match at.nanosecond() {
        0 => SecondsFormat::Secs,
        _ => SecondsFormat::Micros,
    };
    let at = at.into();
    at.map(|at| at.to_rfc3339_opts(precision(at), true)).into()
}

/// `2026-11-28 09:00Z (in 7 days)`.
pub fn format_when(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ({})", format_instant(at), format_distance(at, now))
}

/// `2026-11-28 09:00Z`.
pub fn format_instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%MZ").to_string()
}

/// `in 7 days`, `5 hours ago` or `now`. From 36 hours on in days, below in hours, below 90 minutes in
/// minutes, each rounded to the nearest.
pub fn format_distance(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ahead = at - now;
    let (count, unit) = round_span(ahead.abs());
    let plural = if count == 1 { "" } else { "s" };
    match (count, ahead > TimeDelta::zero()) {
        (0, _) => "now".to_owned(),
        (_, true) => format!("in {count} {unit}{plural}"),
        (_, false) => format!("{count} {unit}{plural} ago"),
    }
}

fn round_span(span: TimeDelta) -> (i64, &'static str) {
    let seconds = span.num_seconds();
    let nearest = |unit: i64| (seconds + unit / 2) / unit;
    if span >= TimeDelta::hours(36) {
        (nearest(86_400), "day")
    } else if span >= TimeDelta::minutes(90) {
        (nearest(3_600), "hour")
    } else {
        (nearest(60), "minute")
    }
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
            assert_eq!(format_when(at(text), now), shown);
        }
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
        assert!(format_when(far, DateTime::<Utc>::MIN_UTC).contains("in "));
    }
}
