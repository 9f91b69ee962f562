//! The forms in which systems and people write dates, as far as each can be read in one way only.

use chrono::{Datelike, Month, NaiveDate, TimeDelta, Weekday};
use chrono_tz::Tz;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoInstant {
    Format,
    /// Day and month could change places, or a year has two digits.
    TwoReadings,
    /// It would be an instant with a time zone.
    WithoutZone,
    UnknownZone,
    /// Before 1970.
    TooEarly,
    /// After 9999.
    TooLate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// East of UTC.
    Offset(TimeDelta),
    Named(Tz),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub date: NaiveDate,
    /// Since midnight; `None` for a plain date.
    pub time: Option<TimeDelta>,
    pub zone: Option<Zone>,
}

type Parsed<T> = Result<T, NoInstant>;

pub(super) fn parse(text: &str) -> Parsed<Stamp> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut after = text[digits..].chars();
    let is_separated = matches!(after.next(), Some('-' | '/' | '.'))
        && after.next().is_some_and(|c| c.is_ascii_digit());
    if digits >= 8 || (digits > 0 && is_separated) {
        parse_numeric(text)
    } else {
        parse_named(text)
    }
}

/// `2026-12-06 10:00:00+00`, `20261206T100000Z`, `20261206100000Z` (RFC 4517), `31.12.2026`.
fn parse_numeric(text: &str) -> Parsed<Stamp> {
    let mut rest = Rest(text);
    let digits = rest.digits();
    let is_compact = digits.len() == 8;
    let (date, time) = match digits.len() {
        8 => (compact_date(digits)?, None),
        10 | 12 | 14 => {
            let time = clock(&digits[8..]).ok_or(NoInstant::Format)?;
            let time = time + rest.fraction();
            (compact_date(&digits[..8])?, Some(time))
        }
        _ => (separated_date(digits, &mut rest)?, None),
    };
    let after = rest.0.trim_start_matches([' ', '\t', ',', 'T', 't', '_']);
    let time = match time {
        None if after.starts_with(|c: char| c.is_ascii_digit()) => {
            rest.0 = after;
            Some(rest.time()?)
        }
        time => time,
    };
    // In 20261206-1030 and 2026-12-06-10 that is a time rather than an offset; XML has 2026-12-06-10:00.
    let is_offset = rest.0.trim_start().starts_with(['+', '-']);
    if time.is_none() && is_offset && (is_compact || !rest.0.contains(':')) {
        return Err(NoInstant::Format);
    }
    let zone = parse_zone(rest.0)?;
    Ok(Stamp { date, time, zone })
}

fn compact_date(digits: &str) -> Parsed<NaiveDate> {
    NaiveDate::parse_from_str(digits, "%Y%m%d").map_err(|_| NoInstant::Format)
}

fn separated_date(first: &str, rest: &mut Rest<'_>) -> Parsed<NaiveDate> {
    let separator = rest.0.chars().next().unwrap_or_default();
    rest.eat(separator);
    let second = rest.digits();
    if !rest.eat(separator) {
        return Err(NoInstant::Format);
    }
    let third = rest.digits();
    let is_short = |digits: &str| matches!(digits.len(), 1 | 2);
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| NoInstant::Format);
    let (a, b, c) = (number(first)?, number(second)?, number(third)?);
    let date = |year: u32, month, day| NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day);
    match (first.len(), second, third.len()) {
        (4, month, _) if is_short(month) && is_short(third) => date(a, b, c),
        (1 | 2, month, 4) if is_short(month) => match (date(c, b, a), date(c, a, b)) {
            (Some(day_first), Some(month_first)) if day_first != month_first => {
                return Err(NoInstant::TwoReadings);
            }
            (day_first, month_first) => day_first.or(month_first),
        },
        (1 | 2, month, 2) if is_short(month) => return Err(NoInstant::TwoReadings),
        _ => None,
    }
    .ok_or(NoInstant::Format)
}

/// `Sun, 06 Dec 2026 10:00:00 GMT`, `Sun Dec  6 10:00:00 UTC 2026`, `Dec 6 10:00:00 2026 GMT`, `6-Dec-2026`.
fn parse_named(text: &str) -> Parsed<Stamp> {
    let mut named = Named::default();
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        if word.starts_with('(') {
            break;
        }
        let is_date = word.starts_with(|c: char| c.is_ascii_digit())
            && !word.contains(':')
            && word.contains(|c: char| c.is_ascii_alphabetic());
        if is_date {
            word.split(['-', '/'])
                .try_for_each(|part| named.add(part))?;
        } else {
            named.add(word)?;
        }
    }
    named.finish()
}

