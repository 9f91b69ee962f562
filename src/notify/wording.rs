//! Formats times, numbers and lines for mails.

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use crate::domain::When;

/// Below this, time is shown in hours; that until a plain date in days, because its source reports no clock.
const DAYS_FROM: TimeDelta = TimeDelta::hours(36);

/// Characters in a line of the text part (RFC 5322 §2.1.1).
const MAX_WIDTH: usize = 78;

/// Time left: days from 36 hours on, hours from one hour on, else minutes; rounded to the nearest.
pub fn time_left(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match seconds {
        129_600.. => quantity(nearest(seconds, 86_400), "day"),
        3_570.. => quantity(nearest(seconds, 3_600), "hour"),
        60.. => quantity(nearest(seconds, 60), "minute"),
        _ => "less than a minute".to_owned(),
    }
}

/// [`time_left`] until an expiry.
pub fn left_until(when: When, now: DateTime<Utc>) -> String {
    match when.at - now {
        span if when.day.is_some() && span < DAYS_FROM => about_a_day(span),
        span => time_left(span),
    }
}

/// [`time_within`] until an expiry.
pub fn within(when: When, now: DateTime<Utc>) -> String {
    match when.at - now {
        span if when.day.is_some() && span < DAYS_FROM => {
            let days = if span > TimeDelta::days(1) { 2 } else { 1 };
            quantity(days, "day")
        }
        span => time_within(span),
    }
}

/// [`ago`] since an expiry.
pub fn ago_since(when: When, now: DateTime<Utc>) -> String {
    match now - when.at {
        span if when.day.is_some() && span < DAYS_FROM => format!("{} ago", about_a_day(span)),
        span => ago(span),
    }
}

fn about_a_day(span: TimeDelta) -> String {
    let is_less = span < TimeDelta::hours(12);
    if is_less { "less than a day" } else { "1 day" }.to_owned()
}

/// Time within which something ends, in the units of [`time_left`]; rounded up.
fn time_within(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    let up = |size: i64| (seconds + size - 1) / size;
    match seconds {
        129_600.. => quantity(up(86_400), "day"),
        3_541.. => quantity(up(3_600), "hour"),
        60.. => quantity(up(60), "minute"),
        _ => "a minute".to_owned(),
    }
}

/// `just now`, `4 minutes ago`, `5 months ago`.
pub fn ago(span: TimeDelta) -> String {
    const DAY: i64 = 86_400;
    let seconds = span.num_seconds();
    let (size, unit) = match seconds {
        ..60 => return "just now".to_owned(),
        60..3_570 => (60, "minute"),
        3_570..129_600 => (3_600, "hour"),
        // Weeks from 14 days, months from nine weeks, years from two years.
        129_600..1_209_600 => (DAY, "day"),
        1_209_600..5_443_200 => (7 * DAY, "week"),
        5_443_200..63_072_000 => (30 * DAY, "month"),
        _ => (365 * DAY, "year"),
    };
    format!("{} ago", quantity(nearest(seconds, size), unit))
}

/// The plain date, or the day in the recipient's zone.
pub fn date(when: impl Into<When>, zone: Tz) -> NaiveDate {
    let When { at, day } = when.into();
    day.unwrap_or_else(|| at.with_timezone(&zone).date_naive())
}

/// [`date`] as text: `Sat 28 Nov 2026`.
pub fn day(when: impl Into<When>, zone: Tz) -> String {
    date(when, zone).format("%a %-d %b %Y").to_string()
}

/// The day, without the year if it is the current one: `Sat 28 Nov`.
pub fn short_day(when: impl Into<When>, now: DateTime<Utc>, zone: Tz) -> String {
    let when = when.into();
    let date = date(when, zone);
    if date.year() == now.with_timezone(&zone).year() {
        date.format("%a %-d %b").to_string()
    } else {
        day(when, zone)
    }
}

/// The time in the recipient's zone and in UTC; only once if both are the same:
/// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`. A plain date has no time.
pub fn date_time(when: impl Into<When>, zone: Tz) -> String {
    let When { at, day: plain } = when.into();
    if plain.is_some() {
        return day(When { at, day: plain }, zone);
    }
    let local = at.with_timezone(&zone);
    let zone_name = if is_utc(at, zone) { "UTC" } else { "%Z" };
    let format = format!("%a %-d %b %Y at {} {zone_name}", clock_format(at));
    format!("{}{}", local.format(&format), utc_suffix(at, zone))
}

/// What follows a time in the recipient's zone: ` (09:00 UTC)`, with the day if it differs; empty if the
/// zone is UTC.
pub fn utc_suffix(at: DateTime<Utc>, zone: Tz) -> String {
    if is_utc(at, zone) {
        return String::new();
    }
    let same_day = at.with_timezone(&zone).date_naive() == at.date_naive();
    let day = if same_day { "" } else { "%a %-d %b %Y at " };
    at.format(&format!(" ({day}{} UTC)", clock_format(at)))
        .to_string()
}

fn is_utc(at: DateTime<Utc>, zone: Tz) -> bool {
    at.with_timezone(&zone).offset().fix().local_minus_utc() == 0
}

fn clock_format(at: DateTime<Utc>) -> &'static str {
    if at.second() == 0 {
        "%H:%M"
    } else {
        "%H:%M:%S"
    }
}

/// The time of day in the recipient's zone, without seconds: `10:00`.
pub fn clock(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%H:%M").to_string()
}

/// The recipient's offset at that time: `UTC`, `UTC+01:00`.
pub fn utc_offset(at: DateTime<Utc>, zone: Tz) -> String {
    if is_utc(at, zone) {
        return "UTC".to_owned();
    }
    format!("UTC{}", at.with_timezone(&zone).offset().fix())
}

