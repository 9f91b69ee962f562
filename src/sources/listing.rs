//! Builds listings from tokens in any order: sorted, each id once, in bounded memory.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::ListedToken;

use super::sorter::{ExternalSorter, Merge, RUN_SIZE, Record, Sorted};
use super::{Error, Listing, Tokens};

/// The longest external id in bytes.
pub(super) const MAX_ID_LENGTH: usize = 512;

/// A listing of a system, read page by page. If an id occurs twice, the last occurrence counts.
pub struct ListingBuilder {
    sorter: ExternalSorter,
    /// Reused between calls.
    buffer: Vec<u8>,
}

impl Default for ListingBuilder {
    fn default() -> Self {
        Self {
            sorter: ExternalSorter::new(RUN_SIZE),
            buffer: Vec::new(),
        }
    }
}

impl ListingBuilder {
    /// # Errors
    /// If the token has no valid id, or cannot be stored.
    pub fn push(&mut self, token: &ListedToken) -> Result<(), Error> {
        let id = &token.external_id;
        if id.is_empty() || id.len() > MAX_ID_LENGTH {
            return Err(Error::Content {
                place: "the listing".to_owned(),
                reason: format!("a token has an id of {} bytes", id.len()),
            });
        }
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, token);
        written.map_err(|error| Error::TempFile(error.into()))?;
        let pushed = self.sorter.push(id.as_bytes(), &self.buffer);
        pushed.map_err(Error::TempFile)
    }

    /// The listing, with a fingerprint of its tokens. An id occurs twice if pages shifted while they were
    /// read.
    ///
    /// # Errors
    /// If tokens cannot be stored or read back.
    pub fn finish(self) -> Result<Listing, Error> {
        let sorted = self.sorter.finish().map_err(Error::TempFile)?;
        let mut count = 0;
        let mut previous = None;
        let mut digest = Sha256::new();
        for record in sorted.merge().map_err(Error::TempFile)? {
            let Record { key, value } = record.map_err(Error::TempFile)?;
            // The value is JSON with the id in it, so values need no separator.
            digest.update(&value);
            if previous.as_ref() != Some(&key) {
                count += 1;
                previous = Some(key);
            }
        }
        let tokens = LastOfEachId {
            records: sorted.merge().map_err(Error::TempFile)?,
            next: None,
        };
        Ok(Listing {
            tokens: Tokens(Box::new(tokens)),
            count,
            fingerprint: Some(hex(digest)),
            ..Listing::default()
        })
    }
}

