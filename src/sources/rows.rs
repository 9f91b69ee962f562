//! Reads the rows of a file with their lines: CSV, a JSON array of objects, or JSON lines.
//!
//! Only one row is kept in memory, and its length is limited. So memory does not depend on the size or content
//! of a file.

mod columns;
mod json;
mod names;
pub(crate) mod options;
mod split;
mod text;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::path::PathBuf;

use encoding_rs::Encoding;

use serde_json::Value as Json;

pub(crate) use self::columns::{Columns, Target};
use self::json::json_values;
use self::names::{Names, detect_separator};
use self::options::ReadOptions;
pub use self::split::Span;
use self::split::{Broken, CsvSplitter, JsonSplitter, NOT_UTF_8, Stream};
use self::text::{HEAD_LENGTH, decode, write_encoded};
use super::Error;
use super::cells::Value;

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

pub(crate) struct Row<const N: usize> {
    /// The line in which the row starts, from 1.
    pub line: u64,
    pub span: Span,
    /// A row of CSV whose line has no end, as in a file that was cut off.
    pub is_unended: bool,
    /// A value for each column, in the order of [`Columns::names`]; otherwise why the row is refused, and what
    /// to write instead.
    pub values: Result<[Value; N], String>,
}

pub(crate) struct Rows<const N: usize> {
    /// The name of the input in messages.
    pub file: String,
    pub format: Format,
    /// What comes before the first row of CSV.
    header: Span,
    encoding: Option<&'static Encoding>,
    columns: &'static Columns<N>,
    names: Names,
    stream: Stream,
    parser: Parser,
}

enum Parser {
    Csv { splitter: CsvSplitter, order: Order },
    Json(JsonSplitter),
}

enum Order {
    Columns {
        /// For each cell of a row, the columns that it fills.
        order: Vec<Vec<usize>>,
        /// The cells without a name in the header.
        nameless: Vec<usize>,
    },
    Export,
}

impl<const N: usize> Rows<N> {
    /// Opens the input and reads the CSV header. An empty input is an error.
    pub fn open(
        input: &Input,
        columns: &'static Columns<N>,
        options: &ReadOptions,
    ) -> Result<Self, Error> {
        Self::try_open(input, columns, options)
            .map_err(|broken| explain(broken, &input.to_string()))
    }

