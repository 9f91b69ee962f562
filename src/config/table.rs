//! Reading typed values out of tables. A problem is noted with its place and reading goes on, so
//! that one look shows everything that is wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::Write,
    path::{Path, PathBuf},
};

use ::config::{Map, Value, ValueKind};

use super::{
    error::{Place, Problem, hint, shown},
    field::Field,
    layers::{PREFIX, Places, joined},
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
    /// Takes note of a problem.
    pub fn note(&self, place: Place, message: String) {
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
    /// Set when it stands for something that was refused as a whole: nothing more is said of it.
    is_quiet: bool,
    known: Vec<&'static str>,
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
            is_quiet: false,
            known: vec![],
        }
    }

    /// The table `[name]`, empty when there is none.
    pub fn section(&mut self, name: &'static str) -> Self {
        let title = format!("[{name}]");
        let path = joined(&self.path, name);
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
            if let ValueKind::Table(values) = table.kind {
                read.push(self.table(path, title.clone(), Some(values)));
            } else {
                let place = self.context.places.of_value(&path);
                self.context.note(place, twice.clone());
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
            if !self.is_quiet {
                self.refuse_whole(self.missing(key, example));
            }
            return None;
        }
        self.optional(key, parse)
    }

    fn missing(&self, key: &str, example: &str) -> String {
        let title = &self.title;
        let path = joined(&self.path, key);
        let mut message = format!("{path} is missing; write for example {example} in {title}");
        if !title.starts_with("[[") {
            let name = path.replace('.', "__").to_uppercase();
            let _ = write!(message, ", or set {PREFIX}{name}");
        }
        message
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

    /// The values of a table of names. Each that is wrong is noted.
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
                path: joined(&field.path, &name),
                value,
            };
            let value = parse(&item).map_err(|message| item.refuse(&message)).ok()?;
            Some((name, value))
        };
        values.into_iter().filter_map(read).collect()
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
