//! The keys of `[[source]]` that say how records are read.

use ::config::ValueKind;

use super::field::{Field, Parsed};
use super::table::Table;
use crate::sources::cells::CellRules;
use crate::sources::file::{ReadOptions, map_column};
use crate::sources::rows::options::{Extra, parse_date_format, parse_encoding, parse_items};
use crate::time::DateRules;

/// What a plain date means.
pub(super) fn cell_rules(table: &mut Table) -> CellRules {
    let is_day_end = table.choice("dates", &[("start", false), ("end", true)], false);
    let dates = DateRules {
        is_day_end,
        ..DateRules::default()
    };
    CellRules {
        dates,
        ..CellRules::default()
    }
}

/// The keys of kind `file`.
pub(super) fn read_options(table: &mut Table) -> ReadOptions {
    let mut cells = cell_rules(table);
    cells.never = table.list("never", never).unwrap_or_default();
    cells.dates.format = table.optional("date_format", |field| parse_date_format(field.text()?));
    let extra = [("error", Extra::Error), ("ignore", Extra::Ignore)];
    let mut options = ReadOptions {
        items: table
            .optional("items", |field| parse_items(field.text()?))
            .unwrap_or_default(),
        extra: table.optional("extra", |field| field.choice(&extra)),
        encoding: table.optional("encoding", |field| parse_encoding(field.text()?)),
        cells,
        ..ReadOptions::default()
    };
    for (column, name) in table.map("columns", Field::string) {
        if let Err(message) = map_column(&mut options, &column, &name) {
            table.refuse("columns", message);
        }
    }
    options
}

/// A text, which may be empty, or a number.
fn never(field: &Field) -> Parsed<String> {
    let text = match &field.value.kind {
        ValueKind::String(text) => text.trim().to_owned(),
        ValueKind::I64(number) => number.to_string(),
        _ => return Err(field.mismatch("a text in quotes")),
    };
    field.count_as(&text);
    Ok(text)
}
