//! Merges the environment into the file and records where each value comes from.
//!
//! The `config` crate only merges. Its TOML reader loses positions and treats a top-level key as a path
//! expression (`"a[999999999]"` makes an array of that size), and its type guessing turns the password
//! `0123` into a number.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ::config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};
use toml_edit::{Document, Item, TableLike, TomlError};

use super::error::{Place, Problem, for_display};
use crate::text;

/// The prefix of every variable that overrides the file.
pub(super) const PREFIX: &str = "LAPSED__";

/// More parts than any key has. Deeper tables would overflow the stack.
const MAX_PARTS: usize = 8;

/// Tables that can occur several times; a variable cannot address one of them.
const REPEATED_TABLES: &[&str] = &["account", "source", "directory"];

/// Where values come from, by path (`smtp.url`, `source[0].name`).
#[derive(Default)]
pub(super) struct Places {
    file: Option<(PathBuf, String)>,
    /// Offsets in the text of the file.
    keys: HashMap<String, usize>,
    values: HashMap<String, usize>,
    variables: BTreeMap<String, String>,
}

#[derive(Default)]
pub(super) struct Merged {
    pub values: Map<String, Value>,
    pub places: Places,
    /// Problems with names; the values with these names are left out.
    pub problems: Vec<Problem>,
}

/// Merges the environment into the file.
///
/// # Errors
/// If the file is not TOML; nothing else can be checked then.
pub(super) fn merge(
    file: Option<(&Path, &[u8])>,
    env: &HashMap<String, String>,
) -> Result<Merged, Problem> {
    let mut merged = Merged::default();
    let values = match file {
        Some((path, bytes)) => merged.read_file(path, bytes)?,
        None => Map::new(),
    };
    let variables = merged.read_environment(env);
    merged.values = merge_values(values, variables).map_err(|error| Problem {
        place: merged.places.whole(),
        message: format!("cannot merge the environment into the file: {error}"),
    })?;
    Ok(merged)
}

fn merge_values(
    file: Map<String, Value>,
    variables: HashMap<String, String>,
) -> Result<Map<String, Value>, ConfigError> {
    let mut layers = Config::builder();
    for (key, value) in file {
        layers = layers.set_default(key, value)?;
    }
    let environment = Environment::with_prefix("LAPSED").separator("__");
    layers
        .add_source(environment.source(Some(variables)))
        .build()?
        .collect()
}

impl Merged {
    fn read_file(&mut self, path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| not_utf8(path, &bytes[..error.valid_up_to()]))?;
        let document = Document::parse(text).map_err(|error| syntax(path, text, &error))?;
        self.places.file = Some((path.to_owned(), text.to_owned()));
        let mut values = self.places.read_table(document.as_table(), "");
        // The `config` crate would treat other keys as path expressions.
        values.retain(|key, _| {
            if is_plain(key) {
                return true;
            }
            let place = self.places.of_key(key);
            let message = format!("unknown section or key `{}`", for_display(key));
            self.problems.push(Problem { place, message });
            false
        });
        Ok(values)
    }

    /// The variables that override the file. Their names are checked here because the `config` crate
    /// lower-cases them, so two can become one, and picks at random between `A__B` and `A__B__C`.
    fn read_environment(&mut self, env: &HashMap<String, String>) -> HashMap<String, String> {
        let mut names: Vec<_> = env.keys().filter(|name| name.starts_with(PREFIX)).collect();
        names.sort();
        for name in names {
            match self.variable_path(name) {
                Ok(path) => {
                    self.places.variables.insert(path, name.clone());
                }
                Err(message) => self.refuse_variable(name, message),
            }
        }
        let mut variables = HashMap::new();
        for (path, name) in self.places.variables.clone() {
            if let Some(other) = self.places.variable_within(&path) {
                let other = for_display(other);
                self.refuse_variable(
                    &name,
                    format!("conflicts with {other}; set only one of them"),
                );
                self.places.variables.remove(&path);
            } else {
                variables.insert(name.clone(), env[&name].clone());
            }
        }
        variables
    }

    /// The path of the value that a variable sets: `smtp.password` for `LAPSED__SMTP__PASSWORD`.
    fn variable_path(&self, name: &str) -> Result<String, String> {
        let lower = name[PREFIX.len()..].to_ascii_lowercase();
        let parts: Vec<_> = lower.split("__").collect();
        let is_path = (2..=MAX_PARTS).contains(&parts.len());
        if !is_path || !parts.iter().copied().all(is_plain) {
            return Err(
                "does not name a key; write LAPSED__SECTION__KEY, such as LAPSED__SMTP__URL".into(),
            );
        }
        if REPEATED_TABLES.contains(&parts[0]) {
            return Err(format!("[[{}]] can only be written in the file", parts[0]));
        }
        let path = parts.join(".");
        match self.places.variables.get(&path) {
            Some(other) => {
                let other = for_display(other);
                Err(format!(
                    "differs from {other} only in case; set only one of them"
                ))
            }
            None => Ok(path),
        }
    }

    fn refuse_variable(&mut self, name: &str, message: String) {
        let place = Place::Variable(name.to_owned());
        self.problems.push(Problem { place, message });
    }
}

/// The items of a list with their paths: `source[0]`.
fn indexed<T>(path: &str, items: impl Iterator<Item = T>) -> impl Iterator<Item = (String, T)> {
    let path = move |(index, item)| (format!("{path}[{index}]"), item);
    items.enumerate().map(path)
}

