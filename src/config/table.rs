//! Reads typed values from tables. A problem is recorded with its place and reading goes on, so that
//! one run reports everything that is wrong.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ::config::{Map, Value, ValueKind};

use super::error::{Place, Problem, for_display, hint};
use super::field::Field;
use super::layers::{PREFIX, Places, join_path};

/// Shared by all tables while they are read.
pub(super) struct Context<'a> {
    /// For secrets.
    pub env: &'a HashMap<String, String>,
    /// The folder against which relative paths are resolved.
    pub base: PathBuf,
    pub places: Places,
    pub problems: RefCell<Vec<Problem>>,
}

impl Context<'_> {
    pub fn note(&self, place: Place, message: String) {
        self.problems.borrow_mut().push(Problem { place, message });
    }
}

/// Hands out its keys one by one; [`Table::finish`] reports those left over as unknown.
pub(super) struct Table<'c> {
    context: &'c Context<'c>,
    path: String,
    title: String,
    values: Map<String, Value>,
    is_present: bool,
    /// Set if the section was rejected as a whole, so that missing keys are not reported too.
    is_quiet: bool,
    known: Vec<&'static str>,
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

    /// The table `[name]`; empty if there is none.
    pub fn section(&mut self, name: &'static str) -> Self {
        let title = format!("[{name}]");
        let path = join_path(&self.path, name);
        match self.take(name).map(|field| field.value.kind) {
            None => self.table(path, title, None),
            Some(ValueKind::Table(values)) => self.table(path, title, Some(values)),
            Some(_) => {
                let message = format!("must be a section: write {title} and its keys below");
                self.refuse(name, &message);
                Self {
                    is_quiet: true,
                    ..self.table(path, title, Some(Map::new()))
                }
            }
        }
    }

    /// The tables `[[name]]`.
    pub fn sections(&mut self, name: &'static str) -> Vec<Self> {
        let title = format!("[[{name}]]");
        let not_a_list = format!("can occur several times: write {title} with two brackets");
        let tables = match self.take(name).map(|field| field.value.kind) {
            None => vec![],
            Some(ValueKind::Array(tables)) => tables,
            Some(_) => {
                self.refuse(name, &not_a_list);
                vec![]
            }
        };
        let mut read = vec![];
        for (index, table) in tables.into_iter().enumerate() {
            let path = format!("{}[{index}]", join_path(&self.path, name));
            if let ValueKind::Table(values) = table.kind {
                read.push(self.table(path, title.clone(), Some(values)));
            } else {
                let place = self.context.places.of_value(&path);
                self.context.note(place, not_a_list.clone());
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
            is_quiet: false,
            values: values.unwrap_or_default(),
            known: vec![],
        }
    }

    /// True even if the section is empty.
    pub fn is_present(&self) -> bool {
        self.is_present
    }

    /// Whether a key is given and has not been read yet.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

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

    pub fn with_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Field<'c>) -> Result<T, String>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// `example` is a valid line for this key.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&Field<'c>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.values.contains_key(key) {
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
        let mut message = format!("{path} is missing; write for example {example} in {title}");
        if !title.starts_with("[[") {
            let name = path.replace('.', "__").to_uppercase();
            let _ = write!(message, ", or set {PREFIX}{name}");
        }
        message
    }

    /// The items of a list. Invalid items are reported and left out.
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

    /// The entries of a table with free names. Invalid entries are reported and left out.
    pub fn map<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Field<'c>) -> Result<T, String>,
    ) -> BTreeMap<String, T> {
        let Some(field) = self.take(key) else {
            return BTreeMap::new();
        };
        let ValueKind::Table(values) = field.value.kind else {
            self.refuse(key, "must be a table such as { name = \"…\" }");
            return BTreeMap::new();
        };
        let read = |(name, value): (String, Value)| {
            let item = Field {
                context: self.context,
                path: join_path(&field.path, &name),
                value,
            };
            let value = parse(&item).map_err(|message| item.refuse(&message)).ok()?;
            Some((name, value))
        };
        values.into_iter().filter_map(read).collect()
    }

    /// Reports that the value of a key, valid by itself, is not allowed here.
    pub fn refuse(&self, key: &str, message: &str) {
        let path = join_path(&self.path, key);
        let place = self.context.places.of_value(&path);
        self.context.note(place, format!("{path}: {message}"));
    }

    /// Reports a problem of the section as a whole.
    pub fn refuse_section(&self, message: String) {
        self.context
            .note(self.context.places.of_value(&self.path), message);
    }

    pub fn base(&self) -> &Path {
        &self.context.base
    }

    /// Accepts all remaining keys; for sections of an unknown kind.
    pub fn ignore_remaining(&mut self) {
        self.values.clear();
    }

    /// Reports every remaining key as unknown.
    pub fn finish(self) {
        for key in self.values.keys() {
            let path = join_path(&self.path, key);
            let what = if self.path.is_empty() {
                "section"
            } else {
                "key"
            };
            let message = format!(
                "unknown {what} `{}` in {}; {}",
                for_display(key),
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
            path: join_path(&self.path, key),
            value,
        })
    }
}
