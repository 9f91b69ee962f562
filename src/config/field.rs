//! Parses single values. Errors are messages that say what to write instead.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ::config::{Value, ValueKind};
use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::SecretString;
use url::Url;

use super::error::{Place, Problem, for_display, hint};
use super::fingerprint::{Counted, is_within};
use super::layers::{Places, join_path};
use crate::domain::Schedule;
use crate::time::format_span;

/// The longest duration that a setting may have.
pub(super) const MAX_DURATION: TimeDelta = TimeDelta::days(36_500);

/// Whether the secrets of other systems are read. That of the store always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Read,
    /// [`super::secret::UNREAD`] takes the place of a secret that is not in the configuration itself.
    Leave,
}

/// The credentials that have been read, by name.
pub(super) type Credentials = RefCell<HashMap<String, SecretString>>;

/// What all fields need to be parsed and reported.
pub(super) struct Context<'a> {
    pub env: &'a HashMap<String, String>,
    pub secrets: Secrets,
    pub credentials: &'a Credentials,
    /// The folder against which relative paths are resolved.
    pub base: PathBuf,
    pub places: Places,
    pub problems: RefCell<Vec<Problem>>,
    /// What the fingerprint counts.
    pub counted: RefCell<Counted>,
}

impl Context<'_> {
    pub fn report(&self, place: Place, message: String) {
        self.problems.borrow_mut().push(Problem { place, message });
    }

    /// Leaves the value with this path, and what is in it, out of the fingerprint.
    pub fn uncount(&self, path: &str) {
        let mut counted = self.counted.borrow_mut();
        counted.retain(|inner, _| !is_within(inner, path));
    }

    /// Reports a problem of the value with this path.
    pub fn report_value(&self, path: &str, message: &str) {
        self.report(self.places.of_value(path), format!("{path}: {message}"));
    }
}

/// The error is a message for the operator, without the path.
pub(super) type Parsed<T> = Result<T, String>;

/// The value of a key or an item of a list.
pub(super) struct Field<'c> {
    pub context: &'c Context<'c>,
    /// Section, key and index: `notify.steps[1]`.
    pub path: String,
    pub value: Value,
}

