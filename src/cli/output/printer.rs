//! The one way in which listings are printed. Rows go out as they come; only a table keeps the first
//! thousand, to learn how wide its columns are.

use std::{
    io::{self, BufWriter, Write},
    marker::PhantomData,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    Error,
    column::{Cell, Row, View},
    layout::{Layout, cells},
    sheet::Sheet,
    text,
};
use crate::cli::args::Format;

/// How many rows decide the widths of a table.
const SAMPLE: usize = 1000;

/// Prints the rows of one listing.
///
/// ```text
/// let mut printer = Printer::<TokenRow>::stdout(args.format, now);
/// while let Some(row) = rows.try_next().await? { printer.row(&row)?; }
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
    /// A printer to standard output; what is no result goes to standard error.
    #[must_use]
    pub fn stdout(format: Format, now: chrono::DateTime<chrono::Utc>) -> Self {
        Self::new(format, View::of_stdout(now), io::stdout(), io::stderr())
    }
}

impl<R: Row, O: Write, E: Write> Printer<R, O, E> {
    /// A printer of results to `out` and of remarks to `notes`.
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

    /// Prints one row.
    ///
    /// # Errors
    /// When it cannot be written; [`Error::Closed`] when nobody reads any more.
    pub fn row(&mut self, row: &R) -> Result<(), Error> {
        self.count += 1;
        match &mut self.form {
            Form::Sampling(sample) => {
                sample.push(cells(row, &self.view));
                if sample.len() == SAMPLE {
                    self.settle()?;
                }
            }
            Form::Table(layout) => {
                writeln!(
                    self.out,
                    "{}",
                    layout.line(&cells(row, &self.view), &self.view)
                )?;
            }
            Form::Json => {
                let lead = if self.count == 1 { "[\n" } else { ",\n" };
                write!(self.out, "{lead}{}", json(row)?)?;
            }
            Form::Jsonl => writeln!(self.out, "{}", json(row)?)?,
            Form::Csv => {
                if self.count == 1 {
                    record(&mut self.out, R::KEYS)?;
                }
                record(&mut self.out, fields(row, R::KEYS)?)?;
            }
        }
        Ok(())
    }

    /// Ends the listing and returns how many rows it had.
    ///
    /// # Errors
    /// As [`Printer::row`].
    pub fn finish(mut self) -> Result<u64, Error> {
        if let Form::Sampling(_) = self.form {
            self.settle()?;
        }
        match &self.form {
            Form::Json if self.count == 0 => self.out.write_all(b"[]\n")?,
            Form::Json => self.out.write_all(b"\n]\n")?,
            Form::Csv if self.count == 0 => record(&mut self.out, R::KEYS)?,
            Form::Sampling(_) | Form::Table(_) | Form::Jsonl | Form::Csv => {}
        }
        self.out.flush()?;
        self.remark();
        Ok(self.count)
    }

    /// Decides the widths and prints the rows that waited for them.
    fn settle(&mut self) -> Result<(), Error> {
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

    /// Says on the side what a reader of a table would miss.
    fn remark(&mut self) {
        let Form::Table(layout) = &self.form else {
            return;
        };
        let left_out = layout.left_out::<R>();
        // Nobody to read a remark is no reason to fail.
        let _ = if self.count == 0 {
            writeln!(self.notes, "{}", R::NONE)
        } else if left_out.is_empty() {
            Ok(())
        } else {
            let titles = left_out.join(", ");
            writeln!(
                self.notes,
                "left out for want of room: {titles} (a wider terminal or --format csv shows all)"
            )
        };
    }
}

/// Prints one thing to standard output: as a sheet for people, else as one object or one row of
/// these keys.
///
/// # Errors
/// When it cannot be written; [`Error::Closed`] when nobody reads any more.
pub fn show<T: Serialize>(
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
        Format::Jsonl => writeln!(out, "{}", json(value)?)?,
        Format::Csv => {
            record(&mut out, keys)?;
            record(&mut out, fields(value, keys)?)?;
        }
    }
    Ok(out.flush()?)
}

fn json(row: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(row)
        .map(text::escape_json)
        .map_err(Error::Encode)
}

fn fields(row: &impl Serialize, keys: &[&str]) -> Result<Vec<String>, Error> {
    let object = serde_json::to_value(row).map_err(Error::Encode)?;
    Ok(keys.iter().map(|key| field(&object[*key])).collect())
}

/// A value in one field: several in a list are parted by semicolons, so that the commas of the
/// format need no quotes.
fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::clean(text).into_owned(),
        Value::Array(values) => values.iter().map(field).collect::<Vec<_>>().join(";"),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Writes one record. The writer of the crate would flush ours with every record, so it gets a
/// buffer of its own.
fn record(
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
