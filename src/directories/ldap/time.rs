//! Parses times as directories write them.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

/// `accountExpires` of an account that does not expire (MS-ADA1 §2.1), besides 0.
const NEVER: i64 = i64::MAX;

/// When an account ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Never,
    At(DateTime<Utc>),
}

/// `accountExpires`: steps of 100 ns since 1601, and two values for never.
pub fn parse_filetime(text: &str) -> Option<End> {
    /// Seconds from 1601 to 1970.
    const EPOCH_SECONDS: i64 = 11_644_473_600;
    const STEPS: i64 = 10_000_000;
    let steps: i64 = text.parse().ok().filter(|steps| *steps >= 0)?;
    if matches!(steps, 0 | NEVER) {
        return Some(End::Never);
    }
    let seconds = steps / STEPS - EPOCH_SECONDS;
    // A time beyond the calendar is never.
    let at = DateTime::from_timestamp(seconds, 0);
    Some(at.map_or(End::Never, End::At))
}

/// Days since 1970 (shadow(5)); 0 and less mean never.
pub fn parse_shadow(text: &str) -> Option<End> {
    let days: i64 = text.parse().ok()?;
    let Ok(days @ 1..) = u64::try_from(days) else {
        return Some(End::Never);
    };
    let day = NaiveDate::default().checked_add_days(Days::new(days));
    let at = day.map(|day| day.and_time(NaiveTime::MIN).and_utc());
    Some(at.map_or(End::Never, End::At))
}

/// `GeneralizedTime` (RFC 4517 §3.3.13): `20261121213224Z`, `202611212132+0100`, `20261121213224.123Z`.
pub fn parse_generalized(text: &str) -> Option<DateTime<Utc>> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (whole, rest) = text.split_at(digits);
    if !matches!(whole.len(), 10 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize| -> Option<u32> {
        match whole.get(from..to) {
            Some(digits) => digits.parse().ok(),
            None => Some(0),
        }
    };
    let year = whole.get(..4)?.parse().ok()?;
    let day = NaiveDate::from_ymd_opt(year, part(4, 6)?, part(6, 8)?)?;
    // chrono has no leap second (60): use the one before it.
    let at = day.and_hms_opt(part(8, 10)?, part(10, 12)?, part(12, 14)?.min(59))?;
    // Fractions do not matter here.
    let zone = rest.trim_start_matches(|c: char| matches!(c, '.' | ',') || c.is_ascii_digit());
    Some((at - offset(zone)?).and_utc())
}

/// `Z`, `+01` or `-0130`.
fn offset(zone: &str) -> Option<TimeDelta> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("Z", "") => return Some(TimeDelta::zero()),
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let minutes: i64 = digits.get(2..4).unwrap_or("0").parse().ok()?;
    Some(TimeDelta::minutes(sign * (hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn active_directory_counts_from_1601() {
        let expired = End::At(at("2026-11-20T21:33:29Z"));
        assert_eq!(parse_filetime("134396840090000000"), Some(expired));
        assert_eq!(parse_filetime("0"), Some(End::Never));
        assert_eq!(parse_filetime("9223372036854775807"), Some(End::Never));
        assert_eq!(
            parse_filetime("9223372036854775806"),
            Some(End::At(at("+30828-09-14T02:48:05Z")))
        );
        assert_eq!(parse_filetime("-1"), None);
        assert_eq!(parse_filetime("soon"), None);
    }

    #[test]
    fn shadow_counts_days() {
        assert_eq!(
            parse_shadow("20000"),
            Some(End::At(at("2024-10-04T00:00:00Z")))
        );
        assert_eq!(parse_shadow("-1"), Some(End::Never));
        assert_eq!(parse_shadow("0"), Some(End::Never));
        assert_eq!(parse_shadow("9223372036854775807"), Some(End::Never));
        assert_eq!(parse_shadow("x"), None);
    }

    #[test]
    fn generalized_times_may_have_a_zone_and_lack_parts() {
        for (text, is) in [
            ("20261121213224Z", "2026-11-21T21:32:24Z"),
            ("20261121213224.123456Z", "2026-11-21T21:32:24Z"),
            ("202611212132Z", "2026-11-21T21:32:00Z"),
            ("2026112121Z", "2026-11-21T21:00:00Z"),
            ("20261121213224+0130", "2026-11-21T20:02:24Z"),
            ("20261121213224-02", "2026-11-21T23:32:24Z"),
            ("20261121235960Z", "2026-11-21T23:59:59Z"),
            ("20261121213224.5+0100", "2026-11-21T20:32:24Z"),
        ] {
            assert_eq!(parse_generalized(text), Some(at(is)), "{text}");
        }
        for text in [
            "",
            "Z",
            "20261121213224",
            "20261321213224Z",
            "2026112121322Z",
            "20261121213224+1",
            "20261121213224ZZ",
            "20261121213224+é1",
            "tomorrow",
        ] {
            assert_eq!(parse_generalized(text), None, "{text}");
        }
    }
}
