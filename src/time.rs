//! Parses instants, and keeps them to the years that both databases store.

mod forms;

use std::ops::Range;

use chrono::format::{Parsed, StrftimeItems};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

pub use self::forms::NoInstant;
use self::forms::{Stamp, Zone};

/// The last instant in the store: years have four digits, so that text sorts, and seconds six decimals.
pub const MAX_INSTANT: DateTime<Utc> =
    DateTime::from_timestamp(253_402_300_799, 999_999_000).expect("the end of the year 9999");

/// The seconds of the years 2000 to 2199. Other numbers are no dates but counts, ids, days of a spreadsheet, or a time
/// since another year than 1970.
const EPOCHS: Range<i64> = 946_684_800..7_258_118_400;

/// How the dates of a source are read where a text alone has several readings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DateRules {
    /// Of dates without a time zone. Without it, a time without a zone is refused, and a plain date is one in UTC.
    pub timezone: Option<Tz>,
    /// A plain date means its last second, not its first.
    pub is_day_end: bool,
    /// Tried first, in the notation of `strftime`.
    pub format: Option<String>,
}

/// A date as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub at: DateTime<Utc>,
    /// The text was this plain date.
    pub day: Option<NaiveDate>,
    /// The text was a number of these since 1970.
    pub unit: Option<&'static str>,
}

impl DateRules {
    /// For systems that document that dates without a zone are in UTC.
    pub fn utc() -> Self {
        Self {
            timezone: Some(Tz::UTC),
            ..Self::default()
        }
    }

    /// Reads every form that has one meaning only.
    ///
    /// # Errors
    /// If it is something else, has two readings, or cannot be stored.
    pub fn parse(&self, text: &str) -> Result<Moment, NoInstant> {
        // Since 2023, Unicode's data has a narrow no-break space before AM and PM.
        let text = text.replace(['\u{a0}', '\u{202f}'], " ");
        let text = text.trim();
        if let Some(stamp) = self
            .format
            .as_deref()
            .and_then(|format| parse_as(format, text))
        {
            return self.resolve(stamp);
        }
        match parse_epoch(text) {
            Some(moment) => moment,
            None => self.resolve(forms::parse(text)?),
        }
    }

    fn resolve(&self, stamp: Stamp) -> Result<Moment, NoInstant> {
        let zone = stamp.zone.or(self.timezone.map(Zone::Named));
        let (time, day) = match stamp.time {
            Some(time) => (time, None),
            None if self.is_day_end => (TimeDelta::seconds(86_399), Some(stamp.date)),
            None => (TimeDelta::zero(), Some(stamp.date)),
        };
        let zone = match zone {
            Some(zone) => zone,
            None if day.is_some() => Zone::Offset(TimeDelta::zero()),
            None => return Err(NoInstant::WithoutZone),
        };
        let local = stamp.date.and_time(NaiveTime::MIN) + time;
        let at = match zone {
            Zone::Offset(offset) => (local - offset).and_utc(),
            // The earlier one of an hour that occurs twice; an hour that is skipped counts by the offset before it.
            Zone::Named(zone) => {
                let before = zone.offset_from_utc_datetime(&(local - TimeDelta::days(1)));
                let at = zone.from_local_datetime(&local).earliest();
                at.map_or((local - before.fix()).and_utc(), |at| at.to_utc())
            }
        };
        let unit = None;
        to_storable(at).map(|at| Moment { at, day, unit })
    }
}

/// An instant as people write it, see [`DateRules::parse`]; a plain date means 00:00 UTC of that day.
///
/// # Errors
/// If it is something else, has two readings, or cannot be stored.
pub fn parse_instant(text: &str) -> Result<DateTime<Utc>, NoInstant> {
    Ok(DateRules::default().parse(text)?.at)
}

/// Whether dates can be read by this format: it must say year, month and day, and of the time all or nothing.
pub fn is_date_format(format: &str) -> bool {
    let Some(day) = NaiveDate::from_ymd_opt(2026, 12, 31) else {
        return false;
    };
    let is_valid = StrftimeItems::new(format).parse().is_ok();
    let sample = day.and_time(NaiveTime::MIN).and_utc();
    is_valid
        && parse_as(format, &sample.format(format).to_string())
            .is_some_and(|stamp| stamp.date == day)
}

