//! Wall-clock schedules: a five-field cron expression in a zone.
//!
//! croner finds the matching local times. On days when the clock is set forward or back, the instants are
//! computed here, because croner's own search does not distinguish two equal local times and can return an
//! instant before its start.

use std::fmt;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// A five-field cron expression (minute, hour, day of month, month, day of week) in a zone.
///
/// A named hour follows the wall clock: if the clock skips it, the tick is at the end of the gap; if the clock
/// repeats it, the tick is at the first occurrence. With `*` or `*/n` as hour the ticks are evenly spaced: a
/// skipped hour has none, a repeated one has them twice.
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: String,
    cron: Cron,
    zone: Tz,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{expression:?} is not a schedule: {reason}; write five fields, minute hour day month weekday, \
     such as \"*/15 * * * *\" or \"0 9 * * 1-5\""
)]
pub struct InvalidSchedule {
    expression: String,
    reason: String,
}

/// No zone shifts its clock by more than this, except when it crosses the date line.
const MAX_CLOCK_SHIFT: TimeDelta = TimeDelta::hours(3);

impl Schedule {
    /// Parses five fields. Names (`MON`, `JAN`), ranges, lists, steps, `L`, `W` and `#` are supported.
    ///
    /// # Errors
    /// If there are not five fields, one is invalid, or no day ever matches.
    pub fn new(expression: &str, zone: Tz) -> Result<Self, InvalidSchedule> {
        let invalid = |reason: String| InvalidSchedule {
            expression: expression.chars().take(80).collect(),
            reason,
        };
        let expression = expression.trim();
        check_shape(expression).map_err(invalid)?;
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(expression)
            .map_err(|error| invalid(error.to_string().trim_end_matches('.').to_lowercase()))?;
        let schedule = Self {
            expression: expression.split_whitespace().collect::<Vec<_>>().join(" "),
            cron,
            zone,
        };
        match schedule.next_after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(invalid("it matches no day".into())),
        }
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first tick strictly after `at`; `None` only beyond the year 5000.
    pub fn next_after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let at = at.with_nanosecond(0)?;
        let mut local = self.search_start(at);
        let mut best: Option<DateTime<Utc>> = None;
        loop {
            local = self.next_match(local)?;
            let instants = self.instants(local);
            let later = instants.iter().copied().filter(|instant| *instant > at);
            best = best.into_iter().chain(later).min();
            // The first instants of successive local times never decrease, so no later one can be before the best.
            if best.is_some_and(|best| instants.first().is_some_and(|first| *first >= best)) {
                return best;
            }
        }
    }

    /// Whether there is a tick in (`last`, `now`].
    pub fn missed_since(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.next_after(last).is_some_and(|tick| tick <= now)
    }

    /// The local time from which to search. Near a change of the clock, it is early enough to find local times
    /// that occur twice.
    fn search_start(&self, at: DateTime<Utc>) -> NaiveDateTime {
        let local = at.with_timezone(&self.zone).naive_local();
        let offset =
            |at: DateTime<Utc>| at.with_timezone(&self.zone).naive_local() - at.naive_utc();
        let has_change = [
            at.checked_sub_signed(MAX_CLOCK_SHIFT),
            at.checked_add_signed(MAX_CLOCK_SHIFT),
        ]
        .into_iter()
        .flatten()
        .any(|near| offset(near) != offset(at));
        match local.checked_sub_signed(MAX_CLOCK_SHIFT) {
            Some(earlier) if has_change => earlier,
            _ => local,
        }
    }

    /// The next local time that matches, without regard to clock changes.
    fn next_match(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron
            .find_next_occurrence(&after.and_utc(), false)
            .ok()
            .map(|tick| tick.naive_utc())
    }

    /// The instants of the ticks at a local time, in order.
    fn instants(&self, local: NaiveDateTime) -> Vec<DateTime<Utc>> {
        match self.zone.from_local_datetime(&local) {
            LocalResult::Ambiguous(first, second) if self.is_evenly_spaced() => {
                vec![first.to_utc(), second.to_utc()]
            }
            LocalResult::None if self.is_evenly_spaced() => vec![],
            _ => first_instant(local, self.zone).into_iter().collect(),
        }
    }

    /// Whether the ticks are evenly spaced, because no hour is named.
    fn is_evenly_spaced(&self) -> bool {
        let hour = self.expression.split(' ').nth(1);
        hour.is_some_and(|hour| hour.contains('*'))
    }
}

/// The first instant at which clocks in `zone` show `local`. If they skip it, the first instant after the gap, to
/// the minute; no zone has ever skipped more than a day.
pub(super) fn first_instant(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    (0..=24 * 60)
        .filter_map(|minutes| local.checked_add_signed(TimeDelta::minutes(minutes)))
        .find_map(|local| zone.from_local_datetime(&local).earliest())
        .map(|at| at.to_utc())
}