#[derive(Default)]
struct Named<'a> {
    weekday: Option<Weekday>,
    /// Of one or two digits: the day, and a year of two digits.
    numbers: Vec<u32>,
    month: Option<u32>,
    year: Option<u32>,
    time: Option<TimeDelta>,
    zone: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn add(&mut self, word: &'a str) -> Parsed<()> {
        let bare = word.trim_end_matches('.');
        let digits = ["st", "nd", "rd", "th"]
            .iter()
            .find_map(|end| bare.strip_suffix(end))
            .unwrap_or(bare);
        let number = digits.parse::<u32>().ok().filter(|_| !digits.contains('+'));
        match (number, digits.len()) {
            (Some(number), 4) if self.year.is_none() => self.year = Some(number),
            (Some(number), 1 | 2) => self.numbers.push(number),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) && self.time.is_none() => {
                let mut rest = Rest(word);
                self.time = Some(rest.time()?);
                if !rest.0.is_empty() {
                    self.zone = Some(rest.0);
                }
            }
            _ => self.add_word(word, bare)?,
        }
        Ok(())
    }

    fn add_word(&mut self, word: &'a str, bare: &str) -> Parsed<()> {
        if let (Some(is_afternoon), Some(time)) = (half_of_day(bare), self.time) {
            self.time = Some(in_half(time, is_afternoon)?);
        } else if let (Ok(month), None) = (bare.parse::<Month>(), self.month) {
            self.month = Some(month.number_from_month());
        } else if let (Ok(weekday), None) = (bare.parse::<Weekday>(), self.weekday) {
            self.weekday = Some(weekday);
        } else if self.zone.is_none() {
            self.zone = Some(word);
        } else if !self.zone.is_some_and(|zone| repeats_offset(zone, bare)) {
            return Err(NoInstant::Format);
        }
        Ok(())
    }

    fn finish(self) -> Parsed<Stamp> {
        let month = self.month.ok_or(NoInstant::Format)?;
        let (day, year) = match (self.numbers.as_slice(), self.year) {
            ([day], Some(year)) => (*day, year),
            // RFC 850: the weekday shows which number is the day, and which century it is.
            ([day, year], None) if self.weekday.is_some() => (*day, 2000 + year),
            ([_, _], None) => return Err(NoInstant::TwoReadings),
            _ => return Err(NoInstant::Format),
        };
        let year = year.try_into().map_err(|_| NoInstant::Format)?;
        let date = NaiveDate::from_ymd_opt(year, month, day)
            .filter(|date| self.weekday.is_none_or(|weekday| date.weekday() == weekday))
            .ok_or(NoInstant::Format)?;
        let zone = parse_zone(self.zone.unwrap_or_default())?;
        let time = self.time;
        Ok(Stamp { date, time, zone })
    }
}

/// What is not parsed yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn digits(&mut self) -> &'a str {
        let rest = self.0.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        digits
    }

    fn eat(&mut self, expected: char) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// `10:00`, `10:00:00.123`, `24:00`, `100000`, `7:59:04 PM`; also a leap second.
    fn time(&mut self) -> Parsed<TimeDelta> {
        let first = self.digits();
        let mut time = if matches!(first.len(), 1 | 2) {
            let mut parts = vec![format!("{first:0>2}")];
            while parts.len() < 3 && self.eat(':') {
                let part = self.digits();
                if part.len() != 2 {
                    return Err(NoInstant::Format);
                }
                parts.push(part.to_owned());
            }
            clock(&parts.concat())
        } else {
            clock(first)
        }
        .ok_or(NoInstant::Format)?;
        time += self.fraction();
        let word = self.0.trim_start();
        let end = word.find(|c: char| !c.is_ascii_alphabetic() && c != '.');
        let (word, after) = word.split_at(end.unwrap_or(word.len()));
        if let Some(is_afternoon) = half_of_day(word.trim_end_matches('.')) {
            time = in_half(time, is_afternoon)?;
            self.0 = after;
        }
        Ok(time)
    }

    /// The digits after a point or comma.
    fn fraction(&mut self) -> TimeDelta {
        let before = self.0;
        let has_point = self.eat('.') || self.eat(',');
        let digits = self.digits();
        if !has_point || digits.is_empty() {
            self.0 = before;
            return TimeDelta::zero();
        }
        let nanos: String = digits.chars().chain("000000000".chars()).take(9).collect();
        TimeDelta::nanoseconds(nanos.parse().unwrap_or_default())
    }
}