impl Field<'_> {
    /// Parses the value; a problem is reported.
    pub fn read<T>(&self, parse: impl Fn(&Self) -> Parsed<T>) -> Option<T> {
        parse(self)
            .map_err(|message| self.context.report_value(&self.path, &message))
            .ok()
    }

    /// Sets what the fingerprint counts as this value.
    pub fn count_as(&self, value: impl Display) {
        self.context.uncount(&self.path);
        let mut counted = self.context.counted.borrow_mut();
        counted.insert(self.path.clone(), value.to_string());
    }

    /// The text, trimmed. An empty text is an error.
    pub fn text(&self) -> Parsed<&str> {
        match &self.value.kind {
            ValueKind::String(text) if text.trim().is_empty() => {
                Err("is empty; give it a value or leave the key out".into())
            }
            ValueKind::String(text) => {
                let text = text.trim();
                self.count_as(text);
                Ok(text)
            }
            _ => Err(self.mismatch("a text in quotes")),
        }
    }

    pub(super) fn mismatch(&self, wanted: &str) -> String {
        let given = match &self.value.kind {
            ValueKind::Nil => "nothing",
            ValueKind::Boolean(_) => "true or false",
            ValueKind::Float(_) => "a fraction",
            ValueKind::String(_) => "a text",
            ValueKind::Table(_) => "a table",
            ValueKind::Array(_) => "a list",
            _ => "a number",
        };
        format!("must be {wanted}, not {given}")
    }

    pub fn string(&self) -> Parsed<String> {
        self.text().map(str::to_owned)
    }

    pub fn parse<T: FromStr<Err: Display>>(&self) -> Parsed<T> {
        self.text()?.parse::<T>().map_err(|error| error.to_string())
    }

    /// One of a few named values.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Parsed<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let allowed: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let suggestion = hint(text, &allowed);
        let text = for_display(text);
        Err(format!("unknown value `{text}`; {suggestion}"))
    }

    pub fn boolean(&self) -> Parsed<bool> {
        let flag = match &self.value.kind {
            ValueKind::Boolean(flag) => *flag,
            ValueKind::String(text) if text == "true" && self.is_from_environment() => true,
            ValueKind::String(text) if text == "false" && self.is_from_environment() => false,
            _ => return Err(self.mismatch("true or false")),
        };
        self.count_as(flag);
        Ok(flag)
    }

    pub fn integer<T: TryFrom<u64>>(&self, limits: &RangeInclusive<u64>) -> Parsed<T> {
        let number = match &self.value.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) if self.is_from_environment() => text.trim().parse().ok(),
            _ => return Err(self.mismatch("a whole number")),
        };
        let (min, max) = limits.clone().into_inner();
        number
            .filter(|number| limits.contains(number))
            .inspect(|number| self.count_as(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }

    pub fn number(&self, limits: &RangeInclusive<f64>) -> Parsed<f64> {
        let number = match &self.value.kind {
            #[expect(clippy::cast_precision_loss, reason = "the limits are far below 2^52")]
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::Float(number) => Some(*number),
            ValueKind::String(text) if self.is_from_environment() => text.trim().parse().ok(),
            _ => return Err(self.mismatch("a number")),
        };
        let (min, max) = limits.clone().into_inner();
        number
            .filter(|number| limits.contains(number))
            .inspect(|number| self.count_as(number))
            .ok_or_else(|| format!("must be a number from {min} to {max}"))
    }

    pub fn duration(&self, limits: &RangeInclusive<TimeDelta>) -> Parsed<TimeDelta> {
        if let ValueKind::I64(number) = &self.value.kind {
            let form = format!("write for example \"{number}s\"");
            return Err(format!("{number} has no unit; {form}"));
        }
        let text = self.text()?;
        let span = humantime::parse_duration(text)
            .ok()
            .and_then(|span| TimeDelta::from_std(span).ok())
            .ok_or_else(|| {
                let text = for_display(text);
                format!("{text:?} is not a duration; write it as 30s, 5m, 12h or 7d")
            })?;
        self.count_as(span);
        if !limits.contains(&span) {
            let [min, max] = [limits.start(), limits.end()].map(|limit| format_span(*limit));
            return Err(format!(
                "{text} is out of range; at least {min}, at most {max}"
            ));
        }
        Ok(span)
    }

    pub fn schedule(&self, zone: Tz) -> Parsed<Schedule> {
        Schedule::new(self.text()?, zone).map_err(|error| error.to_string())
    }

    /// A path, resolved against the folder of the configuration.
    pub fn path(&self) -> Parsed<PathBuf> {
        let text = self.text()?;
        if text.contains('\0') {
            return Err("a path cannot contain a NUL character".into());
        }
        self.count_as("a file");
        Ok(self.base().join(text))
    }

    pub fn base(&self) -> &Path {
        &self.context.base
    }

    /// A web address without user and password; errors suggest `example`.
    pub fn http_url(&self, example: &str) -> Parsed<Url> {
        let form = format!("write for example {example}");
        let url =
            Url::parse(self.text()?).map_err(|error| format!("is not a URL ({error}); {form}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("must begin with https:// or http://; {form}"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("must not contain a user, `?` or `#`; {form}"));
        }
        self.count_as(&url);
        Ok(url)
    }

    fn child(&self, path: String, value: Value) -> Self {
        Self {
            context: self.context,
            path,
            value,
        }
    }

    /// The items of a list; a variable separates them by commas.
    pub fn items(&self) -> Parsed<Vec<Self>> {
        let values = match &self.value.kind {
            ValueKind::Array(values) => values.clone(),
            ValueKind::String(text) if self.is_from_environment() => {
                let parts = text.split(',').map(str::trim);
                parts
                    .filter(|part| !part.is_empty())
                    .map(Value::from)
                    .collect()
            }
            _ => return Err(self.mismatch("a list such as [\"…\", \"…\"]")),
        };
        Ok(values
            .into_iter()
            .enumerate()
            .map(|(index, value)| self.child(format!("{}[{index}]", self.path), value))
            .collect())
    }

    /// The entries of a table whose keys the user chooses.
    pub fn entries(&self) -> Parsed<Vec<(String, Self)>> {
        let ValueKind::Table(values) = &self.value.kind else {
            return Err("must be a table such as { name = \"…\" }".into());
        };
        Ok(values
            .iter()
            .map(|(key, value)| {
                let path = join_path(&self.path, key);
                (key.clone(), self.child(path, value.clone()))
            })
            .collect())
    }

    /// Whether an environment variable set this value. Its text may then be a number, a boolean or a list.
    pub(super) fn is_from_environment(&self) -> bool {
        self.context.places.variable(&self.path).is_some()
    }
}

/// The content of a file; fails if it is larger than `max_kib`.
pub(super) fn read_file(path: &Path, max_kib: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(max_kib * 1024 + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_kib * 1024 {
        let message = format!("it is larger than {max_kib} KiB; is it the right file?");
        return Err(io::Error::other(message));
    }
    Ok(bytes)
}
