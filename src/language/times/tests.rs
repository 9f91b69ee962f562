use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rstest::rstest;

use super::*;
use crate::language::Languages;

fn language(tag: &str) -> Language {
    Languages::load(None).unwrap().get(tag).unwrap()
}

fn english() -> Language {
    language("en")
}

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

#[rstest]
#[case(24 * HOUR, "24 hours")]
#[case(24 * HOUR - 1, "24 hours")]
#[case(24 * HOUR + 1, "25 hours")]
#[case(4 * DAY + 11 * HOUR, "5 days")]
#[case(7 * DAY, "7 days")]
#[case(HOUR, "1 hour")]
#[case(61, "2 minutes")]
#[case(5, "a minute")]
fn a_limit_holds_for_the_last_item(#[case] seconds: i64, #[case] expected: &str) {
    let now = DateTime::UNIX_EPOCH;
    let end = When::from(now + TimeDelta::seconds(seconds));
    assert_eq!(english().within(end, now), format!("within {expected}"));
}

#[rstest]
#[case(7 * DAY, "7 days")]
#[case(7 * DAY - 40, "7 days")]
#[case(6 * DAY + 12 * HOUR, "7 days")]
#[case(6 * DAY + 11 * HOUR, "6 days")]
#[case(60 * HOUR, "3 days")]
#[case(36 * HOUR, "2 days")]
#[case(36 * HOUR - 1, "36 hours")]
#[case(DAY, "24 hours")]
#[case(DAY - 59, "24 hours")]
#[case(90 * MINUTE, "2 hours")]
#[case(HOUR, "1 hour")]
#[case(HOUR - 30, "1 hour")]
#[case(HOUR - 31, "59 minutes")]
#[case(MINUTE, "1 minute")]
#[case(59, "less than a minute")]
#[case(0, "less than a minute")]
#[case(-5, "less than a minute")]
#[case(1_204 * DAY, "1,204 days")]
fn time_left_is_in_one_unit(#[case] seconds: i64, #[case] expected: &str) {
    let span = TimeDelta::seconds(seconds);
    assert_eq!(english().time_left(span), expected);
    assert_eq!(english().time_in(span), format!("in {expected}"));
}

#[rstest]
#[case(-100, "just now")]
#[case(59, "just now")]
#[case(4 * MINUTE, "4 minutes ago")]
#[case(HOUR - 1, "1 hour ago")]
#[case(35 * HOUR, "35 hours ago")]
#[case(3 * DAY, "3 days ago")]
#[case(15 * DAY, "2 weeks ago")]
#[case(150 * DAY, "5 months ago")]
#[case(900 * DAY, "2 years ago")]
fn past_time_is_in_one_unit(#[case] seconds: i64, #[case] expected: &str) {
    assert_eq!(english().ago(TimeDelta::seconds(seconds)), expected);
}

#[rstest]
#[case("2026-11-28T09:00:00Z", Tz::UTC, "Sat 28 Nov 2026 at 09:00 UTC")]
#[case(
    "2026-11-28T09:00:00Z",
    Tz::Europe__Berlin,
    "Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)"
)]
#[case(
    "2026-07-28T09:00:30Z",
    Tz::Europe__Berlin,
    "Tue 28 Jul 2026 at 11:00:30 CEST (09:00:30 UTC)"
)]
#[case(
    "2026-11-28T23:30:00Z",
    Tz::Asia__Tokyo,
    "Sun 29 Nov 2026 at 08:30 JST (Sat 28 Nov 2026 at 23:30 UTC)"
)]
#[case(
    "2026-11-28T09:00:00Z",
    Tz::Europe__London,
    "Sat 28 Nov 2026 at 09:00 UTC"
)]
fn a_time_names_its_zone(#[case] at: DateTime<Utc>, #[case] zone: Tz, #[case] expected: &str) {
    assert_eq!(english().date_time(at, zone), expected);
}

#[rstest]
#[case(7 * DAY, "7 days", "7 days", "7 days ago")]
#[case(36 * HOUR, "2 days", "2 days", "2 days ago")]
#[case(30 * HOUR, "1 day", "2 days", "1 day ago")]
#[case(24 * HOUR, "1 day", "1 day", "1 day ago")]
#[case(3 * HOUR, "less than a day", "1 day", "less than a day ago")]
#[case(0, "less than a day", "1 day", "less than a day ago")]
fn a_plain_date_is_the_same_day_in_every_zone_and_has_no_clock(
    #[case] seconds: i64,
    #[case] left: &str,
    #[case] at_most: &str,
    #[case] since: &str,
) {
    let at: DateTime<Utc> = "2026-12-05T00:00:00Z".parse().unwrap();
    let day = Some(at.date_naive());
    let when = When { at, day };
    for zone in [Tz::America__Los_Angeles, Tz::UTC, Tz::Pacific__Auckland] {
        assert_eq!(english().date_time(when, zone), "Sat 5 Dec 2026");
        assert_eq!(english().day(when, zone), "Sat 5 Dec 2026");
        assert_eq!(
            english().short_day(when, at - TimeDelta::days(9), zone),
            "Sat 5 Dec"
        );
    }
    let span = TimeDelta::seconds(seconds);
    assert_eq!(english().left_until(when, at - span), left);
    assert_eq!(
        english().within(when, at - span),
        format!("within {at_most}")
    );
    assert_eq!(english().ago_since(when, at + span), since);
}

#[test]
fn german_has_its_own_days_cases_and_order() {
    let german = language("de");
    let at: DateTime<Utc> = "2026-11-28T23:30:00Z".parse().unwrap();
    assert_eq!(
        german.date_time(at, Tz::Europe__Berlin),
        "So., 29. Nov. 2026 um 00:30 Uhr CET (Sa., 28. Nov. 2026 um 23:30 Uhr UTC)"
    );
    let days = TimeDelta::days(7);
    assert_eq!(german.time_left(days), "7 Tage");
    assert_eq!(german.time_in(days), "in 7 Tagen");
    assert_eq!(
        german.deadline((at + days).into(), at),
        "innerhalb von 7 Tagen"
    );
    assert_eq!(german.ago(days), "vor 7 Tagen");
    assert_eq!(german.time_left(TimeDelta::days(1_204)), "1.204 Tage");
}