/// `hh`, `hhmm` or `hhmmss`.
fn clock(digits: &str) -> Option<TimeDelta> {
    let part = |from: usize| match digits.get(from..from + 2) {
        Some(digits) => digits.parse::<i64>().ok(),
        None => (digits.len() <= from).then_some(0),
    };
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    let is_valid = matches!(digits.len(), 2 | 4 | 6)
        && minutes < 60
        && seconds <= 60
        && (hours < 24 || (hours, minutes, seconds) == (24, 0, 0));
    is_valid.then(|| TimeDelta::seconds(hours * 3600 + minutes * 60 + seconds))
}

/// Whether it is the afternoon.
fn half_of_day(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "am" | "a.m" => Some(false),
        "pm" | "p.m" => Some(true),
        _ => None,
    }
}

fn in_half(time: TimeDelta, is_afternoon: bool) -> Parsed<TimeDelta> {
    let half = TimeDelta::hours(12);
    match time.num_hours() {
        12 if is_afternoon => Ok(time),
        12 => Ok(time - half),
        1..12 if is_afternoon => Ok(time + half),
        1..12 => Ok(time),
        _ => Err(NoInstant::Format),
    }
}

/// `Z`, `UTC`, `GMT+0100`, `+01`, `+0000 UTC m=+0.1`, `+01:00[Europe/Berlin]`, `Europe/Berlin`, `(UTC)`.
fn parse_zone(text: &str) -> Parsed<Option<Zone>> {
    let text = text.split(" m=").next().unwrap_or_default().trim();
    let Some(end) = text.find(|c: char| c.is_whitespace() || "[(".contains(c)) else {
        return match text {
            "" => Ok(None),
            name => parse_zone_word(name).map(Some),
        };
    };
    let (offset, rest) = (&text[..end], text[end..].trim());
    let name = rest.trim_matches(|c: char| "[]() ".contains(c));
    if offset.is_empty() {
        return parse_zone_word(name).map(Some);
    }
    let is_comment = rest.starts_with(['[', '('])
        && !name.starts_with(['+', '-'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " /_+-".contains(c));
    let zone = parse_zone_word(offset)?;
    let is_name = is_comment || repeats_offset(offset, name);
    is_name.then_some(Some(zone)).ok_or(NoInstant::Format)
}

/// Whether the word is the name of the zone whose offset is before it: `+0000 UTC`, `-0500 -05`, `+0530 IST`.
fn repeats_offset(offset: &str, name: &str) -> bool {
    let is_abbreviation =
        (2..=5).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_number =
        name.starts_with(['+', '-']) && parse_zone_word(name) == parse_zone_word(offset);
    let is_zone = name.contains('/') && name.parse::<Tz>().is_ok();
    offset.contains(['+', '-']) && (is_abbreviation || is_number || is_zone)
}

fn parse_zone_word(word: &str) -> Parsed<Zone> {
    let upper = word.to_ascii_uppercase();
    let offset = ["UTC", "GMT", "UT", "Z"]
        .iter()
        .find_map(|utc| upper.strip_prefix(utc))
        .unwrap_or(&upper);
    if offset.is_empty() {
        return Ok(Zone::Offset(TimeDelta::zero()));
    }
    if offset.starts_with(['+', '-']) {
        return parse_offset(offset)
            .map(Zone::Offset)
            .ok_or(NoInstant::Format);
    }
    if word.contains('/') {
        return word
            .parse()
            .map(Zone::Named)
            .map_err(|_| NoInstant::UnknownZone);
    }
    // An abbreviation can mean several zones.
    let is_word = word.chars().all(|c| c.is_ascii_alphabetic());
    Err(if is_word && (2..=5).contains(&word.len()) {
        NoInstant::UnknownZone
    } else {
        NoInstant::Format
    })
}

/// `+1`, `+01`, `-0130`, `+05:30`.
fn parse_offset(text: &str) -> Option<TimeDelta> {
    let (sign, digits) = text.split_at(1);
    let sign = if sign == "-" { -1 } else { 1 };
    let digits = match digits.split_once(':') {
        Some((hours, minutes)) if hours.len() == 2 && minutes.len() == 2 => {
            format!("{hours}{minutes}")
        }
        Some(_) => return None,
        None if digits.len() == 1 => format!("0{digits}"),
        None => digits.to_owned(),
    };
    let is_offset = matches!(digits.len(), 2 | 4) && digits.bytes().all(|b| b.is_ascii_digit());
    let offset = is_offset.then(|| clock(&digits))??;
    (offset <= TimeDelta::hours(18)).then(|| offset * sign)
}
