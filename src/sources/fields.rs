//! Reads the responses of systems field by field: a field of another shape than documented is one unreadable cell, and
//! an item of a list without an id is one refused record.

use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::cells::{self, CellReader, CellRules, Value};
use super::{RefusedRow, RefusedRows};
use crate::domain::{Address, Cell, Expiry, ListedToken, Unreadable, column};
use crate::time::DateRules;

/// A field that should hold a text, a number or a flag.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Field {
    #[default]
    Absent,
    Null,
    Text(String),
    Number(serde_json::Number),
    Flag(bool),
    /// What it is instead.
    Odd(&'static str),
}

/// An object, or what is in its place.
#[derive(Debug, Clone, Default)]
pub(crate) enum Item<T> {
    #[default]
    Absent,
    Object(T),
    Odd(&'static str),
}

/// A list of objects. One object counts as a list of one.
#[derive(Debug, Clone)]
pub(crate) struct Items<T>(pub Vec<Item<T>>);

/// A list of texts. One text counts as a list of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts(pub Vec<String>);

impl Field {
    /// The text; a number or a flag as text. `None` if it is blank.
    pub fn text(&self) -> Option<String> {
        let text = match self {
            Self::Text(text) => text.trim().to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Absent | Self::Null | Self::Odd(_) => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The id of a record: a text, or a whole number.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::Number(number) if number.is_f64() => None,
            Self::Text(_) | Self::Number(_) => {
                self.text().filter(|id| id.len() <= super::MAX_ID_LENGTH)
            }
            Self::Absent | Self::Null | Self::Flag(_) | Self::Odd(_) => None,
        }
    }

    /// A whole number, also as a text; `Ok(None)` if the field is missing or null.
    pub fn integer(&self) -> Result<Option<i64>, String> {
        let integer = match self {
            Self::Absent | Self::Null => return Ok(None),
            Self::Number(number) => number.as_i64(),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Flag(_) | Self::Odd(_) => None,
        };
        match integer {
            Some(integer) => Ok(Some(integer)),
            None => Err(format!("{} is not a whole number", self.describe())),
        }
    }

    /// `Ok(None)` if the field is missing or null.
    pub fn flag(&self) -> Result<Option<bool>, String> {
        let text = match self {
            Self::Absent | Self::Null => return Ok(None),
            Self::Flag(flag) => return Ok(Some(*flag)),
            _ => self.text().unwrap_or_default().to_lowercase(),
        };
        match text.as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(format!("{} is neither true nor false", self.describe())),
        }
    }

    /// The flag, where one that cannot be read counts as missing.
    pub fn is(&self, flag: bool) -> bool {
        self.flag() == Ok(Some(flag))
    }

    pub fn from_real(number: f64) -> Self {
        let number = serde_json::Number::from_f64(number);
        number.map_or(Self::Odd("not a number"), Self::Number)
    }

    fn describe(&self) -> String {
        match self {
            Self::Odd(what) => (*what).to_owned(),
            field => cells::quote_value(&field.text().unwrap_or_default()),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Absent => Value::Absent,
            Self::Null => Value::Empty,
            Self::Text(text) => Value::text(text),
            Self::Number(number) => Value::Other(number.to_string(), "a number"),
            Self::Flag(flag) => Value::Other(flag.to_string(), "true or false"),
            Self::Odd(what) => Value::Unreadable(format!("is {what}")),
        }
    }
}

impl<T: Into<String>> From<Option<T>> for Field {
    fn from(text: Option<T>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Item<T> {
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Absent | Self::Odd(_) => None,
        }
    }

    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Absent | Self::Odd(_) => None,
        }
    }
}

impl<T> Items<T> {
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(Item::get)
    }
}

/// The objects of a list that have an id; the others are refused.
pub(crate) fn with_ids<T>(
    items: Vec<Item<T>>,
    place: &str,
    has_id: impl Fn(&T) -> bool,
    refusals: &mut RefusedRows,
) -> Vec<T> {
    let mut objects = Vec::with_capacity(items.len());
    for (number, item) in (1..).zip(items) {
        let reason = match item {
            Item::Object(object) if has_id(&object) => {
                objects.push(object);
                continue;
            }
            Item::Object(_) => "it has no usable id".to_owned(),
            Item::Absent => "it is null instead of an object".to_owned(),
            Item::Odd(what) => format!("it is {what} instead of an object"),
        };
        refusals.add(RefusedRow {
            file: place.to_owned(),
            line: number,
            reason,
        });
    }
    objects
}

/// Reads the cells of one record.
#[derive(Debug, Default)]
pub(crate) struct FieldReader {
    unreadable: Unreadable,
}