    fn try_open(
        input: &Input,
        columns: &'static Columns<N>,
        options: &ReadOptions,
    ) -> Result<Self, Broken> {
        let names = Names::new(columns, options);
        let Opened {
            format,
            head,
            encoding,
            mut stream,
        } = open(input, options)?;
        let parser = match format {
            Format::Csv => {
                let (preamble, separator) =
                    detect_separator(&names, &String::from_utf8_lossy(&head));
                let mut splitter = CsvSplitter::new(separator);
                for _ in 0..preamble {
                    splitter.advance(&mut stream)?;
                }
                let order = read_header(columns, &names, &mut splitter, &mut stream)?;
                Parser::Csv { splitter, order }
            }
            Format::Json | Format::JsonLines => {
                let mut splitter = JsonSplitter::default();
                if !options.items.is_empty() {
                    splitter.skip_to_items(&mut stream, &options.items)?;
                }
                Parser::Json(splitter)
            }
        };
        Ok(Self {
            file: input.to_string(),
            format,
            header: Span(0, stream.bytes),
            encoding,
            columns,
            names,
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
        Ok(match &mut self.parser {
            Parser::Csv { splitter, order } => splitter.advance(stream)?.map(|span| Row {
                line: splitter.row.start,
                span,
                is_unended: splitter.is_unended,
                values: csv_values(columns, splitter, order),
            }),
            Parser::Json(splitter) => {
                let span = match self.format {
                    Format::Json => splitter.advance_element(stream)?,
                    _ => splitter.advance_line(stream)?,
                };
                span.map(|span| Row {
                    line: splitter.row.start,
                    span,
                    is_unended: false,
                    values: json_values(columns, &self.names, &splitter.row),
                })
            }
        })
    }
}

/// Copies the rows at `spans` to `target`, byte for byte: after the header if the input is CSV, in an array if it
/// is a JSON array. So the copy can be corrected and read again.
pub(crate) fn copy_rows<const N: usize>(
    input: &Input,
    columns: &'static Columns<N>,
    options: &ReadOptions,
    spans: &mut [Span],
    target: &mut dyn Write,
) -> Result<(), Error> {
    let rows = Rows::open(input, columns, options)?;
    spans.sort_unstable();
    let mut copy = || -> io::Result<()> {
        let (mut source, encoding) = decode(open_raw(input)?, options.encoding)?;
        let mut position = 0;
        let mut copy = |Span(start, end), target: &mut dyn Write| {
            io::copy(&mut (&mut source).take(start - position), &mut io::sink())?;
            position = end;
            let mut row = (&mut source).take(end - start);
            if encoding.is_none() {
                return io::copy(&mut row, target).map(drop);
            }
            let mut text = Vec::new();
            row.read_to_end(&mut text)?;
            write_encoded(&text, encoding, target)
        };
        let keys = options.items.iter();
        let (before, after) = match rows.format {
            Format::Csv | Format::JsonLines => (String::new(), String::new()),
            Format::Json => (
                keys.map(|key| format!("{{{}:", Json::from(key.as_str())))
                    .chain(["[\n".to_owned()])
                    .collect(),
                format!("\n]{}\n", "}".repeat(options.items.len())),
            ),
        };
        if rows
            .encoding
            .is_some_and(|encoding| !encoding.is_ascii_compatible())
        {
            write_encoded("\u{feff}".as_bytes(), encoding, target)?;
        }
        write_encoded(before.as_bytes(), encoding, target)?;
        if rows.format == Format::Csv {
            copy(rows.header, target)?;
        }
        for (index, span) in spans.iter().enumerate() {
            if index > 0 && rows.format == Format::Json {
                write_encoded(b",\n", encoding, target)?;
            }
            copy(*span, target)?;
        }
        write_encoded(after.as_bytes(), encoding, target)?;
        target.flush()
    };
    copy().map_err(|source| explain(source.into(), &input.to_string()))
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

struct Opened {
    format: Format,
    /// The beginning of the text.
    head: Vec<u8>,
    encoding: Option<&'static Encoding>,
    stream: Stream,
}

/// Opens the input, detects its format and skips the byte order mark.
fn open(input: &Input, options: &ReadOptions) -> Result<Opened, Broken> {
    let (mut reader, encoding) = decode(open_raw(input)?, options.encoding)?;
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_LENGTH).read_to_end(&mut head)?;
    let mark = b"\xef\xbb\xbf";
    let start = if head.starts_with(mark) {
        mark.len()
    } else {
        0
    };
    let format = refuse_other_formats(&head)
        .and_then(|()| detect_format(input, &head[start..], !options.items.is_empty()))
        .map_err(|reason| Broken::Content(1, reason.to_owned()))?;
    let mut rest = Cursor::new(head.clone());
    rest.set_position(start as u64);
    head.drain(..start);
    let stream = Stream {
        inner: Box::new(rest.chain(BufReader::with_capacity(64 * 1024, reader))),
        bytes: start as u64,
    };
    Ok(Opened {
        format,
        head,
        encoding,
        stream,
    })
}

fn open_raw(input: &Input) -> io::Result<Box<dyn Read + Send>> {
    Ok(match input {
        Input::Path(path) | Input::Copied(path) => Box::new(File::open(path)?),
        Input::Stdin => Box::new(io::stdin()),
    })
}

/// Refuses files that are evidently not text in UTF-8.
fn refuse_other_formats(head: &[u8]) -> Result<(), &'static str> {
    const SIGNATURES: [(&[u8], &str); 3] = [
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
    let mut signatures = SIGNATURES.iter();
    match (
        head,
        signatures.find(|(signature, _)| head.starts_with(signature)),
    ) {
        (_, Some((_, reason))) => Err(reason),
        ([0, _, ..], _) => Err("this is UTF-16 without a mark; set encoding = \"utf-16be\""),
        ([_, 0, ..], _) => Err("this is UTF-16 without a mark; set encoding = \"utf-16le\""),
        _ => Ok(()),
    }
}

/// Detects the format by the file's name, otherwise by the first character.
fn detect_format(input: &Input, head: &[u8], has_items: bool) -> Result<Format, &'static str> {
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
        (_, b'{') if has_items => Ok(Format::Json),
        ("json", b'{') => Err(
            "this must be an array: [{…}, {…}]; if it has the array under a key, set items to the key; \
             name it .jsonl if it has one object a line",
        ),
        ("jsonl" | "ndjson", b'[') => {
            Err("this must have one object a line; name it .json if it is an array")
        }
        ("json", _) | (_, b'[') => Ok(Format::Json),
        ("jsonl" | "ndjson", _) | (_, b'{') => Ok(Format::JsonLines),
        _ => Ok(Format::Csv),
    }
}

