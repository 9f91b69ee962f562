//! Converts values of rows and of responses into cells of the domain.
//!
//! Messages quote a value only if a date, a status or an address is expected, and then only its beginning: a
//! secret in the wrong column must not get into a log.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer};

use crate::domain::{Address, Cell, Expiry, Status, Unreadable, column};
use crate::text::{clean, cut, is_control};
use crate::time::{self, DateRules, Moment, NoInstant, shift};

const MAX_CELL_LENGTH: usize = 64 * 1024;

/// A text of at most this length is quoted in full.
const MAX_FULL_QUOTE: usize = 32;

const PARTIAL_QUOTE_LENGTH: usize = 24;

/// Any value of at most this length is quoted in full. Secrets are longer.
const MAX_SHORT_VALUE: usize = 10;

/// How much is quoted of a value that may be a secret.
const SECRET_QUOTE_LENGTH: usize = 6;

const TOO_EARLY: &str =
    "is before 2000; most likely it means never: write never, or name the text in never = [\"…\"]";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    /// The cell is empty, blank or null.
    Empty,
    /// A text that is trimmed, not blank, and without control characters but line breaks.
    Text(String),
    List(Vec<String>),
    /// An instant as a text, and the plain date from which its source has it.
    OfDay(String, NaiveDate),
    /// A JSON value of another type, as a text, and the name of the type.
    Other(String, &'static str),
    /// Why it cannot be read.
    Unreadable(String),
}

impl Value {
    /// Trims the text, and replaces control characters and line separators by spaces. Marks of the direction
    /// remain, because an id must match at its source; outputs replace them.
    pub fn text(text: &str) -> Self {
        if text.len() > MAX_CELL_LENGTH {
            return Self::Unreadable("is longer than 64 KiB; cut it".to_owned());
        }
        // They separate owners.
        let is_control = |c| is_control(c) && !is_line_break(c);
        let text = if text.contains(is_control) {
            text.replace(is_control, " ").trim().to_owned()
        } else {
            text.trim().to_owned()
        };
        // Databases export null as \N.
        if text.is_empty() || text == "\\N" {
            Self::Empty
        } else {
            Self::Text(text)
        }
    }

    /// Adds the texts of another cell.
    pub fn append(&mut self, more: Self) {
        let texts = |value| match value {
            Self::Text(text) | Self::OfDay(text, _) | Self::Other(text, _) => vec![text],
            Self::List(texts) => texts,
            Self::Absent | Self::Empty | Self::Unreadable(_) => Vec::new(),
        };
        let mut all = texts(std::mem::replace(self, Self::Empty));
        all.extend(texts(more));
        if !all.is_empty() {
            *self = Self::List(all);
        }
    }

    fn into_plain_text(self) -> Result<Cell<String>, String> {
        match self {
            Self::Absent => Ok(Cell::Absent),
            Self::Empty => Ok(Cell::Empty),
            Self::Text(text) | Self::OfDay(text, _) | Self::Other(text, _) => {
                Ok(Cell::Value(on_one_line(text)))
            }
            Self::List(list) => Ok(Some(list.join(", ")).filter(|text| !text.is_empty()).into()),
            Self::Unreadable(why) => Err(why),
        }
    }

