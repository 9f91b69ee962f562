use rstest::rstest;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[rstest]
#[case::rfc_3339("2026-11-20T08:01:44Z")]
#[case::six_digits("2026-11-20T08:01:44.000000Z")]
#[case::seven_digits_of_dotnet("2026-11-20T08:01:44.0000000Z")]
#[case::lower_case("2026-11-20t08:01:44z")]
#[case::offset("2026-11-20T10:01:44+02:00")]
#[case::java("2026-11-20T08:01:44.000+0000")]
#[case::postgresql("2026-11-20 08:01:44+00")]
#[case::postgresql_fraction("2026-11-20 08:01:44.000000+00")]
#[case::short_offset("2026-11-20T08:01:44+00")]
#[case::sql_server("2026-11-20 08:01:44.0000000 +00:00")]
#[case::github("2026-11-20 08:01:44 UTC")]
#[case::github_offset("2026-11-20 01:01:44 -0700")]
#[case::go("2026-11-20 08:01:44 +0000 UTC")]
#[case::go_monotonic("2026-11-20 13:31:44 +0530 IST m=+0.000012")]
#[case::go_without_name("2026-11-20 03:01:44.0000001 -0500 -05")]
#[case::java_zone("2026-11-20T09:01:44+01:00[Europe/Berlin]")]
#[case::java_utc("2026-11-20T08:01:44Z[UTC]")]
#[case::iana_zone("2026-11-20T09:01:44 Europe/Berlin")]
#[case::basic("20261120T080144Z")]
#[case::generalized("20261120080144Z")]
#[case::generalized_fraction("20261120080144.0Z")]
#[case::generalized_offset("20261120090144+0100")]
#[case::slashes("2026/11/20 08:01:44 UTC")]
#[case::comma("2026-11-20, 8:01:44 AM UTC")]
#[case::java_fixed_zone("2026-11-20T03:01:44-05:00[Etc/GMT+5]")]
#[case::offset_and_zone("2026-11-20 09:01:44 +0100 Europe/Berlin")]
#[case::offset_and_name("20 Nov 2026 09:01:44 +0100 CET")]
#[case::rfc_1123("Fri, 20 Nov 2026 08:01:44 GMT")]
#[case::rfc_5322("20 Nov 2026 09:01:44 +0100")]
#[case::rfc_850("Friday, 20-Nov-26 08:01:44 GMT")]
#[case::date_command("Fri Nov 20 08:01:44 UTC 2026")]
#[case::javascript("Fri Nov 20 2026 08:01:44 GMT+0000 (Coordinated Universal Time)")]
#[case::openssl("Nov 20 08:01:44 2026 GMT")]
#[case::american("November 20th, 2026 8:01:44 AM UTC")]
#[case::narrow_space("2026-11-20 8:01:44\u{202f}AM UTC")]
#[case::one_reading("20.11.2026 08:01:44 UTC")]
#[case::seconds("1795161704")]
#[case::seconds_of_python("1795161704.0")]
#[case::milliseconds("1795161704000")]
#[case::microseconds("1795161704000000")]
#[case::nanoseconds("1795161704000000000")]
fn what_has_one_meaning_is_read(#[case] text: &str) {
    let moment = DateRules::default().parse(text).unwrap();
    assert_eq!(moment.at, at("2026-11-20T08:01:44Z"), "{text}");
    assert_eq!(moment.day, None);
}

#[rstest]
#[case("2026-12-06T10:00Z", "2026-12-06T10:00:00Z")]
#[case("2026-12-06T10Z", "2026-12-06T10:00:00Z")]
#[case("2026-12-06T24:00:00Z", "2026-12-07T00:00:00Z")]
#[case("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z")]
#[case("2026-12-06T10:00:00.1234567Z", "2026-12-06T10:00:00.123456Z")]
#[case("2026-12-06T10:00:00,5Z", "2026-12-06T10:00:00.5Z")]
#[case("12/6/2026 12:00 AM UTC", "")]
#[case("12/31/2026 12:00 AM UTC", "2026-12-31T00:00:00Z")]
#[case("12/31/2026 12:30 PM UTC", "2026-12-31T12:30:00Z")]
#[case("12/31/2026 13:30 PM UTC", "")]
fn times_have_all_their_forms(#[case] text: &str, #[case] expected: &str) {
    let read = parse_instant(text).ok();
    assert_eq!(
        read,
        Some(expected).filter(|text| !text.is_empty()).map(at),
        "{text}"
    );
}

