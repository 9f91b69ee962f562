//! Reads typed values from tables. A problem is recorded with its place and reading goes on, so that
//! one run reports everything that is wrong.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::error::{for_display, hint};
use super::field::{Context, Field, Parsed, Secrets};
use super::layers::{PREFIX, join_path};
use super::secret::is_unread;

type Key = &'static str;

/// Hands out its keys one by one. When it is dropped, it reports the remaining keys as unknown.
pub(super) struct Table<'c> {
    context: &'c Context<'c>,
    path: String,
    title: String,
    values: Map<String, Value>,
    is_present: bool,
    /// Set if the section was rejected as a whole, so that missing keys are not reported too.
    is_quiet: bool,
    known: Vec<Key>,
}

impl<'c> Table<'c> {
    pub fn root(context: &'c Context<'c>, values: Map<String, Value>) -> Self {
        Self {
            context,
            path: String::new(),
            title: "the configuration".into(),
            values,
            is_present: true,
            is_quiet: false,
            known: vec![],
        }
    }

    fn table(&self, path: String, title: String, values: Map<String, Value>) -> Self {
        let mut table = Self::root(self.context, values);
        table.path = path;
        table.title = title;
        table
    }

    /// The table `[name]`; empty if there is none.
    pub fn section(&mut self, name: Key) -> Self {
        let is_present = self.has(name);
        let values = self.optional(name, |field| match &field.value.kind {
            ValueKind::Table(values) => Ok(values.clone()),
            _ => Err(format!(
                "must be a section: write [{name}] and its keys below"
            )),
        });
        let is_quiet = is_present && values.is_none();
        let path = join_path(&self.path, name);
        let title = format!("[{path}]");
        let mut section = self.table(path, title, values.unwrap_or_default());
        section.is_present = is_present;
        section.is_quiet = is_quiet;
        section
    }

    /// The tables `[[name]]`, in their order.
    pub fn sections(&mut self, name: Key) -> Vec<Self> {
        let title = format!("[[{}]]", join_path(&self.path, name));
        let not_a_list = format!("can occur several times: write {title} with two brackets");
        let items = self.optional(name, |field| field.items().map_err(|_| not_a_list.clone()));
        let mut tables = Vec::new();
        for item in items.into_iter().flatten() {
            if let ValueKind::Table(values) = item.value.kind {
                tables.push(self.table(item.path, title.clone(), values));
            } else {
                let place = self.context.places.of_value(&item.path);
                self.context.report(place, not_a_list.clone());
            }
        }
        tables
    }

