//! JSON rows: cut into objects here, so that a bad one costs only itself and none is held longer
//! than it is read; what is inside an object is left to `serde_json`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::stream::{Fed, Stream};
use super::{BadRow, Broken, Columns, Next, ROW_LIMIT, Row, Value, value};

/// The bytes of one element and where it started.
#[derive(Default)]
struct Frame {
    bytes: Vec<u8>,
    too_long: bool,
    start: u64,
    /// Line ends seen so far.
    lines: u64,
}

impl Frame {
    fn begin(&mut self) {
        self.bytes.clear();
        self.too_long = false;
        self.start = self.lines + 1;
    }

    fn keep(&mut self, byte: u8) {
        if self.bytes.len() < ROW_LIMIT {
            self.bytes.push(byte);
        } else {
            self.too_long = true;
        }
    }

    fn read<const N: usize>(&self, columns: &Columns<N>) -> Result<Row<N>, BadRow> {
        let line = self.start;
        match self.values(columns) {
            Ok(values) => Ok(Row { line, values }),
            Err(reason) => Err(BadRow::new(line, reason)),
        }
    }

    fn values<const N: usize>(&self, columns: &Columns<N>) -> Result<[Value; N], String> {
        if self.too_long {
            return Err("the row is longer than 1 MiB; is a quote left open?".to_owned());
        }
        let text = str::from_utf8(&self.bytes).map_err(|_| value::NOT_UTF_8.to_owned())?;
        // Asked here because serde_json's complaint about another type quotes the value.
        if !text.starts_with('{') {
            let name = columns.names[0];
            return Err(format!("a row must be an object: {{\"{name}\": …}}"));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = Object(columns).deserialize(&mut reader);
        read.and_then(|values| reader.end().map(|()| values))
            .map_err(|error| self.explain(&error))?
    }

    /// What `serde_json` complains of, with its line counted in the file.
    fn explain(&self, error: &serde_json::Error) -> String {
        let text = error.to_string();
        let (line, column) = (error.line(), error.column());
        let text = text.trim_end_matches(&format!(" at line {line} column {column}"));
        let line = self.start + (line as u64).saturating_sub(1);
        format!("this is not JSON (line {line}, column {column}: {text})")
    }
}

/// One object a line.
pub(super) struct Lines<const N: usize> {
    columns: &'static Columns<N>,
    frame: Frame,
}

impl<const N: usize> Lines<N> {
    pub fn new(columns: &'static Columns<N>) -> Self {
        let frame = Frame::default();
        Self { columns, frame }
    }

    pub fn next(&mut self, stream: &mut Stream) -> Next<N> {
        loop {
            self.frame.begin();
            let whole = stream.feed(|piece| {
                for (index, byte) in piece.iter().enumerate() {
                    if *byte == b'\n' {
                        self.frame.lines += 1;
                        return Fed::Frame(index + 1);
                    }
                    if !self.frame.bytes.is_empty() || !byte.is_ascii_whitespace() {
                        self.frame.keep(*byte);
                    }
                }
                Fed::More
            })?;
            if !self.frame.bytes.is_empty() {
                return Ok(Some(self.frame.read(self.columns)));
            }
            if !whole {
                return Ok(None);
            }
        }
    }
}

/// An array of objects.
pub(super) struct Array<const N: usize> {
    columns: &'static Columns<N>,
    frame: Frame,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the `[`.
    Before,
    /// After the `[`.
    First,
    /// After a comma.
    Next,
    /// In an element, so many brackets deep.
    Inside(u32),
    /// In a string of it.
    String(u32),
    /// After a backslash in a string of it.
    Escape(u32),
    /// After the `]`.
    After,
    /// Something stood where nothing should; what to do about it.
    Stray(&'static str),
}

const NO_ARRAY: &str = "this must be an array of objects: [{…}, {…}]";
const MORE: &str = "there is more after the end of the array; drop it";

impl<const N: usize> Array<N> {
    pub fn new(columns: &'static Columns<N>) -> Self {
        Self {
            columns,
            frame: Frame::default(),
            state: State::Before,
        }
    }

    pub fn next(&mut self, stream: &mut Stream) -> Next<N> {
        let whole = stream.feed(|piece| self.take(piece))?;
        let line = self.frame.lines + 1;
        let broken = |reason: &str| Err(Broken::Content(line, reason.to_owned()));
        match self.state {
            State::Stray(reason) => broken(reason),
            _ if whole && self.frame.bytes.is_empty() => {
                let reason = "a row is missing here; drop the comma";
                Ok(Some(Err(BadRow::new(self.frame.start, reason))))
            }
            _ if whole => Ok(Some(self.frame.read(self.columns))),
            State::After => Ok(None),
            _ => broken("the array is never closed, as when an export is cut off; write it anew"),
        }
    }