#[rstest]
#[case("2026-12-06")]
#[case("2026-12-6")]
#[case("2026/12/06")]
#[case("2026.12.06")]
#[case("20261206")]
#[case("2026-12-06Z")]
#[case("06 Dec 2026")]
#[case("6-DEC-2026")]
#[case("6. December 2026")]
#[case("Sunday, December 6, 2026")]
fn a_plain_date_keeps_its_day(#[case] text: &str) {
    let day = NaiveDate::from_ymd_opt(2026, 12, 6);
    let moment = DateRules::default().parse(text).unwrap();
    assert_eq!(
        (moment.at, moment.day),
        (at("2026-12-06T00:00:00Z"), day),
        "{text}"
    );
    let rules = DateRules {
        timezone: Some(Tz::America__Los_Angeles),
        is_day_end: true,
        format: None,
    };
    let moment = rules.parse(text).unwrap();
    let end = if text.ends_with('Z') {
        "2026-12-06T23:59:59Z"
    } else {
        "2026-12-07T07:59:59Z"
    };
    assert_eq!((moment.at, moment.day), (at(end), day), "{text}");
}

#[rstest]
#[case("", NoInstant::Format)]
#[case("soon", NoInstant::Format)]
#[case("never", NoInstant::Format)]
#[case("2026-02-30", NoInstant::Format)]
#[case("2026-12-06T", NoInstant::Format)]
#[case("2026-12-06T25:00Z", NoInstant::Format)]
#[case("2026-12-06 10:61:00 UTC", NoInstant::Format)]
#[case("2026-12-06T10:00:00+99:00", NoInstant::Format)]
#[case("2026-12-06 10:00 UTC +1", NoInstant::Format)]
#[case("2026-12-06 10:00 UTC revoked", NoInstant::Format)]
#[case("2026-12-06 10:00 +0100 by Ada", NoInstant::Format)]
#[case("2026-12-06 10:00 +0100 +05", NoInstant::Format)]
#[case("6 Dec 2026 10:00 UTC revoked", NoInstant::Format)]
#[case("6 Dec 2026 10:00 +0100 revoked", NoInstant::Format)]
#[case("20261206-1030", NoInstant::Format)]
#[case("2026-12-06-10", NoInstant::Format)]
#[case("Mon, 06 Dec 2026 10:00:00 GMT", NoInstant::Format)]
#[case::day_of_a_spreadsheet("46363", NoInstant::Format)]
#[case::rounded("1.79643E+09", NoInstant::Format)]
#[case("99999999999999999999", NoInstant::Format)]
#[case::milliseconds_in_digits("20261206100000123", NoInstant::Format)]
#[case::filetime("134411040000000000", NoInstant::Format)]
#[case::webkit("13441104000000000", NoInstant::Format)]
#[case::id("12345678901", NoInstant::Format)]
#[case::before_2000("157766400000", NoInstant::Format)]
#[case::hour("2026120610", NoInstant::TwoReadings)]
#[case::tenths("2026120610305", NoInstant::TwoReadings)]
#[case::hundredths("2026120610300012", NoInstant::TwoReadings)]
#[case("12/01/2026", NoInstant::TwoReadings)]
#[case("04.12.2026 19:59:04", NoInstant::TwoReadings)]
#[case("12/4/2026 7:59:04 PM", NoInstant::TwoReadings)]
#[case("06-12-26", NoInstant::TwoReadings)]
#[case("06-Dec-26", NoInstant::TwoReadings)]
#[case("2026-12-06T10:00:00", NoInstant::WithoutZone)]
#[case("Sun Dec  6 10:00:00 2026", NoInstant::WithoutZone)]
#[case("20261206100000", NoInstant::WithoutZone)]
#[case("2026-12-06 10:00:00 CST", NoInstant::UnknownZone)]
#[case("2026-12-06 10:00:00 Europe/Nowhere", NoInstant::UnknownZone)]
#[case("0", NoInstant::TooEarly)]
#[case("-1", NoInstant::TooEarly)]
#[case("0001-01-01T00:00:00Z", NoInstant::TooEarly)]
#[case("0001-01-01 00:00:00 +0000 UTC", NoInstant::TooEarly)]
#[case("1969-12-31", NoInstant::TooEarly)]
#[case("9999-12-31T23:59:59-01:00", NoInstant::TooLate)]
#[case("253402318799", NoInstant::TooLate)]
fn what_has_no_or_two_meanings_is_refused(#[case] text: &str, #[case] error: NoInstant) {
    assert_eq!(parse_instant(text), Err(error), "{text}");
}