fn read_header<const N: usize>(
    columns: &Columns<N>,
    names: &Names,
    splitter: &mut CsvSplitter,
    stream: &mut Stream,
) -> Result<Order, Broken> {
    if splitter.advance(stream)?.is_none() {
        return Err(Broken::Content(1, no_header(columns)));
    }
    splitter
        .texts()
        .and_then(|header| parse_header(columns, names, &header))
        .map_err(|reason| Broken::Content(splitter.row.start, reason))
}

fn parse_header<const N: usize>(
    columns: &Columns<N>,
    names: &Names,
    header: &[&str],
) -> Result<Order, String> {
    let export = columns.export.iter().map(|(name, _)| *name);
    if !columns.export.is_empty() && export.eq(header.iter().copied()) {
        return Ok(Order::Export);
    }
    // A first line without any known name is probably a row, so it is not quoted.
    if header.iter().all(|name| names.find(name).next().is_none()) {
        return Err(no_header(columns));
    }
    let order = names.order(columns, header)?;
    let nameless =
        (0..header.len()).filter(|cell| header[*cell].is_empty() && !names.ignores_extra);
    Ok(Order::Columns {
        order,
        nameless: nameless.collect(),
    })
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
    let cells: Vec<&[u8]> = splitter.cells()?.collect();
    let width = match order {
        Order::Columns { order, .. } => order.len(),
        Order::Export => columns.export.len(),
    };
    if cells.len() != width {
        return Err(format!(
            "the row has {} cells and the header {}; \
             put a cell that contains {} between double quotes",
            cells.len(),
            width,
            match splitter.separator {
                b',' => "a comma",
                b';' => "a semicolon",
                b'\t' => "a tab",
                _ => "the separator",
            }
        ));
    }
    let to_value = |cell: &[u8]| match str::from_utf8(cell) {
        Ok(text) => Value::text(text),
        Err(_) => Value::Unreadable(NOT_UTF_8.to_owned()),
    };
    let mut values = [const { Value::Absent }; N];
    match order {
        Order::Columns { order, nameless } => {
            if let Some(cell) = nameless
                .iter()
                .find(|cell| !cells[**cell].trim_ascii().is_empty())
            {
                let nth = cell + 1;
                return Err(format!(
                    "cell {nth} has a value, but column {nth} no name; name the column or remove the value"
                ));
            }
            for (cell, filled) in cells.into_iter().zip(order) {
                for column in filled {
                    values[*column] = to_value(cell);
                }
            }
        }
        Order::Export => {
            for (cell, (_, target)) in cells.into_iter().zip(columns.export) {
                let value = to_value(cell.strip_prefix(b"'").unwrap_or(cell));
                columns.set_exported(&mut values, *target, cell, value);
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