/// Rejects what croner accepts beyond five plain fields: nicknames, and characters that it interprets in an
/// unexpected way.
fn check_shape(expression: &str) -> Result<(), String> {
    if expression.starts_with('@') {
        return Err("nicknames such as @daily are not supported".into());
    }
    match expression.split_whitespace().count() {
        5 => {}
        0 => return Err("it is empty".into()),
        6 | 7 => {
            return Err("it has more than five fields; seconds and years are not supported".into());
        }
        count => return Err(format!("it has {count} fields instead of five")),
    }
    let known = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "*/,-#?".contains(c);
    match expression.chars().find(|c| !known(*c)) {
        Some(odd) => Err(format!("{odd:?} is not allowed in it")),
        None => Ok(()),
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.expression)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.expression == other.expression && self.zone == other.zone
    }
}

impl Eq for Schedule {}

#[cfg(test)]
mod tests {
    use chrono_tz::America::New_York;
    use chrono_tz::Australia::Lord_Howe;
    use chrono_tz::Europe::Berlin;
    use chrono_tz::UTC;
    use proptest::prelude::*;

    use super::*;

    fn schedule(expression: &str, zone: Tz) -> Schedule {
        Schedule::new(expression, zone).unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// The ticks after `from`, in local time.
    fn ticks(expression: &str, zone: Tz, from: &str, count: usize) -> Vec<String> {
        let schedule = schedule(expression, zone);
        let mut at = utc(from);
        let mut ticks = vec![];
        for _ in 0..count {
            at = schedule.next_after(at).unwrap();
            ticks.push(at.with_timezone(&zone).format("%m-%d %H:%M %Z").to_string());
        }
        ticks
    }

    #[test]
    fn nine_o_clock_stays_nine_o_clock_over_both_changes() {
        let nine = ticks("0 9 * * *", Berlin, "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            nine,
            ["03-28 09:00 CET", "03-29 09:00 CEST", "03-30 09:00 CEST"]
        );
        let nine = ticks("0 9 * * *", Berlin, "2026-10-24T00:00:00Z", 3);
        assert_eq!(
            nine,
            ["10-24 09:00 CEST", "10-25 09:00 CET", "10-26 09:00 CET"]
        );
    }

    #[test]
    fn a_time_in_the_skipped_hour_ticks_once_at_its_end() {
        let half_past = ticks("30 2 * * *", Berlin, "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            half_past,
            ["03-28 02:30 CET", "03-29 03:00 CEST", "03-30 02:30 CEST"]
        );
        let four = ticks("*/15 2 * * *", Berlin, "2026-03-29T00:00:00Z", 2);
        assert_eq!(four, ["03-29 03:00 CEST", "03-30 02:00 CEST"]);
    }

    #[test]
    fn a_time_in_the_repeated_hour_ticks_once() {
        let half_past = ticks("30 2 * * *", Berlin, "2026-10-24T12:00:00Z", 2);
        assert_eq!(half_past, ["10-25 02:30 CEST", "10-26 02:30 CET"]);
        let two = ticks("0,30 2 * * *", Berlin, "2026-10-24T12:00:00Z", 3);
        assert_eq!(
            two,
            ["10-25 02:00 CEST", "10-25 02:30 CEST", "10-26 02:00 CET"]
        );
    }

    #[test]
    fn even_ticks_repeat_in_the_repeated_hour_and_skip_the_skipped_one() {
        let every = ticks("*/30 * * * *", Berlin, "2026-10-24T23:30:00Z", 6);
        assert_eq!(
            every,
            [
                "10-25 02:00 CEST",
                "10-25 02:30 CEST",
                "10-25 02:00 CET",
                "10-25 02:30 CET",
                "10-25 03:00 CET",
                "10-25 03:30 CET"
            ]
        );
        let every = ticks("*/30 * * * *", Berlin, "2026-03-29T00:00:00Z", 3);
        assert_eq!(
            every,
            ["03-29 01:30 CET", "03-29 03:00 CEST", "03-29 03:30 CEST"]
        );
    }

    #[test]
    fn a_clock_change_of_half_an_hour_is_respected() {
        // Lord Howe sets its clock by 30 minutes: 02:00 +11 becomes 01:30 +10:30.
        let every = ticks("*/15 * * * *", Lord_Howe, "2026-04-04T14:30:00Z", 4);
        assert_eq!(
            every,
            [
                "04-05 01:45 +11",
                "04-05 01:30 +1030",
                "04-05 01:45 +1030",
                "04-05 02:00 +1030"
            ]
        );
    }

    #[test]
    fn a_leap_day_ticks_only_in_leap_years() {
        let leap = schedule("0 0 29 2 *", UTC);
        assert_eq!(
            leap.next_after(utc("2025-01-01T00:00:00Z")),
            Some(utc("2028-02-29T00:00:00Z"))
        );
        assert_eq!(
            leap.next_after(utc("2096-03-01T00:00:00Z")),
            Some(utc("2104-02-29T00:00:00Z"))
        );
    }

    #[test]
    fn a_step_of_15_minutes_ticks_every_quarter() {
        let quarters = ticks("*/15 * * * *", UTC, "2026-06-01T10:07:00Z", 4);
        let shown = [
            "06-01 10:15 UTC",
            "06-01 10:30 UTC",
            "06-01 10:45 UTC",
            "06-01 11:00 UTC",
        ];
        assert_eq!(quarters, shown);
    }

    #[test]
    fn the_next_tick_is_strictly_later_even_within_its_second() {
        let minute = schedule("* * * * *", UTC);
        assert_eq!(
            minute.next_after(utc("2026-06-01T10:00:00Z")),
            Some(utc("2026-06-01T10:01:00Z"))
        );
        assert_eq!(
            minute.next_after(utc("2026-06-01T10:00:59.999Z")),
            Some(utc("2026-06-01T10:01:00Z"))
        );
        assert_eq!(
            minute.next_after(utc("2026-06-01T10:00:00.5Z")),
            Some(utc("2026-06-01T10:01:00Z"))
        );
    }

    #[test]
    fn a_tick_at_now_is_missed_and_one_at_last_is_not() {
        let nine = schedule("0 9 * * *", UTC);
        let at = |hour: u32| Utc.with_ymd_and_hms(2026, 6, 1, hour, 0, 0).unwrap();
        assert!(nine.missed_since(at(8), at(9)));
        assert!(!nine.missed_since(at(9), at(10)));
        assert!(!nine.missed_since(at(7), at(8)));
        assert!(nine.missed_since(at(10), at(10) + TimeDelta::days(3)));
        assert!(!nine.missed_since(at(10), at(8)), "the clock was set back");
    }

    #[test]
    fn an_invalid_expression_is_rejected_with_a_correct_example() {
        for (bad, reason) in [
            ("", "it is empty"),
            ("0 * * * * *", "more than five fields"),
            ("0 0 * * * * 2030", "more than five fields"),
            ("* * *", "it has 3 fields"),
            ("@daily", "nicknames"),
            ("every minute of the day", ""),
            ("61 * * * *", "out of bounds"),
            ("* 24 * * *", "out of bounds"),
            ("* * * 13 *", "out of bounds"),
            ("*/0 * * * *", ""),
            ("0 0 30 2 *", "it matches no day"),
            ("5-1 * * * *", ""),
            ("* * * * *\u{1b}", "is not allowed"),
            ("½ * * * *", "is not allowed"),
        ] {
            let error = Schedule::new(bad, UTC).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
            assert!(error.contains("write five fields"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_schedule_is_displayed_and_compared_with_single_spaces() {
        let one = schedule(" 0  9 * * mon-fri ", Berlin);
        assert_eq!(one.to_string(), "0 9 * * mon-fri");
        assert_eq!(one, schedule("0 9 * * mon-fri", Berlin));
        assert_ne!(one, schedule("0 9 * * mon-fri", UTC));
    }

    fn expression() -> impl Strategy<Value = String> {
        let field = |max: u32| {
            prop_oneof![
                Just("*".to_owned()),
                (1..max).prop_map(|step| format!("*/{step}")),
                (0..max).prop_map(|value| value.to_string()),
                (0..max / 2, max / 2..max).prop_map(|(from, to)| format!("{from}-{to}")),
                (0..max, 0..max).prop_map(|(one, two)| format!("{one},{two}")),
            ]
        };
        (field(60), field(24)).prop_map(|(minute, hour)| format!("{minute} {hour} * * *"))
    }

    /// Clock changes in these zones, forward and back.
    const CHANGES: &[&str] = &[
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn ticks_increase_and_none_is_skipped(
            expression in expression(),
            zone in prop_oneof![Just(Berlin), Just(New_York), Just(Lord_Howe), Just(UTC)],
            change in proptest::sample::select(CHANGES),
            around in -6 * 3600_i64..6 * 3600,
            wait in 0_i64..7200,
        ) {
            let schedule = schedule(&expression, zone);
            let from = utc(change) + TimeDelta::seconds(around);
            let first = schedule.next_after(from).unwrap();
            prop_assert!(first > from);
            // From any instant in between, the next tick is the same.
            let between = (from + TimeDelta::seconds(wait)).min(first - TimeDelta::seconds(1));
            prop_assert_eq!(schedule.next_after(between), Some(first));
            prop_assert!(schedule.next_after(first).unwrap() > first);
        }

        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,40}|[0-9*/,L#W?+ -]{5,30}|([0-9*/,L#W?A-Z-]{1,6} ){5}") {
            let _ = Schedule::new(&text, UTC);
        }
    }
}
