//! Reads the cells of a JSON object.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;

use super::super::cells::Value;
use super::columns::Columns;
use super::names::Names;
use super::split::{NOT_UTF_8, RawRow};

pub(super) fn json_values<const N: usize>(
    columns: &Columns<N>,
    names: &Names,
    row: &RawRow,
) -> Result<[Value; N], String> {
    let text = row.text()?;
    if text.is_empty() {
        return Err("a row is missing here; remove the comma".to_owned());
    }
    // Checked here, because serde_json's message about another type quotes the value.
    if !text.starts_with('{') {
        let name = columns.names[0];
        return Err(format!("a row must be an object: {{\"{name}\": …}}"));
    }
    let mut reader = serde_json::Deserializer::from_str(&text);
    let object = Object { columns, names };
    let mut values = reader
        .deserialize_map(object)
        .and_then(|values| reader.end().map(|()| values))
        .map_err(|error| {
            let column = error.column();
            let position = format!(" at line {} column {column}", error.line());
            let text = error.to_string();
            let text = text.trim_end_matches(&position);
            let line_in_file = row.start + (error.line() as u64).saturating_sub(1);
            format!("this is not JSON (line {line_in_file}, column {column}: {text})")
        })??;
    if let Cow::Owned(_) = text {
        for value in &mut values {
            if matches!(value, Value::Text(text) if text.contains('\u{fffd}')) {
                *value = Value::Unreadable(NOT_UTF_8.to_owned());
            }
        }
    }
    Ok(values)
}

/// Reads an object. The inner error is about a value, the outer one about the JSON.
struct Object<'a, const N: usize> {
    columns: &'a Columns<N>,
    names: &'a Names,
}

impl<'de, const N: usize> Visitor<'de> for Object<'_, N> {
    type Value = Result<[Value; N], String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = Cells::new(&self);
        while let Some(key) = map.next_key::<String>()? {
            let is_exported = cells.is_like_export(&key);
            let is_named = self.names.find(&key).next().is_some();
            if is_exported || is_named {
                let json = map.next_value()?;
                cells.set_exported(&key, &json);
                cells.set(&key, &json);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            if !is_named {
                cells.unknown.get_or_insert(key);
            }
        }
        Ok(cells.finish())
    }
}

/// The values of an object.
struct Cells<'a, const N: usize> {
    object: &'a Object<'a, N>,
    values: [Value; N],
    is_mapped: [bool; N],
    unknown: Option<String>,
    keys: usize,
    /// The values if the record is of lapsed's own export, as long as its keys allow that.
    exported: Option<[Value; N]>,
    /// How many of the keys that every record of an export has are there.
    export_keys: usize,
}

/// Records of other systems may begin like lapsed's own, but have other names for these.
const EXPORT_KEYS: [&str; 2] = ["issuer", "expiry"];

impl<'a, const N: usize> Cells<'a, N> {
    fn new(object: &'a Object<'a, N>) -> Self {
        Self {
            object,
            values: [const { Value::Absent }; N],
            is_mapped: [false; N],
            unknown: None,
            keys: 0,
            exported: (!object.columns.export.is_empty() && !object.names.has_mapped())
                .then_some([const { Value::Absent }; N]),
            export_keys: 0,
        }
    }

    /// Whether the record may be of lapsed's own export, by its keys so far.
    fn is_like_export(&mut self, key: &str) -> bool {
        const FIRST_KEYS: usize = 3;
        let expected = self.object.columns.export.get(self.keys);
        if self.keys < FIRST_KEYS && expected.is_none_or(|(name, _)| *name != key) {
            self.exported = None;
        }
        self.keys += 1;
        self.export_keys += usize::from(EXPORT_KEYS.contains(&key));
        self.exported.is_some()
    }

    fn set_exported(&mut self, key: &str, json: &Json) {
        let columns = self.object.columns;
        let mut export = columns.export.iter();
        if let Some(values) = &mut self.exported
            && let Some((_, target)) = export.find(|(name, _)| *name == key)
        {
            let cell = json.as_str().unwrap_or_default().as_bytes();
            columns.set_exported(values, *target, cell, json_value(json));
        }
    }

    fn set(&mut self, key: &str, json: &Json) {
        for target in self.object.names.find(key) {
            let mut path = target.path.iter();
            // A null on the path says that there is nothing at its end.
            let json = path.try_fold(json, |json, key| match json {
                Json::Null => Some(json),
                _ => json.get(key),
            });
            let Some(json) = json else {
                continue;
            };
            let value = &mut self.values[target.column];
            let is_mapped = &mut self.is_mapped[target.column];
            *value = match (&value, *is_mapped, target.is_mapped) {
                (Value::Absent, _, _) | (_, false, true) => json_value(json),
                (_, true, false) => continue,
                _ => Value::Unreadable("occurs twice; remove one".to_owned()),
            };
            *is_mapped |= target.is_mapped;
        }
    }

    fn finish(self) -> Result<[Value; N], String> {
        let Object { columns, names } = self.object;
        if let Some(values) = self.exported
            && self.export_keys == EXPORT_KEYS.len()
        {
            return Ok(values);
        }
        match self.unknown {
            Some(_) if names.ignores_extra => Ok(self.values),
            // Without any known key, the keys may be misplaced values, so they are not quoted.
            Some(_) if self.values.iter().all(|value| *value == Value::Absent) => {
                let all = columns.names.join(", ");
                Err(format!(
                    "none of its keys is a column; the columns are {all}"
                ))
            }
            Some(key) => Err(columns.explain_unknown(&key)),
            None => Ok(self.values),
        }
    }
}

fn json_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Empty,
        Json::String(text) => Value::text(text),
        Json::Number(number) if number.is_f64() => Value::Other(number.to_string(), "a fraction"),
        Json::Number(number) => Value::text(&number.to_string()),
        Json::Bool(flag) => Value::Other(flag.to_string(), "true or false"),
        Json::Object(_) => Value::Unreadable("must be a text, not an object".to_owned()),
        Json::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                match json_value(item) {
                    Value::Text(text) | Value::Other(text, _) => list.push(text),
                    Value::Absent | Value::Empty => {}
                    Value::List(_) | Value::OfDay(..) | Value::Unreadable(_) => {
                        return Value::Unreadable("must be a list of texts".to_owned());
                    }
                }
            }
            Value::List(list)
        }
    }
}
