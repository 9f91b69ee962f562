//! Reads the rows of a file with their lines: CSV, a JSON array of objects, or JSON lines.
//!
//! Only one row is kept in memory, and its length is limited. So memory does not depend on the size or content
//! of a file.

mod split;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::PathBuf;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;

pub use self::split::Span;
use self::split::{Broken, CsvSplitter, JsonSplitter, RawRow, Stream};
use super::Error;
use super::cells::{Value, quote};
use crate::nearest::nearest;

/// How many bytes are read to detect the format.
const HEAD_LENGTH: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file; the format follows from its extension (`.csv`, `.json`, `.jsonl`, `.ndjson`), otherwise from its
    /// content.
    Path(PathBuf),
    /// Standard input; the format follows from the content.
    Stdin,
    /// A copy of standard input.
    Copied(PathBuf),
}

/// The name of the input in messages.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdin | Self::Copied(_) => f.write_str("stdin"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// An array of objects (RFC 8259).
    Json,
    JsonLines,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "CSV",
            Self::Json => "JSON",
            Self::JsonLines => "JSON lines",
        })
    }
}

pub(crate) struct Columns<const N: usize> {
    /// Their names, in the order of the values of a row.
    pub names: [&'static str; N],
    pub required: &'static [&'static str],
    /// The header of lapsed's own CSV, each name with the column that it fills. Its cells have a quote before what a
    /// spreadsheet could take for a formula.
    pub export: &'static [(&'static str, Target)],
}

/// What a cell of lapsed's own CSV fills.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    Column(&'static str),
    /// Only the word `never` counts.
    NeverOf(&'static str),
    Nothing,
}

impl<const N: usize> Columns<N> {
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }

    /// The message for a name that is not a column.
    pub fn explain_unknown(&self, name: &str) -> String {
        let quoted = quote(name);
        let all = self.names.join(", ");
        match nearest(name, self.names) {
            Some(nearest) => {
                format!("{quoted} is not a column; did you mean {nearest}? The columns are {all}")
            }
            None => format!("{quoted} is not a column; the columns are {all}"),
        }
    }
}

pub(crate) struct Row<const N: usize> {
    /// The line in which the row starts, from 1.
    pub line: u64,
    pub span: Span,
    /// A value for each column, in the order of [`Columns::names`]; otherwise why the row is refused, and what
    /// to write instead.
    pub values: Result<[Value; N], String>,
}

pub(crate) struct Rows<const N: usize> {
    /// The name of the input in messages.
    pub file: String,
    pub format: Format,
    /// What comes before the first row of CSV.
    pub header: Span,
    columns: &'static Columns<N>,
    stream: Stream,
    parser: Parser,
}

enum Parser {
    Csv { splitter: CsvSplitter, order: Order },
    Json(JsonSplitter),
}

enum Order {
    /// For each cell of a row, the index of its column.
    Columns(Vec<usize>),
    Export,
}

impl<const N: usize> Rows<N> {
    /// Opens the input and reads the CSV header. An empty input is an error.
    pub fn open(input: &Input, columns: &'static Columns<N>) -> Result<Self, Error> {
        Self::try_open(input, columns).map_err(|broken| explain(broken, &input.to_string()))
    }