    /// True even if the section is empty.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// Whether a key is given and has not been read yet.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub fn optional<T>(&mut self, key: Key, parse: impl Fn(&Field<'c>) -> Parsed<T>) -> Option<T> {
        self.take(key)?.read(parse)
    }

    pub fn with_default<T>(
        &mut self,
        key: Key,
        default: T,
        parse: impl Fn(&Field<'c>) -> Parsed<T>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// The same; the fingerprint does not count a value that equals the default.
    pub fn or_default<T: PartialEq>(
        &mut self,
        key: Key,
        default: T,
        parse: impl Fn(&Field<'c>) -> Parsed<T>,
    ) -> T {
        let value = self.optional(key, parse);
        if value.as_ref() == Some(&default) {
            self.uncount(key);
        }
        value.unwrap_or(default)
    }

    /// Leaves a value out of the fingerprint.
    pub fn uncount(&self, key: &str) {
        self.context.uncount(&join_path(&self.path, key));
    }

    /// The text `off` means `None`.
    pub fn unless_off<T: PartialEq>(
        &mut self,
        key: Key,
        default: Option<T>,
        parse: impl Fn(&Field<'c>) -> Parsed<T>,
    ) -> Option<T> {
        self.or_default(key, default, |field| match field.text() {
            Ok("off") => Ok(None),
            _ => parse(field).map(Some),
        })
    }

    pub fn text(&mut self, key: Key) -> Option<String> {
        self.optional(key, Field::string)
    }

    pub fn path(&mut self, key: Key) -> Option<PathBuf> {
        self.optional(key, Field::path)
    }

    pub fn secret(&mut self, key: Key) -> Option<SecretString> {
        self.optional(key, Field::secret)
    }

    pub fn boolean(&mut self, key: Key, default: bool) -> bool {
        self.or_default(key, default, Field::boolean)
    }

    pub fn integer<T>(&mut self, key: Key, default: T, limits: RangeInclusive<u64>) -> T
    where
        T: TryFrom<u64> + PartialEq,
    {
        self.or_default(key, default, |field| field.integer(&limits))
    }

    pub fn number(&mut self, key: Key, default: f64, limits: RangeInclusive<f64>) -> f64 {
        self.or_default(key, default, |field| field.number(&limits))
    }

    pub fn duration(
        &mut self,
        key: Key,
        default: TimeDelta,
        limits: RangeInclusive<TimeDelta>,
    ) -> TimeDelta {
        self.or_default(key, default, |field| field.duration(&limits))
    }

    /// A time limit. With a longer one than an hour, what waits for it would hang.
    pub fn timeout(&mut self, key: Key, default: Duration) -> Duration {
        self.or_default(key, default, |field| {
            let timeout = field.duration(&(TimeDelta::seconds(1)..=TimeDelta::hours(1)))?;
            timeout.to_std().map_err(|error| error.to_string())
        })
    }

    pub fn choice<T: Copy + PartialEq>(&mut self, key: Key, choices: &[(Key, T)], default: T) -> T {
        self.or_default(key, default, |field| field.choice(choices))
    }

    /// `example` is a valid text for this key.
    pub fn required<T>(
        &mut self,
        key: Key,
        example: &str,
        parse: impl Fn(&Field<'c>) -> Parsed<T>,
    ) -> Option<T> {
        self.required_like(key, &format!("{example:?}"), parse)
    }

    /// A secret; `file` is an example for the name of its file.
    pub fn required_secret(&mut self, key: Key, file: &str) -> Option<SecretString> {
        self.required_like(key, &format!("{{ file = {file:?} }}"), Field::secret)
    }

    /// Like [`Table::check`], for a secret that may not have been read.
    pub fn check_secret(
        &self,
        key: Key,
        secret: Option<SecretString>,
        is_valid: impl Fn(&str) -> bool,
        why: &str,
    ) -> Option<SecretString> {
        let is_valid =
            |secret: &SecretString| is_unread(secret) || is_valid(secret.expose_secret());
        self.check(key, secret, is_valid, why)
    }

    pub fn required_url(&mut self, key: Key, example: &str) -> Option<Url> {
        self.required(key, example, |field| field.http_url(example))
    }

    fn required_like<T>(
        &mut self,
        key: Key,
        example: &str,
        parse: impl Fn(&Field<'c>) -> Parsed<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            if !self.is_quiet {
                self.refuse_section(self.missing_message(key, example));
            }
            return None;
        }
        self.optional(key, parse)
    }

    fn missing_message(&self, key: &str, example: &str) -> String {
        let title = &self.title;
        let path = join_path(&self.path, key);
        let message = format!("{path} is missing; write for example {key} = {example} in {title}");
        if title.starts_with("[[") {
            return message;
        }
        let name = path.replace('.', "__").to_uppercase();
        format!("{message}, or set {PREFIX}{name}")
    }

    /// The items of a list. Invalid items are reported and left out.
    pub fn list<T>(&mut self, key: Key, parse: impl Fn(&Field<'c>) -> Parsed<T>) -> Option<Vec<T>> {
        let items = self.optional(key, Field::items)?;
        Some(items.iter().filter_map(|item| item.read(&parse)).collect())
    }

    /// The entries of a table whose keys the user chooses. Invalid entries are reported and left out.
    pub fn map<T>(
        &mut self,
        key: Key,
        parse: impl Fn(&Field<'c>) -> Parsed<T>,
    ) -> BTreeMap<String, T> {
        let entries = self.optional(key, Field::entries).unwrap_or_default();
        entries
            .into_iter()
            .filter_map(|(name, field)| Some((name, field.read(&parse)?)))
            .collect()
    }

    /// Reports that the value of a key, valid by itself, is not allowed here.
    pub fn refuse(&self, key: &str, message: impl AsRef<str>) {
        self.context
            .report_value(&join_path(&self.path, key), message.as_ref());
    }

    /// The value if it is valid; otherwise `why` is reported.
    pub fn check<T>(
        &self,
        key: &str,
        value: Option<T>,
        is_valid: impl FnOnce(&T) -> bool,
        why: &str,
    ) -> Option<T> {
        let value = value?;
        if is_valid(&value) {
            return Some(value);
        }
        self.refuse(key, why);
        None
    }

    /// Reports a problem of the section as a whole.
    pub fn refuse_section(&self, message: String) {
        self.context
            .report(self.context.places.of_value(&self.path), message);
    }

    /// Whether the command uses the systems that the secrets are for.
    pub fn reads_secrets(&self) -> bool {
        self.context.secrets == Secrets::Read
    }

    pub fn env(&self) -> &HashMap<String, String> {
        self.context.env
    }

    pub fn base(&self) -> &Path {
        &self.context.base
    }

    /// Accepts all remaining keys; for sections of an unknown kind.
    pub fn ignore_remaining(&mut self) {
        self.values.clear();
    }

    fn take(&mut self, key: Key) -> Option<Field<'c>> {
        self.known.push(key);
        let value = self.values.remove(key)?;
        Some(Field {
            context: self.context,
            path: join_path(&self.path, key),
            value,
        })
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let is_root = self.path.is_empty();
        let what = if is_root { "section" } else { "key" };
        for key in self.values.keys() {
            let place = self.context.places.of_key(&join_path(&self.path, key));
            let suggestion = hint(key, &self.known);
            let title = &self.title;
            let key = for_display(key);
            let message = format!("unknown {what} `{key}` in {title}; {suggestion}");
            self.context.report(place, message);
        }
    }
}
