//! Prints rows as they come. A table buffers the first thousand rows to decide its column widths.

use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::Error;
use super::layout::{Layout, row_cells};
use super::row::{Cell, Object, Row, View};
use crate::cli::args::Format;
use crate::text;

/// How many rows decide the column widths of a table.
const SAMPLE_SIZE: usize = 1000;

/// Prints the rows of one result.
///
/// ```text
/// let mut printer = Printer::<TokenView>::stdout(args.format, now);
/// while let Some(row) = rows.try_next().await? { printer.print_row(&row)?; }
/// printer.finish()?;
/// ```
pub struct Printer<'a, R> {
    form: Form,
    view: View,
    out: BufWriter<Box<dyn Write + Send + 'a>>,
    notes: Box<dyn Write + Send + 'a>,
    count: u64,
    row: PhantomData<fn(&R)>,
}

enum Form {
    Sampling(Vec<Vec<Cell>>),
    Table(Layout),
    Json,
    Jsonl,
    Csv,
}

impl<'a, R: Row> Printer<'a, R> {
    /// Prints results to standard output and remarks to standard error.
    pub fn stdout(format: Format, now: DateTime<Utc>) -> Self {
        Self::new(format, View::for_stdout(now), io::stdout(), io::stderr())
    }

    /// Prints results to `out` and remarks to `notes`.
    pub fn new(
        format: Format,
        view: View,
        out: impl Write + Send + 'a,
        notes: impl Write + Send + 'a,
    ) -> Self {
        let form = match format {
            Format::Table => Form::Sampling(Vec::new()),
            Format::Json => Form::Json,
            Format::Jsonl => Form::Jsonl,
            Format::Csv => Form::Csv,
        };
        Self {
            form,
            view,
            out: BufWriter::with_capacity(1 << 16, Box::new(out)),
            notes: Box::new(notes),
            count: 0,
            row: PhantomData,
        }
    }

    pub fn print_row(&mut self, row: &R) -> Result<(), Error> {
        self.count += 1;
        match &mut self.form {
            Form::Sampling(sample) => {
                sample.push(row_cells(row, &self.view));
                if sample.len() == SAMPLE_SIZE {
                    self.print_sample()?;
                }
            }
            Form::Table(layout) => {
                let line = layout.line(&row_cells(row, &self.view), &self.view);
                writeln!(self.out, "{line}")?;
            }
            Form::Json => {
                let lead = if self.count == 1 { "[\n" } else { ",\n" };
                write!(self.out, "{lead}{}", to_json(&Object(row, self.view.now))?)?;
            }
            Form::Jsonl => writeln!(self.out, "{}", to_json(&Object(row, self.view.now))?)?,
            Form::Csv => {
                if self.count == 1 {
                    self.print_csv_header()?;
                }
                let values = R::FIELDS.iter().map(|(_, value)| value(row, self.view.now));
                write_record(&mut self.out, values.map(|value| field_text(&value)))?;
            }
        }
        Ok(())
    }

    /// The number of rows so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ends the output and returns the number of rows.
    pub fn finish(mut self) -> Result<u64, Error> {
        if let Form::Sampling(_) = self.form {
            self.print_sample()?;
        }
        match &self.form {
            Form::Json if self.count == 0 => self.out.write_all(b"[]\n")?,
            Form::Json => self.out.write_all(b"\n]\n")?,
            Form::Csv if self.count == 0 => self.print_csv_header()?,
            Form::Sampling(_) | Form::Table(_) | Form::Jsonl | Form::Csv => {}
        }
        self.out.flush()?;
        self.print_remark();
        Ok(self.count)
    }

    fn print_csv_header(&mut self) -> Result<(), Error> {
        write_record(&mut self.out, R::FIELDS.iter().map(|(key, _)| key))
    }

    /// Decides the column widths and prints the buffered rows.
    fn print_sample(&mut self) -> Result<(), Error> {
        let Form::Sampling(sample) = &mut self.form else {
            return Ok(());
        };
        let sample = std::mem::take(sample);
        let layout = Layout::fit::<R>(&sample, &[], &self.view);
        if !sample.is_empty() {
            writeln!(self.out, "{}", layout.header::<R>(&self.view))?;
        }
        for cells in &sample {
            writeln!(self.out, "{}", layout.line(cells, &self.view))?;
        }
        self.form = Form::Table(layout);
        Ok(())
    }

    /// Remarks that a table is empty or that columns were omitted.
    fn print_remark(&mut self) {
        let Form::Table(layout) = &self.form else {
            return;
        };
        let omitted_titles = layout.omitted_titles::<R>();
        // A closed standard error is not a failure.
        let _ = if self.count == 0 {
            writeln!(self.notes, "{}", R::EMPTY_MESSAGE)
        } else if omitted_titles.is_empty() {
            Ok(())
        } else {
            let titles = omitted_titles.join(", ");
            writeln!(
                self.notes,
                "columns omitted to fit the terminal: {titles} (--format csv shows all)"
            )
        };
    }
}

pub(super) fn to_json(row: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(row)
        .map(text::escape_json)
        .map_err(Error::Encode)
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

/// Writes one CSV record. The csv writer flushes with every record, so it gets a buffer of its own.
pub(super) fn write_record(
    out: &mut impl Write,
    fields: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Result<(), Error> {
    let mut writer = csv::WriterBuilder::new()
        .buffer_capacity(1 << 9)
        .from_writer(Vec::new());
    writer.write_record(fields).map_err(io::Error::from)?;
    let line = writer
        .into_inner()
        .map_err(|error| Error::Write(error.into_error()))?;
    Ok(out.write_all(&line)?)
}
