//! Listings that are rejected unless an operator accepts them.

use std::fmt;

use crate::engine::common::Error;
use crate::engine::upstream::{GUARD_FROM, Shrunk, check_shrunk};
use crate::sources::Listing;
use crate::store::SourceRow;

/// Why a listing is rejected unless an operator accepts it.
pub(super) enum Doubt {
    /// It has at most half of the tokens of the last good one.
    Shrunk(Shrunk),
    /// In at least half of its records, a column cannot be read that could be read in the last good one.
    Unreadable { column: String, count: u64, of: u64 },
}

impl Doubt {
    pub fn about(listing: &Listing, row: &SourceRow) -> Option<Self> {
        if listing.is_partial {
            return None;
        }
        if let Some(shrunk) = check_shrunk(listing.count, row.size()) {
            return Some(Self::Shrunk(shrunk));
        }
        let readable = row.readable_columns.as_deref().unwrap_or("[]");
        let readable: Vec<String> = serde_json::from_str(readable).unwrap_or_default();
        let of = listing.columns.records;
        let mut counts = listing.columns.by_name.iter();
        let (column, count) = counts.find(|(column, count)| {
            of >= GUARD_FROM && count.unreadable * 2 >= of && readable.contains(column)
        })?;
        Some(Self::Unreadable {
            column: column.clone(),
            count: count.unreadable,
            of,
        })
    }

    pub fn into_error(self, name: &str, listing: &Listing) -> Error {
        let name = name.to_owned();
        match self {
            Self::Shrunk(Shrunk { found, before }) => match listing.refusals.shown.first() {
                Some(first) => Error::MostlyRefused {
                    count: listing.refusals.count,
                    first: first.to_string(),
                    found,
                    before,
                },
                None => Error::Shrunk {
                    name,
                    found,
                    before,
                },
            },
            Self::Unreadable { column, count, of } => Error::MostlyUnreadable {
                name,
                column,
                count,
                of,
            },
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shrunk(Shrunk { found, before }) => {
                write!(f, "{found} tokens instead of {before}")
            }
            Self::Unreadable { column, count, of } => {
                write!(f, "{column} unreadable in {count} of {of} records")
            }
        }
    }
}
