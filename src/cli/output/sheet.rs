//! A sheet shows one item: a title, fields with aligned labels, and sections with tables.

use std::io::{BufWriter, Write};

use serde::Serialize;

use super::Error;
use super::layout::{Layout, row_cells};
use super::printer::{csv_text, to_json, write_record};
use super::row::{Cell, FAINT, Row, STRONG, View};
use crate::cli::args::Format;
use crate::text;

const INDENT: &str = "  ";

/// An item that a sheet can show. It serialises as one object.
pub trait SheetItem: Serialize {
    /// The CSV header; each is a key of the object.
    fn keys() -> Vec<&'static str>;
    fn write_to(&self, sheet: &mut Sheet);
}

/// Prints one item: a sheet for people, else one object or one CSV record.
pub fn print_item<T: SheetItem>(
    format: Format,
    view: View,
    out: impl Write,
    item: &T,
) -> Result<(), Error> {
    let mut out = BufWriter::new(out);
    match format {
        Format::Table => {
            let mut sheet = Sheet::new(view);
            item.write_to(&mut sheet);
            out.write_all(sheet.into_text().as_bytes())?;
        }
        Format::Json => {
            let json = serde_json::to_string_pretty(item).map_err(Error::Encode)?;
            writeln!(out, "{}", text::escape_json(json))?;
        }
        Format::Jsonl => writeln!(out, "{}", to_json(item)?)?,
        Format::Csv => {
            let object = serde_json::to_value(item).map_err(Error::Encode)?;
            write_record(&mut out, T::keys())?;
            let values = T::keys().into_iter().map(|key| csv_text(&object[key]));
            write_record(&mut out, values)?;
        }
    }
    Ok(out.flush()?)
}

pub struct Sheet {
    view: View,
    text: String,
    fields: Vec<(&'static str, Cell)>,
}

impl Sheet {
    pub fn new(view: View) -> Self {
        Self {
            view,
            text: String::new(),
            fields: Vec::new(),
        }
    }

    pub fn view(&self) -> View {
        self.view
    }

    /// Starts a section. The title of the first is that of the sheet.
    pub fn section(&mut self, title: &str) {
        self.write_fields();
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let title = self.view.paint(STRONG, &text::clean(title));
        self.text.push_str(&title);
        self.text.push('\n');
    }

    pub fn field(&mut self, label: &'static str, value: Cell) {
        self.fields.push((label, value));
    }

    pub fn fields(&mut self, fields: impl IntoIterator<Item = (&'static str, Cell)>) {
        self.fields.extend(fields);
    }

    pub fn text(&mut self, text: &str) {
        self.write_fields();
        self.push_indented(&text::clean(text));
    }

    /// Adds rows as a table, or the line `none`.
    pub fn table<R: Row>(&mut self, rows: &[R], hidden_columns: &[&str]) {
        self.write_fields();
        if rows.is_empty() {
            self.push_indented(&self.view.paint(FAINT, "none"));
            return;
        }
        let mut view = self.view;
        view.width = view.width.map(|width| width.saturating_sub(INDENT.len()));
        let rows: Vec<_> = rows.iter().map(|row| row_cells(row, &view)).collect();
        let layout = Layout::fit::<R>(&rows, hidden_columns, &view);
        self.push_indented(&layout.header::<R>(&view));
        for cells in &rows {
            self.push_indented(&layout.line(cells, &view));
        }
    }

    pub fn into_text(mut self) -> String {
        self.write_fields();
        self.text
    }

    /// Writes the fields so far, with aligned values.
    fn write_fields(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        let longest = fields.iter().map(|(label, _)| label.len()).max();
        let width = longest.unwrap_or_default();
        for (label, cell) in fields {
            let gap = " ".repeat(width - label.len());
            let label = self.view.paint(FAINT, label);
            let value = self.view.paint(cell.style, &cell.text);
            self.push_indented(&format!("{label}{gap}  {value}"));
        }
    }

    fn push_indented(&mut self, line: &str) {
        self.text.push_str(INDENT);
        self.text.push_str(line);
        self.text.push('\n');
    }
}
