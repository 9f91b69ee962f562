//! Prints rows one by one. A table buffers the first thousand rows to decide its column widths.

use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::Value;

use super::Error;
use super::layout::{Layout, row_cells};
use super::row::{Cell, JsonRow, Row, View};
use crate::cli::args::Format;
use crate::text;

/// How many rows decide the column widths of a table.
const SAMPLE_SIZE: usize = 1000;

/// Prints the rows of one result. [`Printer::finish`] must be called after the last.
pub struct Printer<'a, R> {
    state: State,
    view: View,
    out: BufWriter<Box<dyn Write + Send + 'a>>,
    remarks: Box<dyn Write + Send + 'a>,
    count: u64,
    row: PhantomData<fn(&R)>,
}

enum State {
    /// The first rows of a table, before its columns are fitted.
    SamplingTable(Vec<Vec<Cell>>),
    Table(Layout),
    Json,
    Jsonl,
    Csv,
}

impl<'a, R: Row> Printer<'a, R> {
    /// Prints results to standard output and remarks to standard error.
    pub fn stdout(format: Format, now: DateTime<Utc>, zone: Tz) -> Self {
        Self::new(
            format,
            View::for_stdout(now, zone),
            io::stdout(),
            io::stderr(),
        )
    }

    /// Prints results to `out` and remarks to `remarks`.
    pub fn new(
        format: Format,
        view: View,
        out: impl Write + Send + 'a,
        remarks: impl Write + Send + 'a,
    ) -> Self {
        let state = match format {
            Format::Table => State::SamplingTable(Vec::new()),
            Format::Json => State::Json,
            Format::Jsonl => State::Jsonl,
            Format::Csv => State::Csv,
        };
        Self {
            state,
            view,
            out: BufWriter::with_capacity(64 * 1024, Box::new(out)),
            remarks: Box::new(remarks),
            count: 0,
            row: PhantomData,
        }
    }

    pub fn print_row(&mut self, row: &R) -> Result<(), Error> {
        self.count += 1;
        let now = self.view.now;
        match &mut self.state {
            State::SamplingTable(sample) => {
                sample.push(row_cells(row, &self.view));
                if sample.len() == SAMPLE_SIZE {
                    let sample = std::mem::take(sample);
                    self.print_sample(&sample)?;
                }
            }
            State::Table(layout) => {
                let line = layout.line(&row_cells(row, &self.view), &self.view);
                writeln!(self.out, "{line}")?;
            }
            State::Json => {
                let separator = if self.count == 1 { "[\n" } else { ",\n" };
                write!(self.out, "{separator}{}", to_json(&JsonRow { row, now })?)?;
            }
            State::Jsonl => writeln!(self.out, "{}", to_json(&JsonRow { row, now })?)?,
            State::Csv => {
                if self.count == 1 {
                    self.print_csv_header()?;
                }
                let values = R::FIELDS.iter().map(|(_, value)| value(row, now));
                write_record(&mut self.out, values.map(|value| csv_text(&value)))?;
            }
        }
        Ok(())
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn finish(mut self) -> Result<(), Error> {
        if let State::SamplingTable(sample) = &mut self.state {
            let sample = std::mem::take(sample);
            self.print_sample(&sample)?;
        }
        match &self.state {
            State::Json if self.count == 0 => self.out.write_all(b"[]\n")?,
            State::Json => self.out.write_all(b"\n]\n")?,
            State::Csv if self.count == 0 => self.print_csv_header()?,
            State::SamplingTable(_) | State::Table(_) | State::Jsonl | State::Csv => {}
        }
        self.out.flush()?;
        self.print_remark();
        Ok(())
    }

    fn print_csv_header(&mut self) -> Result<(), Error> {
        write_record(&mut self.out, R::FIELDS.iter().map(|(key, _)| key))
    }

    /// Decides the column widths and prints the first rows.
    fn print_sample(&mut self, sample: &[Vec<Cell>]) -> Result<(), Error> {
        let layout = Layout::fit::<R>(sample, &[], &self.view);
        if !sample.is_empty() {
            writeln!(self.out, "{}", layout.header::<R>(&self.view))?;
        }
        for cells in sample {
            writeln!(self.out, "{}", layout.line(cells, &self.view))?;
        }
        self.state = State::Table(layout);
        Ok(())
    }

    /// Remarks that a table is empty or that columns were omitted.
    fn print_remark(&mut self) {
        let State::Table(layout) = &self.state else {
            return;
        };
        // A closed standard error is not a failure.
        if self.count == 0 {
            let _ = writeln!(self.remarks, "{}", R::EMPTY_MESSAGE);
            return;
        }
        let titles = layout.omitted_titles::<R>().join(", ");
        if !titles.is_empty() {
            let _ = writeln!(
                self.remarks,
                "columns that do not fit: {titles} (--format csv shows all)"
            );
        }
    }
}

pub(super) fn to_json(row: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(row)
        .map(text::escape_json)
        .map_err(Error::Encode)
}

/// A spreadsheet takes a cell that begins with one of these for a formula (OWASP, CSV injection).
const FORMULA_MARKS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Puts a quote before a text that a spreadsheet could run. A text that begins with one gets another, so that a reader
/// can take exactly one off.
fn quote_formula(text: String) -> String {
    if text.starts_with(FORMULA_MARKS) || text.starts_with('\'') {
        format!("'{text}")
    } else {
        text
    }
}

/// The text of one CSV field. List items are separated by semicolons, which need no quotes.
pub(super) fn field_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::clean(text).into_owned(),
        Value::Array(values) => values.iter().map(field_text).collect::<Vec<_>>().join(";"),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

pub(super) fn csv_text(value: &Value) -> String {
    quote_formula(field_text(value))
}

/// Writes one CSV record. The csv writer flushes with every record, so it gets a buffer of its own.
pub(super) fn write_record(
    out: &mut impl Write,
    fields: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Result<(), Error> {
    let mut writer = csv::WriterBuilder::new()
        .buffer_capacity(512)
        .from_writer(Vec::new());
    writer.write_record(fields).map_err(io::Error::from)?;
    let line = writer
        .into_inner()
        .map_err(|error| Error::Write(error.into_error()))?;
    Ok(out.write_all(&line)?)
}
