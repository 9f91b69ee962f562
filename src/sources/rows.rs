//! Reads the rows of a file with their lines: CSV, a JSON array of objects, or JSON lines.
//!
//! Only one row is kept in memory, and no row is longer than [`MAX_ROW_LENGTH`]. So memory does not depend
//! on the size or content of a file.

mod csv;
mod json;
mod stream;
mod value;

use std::fmt;
use std::path::PathBuf;

use self::stream::Stream;
pub(crate) use self::value::{Value, quote};

use crate::nearest::nearest;

use super::{Error, RefusedRow};

/// In bytes, including quotes and escapes.
const MAX_ROW_LENGTH: usize = 1024 * 1024;

const TOO_LONG: &str = "the row is longer than 1 MiB; is a quote left open?";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file; the format follows from its extension (`.csv`, `.json`, `.jsonl`, `.ndjson`), otherwise from its content.
    Path(PathBuf),
    /// Standard input; the format follows from the content.
    Stdin,
}

/// The name of the input in messages.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("stdin"),
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
}

impl<const N: usize> Columns<N> {
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }

    /// The message for a name that is not a column.
    pub fn explain_unknown(&self, name: &str) -> String {
        let (quoted, all) = (value::quote(name), self.names.join(", "));
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
    /// A value for each column, in the order of [`Columns::names`]; otherwise why the row is refused, and what
    /// to write instead.
    pub values: Result<[Value; N], String>,
}

/// Why no further rows can be read.
enum Broken {
    Read(std::io::Error),
    /// The content is invalid from this line on.
    Content(u64, String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

pub(crate) struct Rows<const N: usize> {
    name: String,
    format: Format,
    stream: Stream,
    parser: Parser<N>,
}

enum Parser<const N: usize> {
    Csv(csv::Parser<N>),
    Json(json::Array<N>),
    JsonLines(json::Lines<N>),
}

impl<const N: usize> Rows<N> {
    /// Opens the input and reads the CSV header.
    ///
    /// # Errors
    /// If the input cannot be read, is empty, or has an invalid header.
    pub fn open(input: &Input, columns: &'static Columns<N>) -> Result<Self, Error> {
        let name = input.to_string();
        let opened = stream::open(input).and_then(|(format, mut stream)| {
            let parser = match format {
                Format::Csv => Parser::Csv(csv::Parser::open(columns, &mut stream)?),
                Format::Json => Parser::Json(json::Array::new(columns)),
                Format::JsonLines => Parser::JsonLines(json::Lines::new(columns)),
            };
            Ok((format, stream, parser))
        });
        let (format, stream, parser) = opened.map_err(|broken| broken.into_error(&name))?;
        Ok(Self {
            name,
            format,
            stream,
            parser,
        })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// The number of bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.stream.bytes()
    }

    pub fn refusal(&self, line: u64, reason: String) -> RefusedRow {
        let file = self.name.clone();
        RefusedRow { file, line, reason }
    }
}

/// Goes on after a refused row, but not after an error.
impl<const N: usize> Iterator for Rows<N> {
    type Item = Result<Row<N>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.parser {
            Parser::Csv(parser) => parser.next(&mut self.stream),
            Parser::Json(parser) => parser.next(&mut self.stream),
            Parser::JsonLines(parser) => parser.next(&mut self.stream),
        };
        row.map_err(|broken| broken.into_error(&self.name))
            .transpose()
    }
}

/// The result of a parser: a row, the end, or an error that ends the file.
type Next<const N: usize> = Result<Option<Row<N>>, Broken>;

impl Broken {
    fn into_error(self, name: &str) -> Error {
        match self {
            Self::Read(source) => Error::Read {
                path: name.to_owned(),
                source,
            },
            Self::Content(line, reason) => Error::content(format!("{name}:{line}"), reason),
        }
    }
}

#[cfg(test)]
mod tests;