    fn try_open(input: &Input, columns: &'static Columns<N>) -> Result<Self, Broken> {
        let (format, mut stream) = open(input)?;
        let parser = match format {
            Format::Csv => {
                let mut splitter = CsvSplitter::default();
                let order = read_header(columns, &mut splitter, &mut stream)?;
                Parser::Csv { splitter, order }
            }
            Format::Json | Format::JsonLines => Parser::Json(JsonSplitter::default()),
        };
        Ok(Self {
            file: input.to_string(),
            format,
            header: Span(0, stream.bytes),
            columns,
            stream,
            parser,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.stream.bytes
    }

    fn read_next(&mut self) -> Result<Option<Row<N>>, Broken> {
        let stream = &mut self.stream;
        let columns = self.columns;
        let (line, span, values) = match &mut self.parser {
            Parser::Csv { splitter, order } => {
                let Some(span) = splitter.advance(stream)? else {
                    return Ok(None);
                };
                let values = csv_values(columns, splitter, order);
                (splitter.row.start, span, values)
            }
            Parser::Json(splitter) => {
                let span = match self.format {
                    Format::Json => splitter.advance_element(stream)?,
                    _ => splitter.advance_line(stream)?,
                };
                let Some(span) = span else {
                    return Ok(None);
                };
                let values = json_values(columns, &splitter.row);
                (splitter.row.start, span, values)
            }
        };
        Ok(Some(Row { line, span, values }))
    }
}

/// Goes on after a refused row, but not after an error.
impl<const N: usize> Iterator for Rows<N> {
    type Item = Result<Row<N>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next()
            .map_err(|broken| explain(broken, &self.file))
            .transpose()
    }
}

fn explain(broken: Broken, file: &str) -> Error {
    match broken {
        Broken::Read(source) => Error::Read {
            path: file.to_owned(),
            source,
        },
        Broken::Content(line, reason) => Error::content(format!("{file}:{line}"), reason),
    }
}

/// Opens the input, detects its format and skips the byte order mark.
fn open(input: &Input) -> Result<(Format, Stream), Broken> {
    let reader: Box<dyn Read + Send> = match input {
        Input::Path(path) | Input::Copied(path) => Box::new(File::open(path)?),
        Input::Stdin => Box::new(io::stdin()),
    };
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_LENGTH).read_to_end(&mut head)?;
    let mark = b"\xef\xbb\xbf";
    let start = if head.starts_with(mark) {
        mark.len()
    } else {
        0
    };
    let format = refuse_other_formats(&head)
        .and_then(|()| detect_format(input, &head[start..]))
        .map_err(|reason| Broken::Content(1, reason.to_owned()))?;
    let mut head = Cursor::new(head);
    head.set_position(start as u64);
    let stream = Stream {
        inner: Box::new(head.chain(reader)),
        bytes: start as u64,
    };
    Ok((format, stream))
}

/// Refuses files that are evidently not text in UTF-8.
fn refuse_other_formats(head: &[u8]) -> Result<(), &'static str> {
    const UTF_16: &str = "this is UTF-16; save it as UTF-8";
    const SIGNATURES: [(&[u8], &str); 5] = [
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
        (
            b"PK\x03\x04",
            "this is a workbook or a zip archive; export it as CSV in UTF-8",
        ),
        (
            b"\xd0\xcf\x11\xe0",
            "this is a workbook; export it as CSV in UTF-8",
        ),
        (
            b"\x1f\x8b",
            "this is compressed; unpack it with gunzip first",
        ),
    ];
    match SIGNATURES
        .iter()
        .find(|(signature, _)| head.starts_with(signature))
    {
        Some((_, reason)) => Err(reason),
        None => Ok(()),
    }
}

/// Detects the format by the file's name, otherwise by the first character.
fn detect_format(input: &Input, head: &[u8]) -> Result<Format, &'static str> {
    let Some(first) = head.iter().find(|byte| !byte.is_ascii_whitespace()) else {
        return Err("the file is empty, as after a failed export; \
             a file without rows has the CSV header or the JSON array []");
    };
    let extension = match input {
        Input::Path(path) => path.extension().and_then(|text| text.to_str()),
        Input::Stdin | Input::Copied(_) => None,
    };
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    match (extension.as_str(), first) {
        ("csv", _) => Ok(Format::Csv),
        ("json", b'{') => {
            Err("this must be an array: [{…}, {…}]; name it .jsonl if it has one object a line")
        }
        ("jsonl" | "ndjson", b'[') => {
            Err("this must have one object a line; name it .json if it is an array")
        }
        ("json", _) | (_, b'[') => Ok(Format::Json),
        ("jsonl" | "ndjson", _) | (_, b'{') => Ok(Format::JsonLines),
        _ => Ok(Format::Csv),
    }
}

/// Reads the header, and returns the index of the column of each cell.
fn read_header<const N: usize>(
    columns: &Columns<N>,
    splitter: &mut CsvSplitter,
    stream: &mut Stream,
) -> Result<Order, Broken> {
    if splitter.advance(stream)?.is_none() {
        return Err(Broken::Content(1, no_header(columns)));
    }
    let export = columns.export.iter().map(|(name, _)| *name);
    if !columns.export.is_empty() && splitter.cells().is_ok_and(|names| export.eq(names)) {
        return Ok(Order::Export);
    }
    splitter
        .cells()
        .and_then(|names| parse_header(columns, &names))
        .map(Order::Columns)
        .map_err(|reason| Broken::Content(splitter.row.start, reason))
}