    fn read<T>(self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Cell<T>, String> {
        Ok(match self.into_plain_text()? {
            Cell::Absent => Cell::Absent,
            Cell::Empty => Cell::Empty,
            Cell::Value(text) => {
                Cell::Value(parse(&text).map_err(|why| format!("{} {why}", quote_value(&text)))?)
            }
        })
    }

    pub fn into_text(self, column: &str) -> Result<Cell<String>, String> {
        self.into_plain_text()
            .map_err(|why| format!("{column} {why}"))
    }

    pub fn parse<T>(
        self,
        column: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Cell<T>, String> {
        self.read(parse).map_err(|why| format!("{column} {why}"))
    }

    pub fn into_address(self, column: &str) -> Result<Cell<Address>, String> {
        self.parse(column, parse_address)
    }

    /// A date means its first instant in UTC.
    pub fn into_instant(self, column: &str) -> Result<Cell<DateTime<Utc>>, String> {
        self.parse(column, |text| {
            time::parse_instant(text).map_err(|error| explain_date(error, "or leave it empty"))
        })
    }

    /// A JSON array, or a text whose items are separated by semicolons or, if it has none, by commas.
    pub fn into_list(self, column: &str) -> Result<Vec<String>, String> {
        if let Self::List(list) = self {
            return Ok(list);
        }
        Ok(match self.into_text(column)? {
            Cell::Absent | Cell::Empty => Vec::new(),
            // Names of LDAP groups contain commas.
            Cell::Value(text) => {
                let separator = if text.contains(';') { ';' } else { ',' };
                text.split(separator)
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
        })
    }
}

/// How the cells of a source are read where a text alone does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CellRules {
    pub dates: DateRules,
    /// Expiries that mean never; one is empty if an empty cell does.
    pub never: Vec<String>,
    /// What yes and no say of the status; active and disabled if none.
    pub flags: Option<(Status, Status)>,
}

/// What yes and no mean in a column with this name: in `disabled` the reverse of what they mean in `enabled`.
pub fn flags_of(name: &str) -> Option<(Status, Status)> {
    let mut name = name.to_lowercase();
    name.retain(|c| !c.is_whitespace() && !matches!(c, '-' | '_'));
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["not", "non", "unlock", "unblock"]) {
        None
    } else if has(&["revoke", "delete", "remove"]) {
        Some((Status::Revoked, Status::Active))
    } else if has(&[
        "disable",
        "inactive",
        "suspend",
        "block",
        "lock",
        "deactivate",
    ]) {
        Some((Status::Disabled, Status::Active))
    } else if has(&["expire"]) {
        Some((Status::Active, Status::Active))
    } else {
        None
    }
}

/// Reads the cells of a record. A cell that cannot be read is absent, and recorded.
pub(crate) struct CellReader<'a> {
    pub rules: &'a CellRules,
    pub unreadable: Unreadable,
    /// In which units dates were written as numbers.
    pub units: &'a mut BTreeSet<&'static str>,
}

impl CellReader<'_> {
    fn keep<T>(&mut self, column: &str, cell: Result<Cell<T>, String>) -> Cell<T> {
        cell.unwrap_or_else(|why| {
            self.unreadable.insert(column.to_owned(), why);
            Cell::Absent
        })
    }

    pub fn text(&mut self, column: &str, value: Value) -> Cell<String> {
        self.keep(column, value.into_plain_text())
    }

    pub fn status(&mut self, column: &str, value: Value) -> Cell<Status> {
        let (on, off) = self
            .rules
            .flags
            .unwrap_or((Status::Active, Status::Disabled));
        // An unknown status is no empty cell: it does not make a token active again.
        let status = value.read(|text| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(on),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(off),
            word => parse_status(word),
        });
        self.keep(column, status)
    }

    /// When something happened. The zero times of programs, in 1970 and before, mean that it did not.
    pub fn instant(&mut self, column: &str, value: Value) -> Cell<DateTime<Utc>> {
        let dates = &self.rules.dates;
        let moment = without_placeholder(value).read(|text| match dates.parse(text) {
            Ok(moment) if moment.at < DateTime::UNIX_EPOCH + TimeDelta::days(1) => Ok(None),
            Ok(moment) => Ok(Some(moment)),
            Err(NoInstant::TooEarly) => Ok(None),
            Err(_) if is_zero_date(text) => Ok(None),
            Err(_) if column == column::LAST_USED_AT && is_never_used(text) => Ok(None),
            Err(error) => Err(explain_date(error, "or leave it empty")),
        });
        match self.keep(column, moment) {
            Cell::Absent => Cell::Absent,
            Cell::Empty | Cell::Value(None) => Cell::Empty,
            Cell::Value(Some(moment)) => {
                self.units.extend(moment.unit);
                Cell::Value(moment.at)
            }
        }
    }

    /// The expiry, and the day if it is a plain date. An empty cell is an unknown expiry.
    pub fn expiry(&mut self, column: &str, value: Value) -> (Cell<Expiry>, Option<NaiveDate>) {
        let never = &self.rules.never;
        let is_never = |text: &str| never.iter().any(|never| never.eq_ignore_ascii_case(text));
        let value = match value {
            Value::Empty if is_never("") => return (Cell::Value(Expiry::Never), None),
            Value::Text(text) if is_never(&text) => return (Cell::Value(Expiry::Never), None),
            value => without_placeholder(value),
        };
        let known_day = match value {
            Value::OfDay(_, day) => Some(day),
            _ => None,
        };
        let expiry = value.read(|text| parse_expiry(text, &self.rules.dates));
        match self.keep(column, expiry) {
            Cell::Absent => (Cell::Absent, None),
            Cell::Empty => (Cell::Value(Expiry::Unknown), None),
            Cell::Value((expiry, moment)) => {
                self.units.extend(moment.and_then(|moment| moment.unit));
                let day = known_day.or(moment.and_then(|moment| moment.day));
                (Cell::Value(expiry), day.filter(|_| expiry != Expiry::Never))
            }
        }
    }
}

