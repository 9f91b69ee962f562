//! Prints results as a table, JSON, JSON lines or CSV, row by row.

mod layout;
mod printer;
mod row;
mod sheet;
pub mod when;

use std::io::{self, Write};

use crate::text;

pub use printer::Printer;
pub use row::{BAD, Cell, Column, FAINT, Field, Row, View, WARN, objects};
pub use sheet::{Sheet, SheetItem, print_item};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reader closed the output, as `head` does. This is not a failure.
    #[error("the reader of the output has gone")]
    Closed,
    #[error("cannot write the output")]
    Write(#[source] io::Error),
    #[error("cannot encode a row")]
    Encode(#[source] serde_json::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Write(error),
        }
    }
}

#[cfg(test)]
mod tests;

/// Prints a message to standard output.
pub fn print_line(text: &str) -> Result<(), Error> {
    Ok(writeln!(io::stdout(), "{}", text::clean_lines(text))?)
}
