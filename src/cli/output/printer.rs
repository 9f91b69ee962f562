//! Prints rows as they come. A table buffers the first thousand rows to decide its column widths.

use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;

use serde::Serialize;
use serde_json::Value;

use super::Error;
use super::column::{Cell, Row, View};
use super::layout::{Layout, row_cells};
use super::sheet::Sheet;
use crate::cli::args::Format;
use crate::text;

/// How many rows decide the column widths of a table.
const SAMPLE_SIZE: usize = 1000;

/// Prints the rows of one result.
///
/// ```text
/// let mut printer = Printer::<TokenRow>::stdout(args.format, now);
/// while let Some(row) = rows.try_next().await? { printer.print_row(&row)?; }
/// printer.finish()?;
/// ```
pub struct Printer<R, O: Write = io::Stdout, E: Write = io::Stderr> {
    form: Form,
    view: View,
    out: BufWriter<O>,
    notes: E,
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

impl<R: Row> Printer<R> {
    /// Prints results to standard output and remarks to standard error.
    #[must_use]
    pub fn stdout(format: Format, now: chrono::DateTime<chrono::Utc>) -> Self {
        Self::new(format, View::for_stdout(now), io::stdout(), io::stderr())
    }
}

impl<R: Row, O: Write, E: Write> Printer<R, O, E> {
    /// Prints results to `out` and remarks to `notes`.
    pub fn new(format: Format, view: View, out: O, notes: E) -> Self {
        let form = match format {
            Format::Table => Form::Sampling(Vec::new()),
            Format::Json => Form::Json,
            Format::Jsonl => Form::Jsonl,
            Format::Csv => Form::Csv,
        };
        Self {
            form,
            view,
            out: BufWriter::with_capacity(1 << 16, out),
            notes,
            count: 0,
            row: PhantomData,
        }
    }

    /// # Errors
    /// If it cannot be written; [`Error::Closed`] if the reader closed the output.
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
                writeln!(
                    self.out,
                    "{}",
                    layout.line(&row_cells(row, &self.view), &self.view)
                )?;
            }
            Form::Json => {
                let lead = if self.count == 1 { "[\n" } else { ",\n" };
                write!(self.out, "{lead}{}", to_json(row)?)?;
            }
            Form::Jsonl => writeln!(self.out, "{}", to_json(row)?)?,
            Form::Csv => {
                if self.count == 1 {
                    write_record(&mut self.out, R::KEYS)?;
                }
                write_record(&mut self.out, field_texts(row, R::KEYS)?)?;
            }
        }
        Ok(())
    }

    /// The number of rows so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ends the output and returns the number of rows.
    ///
    /// # Errors
    /// As [`Printer::print_row`].
    pub fn finish(mut self) -> Result<u64, Error> {
        if let Form::Sampling(_) = self.form {
            self.print_sample()?;
        }
        match &self.form {
            Form::Json if self.count == 0 => self.out.write_all(b"[]\n")?,
            Form::Json => self.out.write_all(b"\n]\n")?,
            Form::Csv if self.count == 0 => write_record(&mut self.out, R::KEYS)?,
            Form::Sampling(_) | Form::Table(_) | Form::Jsonl | Form::Csv => {}
        }
        self.out.flush()?;
        self.print_remark();
        Ok(self.count)
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

/// Prints one item: a sheet for people, else one object, or one CSV record with these keys.
///
/// # Errors
/// If it cannot be written; [`Error::Closed`] if the reader closed the output.
pub fn print_one<T: Serialize>(
    format: Format,
    view: View,
    out: impl Write,
    (value, keys): (&T, &[&str]),
    sheet: impl FnOnce(&mut Sheet),
) -> Result<(), Error> {
    let mut out = BufWriter::new(out);
    match format {
        Format::Table => {
            let mut page = Sheet::new(view);
            sheet(&mut page);
            out.write_all(page.into_text().as_bytes())?;
        }
        Format::Json => {
            let json = serde_json::to_string_pretty(value).map_err(Error::Encode)?;
            writeln!(out, "{}", text::escape_json(json))?;
        }
        Format::Jsonl => writeln!(out, "{}", to_json(value)?)?,
        Format::Csv => {
            write_record(&mut out, keys)?;
            write_record(&mut out, field_texts(value, keys)?)?;
        }
    }
    Ok(out.flush()?)
}

fn to_json(row: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(row)
        .map(text::escape_json)
        .map_err(Error::Encode)
}

fn field_texts(row: &impl Serialize, keys: &[&str]) -> Result<Vec<String>, Error> {
    let object = serde_json::to_value(row).map_err(Error::Encode)?;
    Ok(keys.iter().map(|key| field_text(&object[*key])).collect())
}

/// The text of one CSV field. List items are separated by semicolons, which need no quotes.
fn field_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::clean(text).into_owned(),
        Value::Array(values) => values.iter().map(field_text).collect::<Vec<_>>().join(";"),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Writes one CSV record. The csv writer flushes with every record, so it gets a buffer of its own.
fn write_record(
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