fn parse_as(format: &str, text: &str) -> Option<Stamp> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, StrftimeItems::new(format)).ok()?;
    let zone = parsed
        .offset()
        .map(|east| Zone::Offset(TimeDelta::seconds(east.into())));
    let parts = [
        parsed.hour_div_12(),
        parsed.hour_mod_12(),
        parsed.minute(),
        parsed.second(),
    ];
    let time = match parts {
        [None, None, None, None] => None,
        _ => Some(parsed.to_naive_time().ok()?),
    };
    Some(Stamp {
        // Dates far beyond these years could not be shifted into a time zone.
        date: parsed
            .to_naive_date()
            .ok()
            .filter(|date| (0..=9999).contains(&date.year()))?,
        time: time.map(|time| time - NaiveTime::MIN),
        zone,
    })
}

/// A number of seconds, milliseconds, microseconds or nanoseconds since 1970, of which at most one is plausible. `None` if the text is not a number, or is a date in digits alone such as 20261206.
fn parse_epoch(text: &str) -> Option<Result<Moment, NoInstant>> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_number = [digits, fraction]
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number {
        return None;
    }
    let is_year = |year: &str| ("1970".."2200").contains(&year);
    if matches!(digits.len(), 8 | 12 | 14) && is_year(&digits[..4]) && forms::parse(text).is_ok() {
        return None;
    }
    let Ok(number) = whole.parse::<i64>() else {
        return Some(Err(NoInstant::Format));
    };
    if number <= 0 {
        return Some(Err(NoInstant::TooEarly));
    }
    let units = [
        ("seconds", 1),
        ("milliseconds", 1_000),
        ("microseconds", 1_000_000),
        ("nanoseconds", 1_000_000_000),
    ];
    let moment = units.into_iter().find_map(|(unit, in_second)| {
        let (seconds, rest) = (number / in_second, number % in_second);
        let nanos = u32::try_from(rest * (1_000_000_000 / in_second)).ok()?;
        let at = is_plausible(seconds).then(|| DateTime::from_timestamp(seconds, nanos))??;
        let (day, unit) = (None, Some(unit));
        Some(to_storable(at).map(|at| Moment { at, day, unit }))
    });
    // 2026120610 is an hour in 2026, or a second in 2034.
    let is_hour = |digits: &str| is_year(&digits[..4]) && forms::parse(digits).is_ok();
    Some(match moment {
        Some(_) if digits.get(..10).is_some_and(is_hour) => Err(NoInstant::TwoReadings),
        moment => moment.unwrap_or(Err(NoInstant::Format)),
    })
}

/// Whether programs write this number of seconds as a date, or as their greatest date.
fn is_plausible(seconds: i64) -> bool {
    let greatest = i64::MAX / 1_000_000_000;
    // West and east of Greenwich, the year 9999 ends on another day.
    let from_end = seconds - MAX_INSTANT.timestamp();
    EPOCHS.contains(&seconds) || seconds == greatest || from_end.abs() <= 86_400
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

/// In the largest unit that fits: `1s`, `90m`, `36500d`.
pub fn format_span(span: TimeDelta) -> String {
    let seconds = span.num_seconds();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fits = |(length, _): &(i64, &str)| seconds >= *length && seconds % length == 0;
    let (length, unit) = units.into_iter().find(fits).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

/// Truncates to microseconds, which is what both databases store. A leap second becomes the next second.
fn to_storable(at: DateTime<Utc>) -> Result<DateTime<Utc>, NoInstant> {
    let at = DateTime::from_timestamp_micros(at.timestamp_micros()).ok_or(NoInstant::TooLate)?;
    match at {
        _ if at < DateTime::UNIX_EPOCH => Err(NoInstant::TooEarly),
        _ if at > MAX_INSTANT => Err(NoInstant::TooLate),
        at => Ok(at),
    }
}

#[cfg(test)]
mod tests;