impl FieldReader {
    /// These systems write dates without a zone in UTC.
    fn read<T>(&mut self, read: impl FnOnce(&mut CellReader<'_>) -> T) -> T {
        let rules = CellRules {
            dates: DateRules::utc(),
            ..CellRules::default()
        };
        let mut units = std::collections::BTreeSet::new();
        let mut reader = CellReader {
            rules: &rules,
            unreadable: std::mem::take(&mut self.unreadable),
            units: &mut units,
        };
        let cell = read(&mut reader);
        self.unreadable = reader.unreadable;
        cell
    }

    /// A missing field is an empty cell.
    pub fn text(&mut self, column: &str, field: &Field) -> Cell<String> {
        match field {
            Field::Absent | Field::Null => Cell::Empty,
            field => self.read(|reader| reader.text(column, field.value())),
        }
    }

    /// A text that is not an address, such as a login name, is an empty cell.
    pub fn address(&mut self, field: &Field) -> Cell<Address> {
        if let Field::Odd(what) = field {
            self.refuse(column::ISSUER, format!("is {what}"));
            return Cell::Absent;
        }
        let Some(text) = field.text() else {
            return Cell::Empty;
        };
        match Address::parse_cell(&text) {
            Ok(address) => Cell::Value(address),
            Err(invalid) if text.contains('@') => {
                let reason = format!("{} {}", cells::quote(&text), invalid.reason);
                self.refuse(column::ISSUER, reason);
                Cell::Absent
            }
            Err(_) => Cell::Empty,
        }
    }

    /// A missing field is an empty cell.
    pub fn instant(&mut self, column: &str, field: &Field) -> Cell<DateTime<Utc>> {
        match field {
            Field::Absent | Field::Null => Cell::Empty,
            field => self.read(|reader| reader.instant(column, field.value())),
        }
    }

    /// A missing or empty field is an unknown expiry.
    pub fn expiry(&mut self, field: &Field) -> Cell<Expiry> {
        match field {
            Field::Absent | Field::Null => Cell::Value(Expiry::Unknown),
            field => {
                let (expiry, _) =
                    self.read(|reader| reader.expiry(column::EXPIRES_AT, field.value()));
                expiry
            }
        }
    }

    /// An expiry that was computed.
    pub fn expiry_at(&mut self, at: DateTime<Utc>) -> Cell<Expiry> {
        match cells::to_expiry(at) {
            Ok(expiry) => Cell::Value(expiry),
            Err(reason) => {
                self.refuse(column::EXPIRES_AT, reason);
                Cell::Absent
            }
        }
    }

    /// The flag; one that cannot be read makes the cell of this column unreadable.
    pub fn flag(&mut self, column: &str, field: &Field) -> Option<bool> {
        field.flag().unwrap_or_else(|reason| {
            self.refuse(column, reason);
            None
        })
    }

    pub fn integer(&mut self, column: &str, field: &Field) -> Option<i64> {
        field.integer().unwrap_or_else(|reason| {
            self.refuse(column, reason);
            None
        })
    }

    pub fn refuse(&mut self, column: &str, reason: String) {
        self.unreadable.insert(column.to_owned(), reason);
    }

    pub fn is_readable(&self, column: &str) -> bool {
        !self.unreadable.contains_key(column)
    }

    /// The token with the cells that could not be read.
    pub fn finish(self, token: ListedToken) -> ListedToken {
        ListedToken {
            unreadable: self.unreadable,
            ..token
        }
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_none<E>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Field, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Field, E> {
        Ok(Field::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Field, E> {
        Ok(Field::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Field, E> {
        Ok(Field::from_real(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Odd("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Odd("an object"))
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(FieldVisitor)
    }
}

/// Reads an object as `T`, and everything else as a [`Field`].
struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Item<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Item<T>, E> {
        Ok(Item::Absent)
    }

    fn visit_none<E>(self) -> Result<Item<T>, E> {
        Ok(Item::Absent)
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Item<T>, D::Error> {
        value.deserialize_any(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item<T>, E> {
        Ok(Item::Odd("true or false"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item<T>, E> {
        Ok(Item::Odd("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item<T>, E> {
        Ok(Item::Odd("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item<T>, E> {
        Ok(Item::Odd("a number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Item<T>, E> {
        Ok(Item::Odd("a text"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::Odd("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Item<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries)).map(Item::Object)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The items of a JSON value that should be a list.
#[derive(Deserialize)]
#[serde(untagged, bound = "T: Deserialize<'de>")]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        Ok(Self(match OneOrMany::deserialize(value)? {
            OneOrMany::Many(items) => items,
            OneOrMany::One(Item::Absent) => Vec::new(),
            OneOrMany::One(item) => vec![item],
        }))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let fields = match OneOrMany::<Field>::deserialize(value)? {
            OneOrMany::Many(fields) => fields,
            OneOrMany::One(field) => vec![field],
        };
        Ok(Self(fields.iter().filter_map(Field::text).collect()))
    }
}

/// Generated answers: one record of a good list is changed at one place.
#[cfg(test)]
pub(super) mod generated;
