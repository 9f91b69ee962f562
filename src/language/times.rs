//! Days, times of day and spans of time in a language.

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use super::{Language, phrase};
use crate::domain::When;

/// Below this, time is shown in hours; that until a plain date in days, because its source reports no clock.
const DAYS_FROM: TimeDelta = TimeDelta::hours(36);

/// A number of units, or no number: `seconds` and `part-of-a-day`.
type Span = (&'static str, i64);

impl Language {
    /// The plain date, or the day in the reader's zone: `Sat 28 Nov 2026`.
    pub fn day(&self, when: impl Into<When>, zone: Tz) -> String {
        self.format_day(date(when, zone))
    }

    /// The day, without the year if it is the current one: `Sat 28 Nov`.
    pub fn short_day(&self, when: impl Into<When>, now: DateTime<Utc>, zone: Tz) -> String {
        let date = date(when, zone);
        if date.year() != now.with_timezone(&zone).year() {
            return self.format_day(date);
        }
        phrase!(
            self,
            "short-day",
            weekday = self.weekday(date),
            day = date.day().to_string(),
            month = self.month(date),
        )
    }

    fn format_day(&self, date: NaiveDate) -> String {
        phrase!(
            self,
            "day",
            weekday = self.weekday(date),
            day = date.day().to_string(),
            month = self.month(date),
            year = date.year().to_string(),
        )
    }

    /// `Sat`.
    pub fn weekday(&self, date: NaiveDate) -> String {
        let weekday = date.weekday().number_from_monday();
        phrase!(self, "weekday", weekday = weekday)
    }

    /// `Nov`.
    pub fn month(&self, date: NaiveDate) -> String {
        phrase!(self, "month", month = date.month())
    }

    /// The time in the reader's zone and in UTC; only once if both are the same:
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`. A plain date has no time.
    pub fn date_time(&self, when: impl Into<When>, zone: Tz) -> String {
        let when = when.into();
        if when.day.is_some() {
            return self.day(when, zone);
        }
        self.with_utc(self.local(when.at, zone), when, zone)
    }

    /// Adds the time in UTC to a text about a time, unless the reader's zone is UTC or the time is a plain date:
    /// `3 hours ago (09:00 UTC)`, with the day if it differs.
    pub fn with_utc(&self, time: String, when: impl Into<When>, zone: Tz) -> String {
        let When { at, day } = when.into();
        if day.is_some() || is_utc(at, zone) {
            return time;
        }
        let same_day = at.with_timezone(&zone).date_naive() == at.date_naive();
        let utc = if same_day {
            let clock = at.format(clock_format(at)).to_string();
            phrase!(self, "clock-and-zone", clock = clock, zone = "UTC")
        } else {
            self.local(at, Tz::UTC)
        };
        phrase!(self, "with-utc", time = time, utc = utc)
    }

    fn local(&self, at: DateTime<Utc>, zone: Tz) -> String {
        let local = at.with_timezone(&zone);
        let name = if is_utc(at, zone) { "UTC" } else { "%Z" };
        phrase!(
            self,
            "day-and-clock",
            day = self.day(at, zone),
            clock = local.format(clock_format(at)).to_string(),
            zone = local.format(name).to_string(),
        )
    }

    /// Days from 36 hours on, hours from one hour on, else minutes; rounded to the nearest: `7 days`.
    pub fn time_left(&self, span: TimeDelta) -> String {
        let (unit, count) = left(span);
        phrase!(self, "time-left", unit = unit, count = count)
    }

    /// [`Self::time_left`] until an expiry.
    pub fn left_until(&self, when: When, now: DateTime<Utc>) -> String {
        let (unit, count) = until(when, now);
        phrase!(self, "time-left", unit = unit, count = count)
    }

    /// [`Self::time_left`] as when something happens: `in 7 days`.
    pub fn time_in(&self, span: TimeDelta) -> String {
        let (unit, count) = left(span);
        phrase!(self, "time-in", unit = unit, count = count)
    }

    /// [`Self::time_in`] until an expiry.
    pub fn in_until(&self, when: When, now: DateTime<Utc>) -> String {
        let (unit, count) = until(when, now);
        phrase!(self, "time-in", unit = unit, count = count)
    }

    /// [`Self::left_until`] as a deadline: `within 7 days`.
    pub fn deadline(&self, when: When, now: DateTime<Utc>) -> String {
        let (unit, count) = until(when, now);
        phrase!(self, "time-within", unit = unit, count = count)
    }

    /// The time within which something ends, in the same units, rounded up: `within 7 days`.
    pub fn within(&self, when: When, now: DateTime<Utc>) -> String {
        let (unit, count) = match when.at - now {
            span if when.day.is_some() && span < DAYS_FROM => {
                ("days", if span > TimeDelta::days(1) { 2 } else { 1 })
            }
            span => at_most(span),
        };
        phrase!(self, "time-within", unit = unit, count = count)
    }

    /// `just now`, `4 minutes ago`, `5 months ago`.
    pub fn ago(&self, span: TimeDelta) -> String {
        let (unit, count) = since(span);
        phrase!(self, "time-ago", unit = unit, count = count)
    }

    /// [`Self::ago`] since an expiry.
    pub fn ago_since(&self, when: When, now: DateTime<Utc>) -> String {
        let (unit, count) = match now - when.at {
            span if when.day.is_some() && span < DAYS_FROM => about_a_day(span),
            span => since(span),
        };
        phrase!(self, "time-ago", unit = unit, count = count)
    }
}

fn until(when: When, now: DateTime<Utc>) -> Span {
    match when.at - now {
        span if when.day.is_some() && span < DAYS_FROM => about_a_day(span),
        span => left(span),
    }
}

fn about_a_day(span: TimeDelta) -> Span {
    if span < TimeDelta::hours(12) {
        ("part-of-a-day", 0)
    } else {
        ("days", 1)
    }
}

fn left(span: TimeDelta) -> Span {
    let seconds = span.num_seconds().max(0);
    match seconds {
        129_600.. => ("days", nearest(seconds, 86_400)),
        3_570.. => ("hours", nearest(seconds, 3_600)),
        60.. => ("minutes", nearest(seconds, 60)),
        _ => ("seconds", 0),
    }
}

fn at_most(span: TimeDelta) -> Span {
    let seconds = span.num_seconds().max(0);
    let up = |size: i64| (seconds + size - 1) / size;
    match seconds {
        129_600.. => ("days", up(86_400)),
        3_541.. => ("hours", up(3_600)),
        60.. => ("minutes", up(60)),
        _ => ("seconds", 0),
    }
}

fn since(span: TimeDelta) -> Span {
    const DAY: i64 = 86_400;
    let seconds = span.num_seconds();
    let (unit, size) = match seconds {
        ..60 => return ("seconds", 0),
        60..3_570 => ("minutes", 60),
        3_570..129_600 => ("hours", 3_600),
        // Weeks from 14 days, months from nine weeks, years from two years.
        129_600..1_209_600 => ("days", DAY),
        1_209_600..5_443_200 => ("weeks", 7 * DAY),
        5_443_200..63_072_000 => ("months", 30 * DAY),
        _ => ("years", 365 * DAY),
    };
    (unit, nearest(seconds, size))
}

fn nearest(seconds: i64, size: i64) -> i64 {
    (seconds + size / 2) / size
}

/// The plain date, or the day in the reader's zone.
pub fn date(when: impl Into<When>, zone: Tz) -> NaiveDate {
    let When { at, day } = when.into();
    day.unwrap_or_else(|| at.with_timezone(&zone).date_naive())
}

/// The time of day in the reader's zone, without seconds: `10:00`.
pub fn clock(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%H:%M").to_string()
}

/// The reader's offset at that time: `UTC`, `UTC+01:00`.
pub fn utc_offset(at: DateTime<Utc>, zone: Tz) -> String {
    if is_utc(at, zone) {
        return "UTC".to_owned();
    }
    format!("UTC{}", at.with_timezone(&zone).offset().fix())
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

#[cfg(test)]
mod tests;
