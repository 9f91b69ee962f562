//! Reading typed values out of tables. A problem is noted with its place and reading goes on, so
//! that one look shows everything that is wrong.

use std::{
    cell::RefCell,
    collections::HashMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use ::config::{Map, Value, ValueKind};
use chrono::TimeDelta;
use secrecy::SecretString;

use super::{
    error::{Place, Problem, hint, shown},
    layers::{Places, joined},
    secret::SecretPlace,
};

/// What all tables share while they are read.
pub(super) struct Context<'a> {
    /// The environment, for secrets.
    pub env: &'a HashMap<String, String>,
    /// The folder that relative paths start from.
    pub base: PathBuf,
    /// Where values stand.
    pub places: Places,
    /// What was wrong so far.
    pub problems: RefCell<Vec<Problem>>,
}

impl Context<'_> {
    fn note(&self, place: Place, message: String) {
        self.problems.borrow_mut().push(Problem { place, message });
    }
}

/// A table of which keys are taken one by one; what is left at the end is unknown.
pub(super) struct Table<'c> {
    context: &'c Context<'c>,
    path: String,
    title: String,
    values: Map<String, Value>,
    is_present: bool,
    known: Vec<&'static str>,
}

/// The value of a key, with what it takes to explain what is wrong with it.
pub(super) struct Field<'c> {
    context: &'c Context<'c>,
    path: String,
    value: Value,
}

impl<'c> Table<'c> {
    /// The table that holds all others.
    pub fn root(context: &'c Context<'c>, values: Map<String, Value>) -> Self {
        Self {
            context,
            path: String::new(),
            title: "the configuration".into(),
            values,
            is_present: true,
            known: vec![],
        }
    }

    /// The table `[name]`, empty when there is none.
    pub fn section(&mut self, name: &'static str) -> Self {
        let title = format!("[{name}]");
        let values = match self.take(name).map(|field| field.value.kind) {
            None => None,
            Some(ValueKind::Table(values)) => Some(values),
            Some(_) => {
                self.refuse(
                    name,
                    &format!("must be a section: write {title} and its keys below"),
                );
                Some(Map::new())
            }
        };
        self.table(joined(&self.path, name), title, values)
    }

    /// The tables `[[name]]`.
    pub fn sections(&mut self, name: &'static str) -> Vec<Self> {
        let title = format!("[[{name}]]");
        let twice = format!("there may be many: write {title} with two brackets");
        let tables = match self.take(name).map(|field| field.value.kind) {
            None => vec![],
            Some(ValueKind::Array(tables)) => tables,
            Some(_) => {
                self.refuse(name, &twice);
                vec![]
            }
        };
        let mut read = vec![];
        for (index, table) in tables.into_iter().enumerate() {
            let path = format!("{}[{index}]", joined(&self.path, name));
            match table.kind {
                ValueKind::Table(values) => {
                    read.push(self.table(path, title.clone(), Some(values)))
                }
                _ => self
                    .context
                    .note(self.context.places.of_value(&path), twice.clone()),
            }
        }
        read
    }

    fn table(&self, path: String, title: String, values: Option<Map<String, Value>>) -> Self {
        Self {
            context: self.context,
            path,
            title,
            is_present: values.is_some(),
            values: values.unwrap_or_default(),
            known: vec![],
        }
    }

    /// Whether the table is there at all, be it empty.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// Whether a key is given and was not yet taken.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The value of a key that may be left out.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Field<'c>) -> Result<T, String>,
    ) -> Option<T> {
        let field = self.take(key)?;
        match parse(&field) {
            Ok(value) => Some(value),
            Err(message) => {
                field.refuse(&message);
                None
            }
        }
    }

    /// The value of a key that has a default.
    pub fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Field<'c>) -> Result<T, String>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The value of a key that must be there; `example` is a line that would do.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&Field<'c>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.values.contains_key(key) {
            self.known.push(key);
            let path = joined(&self.path, key);
            let place = self.context.places.of_value(&self.path);
            let title = &self.title;
            self.context.note(
                place,
                format!("{path} is missing; write for example {example} in {title}"),
            );
            return None;
        }
        self.optional(key, parse)
    }

    /// The values of a list; from a variable, parted by commas. Each that is wrong is noted.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Field<'c>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let field = self.take(key)?;
        let items = match field.items() {
            Ok(items) => items,
            Err(message) => {
                field.refuse(&message);
                return None;
            }
        };
        let read = |item: Field<'c>| parse(&item).map_err(|message| item.refuse(&message)).ok();
        Some(items.into_iter().filter_map(read).collect())
    }

    /// Notes that the value of a key, fine by itself, cannot be.
    pub fn refuse(&self, key: &str, message: &str) {
        let path = joined(&self.path, key);
        let place = self.context.places.of_value(&path);
        self.context.note(place, format!("{path}: {message}"));
    }

    /// Notes that something is wrong with the table as a whole.
    pub fn refuse_whole(&self, message: String) {
        self.context
            .note(self.context.places.of_value(&self.path), message);
    }

    /// The folder that relative paths start from.
    pub fn base(&self) -> &Path {
        &self.context.base
    }

    /// Lets the keys that nobody took pass, because nobody can tell what they should be.
    pub fn forget_rest(&mut self) {
        self.values.clear();
    }

    /// Notes every key that nobody took.
    pub fn finish(self) {
        for key in self.values.keys() {
            let path = joined(&self.path, key);
            let what = if self.path.is_empty() {
                "section"
            } else {
                "key"
            };
            let message = format!(
                "unknown {what} `{}` in {}; {}",
                shown(key),
                self.title,
                hint(key, &self.known)
            );
            self.context
                .note(self.context.places.of_key(&path), message);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Field<'c>> {
        self.known.push(key);
        let value = self.values.remove(key)?;
        Some(Field {
            context: self.context,
            path: joined(&self.path, key),
            value,
        })
    }
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

    fn items(&self) -> Result<Vec<Self>, String> {
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

    fn refuse(&self, message: &str) {
        let place = self.context.places.of_value(&self.path);
        self.context
            .note(place, format!("{}: {message}", self.path));
    }
}

fn name(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_) => "a number",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
