//! Rows out of a file: CSV, a JSON array of objects or JSON lines, one row at a time and each with
//! its line.
//!
//! What the columns mean is for `tokens` and `people` to say. Nothing here keeps more than one row,
//! and no row is longer than [`ROW_LIMIT`], so a file of any size and any content is read in the
//! same memory.

mod csv;
mod json;
mod stream;
mod value;

use std::fmt;
use std::path::PathBuf;

use self::stream::Stream;
pub(crate) use self::value::{Value, quote};

use super::{Error, Refusal};

/// The longest row in bytes, quotes and escapes counted.
const ROW_LIMIT: usize = 1024 * 1024;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file; its name says the format (`.csv`, `.json`, `.jsonl`, `.ndjson`), else its content.
    Path(PathBuf),
    /// Standard input; the content says the format.
    Stdin,
}

impl Input {
    /// What the command line names: a path, or `-` for standard input.
    #[must_use]
    pub fn from_argument(argument: &str) -> Self {
        match argument {
            "-" => Self::Stdin,
            path => Self::Path(path.into()),
        }
    }
}

/// The name that refusals and errors give it.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("stdin"),
        }
    }
}

/// How rows are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 4180, with a header.
    Csv,
    /// An array of objects (RFC 8259).
    Json,
    /// One object a line.
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

/// The columns that a kind of file may have.
pub(crate) struct Columns<const N: usize> {
    /// Their names, in the order of [`Row::values`].
    pub names: [&'static str; N],
    /// Those that must be there.
    pub required: &'static [&'static str],
}

impl<const N: usize> Columns<N> {
    /// The index of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }

    /// Says what is wrong with a name that is no column. What it quotes is a name, not a value.
    pub fn unknown(&self, name: &str) -> String {
        let nearest = nearest(name, &self.names).unwrap_or_default();
        let (name, all) = (value::quote(name), self.names.join(", "));
        format!("{name} is not a column; did you mean {nearest}? The columns are {all}")
    }
}

/// The name that was most likely meant: one that holds the other, else the most alike.
fn nearest(name: &str, names: &[&'static str]) -> Option<&'static str> {
    // No column is that long, and the comparison takes the square of the length.
    let name = name.chars().take(64).collect::<String>().to_lowercase();
    let likeness = |known: &str| {
        let holds = name.len() > 1 && (known.contains(&name) || name.contains(known));
        strsim::jaro_winkler(&name, known) + f64::from(u8::from(holds))
    };
    names
        .iter()
        .copied()
        .max_by(|one, two| likeness(one).total_cmp(&likeness(two)))
}

/// One row: a value for each column, in the order of [`Columns::names`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row<const N: usize> {
    /// Where it starts, from 1.
    pub line: u64,
    /// What it holds.
    pub values: [Value; N],
}

/// A row that makes no sense by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRow {
    /// Where it starts, from 1.
    line: u64,
    /// Why, in words that say what to write instead.
    reason: String,
}

impl BadRow {
    fn new(line: u64, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { line, reason }
    }
}

/// Why no further row can be read.
enum Broken {
    /// The system failed to read.
    Read(std::io::Error),
    /// The content as a whole makes no sense from this line on.
    Content(u64, String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

/// The rows of one input.
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
    /// Opens the input and reads as far as the CSV header.
    ///
    /// # Errors
    /// When it cannot be read, holds nothing, or its header makes no sense.
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
        let (format, stream, parser) = opened.map_err(|broken| broken.of(&name))?;
        Ok(Self {
            name,
            format,
            stream,
            parser,
        })
    }

    /// How the rows are written down.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many bytes were read so far.
    pub fn bytes(&self) -> u64 {
        self.stream.bytes()
    }

    /// A refusal of the row that starts in this line.
    pub fn refusal(&self, line: u64, reason: String) -> Refusal {
        let file = self.name.clone();
        Refusal { file, line, reason }
    }
}

/// Rows as they come; a refused row does not end them, an error does.
impl<const N: usize> Iterator for Rows<N> {
    type Item = Result<Result<Row<N>, Refusal>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.parser {
            Parser::Csv(parser) => parser.next(&mut self.stream),
            Parser::Json(parser) => parser.next(&mut self.stream),
            Parser::JsonLines(parser) => parser.next(&mut self.stream),
        };
        match row {
            Ok(row) => row.map(|row| Ok(row.map_err(|bad| self.refusal(bad.line, bad.reason)))),
            Err(broken) => Some(Err(broken.of(&self.name))),
        }
    }
}

/// What a parser brings: a row, a bad row, the end, or a file that cannot be read further.
type Next<const N: usize> = Result<Option<Result<Row<N>, BadRow>>, Broken>;

impl Broken {
    fn of(self, name: &str) -> Error {
        match self {
            Self::Read(source) => Error::Read {
                path: name.to_owned(),
                source,
            },
            Self::Content(line, reason) => Error::Content {
                place: format!("{name}:{line}"),
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests;
