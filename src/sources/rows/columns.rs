//! The columns of a kind of file.

use chrono::NaiveDate;

use super::super::cells::{Value, quote};
use crate::nearest::nearest;

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
    /// The plain date of the instant that an earlier cell has filled.
    DayOf(&'static str),
    /// Empties the column if its date is only ours, by the policy.
    OriginOf(&'static str),
    /// Further owners for this column.
    OwnersOf(&'static str),
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
        let hint = if self.export.is_empty() {
            ""
        } else {
            "; map it with columns, or skip it with extra = \"ignore\""
        };
        match nearest(name, self.names) {
            Some(nearest) => {
                format!(
                    "{quoted} is not a column; did you mean {nearest}? The columns are {all}{hint}"
                )
            }
            None => format!("{quoted} is not a column; the columns are {all}{hint}"),
        }
    }

    /// Fills a column with a cell of lapsed's own export.
    pub fn set_exported(&self, values: &mut [Value; N], target: Target, cell: &[u8], value: Value) {
        let column = match target {
            Target::Column(name) | Target::OwnersOf(name) => self.find(name),
            Target::NeverOf(name) if cell == b"never" => self.find(name),
            Target::DayOf(name) if !cell.is_empty() => self.find(name),
            Target::OriginOf(name) if cell == b"policy" => self.find(name),
            Target::NeverOf(_) | Target::DayOf(_) | Target::OriginOf(_) | Target::Nothing => None,
        };
        match (column, target) {
            (Some(column), Target::OwnersOf(_)) => values[column].append(value),
            (Some(column), Target::DayOf(_)) => set_day(&mut values[column], value),
            (Some(column), Target::OriginOf(_)) => values[column] = Value::Empty,
            (Some(column), _) => values[column] = value,
            (None, _) => {}
        }
    }
}

/// Adds a plain date to its instant. Without an instant, the value is the date.
fn set_day(instant: &mut Value, day: Value) {
    let parsed = match &day {
        Value::Text(text) => text.parse::<NaiveDate>().ok(),
        _ => None,
    };
    *instant = match (std::mem::replace(instant, Value::Empty), parsed) {
        (Value::Text(at), Some(day)) => Value::OfDay(at, day),
        _ => day,
    };
}