/// A digest in hexadecimal digits.
pub(crate) fn hex(digest: Sha256) -> String {
    let mut digits = String::new();
    for byte in digest.finalize() {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

struct LastOfEachId {
    records: Merge,
    next: Option<Record>,
}

impl LastOfEachId {
    fn read_next(&mut self) -> Result<Option<ListedToken>, Error> {
        let mut last = match self.next.take() {
            Some(record) => record,
            None => match self.records.next() {
                Some(record) => record.map_err(Error::TempFile)?,
                None => return Ok(None),
            },
        };
        for record in self.records.by_ref() {
            let record = record.map_err(Error::TempFile)?;
            if record.key != last.key {
                self.next = Some(record);
                break;
            }
            last = record;
        }
        let token = serde_json::from_slice(&last.value);
        token
            .map(Some)
            .map_err(|error| Error::TempFile(error.into()))
    }
}

impl Iterator for LastOfEachId {
    type Item = Result<ListedToken, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().transpose()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub file: usize,
    /// The line in the file, or the number of the row; from 1.
    pub line: u64,
}

/// A listing of rows that have places. If an id occurs twice, the first occurrence counts.
pub(super) struct RowListingBuilder {
    sorter: ExternalSorter,
    pushed: u64,
    /// Reused between calls.
    buffer: Vec<u8>,
}

impl Default for RowListingBuilder {
    fn default() -> Self {
        Self {
            sorter: ExternalSorter::new(RUN_SIZE),
            pushed: 0,
            buffer: Vec::new(),
        }
    }
}

impl RowListingBuilder {
    pub fn push(&mut self, place: Place, token: &ListedToken) -> Result<(), Error> {
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, &(place, token));
        written.map_err(|error| Error::TempFile(error.into()))?;
        let pushed = self.sorter.push(token.external_id.as_bytes(), &self.buffer);
        pushed.map_err(Error::TempFile)?;
        self.pushed += 1;
        Ok(())
    }

    /// The tokens and their number. `on_duplicate` gets the place of the first row of an id, and that of
    /// each further row.
    pub fn finish(
        self,
        mut on_duplicate: impl FnMut(Place, Place),
    ) -> Result<(Tokens, u64), Error> {
        let sorted = self.sorter.finish().map_err(Error::TempFile)?;
        let duplicates = report_duplicates(&sorted, &mut on_duplicate)?;
        let tokens = FirstOfEachId {
            records: sorted.merge().map_err(Error::TempFile)?,
            previous: None,
        };
        Ok((Tokens(Box::new(tokens)), self.pushed - duplicates))
    }
}

/// Returns the number of duplicates.
fn report_duplicates(
    sorted: &Sorted,
    on_duplicate: &mut impl FnMut(Place, Place),
) -> Result<u64, Error> {
    let mut count = 0;
    let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
    for record in sorted.merge().map_err(Error::TempFile)? {
        let record = record.map_err(Error::TempFile)?;
        match first.as_ref().filter(|(key, _)| *key == record.key) {
            Some((_, kept)) => {
                on_duplicate(decode(kept)?.0, decode(&record.value)?.0);
                count += 1;
            }
            None => first = Some((record.key, record.value)),
        }
    }
    Ok(count)
}

fn decode(value: &[u8]) -> Result<(Place, ListedToken), Error> {
    serde_json::from_slice(value).map_err(|error| Error::TempFile(error.into()))
}

struct FirstOfEachId {
    records: Merge,
    previous: Option<Vec<u8>>,
}

impl Iterator for FirstOfEachId {
    type Item = Result<ListedToken, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(Error::TempFile(error))),
            };
            if self.previous.as_ref() == Some(&record.key) {
                continue;
            }
            self.previous = Some(record.key);
            return Some(decode(&record.value).map(|(_, token)| token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Cell;

    #[test]
    fn a_listing_is_sorted_and_holds_the_last_token_of_each_id() {
        let mut builder = ListingBuilder::default();
        for (id, name) in [("b", "first"), ("a", "only"), ("b", "last"), ("c", "end")] {
            let token = ListedToken {
                name: Cell::Value(name.to_owned()),
                ..ListedToken::with_id(id)
            };
            builder.push(&token).unwrap();
        }
        let listing = builder.finish().unwrap();
        assert_eq!(listing.count, 3);
        let tokens: Vec<_> = listing.tokens.map(Result::unwrap).collect();
        let names: Vec<_> = tokens
            .iter()
            .map(|token| (token.external_id.as_str(), token.name.clone().into_option()))
            .collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            names,
            [("a", name("only")), ("b", name("last")), ("c", name("end"))]
        );
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_the_order() {
        let fingerprint = |tokens: &[(&str, &str)]| {
            let mut builder = ListingBuilder::default();
            for (id, name) in tokens {
                let name = Cell::Value((*name).to_owned());
                let token = ListedToken {
                    name,
                    ..ListedToken::with_id(*id)
                };
                builder.push(&token).unwrap();
            }
            builder.finish().unwrap().fingerprint.unwrap()
        };
        let one = fingerprint(&[("a", "x"), ("b", "y")]);
        assert_eq!(one, fingerprint(&[("b", "y"), ("a", "x")]));
        assert_ne!(one, fingerprint(&[("a", "x"), ("b", "z")]));
        assert_ne!(one, fingerprint(&[("a", "x")]));
    }

    #[test]
    fn a_token_without_an_id_fails_the_listing() {
        assert!(
            ListingBuilder::default()
                .push(&ListedToken::default())
                .is_err()
        );
    }
}