/// An empty cell for what exports write in its place.
fn without_placeholder(value: Value) -> Value {
    match value {
        Value::Text(text) if is_placeholder(&text) => Value::Empty,
        value => value,
    }
}

/// Whether exports write this in the place of an empty cell.
pub(super) fn is_placeholder(text: &str) -> bool {
    const PLACEHOLDERS: [&str; 10] = [
        "-",
        "--",
        "n/a",
        "na",
        "nil",
        "none",
        "null",
        "unknown",
        "no_information",
        "not_supported",
    ];
    PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str())
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn on_one_line(text: String) -> String {
    if text.contains(is_line_break) {
        text.replace(is_line_break, " ")
    } else {
        text
    }
}

/// `MySQL` writes a missing date as `0000-00-00 00:00:00`.
fn is_zero_date(text: &str) -> bool {
    text.starts_with("0000-00-00")
}

fn is_never_used(text: &str) -> bool {
    ["never", "never used"].contains(&text.to_ascii_lowercase().as_str())
}

fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse_cell(text).map_err(|invalid| invalid.reason.to_owned())
}

/// The text is in lower case.
fn parse_status(text: &str) -> Result<Status, String> {
    match text {
        // Whether a token is expired follows from its expiry.
        "active" | "enabled" | "valid" | "expired" => Ok(Status::Active),
        "disabled" | "inactive" | "suspended" | "deactivated" | "blocked" | "locked" => {
            Ok(Status::Disabled)
        }
        "revoked" | "deleted" | "removed" => Ok(Status::Revoked),
        "gone" => Err("is set only by lapsed; write revoked, or leave the token out".to_owned()),
        _ => Err("is not a status; write active, disabled, revoked or expired".to_owned()),
    }
}

/// An expiry as a source writes it, and the date from which it follows. A date that is long past is most likely the zero
/// of a program, and one in the far future its greatest date.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn parse_expiry(
    text: &str,
    dates: &DateRules,
) -> Result<(Expiry, Option<Moment>), String> {
    const NEVER: [&str; 5] = [
        "never",
        "never expires",
        "infinity",
        "+infinity",
        "infinite",
    ];
    if NEVER.contains(&text.to_ascii_lowercase().as_str()) {
        return Ok((Expiry::Never, None));
    }
    match dates.parse(text) {
        Ok(moment) => Ok((to_expiry(moment.at)?, Some(moment))),
        Err(NoInstant::TooLate) => Ok((Expiry::Never, None)),
        Err(NoInstant::WithoutZone) if is_never_in_every_zone(text, dates) => {
            Ok((Expiry::Never, None))
        }
        Err(NoInstant::TooEarly) => Err(TOO_EARLY.to_owned()),
        Err(_) if is_zero_date(text) || text.eq_ignore_ascii_case("-infinity") => {
            Err(TOO_EARLY.to_owned())
        }
        Err(error) => Err(explain_date(
            error,
            "never, or leave it empty if it is unknown",
        )),
    }
}

