//! Rows that could not be read.

use std::fmt;

use super::Error;

/// The rows that could not be read: the first [`MAX_SHOWN_ROWS`] and the total number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedRows {
    pub shown: Vec<RefusedRow>,
    pub count: u64,
}

/// Further refused rows are only counted.
pub const MAX_SHOWN_ROWS: usize = 20;

impl RefusedRows {
    pub fn add(&mut self, refusal: RefusedRow) {
        self.count += 1;
        if self.shown.len() < MAX_SHOWN_ROWS {
            self.shown.push(refusal);
        }
    }

    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        let room = MAX_SHOWN_ROWS.saturating_sub(self.shown.len());
        self.shown.extend(other.shown.into_iter().take(room));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    pub file: String,
    /// The first line of the row, counted from 1.
    pub line: u64,
    /// Why, and what to write instead.
    pub reason: String,
}

impl fmt::Display for RefusedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// For callers that accept no bad row.
impl From<RefusedRow> for Error {
    fn from(refusal: RefusedRow) -> Self {
        Self::content(format!("{}:{}", refusal.file, refusal.line), refusal.reason)
    }
}