#[rstest]
#[case("2026-03-29T02:30:00", "2026-03-29T01:30:00Z")]
#[case("2026-10-25T02:30:00", "2026-10-25T00:30:00Z")]
#[case("20261206100000", "2026-12-06T09:00:00Z")]
#[case("Sun Dec  6 10:00:00 2026", "2026-12-06T09:00:00Z")]
#[case("2026-12-06T10:00:00-07:00", "2026-12-06T17:00:00Z")]
fn a_configured_zone_is_that_of_dates_without_one(#[case] text: &str, #[case] expected: &str) {
    let rules = DateRules {
        timezone: Some(Tz::Europe__Berlin),
        ..DateRules::default()
    };
    assert_eq!(rules.parse(text).map(|moment| moment.at), Ok(at(expected)));
}

#[rstest]
#[case("%d.%m.%Y %H:%M:%S", "04.12.2026 19:59:04", "2026-12-04T19:59:04Z")]
#[case("%m/%d/%Y %I:%M:%S %p", "12/4/2026 7:59:04 PM", "2026-12-04T19:59:04Z")]
#[case("%d/%m/%Y", "12/01/2026", "2026-01-12T00:00:00Z")]
#[case("%m/%d/%Y", "2026-12-04T19:59:04+01:00", "2026-12-04T18:59:04Z")]
#[case("%d/%m/%y %H:%M %z", "04/12/26 19:59 +0100", "2026-12-04T18:59:00Z")]
fn a_format_decides_between_two_readings(
    #[case] format: &str,
    #[case] text: &str,
    #[case] expected: &str,
) {
    assert!(is_date_format(format));
    let rules = DateRules {
        format: Some(format.to_owned()),
        ..DateRules::utc()
    };
    assert_eq!(rules.parse(text).map(|moment| moment.at), Ok(at(expected)));
}

#[rstest]
#[case("+262142-12-31")]
#[case("-262143-01-01")]
fn a_year_beyond_the_calendar_is_no_date(#[case] text: &str) {
    let rules = DateRules {
        format: Some("%Y-%m-%d".to_owned()),
        timezone: Some(Tz::America__Los_Angeles),
        ..DateRules::default()
    };
    assert!(rules.parse(text).is_err());
}

#[rstest]
#[case("%Q")]
#[case("%H:%M")]
#[case("%m/%Y")]
#[case::hour_alone("%d.%m.%Y %H")]
#[case::half_a_day("%d.%m.%Y %I:%M")]
#[case::no_hour("%d.%m.%Y %M:%S")]
#[case("dd.mm.yyyy")]
#[case("")]
fn a_format_without_a_date_or_with_half_a_time_is_refused(#[case] format: &str) {
    assert!(!is_date_format(format));
}

#[test]
fn the_unit_of_a_number_follows_from_its_size() {
    let unit = |text| DateRules::default().parse(text).unwrap().unit;
    assert_eq!(unit("1795161704"), Some("seconds"));
    assert_eq!(unit("1795161704000"), Some("milliseconds"));
    assert_eq!(unit("1796428800"), Some("seconds"));
    assert_eq!(unit("2026999999"), Some("seconds"));
    assert_eq!(unit("2026-12-06"), None);
    assert_eq!(
        parse_instant("253402300799").unwrap().to_rfc3339(),
        "9999-12-31T23:59:59+00:00"
    );
    assert_eq!(
        parse_instant("946684800000").unwrap().to_rfc3339(),
        "2000-01-01T00:00:00+00:00"
    );
    assert_eq!(
        parse_instant(&i64::MAX.to_string()).unwrap().to_rfc3339()[..4],
        *"2262"
    );
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
}