fn is_never_in_every_zone(text: &str, dates: &DateRules) -> bool {
    let in_utc = DateRules {
        timezone: Some(Tz::UTC),
        ..dates.clone()
    };
    let moment = in_utc.parse(text);
    moment.is_ok_and(|moment| to_expiry(shift(moment.at, -TimeDelta::days(1))) == Ok(Expiry::Never))
}

/// # Errors
/// If the instant is before 2000.
pub(crate) fn to_expiry(at: DateTime<Utc>) -> Result<Expiry, String> {
    match at.year() {
        ..2000 => Err(TOO_EARLY.to_owned()),
        2000..2200 => Ok(Expiry::At(at)),
        2200.. => Ok(Expiry::Never),
    }
}

/// `alternatives` says what else may be written.
fn explain_date(error: NoInstant, alternatives: &str) -> String {
    match error {
        NoInstant::Format => {
            format!("is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, {alternatives}")
        }
        NoInstant::TwoReadings => {
            "can be read in two ways; write 2026-11-12, or set date_format, such as \"%d/%m/%Y\""
                .to_owned()
        }
        NoInstant::WithoutZone => {
            "has no time zone; write Z (UTC) or an offset like +02:00 after it, or set timezone"
                .to_owned()
        }
        NoInstant::UnknownZone => {
            "has a time zone that is not known; write an offset like +02:00".to_owned()
        }
        NoInstant::TooEarly | NoInstant::TooLate => {
            format!("is not between 1970 and 9999; write another date, {alternatives}")
        }
    }
}

/// The beginning of the text, in quotes.
pub(crate) fn quote(text: &str) -> String {
    let is_long = text.chars().nth(MAX_FULL_QUOTE).is_some();
    let limit = if is_long {
        PARTIAL_QUOTE_LENGTH + 1
    } else {
        MAX_FULL_QUOTE
    };
    format!("\"{}\"", clean(&cut(text, limit)))
}

/// Quotes a value of a cell. Reasons are stored and mailed, so what could be a secret is cut after a few characters.
pub(crate) fn quote_value(text: &str) -> String {
    let is_short = text.chars().nth(MAX_SHORT_VALUE).is_none();
    let is_phrase = text.contains([' ', '@']);
    let has_marks = text.contains([':', '/']) && text.chars().nth(MAX_FULL_QUOTE).is_none();
    let is_date = text
        .chars()
        .all(|c| c.is_ascii_digit() || "-./:".contains(c));
    if is_short || is_phrase || has_marks || is_date {
        quote(text)
    } else {
        format!("\"{}\"", clean(&cut(text, SECRET_QUOTE_LENGTH + 1)))
    }
}

// The functions below convert responses of systems.

/// A text without control characters, as in a file. Empty text is an empty cell.
pub fn text(text: Option<&str>) -> Cell<String> {
    let cell = Value::text(text.unwrap_or_default()).into_plain_text();
    cell.unwrap_or(Cell::Empty)
}

/// A mail address. Anything else, such as a login name, is an empty cell.
pub fn address(text: Option<&str>) -> Cell<Address> {
    text.and_then(|text| Address::parse_cell(text).ok()).into()
}

/// Reads null as an empty cell. With `default`, a missing field becomes an absent one.
pub fn null_as_empty<'de, D, T>(value: D) -> Result<Cell<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(value).map(Cell::from)
}

#[cfg(test)]
mod tests;