/// A count with its noun, which takes an `s` in the plural: `1 token`, `1,204 tokens`.
pub fn quantity(count: impl TryInto<i64>, noun: &str) -> String {
    let count = count.try_into().unwrap_or(i64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(count))
}

/// Groups the digits with commas: `1,204`.
pub fn thousands(count: impl TryInto<i64>) -> String {
    let count: i64 = count.try_into().unwrap_or(i64::MAX);
    let digits = count.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if count < 0 {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn nearest(seconds: i64, size: i64) -> i64 {
    (seconds + size / 2) / size
}

/// Wraps the text part at [`MAX_WIDTH`] characters, so that a template can write a paragraph on one line.
///
/// Breaks long lines at spaces; a word longer than a line breaks anywhere, a link nowhere. Continuation
/// lines are indented to the text after a list mark (`- `, ` 1. `) or after a label that two spaces
/// separate from its value. Blank lines at both ends are removed, several in a row become one.
pub(super) fn wrap(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut after_blank = false;
    for line in text.lines() {
        let line = if line == "-- " { line } else { line.trim_end() };
        if line.is_empty() {
            after_blank = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut after_blank) {
            out.push('\n');
        }
        // A command that is copied must stay one line.
        let is_command = line.starts_with("    ") && line.trim_start().starts_with("lapsed ");
        if is_command || line.len() <= MAX_WIDTH || line.chars().count() <= MAX_WIDTH {
            out.push_str(line);
            out.push('\n');
        } else {
            wrap_line(line, &mut out);
        }
    }
    out
}

fn wrap_line(line: &str, out: &mut String) {
    let start = line.len() - line.trim_start().len();
    let indent = hanging_indent(line, start);
    let (head, rest) = line.split_at(indent.max(start));
    out.push_str(head);
    let mut column = head.chars().count();
    let margin = column;
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word;
        let mut length = word.chars().count();
        if column > margin && column + 1 + length > MAX_WIDTH {
            new_line(out, margin);
            column = margin;
        } else if column > margin {
            out.push(' ');
            column += 1;
        }
        while column + length > MAX_WIDTH && !word.contains("://") {
            let room = (MAX_WIDTH - column).max(1);
            let at = word.char_indices().nth(room);
            let (line, rest) = word.split_at(at.map_or(word.len(), |(at, _)| at));
            out.push_str(line);
            word = rest;
            length -= room;
            new_line(out, margin);
            column = margin;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

fn new_line(out: &mut String, margin: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', margin));
}

/// Where the text of a line begins, in octets; at most a third of the width.
fn hanging_indent(line: &str, start: usize) -> usize {
    let body = &line[start..];
    let mark = body.find(' ').filter(|&at| {
        let word = &body[..at];
        word == "-" || (word.ends_with('.') && word[..at - 1].bytes().all(|b| b.is_ascii_digit()))
    });
    let width = if let Some(at) = mark {
        at + 1
    } else if start > 0
        && let Some(at) = body.find("  ")
    {
        body.len() - body[at..].trim_start().len()
    } else {
        0
    };
    if line[..start + width].is_ascii() && start + width <= MAX_WIDTH / 3 {
        start + width
    } else {
        start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

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
        assert_eq!(time_within(TimeDelta::seconds(seconds)), expected);
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
        assert_eq!(time_left(TimeDelta::seconds(seconds)), expected);
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
        assert_eq!(ago(TimeDelta::seconds(seconds)), expected);
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
        assert_eq!(date_time(at, zone), expected);
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
            assert_eq!(date_time(when, zone), "Sat 5 Dec 2026");
            assert_eq!(super::day(when, zone), "Sat 5 Dec 2026");
            assert_eq!(short_day(when, at - TimeDelta::days(9), zone), "Sat 5 Dec");
        }
        let span = TimeDelta::seconds(seconds);
        assert_eq!(left_until(when, at - span), left);
        assert_eq!(within(when, at - span), at_most);
        assert_eq!(ago_since(when, at + span), since);
    }

    #[test]
    fn digits_are_grouped_in_threes() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1_204, "1,204"),
            (-1_000_000, "-1,000,000"),
        ] {
            assert_eq!(thousands(count), expected);
        }
        assert_eq!(quantity(1, "token"), "1 token");
    }

    #[test]
    fn continuation_lines_are_indented_to_the_text() {
        let words = "word ".repeat(20);
        let wrapped = wrap(&format!(
            "{words}\n\n\n 1. {words}\n    Scope    {words}\n-- \nend"
        ));
        let starts: Vec<&str> = wrapped
            .lines()
            .map(|line| &line[..line.len().min(14)])
            .collect();
        assert_eq!(
            starts,
            [
                "word word word",
                "word word word",
                "",
                " 1. word word ",
                "    word word ",
                "    Scope    w",
                "             w",
                "-- ",
                "end"
            ]
        );
    }

    #[test]
    fn a_long_word_breaks_anywhere_and_a_link_nowhere() {
        let wrapped = wrap(&format!("    Name  {}", "x".repeat(100)));
        assert_eq!(wrapped.matches('x').count(), 100);
        assert!(wrapped.lines().all(|line| line.len() <= MAX_WIDTH));
        let link = format!("https://example.org/{}", "x".repeat(100));
        assert!(wrap(&format!("see {link} there")).contains(&link));
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_word_is_lost(text in "[ a-z\n.0-9é-]{0,400}") {
            let wrapped = wrap(&text);
            prop_assert!(wrapped.lines().all(|line| line.chars().count() <= MAX_WIDTH));
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&wrapped), letters(&text));
        }
    }
}
