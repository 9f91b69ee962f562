//! How results reach people and programs: rows as a table, JSON, JSON lines or CSV, each streamed.

mod column;
mod columns;
mod layout;
mod printer;
pub mod rows;
mod sheet;
mod stored;
pub mod text;
pub mod when;

use std::io::{self, Write};

pub use column::{BAD, Cell, Column, FAINT, Row, STRONG, View, WARN};
pub use printer::{Printer, show};
pub use sheet::Sheet;

/// Why a result could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reader went away; that is how `head` ends a listing, and no failure.
    #[error("the reader of the output has gone")]
    Closed,
    /// The output cannot be written.
    #[error("cannot write the output")]
    Write(#[source] io::Error),
    /// A row has no JSON form.
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

/// Says the outcome of a command that lists nothing, on standard output.
///
/// # Errors
/// When it cannot be written; [`Error::Closed`] when nobody reads any more.
pub fn say(text: &str) -> Result<(), Error> {
    Ok(writeln!(io::stdout(), "{}", text::clean_lines(text))?)
}
