//! One value, read as what it should be. What is wrong with it is a text that says what to write.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use ::config::{Map, Value, ValueKind};
use chrono::TimeDelta;
use secrecy::SecretString;
use url::Url;

use super::{
    error::{hint, shown},
    layers::joined,
    secret::SecretPlace,
    table::Context,
};

/// The value of a key, or an item of one, with what it takes to explain what is wrong with it.
pub(super) struct Field<'c> {
    /// What all values share.
    pub context: &'c Context<'c>,
    /// Its path, such as `notify.steps[1]`.
    pub path: String,
    /// The value as it stands.
    pub value: Value,
}

impl Field<'_> {
    /// A text that is not empty.
    pub fn text(&self) -> Result<&str, String> {
        match &self.value.kind {
            ValueKind::String(text) if text.trim().is_empty() => {
                Err("is empty; give it a value or leave it out".into())
            }
            ValueKind::String(text) => Ok(text.trim()),
            other => Err(format!("must be a text in quotes, not {}", name(other))),
        }
    }

    /// A text that another type knows how to read.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&self) -> Result<T, String> {
        self.text()?
            .parse()
            .map_err(|error: T::Err| error.to_string())
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, String> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("unknown word `{}`; {}", shown(text), hint(text, &allowed)))
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Result<bool, String> {
        match &self.value.kind {
            ValueKind::Boolean(flag) => Ok(*flag),
            ValueKind::String(text) if text == "true" && self.is_variable() => Ok(true),
            ValueKind::String(text) if text == "false" && self.is_variable() => Ok(false),
            other => Err(format!("must be true or false, not {}", name(other))),
        }
    }

    /// A whole number within limits.
    pub fn whole<T: TryFrom<u64>>(&self, limits: RangeInclusive<u64>) -> Result<T, String> {
        let number = match &self.value.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) if self.is_variable() => text.trim().parse().ok(),
            other => return Err(format!("must be a whole number, not {}", name(other))),
        };
        let (least, most) = (limits.start(), limits.end());
        number
            .filter(|number| limits.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }

    /// A number within limits.
    pub fn number(&self, limits: RangeInclusive<f64>) -> Result<f64, String> {
        let number = match &self.value.kind {
            #[expect(clippy::cast_precision_loss, reason = "the limits are far below 2^52")]
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::Float(number) => Some(*number),
            ValueKind::String(text) if self.is_variable() => text.trim().parse().ok(),
            other => return Err(format!("must be a number, not {}", name(other))),
        };
        number
            .filter(|number| limits.contains(number))
            .ok_or_else(|| {
                format!(
                    "must be a number from {} to {}",
                    limits.start(),
                    limits.end()
                )
            })
    }

    /// A span of time that is at least so long.
    pub fn span(&self, least: TimeDelta) -> Result<TimeDelta, String> {
        const LONGEST_DAYS: i64 = 36_500;
        let text = match &self.value.kind {
            ValueKind::I64(number) => {
                return Err(format!(
                    "{number} has no unit; write for example \"{number}s\""
                ));
            }
            _ => self.text()?,
        };
        let span = humantime::parse_duration(text)
            .ok()
            .and_then(|span| TimeDelta::from_std(span).ok())
            .ok_or_else(|| {
                format!(
                    "{:?} is not a span of time; write it as 30s, 5m, 12h or 7d",
                    shown(text)
                )
            })?;
        if span < least || span > TimeDelta::days(LONGEST_DAYS) {
            let least = humantime::format_duration(least.to_std().unwrap_or_default());
            return Err(format!(
                "{text} is out of range; at least {least}, at most {LONGEST_DAYS}d"
            ));
        }
        Ok(span)
    }

    /// A path, resolved against the folder of the configuration.
    pub fn path(&self) -> Result<PathBuf, String> {
        let text = self.text()?;
        if text.contains('\0') {
            return Err("a path has no NUL in it".into());
        }
        Ok(self.base().join(text))
    }

    /// The folder that relative paths start from.
    pub fn base(&self) -> &Path {
        &self.context.base
    }

    /// The address of a site, whose credentials stand elsewhere.
    pub fn site(&self) -> Result<Url, String> {
        const FORM: &str = "write for example https://rancher.example.org";
        let url = self.text()?.parse::<Url>();
        let url = url.map_err(|error| format!("is not a URL ({error}); {FORM}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("must begin with https:// or http://; {FORM}"));
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("must have no user, `?` or `#`; {FORM}"));
        }
        Ok(url)
    }

    /// A secret: a text, or a table that says where it is. No message holds any of it.
    pub fn secret(&self) -> Result<SecretString, String> {
        let table = match &self.value.kind {
            ValueKind::String(text) if text.is_empty() => return Err("is empty".into()),
            ValueKind::String(text) => return Ok(text.clone().into()),
            ValueKind::Table(table) => table,
            other => {
                let form = "{ file = \"…\" }, { env = \"…\" } or { credential = \"…\" }";
                return Err(format!(
                    "must be a text in quotes, or {form}, not {}",
                    name(other)
                ));
            }
        };
        self.secret_place(table)?.fetch(self.context.env)
    }

    fn secret_place(&self, table: &Map<String, Value>) -> Result<SecretPlace, String> {
        const FORMS: &[&str] = &["file", "env", "credential"];
        if let Some(unknown) = table
            .keys()
            .filter(|key| !FORMS.contains(&key.as_str()))
            .min()
        {
            return Err(format!(
                "unknown key `{}`; {}",
                shown(unknown),
                hint(unknown, FORMS)
            ));
        }
        // A variable replaces the file's way, though the layers keep both in one table.
        let is_variable = |key: &&String| {
            self.context
                .places
                .variable(&joined(&self.path, key))
                .is_some()
        };
        let mut keys: Vec<_> = table.keys().filter(is_variable).collect();
        if keys.is_empty() {
            keys = table.keys().collect();
        }
        let [key] = keys.as_slice() else {
            return Err("say in one way where it is: file, env or credential".into());
        };
        let field = Field {
            context: self.context,
            path: joined(&self.path, key),
            value: table[*key].clone(),
        };
        let named = |message: String| format!("{key}: {message}");
        Ok(match key.as_str() {
            "file" => SecretPlace::File(field.path().map_err(named)?),
            "env" => SecretPlace::Variable(field.text().map_err(named)?.to_owned()),
            _ => SecretPlace::Credential(field.text().map_err(named)?.to_owned()),
        })
    }

    /// The items of a list; in a variable they are parted by commas.
    pub fn items(&self) -> Result<Vec<Self>, String> {
        let values = match &self.value.kind {
            ValueKind::Array(values) => values.clone(),
            ValueKind::String(text) if self.is_variable() => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                parts.map(Value::from).collect()
            }
            other => {
                return Err(format!(
                    "must be a list such as [\"…\", \"…\"], not {}",
                    name(other)
                ));
            }
        };
        let item = |(index, value)| Self {
            context: self.context,
            path: format!("{}[{index}]", self.path),
            value,
        };
        Ok(values.into_iter().enumerate().map(item).collect())
    }

    /// Variables are texts, whatever they are to become.
    fn is_variable(&self) -> bool {
        self.context.places.variable(&self.path).is_some()
    }

    /// Notes what is wrong with it.
    pub fn refuse(&self, message: &str) {
        let place = self.context.places.of_value(&self.path);
        self.context
            .note(place, format!("{}: {message}", self.path));
    }
}

fn name(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            "a number"
        }
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
