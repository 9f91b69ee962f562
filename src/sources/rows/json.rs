//! JSON rows. The input is split into objects here, so that an invalid one does not affect the others and
//! only one is in memory; `serde_json` parses the objects.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;

use super::stream::{Fed, Stream};
use super::{Broken, Columns, MAX_ROW_LENGTH, Next, Row, TOO_LONG, Value, value};

/// The bytes of one element and the line in which it starts.
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

    fn push(&mut self, byte: u8) {
        if self.bytes.len() < MAX_ROW_LENGTH {
            self.bytes.push(byte);
        } else {
            self.too_long = true;
        }
    }

    fn row<const N: usize>(&self, columns: &Columns<N>) -> Row<N> {
        Row {
            line: self.start,
            values: self.values(columns),
        }
    }

    fn values<const N: usize>(&self, columns: &Columns<N>) -> Result<[Value; N], String> {
        if self.too_long {
            return Err(TOO_LONG.to_owned());
        }
        if self.bytes.is_empty() {
            return Err("a row is missing here; remove the comma".to_owned());
        }
        let text = str::from_utf8(&self.bytes).map_err(|_| value::NOT_UTF_8.to_owned())?;
        // Checked here, because serde_json's message about another type quotes the value.
        if !text.starts_with('{') {
            let name = columns.names[0];
            return Err(format!("a row must be an object: {{\"{name}\": …}}"));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = reader.deserialize_map(Object(columns));
        read.and_then(|values| reader.end().map(|()| values))
            .map_err(|error| self.explain(&error))?
    }

    /// The message of `serde_json`, with the line in the file.
    fn explain(&self, error: &serde_json::Error) -> String {
        let text = error.to_string();
        let (line, column) = (error.line(), error.column());
        let text = text.trim_end_matches(&format!(" at line {line} column {column}"));
        let line = self.start + (line as u64).saturating_sub(1);
        format!("this is not JSON (line {line}, column {column}: {text})")
    }

    /// Adds bytes up to the end of the line, without leading white space.
    fn push_line(&mut self, piece: &[u8]) -> Fed {
        for (index, byte) in piece.iter().enumerate() {
            if *byte == b'\n' {
                self.lines += 1;
                return Fed::Frame(index + 1);
            }
            if !self.bytes.is_empty() || !byte.is_ascii_whitespace() {
                self.push(*byte);
            }
        }
        Fed::More
    }
}

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
            let is_frame = stream.feed(|piece| self.frame.push_line(piece))?;
            if !self.frame.bytes.is_empty() {
                return Ok(Some(self.frame.row(self.columns)));
            }
            if !is_frame {
                return Ok(None);
            }
        }
    }
}

pub(super) struct Array<const N: usize> {
    columns: &'static Columns<N>,
    frame: Frame,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    BeforeArray,
    ArrayStart,
    AfterComma,
    /// In an element, at this depth of brackets.
    Inside(u32),
    /// In a string within an element.
    String(u32),
    /// After a backslash in such a string.
    Escape(u32),
    AfterArray,
    /// After an unexpected character; what to do about it.
    Stray(&'static str),
}

const NOT_AN_ARRAY: &str = "this must be an array of objects: [{…}, {…}]";
const TRAILING: &str = "there is something after the end of the array; remove it";

impl<const N: usize> Array<N> {
    pub fn new(columns: &'static Columns<N>) -> Self {
        Self {
            columns,
            frame: Frame::default(),
            state: State::BeforeArray,
        }
    }

    pub fn next(&mut self, stream: &mut Stream) -> Next<N> {
        let is_frame = stream.feed(|piece| self.feed(piece))?;
        let line = self.frame.lines + 1;
        let broken = |reason: &str| Err(Broken::Content(line, reason.to_owned()));
        match self.state {
            State::Stray(reason) => broken(reason),
            _ if is_frame => Ok(Some(self.frame.row(self.columns))),
            State::AfterArray => Ok(None),
            _ => broken("the array is not closed, as in a truncated export; run the export again"),
        }
    }

    /// Consumes bytes up to and including the comma or `]` after an element.
    fn feed(&mut self, piece: &[u8]) -> Fed {
        for (index, byte) in piece.iter().enumerate() {
            let ended = self.feed_byte(*byte);
            self.frame.lines += u64::from(*byte == b'\n');
            if ended {
                return Fed::Frame(index + 1);
            }
        }
        Fed::More
    }

    fn feed_byte(&mut self, byte: u8) -> bool {
        let (state, ended) = match (self.state, byte) {
            (State::Stray(_), _) => (self.state, true),
            (
                State::BeforeArray | State::ArrayStart | State::AfterComma | State::AfterArray,
                byte,
            ) if byte.is_ascii_whitespace() => (self.state, false),
            (State::BeforeArray, b'[') => (State::ArrayStart, false),
            (State::BeforeArray, _) => (State::Stray(NOT_AN_ARRAY), true),
            (State::AfterArray, _) => (State::Stray(TRAILING), true),
            (State::ArrayStart, b']') => (State::AfterArray, false),
            (State::ArrayStart | State::AfterComma, _) => {
                self.frame.begin();
                self.feed_inside(0, byte)
            }
            (State::Inside(depth), _) => self.feed_inside(depth, byte),
            (State::String(depth) | State::Escape(depth), _) => {
                self.frame.push(byte);
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

    fn feed_inside(&mut self, depth: u32, byte: u8) -> (State, bool) {
        let state = match (depth, byte) {
            (0, b',') => return (State::AfterComma, true),
            (0, b']') => return (State::AfterArray, true),
            (_, b'"') => State::String(depth),
            (_, b'{' | b'[') => State::Inside(depth.saturating_add(1)),
            (_, b'}' | b']') => State::Inside(depth.saturating_sub(1)),
            _ => State::Inside(depth),
        };
        self.frame.push(byte);
        (state, false)
    }
}

/// Reads an object. The inner error is about a value, the outer one about the JSON.
struct Object<'a, const N: usize>(&'a Columns<N>);

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
            match content(name, map.next_value()?) {
                _ if values[column] != Value::Absent => {
                    fault.get_or_insert_with(|| format!("{name} occurs twice; remove one"));
                }
                Ok(value) => values[column] = value,
                Err(reason) => {
                    fault.get_or_insert(reason);
                }
            }
        }
        Ok(match (fault, unknown) {
            (Some(fault), _) => Err(fault),
            // Without any known key, the keys may be misplaced values, so they are not quoted.
            (None, Some(_)) if values.iter().all(|value| *value == Value::Absent) => {
                let all = self.0.names.join(", ");
                Err(format!(
                    "none of its keys is a column; the columns are {all}"
                ))
            }
            (None, Some(key)) => Err(self.0.explain_unknown(&key)),
            (None, None) => Ok(values),
        })
    }
}

/// The value of a column.
fn content(name: &str, json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Empty,
        Json::String(text) => Value::text(name, &text)?,
        Json::Number(number) if number.is_f64() => Value::Other("a fraction"),
        Json::Number(number) => Value::text(name, &number.to_string())?,
        Json::Bool(_) => Value::Other("true or false"),
        Json::Object(_) => Value::Other("an object"),
        Json::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                match content(name, item)? {
                    Value::Text(text) => list.push(text),
                    Value::Absent | Value::Empty => {}
                    Value::List(_) | Value::Other(_) => {
                        return Err(format!("{name} must be a list of texts"));
                    }
                }
            }
            Value::List(list)
        }
    })
}