fn parse_header<const N: usize>(
    columns: &Columns<N>,
    names: &[&str],
) -> Result<Vec<usize>, String> {
    let names: Vec<&str> = names.iter().map(|name| name.trim()).collect();
    // A first line without any known name is probably a row, so it is not quoted.
    if names.iter().all(|name| columns.find(name).is_none()) {
        let text = names.concat();
        return Err(match text {
            _ if text.contains('\t') => "the columns are separated by tabs; use commas".to_owned(),
            _ if text.contains(';') => {
                "the columns are separated by semicolons; use commas".to_owned()
            }
            _ => no_header(columns),
        });
    }
    let mut order = Vec::new();
    for name in &names {
        match columns.find(name) {
            Some(column) if order.contains(&column) => {
                return Err(format!("the column {name} occurs twice; remove one"));
            }
            Some(column) => order.push(column),
            None if name.is_empty() => {
                let nth = order.len() + 1;
                return Err(format!("column {nth} has no name; name it or remove it"));
            }
            None => return Err(columns.explain_unknown(name)),
        }
    }
    match columns.required.iter().find(|name| !names.contains(name)) {
        Some(missing) => Err(format!("the column {missing} is missing; add it")),
        None => Ok(order),
    }
}

fn no_header<const N: usize>(columns: &Columns<N>) -> String {
    let required = columns.required.join(" and ");
    let all = columns.names.join(", ");
    format!("the first line must name the columns, at least {required}; they are {all}")
}

fn csv_values<const N: usize>(
    columns: &Columns<N>,
    splitter: &CsvSplitter,
    order: &Order,
) -> Result<[Value; N], String> {
    let cells = splitter.cells()?;
    let width = match order {
        Order::Columns(order) => order.len(),
        Order::Export => columns.export.len(),
    };
    if cells.len() != width {
        return Err(format!(
            "the row has {} cells and the header {}; \
             put a cell that contains a comma between double quotes",
            cells.len(),
            width
        ));
    }
    let mut values = [const { Value::Absent }; N];
    let mut set = |column: usize, cell: &str| {
        values[column] = Value::text(columns.names[column], cell)?;
        Ok::<_, String>(())
    };
    match order {
        Order::Columns(order) => {
            for (cell, column) in cells.into_iter().zip(order) {
                set(*column, cell)?;
            }
        }
        Order::Export => {
            for (cell, (_, target)) in cells.into_iter().zip(columns.export) {
                let column = match target {
                    Target::Column(name) => columns.find(name),
                    Target::NeverOf(name) if cell == "never" => columns.find(name),
                    Target::NeverOf(_) | Target::Nothing => None,
                };
                if let Some(column) = column {
                    set(column, cell.strip_prefix('\'').unwrap_or(cell))?;
                }
            }
        }
    }
    Ok(values)
}

fn json_values<const N: usize>(columns: &Columns<N>, row: &RawRow) -> Result<[Value; N], String> {
    let text = row.text()?;
    if text.is_empty() {
        return Err("a row is missing here; remove the comma".to_owned());
    }
    // Checked here, because serde_json's message about another type quotes the value.
    if !text.starts_with('{') {
        let name = columns.names[0];
        return Err(format!("a row must be an object: {{\"{name}\": …}}"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    reader
        .deserialize_map(Object(columns))
        .and_then(|values| reader.end().map(|()| values))
        .map_err(|error| {
            let column = error.column();
            let position = format!(" at line {} column {column}", error.line());
            let text = error.to_string();
            let text = text.trim_end_matches(&position);
            let line_in_file = row.start + (error.line() as u64).saturating_sub(1);
            format!("this is not JSON (line {line_in_file}, column {column}: {text})")
        })?
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
            match json_value(name, map.next_value()?) {
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

fn json_value(name: &str, json: Json) -> Result<Value, String> {
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
                match json_value(name, item)? {
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

#[cfg(test)]
mod tests;