impl Places {
    /// Converts a table of the file to values and records where they are.
    fn read_table(&mut self, table: &dyn TableLike, path: &str) -> Map<String, Value> {
        let mut values = Map::new();
        for (name, item) in table.iter() {
            let path = join_path(path, name);
            let key = table.get_key_value(name).and_then(|(key, _)| key.span());
            if let Some(span) = key {
                self.keys.insert(path.clone(), span.start);
            }
            let value = self.item(item, &path);
            values.insert(name.to_owned(), value);
        }
        values
    }

    fn item(&mut self, item: &Item, path: &str) -> Value {
        let kind = match item {
            Item::None => ValueKind::Nil,
            Item::Table(table) => ValueKind::Table(self.read_table(table, path)),
            Item::ArrayOfTables(tables) => {
                let tables = indexed(path, tables.iter()).map(|(path, table)| {
                    let kind = ValueKind::Table(self.read_table(table, &path));
                    self.with_place(&path, table.span(), kind)
                });
                ValueKind::Array(tables.collect())
            }
            Item::Value(value) => self.value(value, path),
        };
        self.with_place(path, item.span(), kind)
    }

    fn value(&mut self, value: &toml_edit::Value, path: &str) -> ValueKind {
        use toml_edit::Value as Toml;
        match value {
            Toml::String(text) => ValueKind::String(text.value().clone()),
            Toml::Integer(number) => ValueKind::I64(*number.value()),
            Toml::Float(number) => ValueKind::Float(*number.value()),
            Toml::Boolean(flag) => ValueKind::Boolean(*flag.value()),
            Toml::Datetime(time) => ValueKind::String(time.value().to_string()),
            Toml::InlineTable(table) => ValueKind::Table(self.read_table(table, path)),
            Toml::Array(items) => {
                let items = indexed(path, items.iter()).map(|(path, item)| {
                    let kind = self.value(item, &path);
                    self.with_place(&path, item.span(), kind)
                });
                ValueKind::Array(items.collect())
            }
        }
    }

    fn with_place(&mut self, path: &str, span: Option<Range<usize>>, kind: ValueKind) -> Value {
        if let Some(span) = span {
            self.values.insert(path.to_owned(), span.start);
        }
        Value::new(None, kind)
    }

    /// The place of a value; if it is missing, the place of the nearest enclosing table.
    pub fn of_value(&self, path: &str) -> Place {
        self.find(path, &self.values)
    }

    pub fn of_key(&self, path: &str) -> Place {
        self.find(path, &self.keys)
    }

    /// The variable that sets the value with this path.
    pub fn variable(&self, path: &str) -> Option<&str> {
        self.variables.get(path).map(String::as_str)
    }

    /// A variable that sets a part of the table with this path.
    fn variable_within(&self, path: &str) -> Option<&str> {
        let inner = format!("{path}.");
        let (other, name) = self.variables.range(inner.clone()..).next()?;
        other.starts_with(&inner).then_some(name)
    }

    pub fn whole(&self) -> Place {
        match &self.file {
            Some((path, _)) => Place::WholeFile(path.clone()),
            None => Place::Environment,
        }
    }

    fn find(&self, path: &str, first: &HashMap<String, usize>) -> Place {
        if let Some(name) = self.variables.get(path) {
            return Place::Variable(name.clone());
        }
        let mut offsets = [first, &self.values, &self.keys].into_iter();
        let offset = offsets.find_map(|offsets| offsets.get(path));
        if let (Some(offset), Some((file, text))) = (offset, &self.file) {
            return Place::in_file(file, text, *offset);
        }
        if let Some(name) = self.variable_within(path) {
            return Place::Variable(name.to_owned());
        }
        match path.rfind(['.', '[']) {
            Some(end) => self.find(&path[..end], first),
            None => self.whole(),
        }
    }
}

/// Whether a key is a name, and neither empty nor a path expression of the `config` crate.
fn is_plain(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    !key.is_empty() && key.chars().all(plain)
}

pub(super) fn join_path(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn not_utf8(path: &Path, valid: &[u8]) -> Problem {
    let text = String::from_utf8_lossy(valid);
    Problem {
        place: Place::in_file(path, &text, text.len()),
        message: "is not UTF-8 text; save the file as UTF-8".into(),
    }
}

fn syntax(path: &Path, text: &str, error: &TomlError) -> Problem {
    let offset = error.span().map_or(text.len(), |span| span.start);
    let place = Place::in_file(path, text, offset);
    let excerpt = match &place {
        Place::File { line, column, .. } => excerpt(text, *line, *column),
        _ => String::new(),
    };
    Problem {
        place,
        message: format!("not valid TOML: {}{excerpt}", error.message().trim_end()),
    }
}

/// The line with a caret below it, secrets masked; empty if the column is too far right.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    const MAX_WIDTH: usize = 100;
    let content = text.split('\n').nth(line - 1).unwrap_or_default();
    if column > MAX_WIDTH {
        return String::new();
    }
    let content: String = masked(content).chars().take(MAX_WIDTH).collect();
    let margin = " ".repeat(line.to_string().len());
    let indent = " ".repeat(column - 1);
    format!(
        "\n{margin} |\n{line} | {}\n{margin} | {indent}^",
        text::clean(content.trim_end())
    )
}

/// Replaces possible secrets by stars: everything after `password`, `secret` or `://`.
fn masked(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let secret_start = ["password", "passwd", "secret", "://"]
        .iter()
        .filter_map(|word| Some(lower.find(word)? + word.len()))
        .min();
    let (open, hidden) = line.split_at(secret_start.unwrap_or(line.len()));
    let is_secret =
        |c: char| (c.is_alphanumeric() || c.is_ascii_graphic()) && !"=\"'{}".contains(c);
    format!("{open}{}", hidden.replace(is_secret, "*"))
}