    /// Takes bytes up to the end of an element; what ends it, a comma or the `]`, goes with it.
    fn take(&mut self, piece: &[u8]) -> Fed {
        for (index, byte) in piece.iter().enumerate() {
            let ended = self.take_byte(*byte);
            self.frame.lines += u64::from(*byte == b'\n');
            if ended {
                return Fed::Frame(index + 1);
            }
        }
        Fed::More
    }

    fn take_byte(&mut self, byte: u8) -> bool {
        let (state, ended) = match (self.state, byte) {
            (State::Stray(_), _) => (self.state, true),
            (State::Before | State::First | State::Next | State::After, byte)
                if byte.is_ascii_whitespace() =>
            {
                (self.state, false)
            }
            (State::Before, b'[') => (State::First, false),
            (State::Before, _) => (State::Stray(NO_ARRAY), true),
            (State::After, _) => (State::Stray(MORE), true),
            (State::First, b']') => (State::After, false),
            (State::First | State::Next, _) => {
                self.frame.begin();
                self.take_inside(0, byte)
            }
            (State::Inside(depth), _) => self.take_inside(depth, byte),
            (State::String(depth) | State::Escape(depth), _) => {
                self.frame.keep(byte);
                let state = match (self.state, byte) {
                    (State::String(_), b'\\') => State::Escape(depth),
                    (State::String(_), b'"') => State::Inside(depth),
                    _ => State::String(depth),
                };
                (state, false)
            }
        };
        self.state = state;
        ended
    }

    fn take_inside(&mut self, depth: u32, byte: u8) -> (State, bool) {
        let state = match (depth, byte) {
            (0, b',') => return (State::Next, true),
            (0, b']') => return (State::After, true),
            (_, b'"') => State::String(depth),
            (_, b'{' | b'[') => State::Inside(depth.saturating_add(1)),
            (_, b'}' | b']') => State::Inside(depth.saturating_sub(1)),
            _ => State::Inside(depth),
        };
        self.frame.keep(byte);
        (state, false)
    }
}

/// Reads an object into values; the inner error is about a value, the outer about the JSON.
struct Object<'a, const N: usize>(&'a Columns<N>);

impl<'de, const N: usize> DeserializeSeed<'de> for Object<'_, N> {
    type Value = Result<[Value; N], String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Object<'_, N> {
    type Value = Result<[Value; N], String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [const { Value::Absent }; N];
        let mut fault = None;
        let mut unknown = None;
        while let Some(key) = map.next_key::<String>()? {
            let Some(column) = self.0.find(&key) else {
                map.next_value::<IgnoredAny>()?;
                unknown.get_or_insert(key);
                continue;
            };
            let name = self.0.names[column];
            match map.next_value_seed(Content(name))? {
                _ if values[column] != Value::Absent => {
                    fault.get_or_insert_with(|| format!("{name} is there twice; drop one"));
                }
                Ok(value) => values[column] = value,
                Err(reason) => {
                    fault.get_or_insert(reason);
                }
            }
        }
        Ok(match (fault, unknown) {
            (Some(fault), _) => Err(fault),
            // Without any known key the keys may be values by mistake; they are not quoted back.
            (None, Some(_)) if values.iter().all(|value| *value == Value::Absent) => {
                let all = self.0.names.join(", ");
                Err(format!(
                    "none of its keys is a column; the columns are {all}"
                ))
            }
            (None, Some(key)) => Err(self.0.unknown(&key)),
            (None, None) => Ok(values),
        })
    }
}

/// Reads what stands under a key; any type, so that it is never `serde_json` that complains of it.
struct Content(&'static str);

impl Content {
    fn text(&self, text: &str) -> Result<Value, String> {
        Value::text(self.0, text)
    }
}

impl<'de> DeserializeSeed<'de> for Content {
    type Value = Result<Value, String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content {
    type Value = Result<Value, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.text(text))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Ok(Value::Empty))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(self.text(&number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(self.text(&number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Ok(Value::Other("a fraction")))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Ok(Value::Other("true or false")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Ok(Vec::new());
        while let Some(value) = seq.next_element_seed(Self(self.0))? {
            list = match (list, value) {
                (Err(reason), _) | (Ok(_), Err(reason)) => Err(reason),
                (Ok(list), Ok(Value::Absent | Value::Empty)) => Ok(list),
                (Ok(mut list), Ok(Value::Text(text))) => {
                    list.push(text);
                    Ok(list)
                }
                (Ok(_), Ok(Value::List(_) | Value::Other(_))) => {
                    Err(format!("{} must be a list of texts", self.0))
                }
            };
        }
        Ok(list.map(Value::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Ok(Value::Other("an object")))
    }
}
