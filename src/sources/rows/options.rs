//! How files of other systems are read, as configured.

use std::collections::BTreeMap;

use encoding_rs::Encoding;

use super::super::cells::CellRules;
use crate::time::is_date_format;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Names of columns in the file, by the names of lapsed, which are still read.
    pub columns: BTreeMap<String, String>,
    /// The keys that lead to the list of records in a JSON document.
    pub items: Vec<String>,
    /// What happens to columns that are not read; an error unless `columns` names some.
    pub extra: Option<Extra>,
    /// The encoding of a file without a byte order mark; UTF-8 unless set.
    pub encoding: Option<&'static Encoding>,
    pub cells: CellRules,
}

/// # Errors
/// What to write instead.
pub fn parse_encoding(text: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label(text.as_bytes())
        .ok_or_else(|| "unknown encoding; write for example windows-1252 or utf-16le".to_owned())
}

/// # Errors
/// What to write instead.
pub fn parse_items(text: &str) -> Result<Vec<String>, String> {
    let keys: Vec<_> = text.split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err("write the keys that lead to the list: value, or data.tokens".to_owned());
    }
    Ok(keys)
}

/// # Errors
/// What to write instead.
pub fn parse_date_format(text: &str) -> Result<String, String> {
    let why = "must have year, month and day, and a time in full or none; \
               write for example %d.%m.%Y %H:%M";
    is_date_format(text)
        .then(|| text.to_owned())
        .ok_or_else(|| why.to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    Error,
    Ignore,
}

impl ReadOptions {
    pub fn ignores_extra(&self) -> bool {
        match self.extra {
            Some(extra) => extra == Extra::Ignore,
            None => !self.columns.is_empty(),
        }
    }
}
