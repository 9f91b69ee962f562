//! Builds listings from tokens in any order: sorted, each id once, in bounded memory.

use std::fmt::Write;
use std::io;
use std::iter::Peekable;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::ListedToken;

use super::sorter::{ExternalSorter, Merge, RUN_SIZE};
use super::{Error, Listing, Tokens};

/// The longest external id in bytes.
pub(super) const MAX_ID_LENGTH: usize = 512;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub file: usize,
    /// The line in the file, or the number of the row; from 1.
    pub line: u64,
}

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
    /// Adds a token of a system that is read page by page.
    ///
    /// # Errors
    /// If the token has no valid id, or cannot be stored.
    pub fn push(&mut self, token: &ListedToken) -> Result<(), Error> {
        let length = token.external_id.len();
        if length == 0 || length > MAX_ID_LENGTH {
            let reason = format!("a token has an id of {length} bytes");
            return Err(Error::content("the listing", reason));
        }
        self.push_row(Place::default(), token)
    }

    /// Adds a token of a row, whose id the caller has checked.
    pub(super) fn push_row(&mut self, place: Place, token: &ListedToken) -> Result<(), Error> {
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, &(place, token));
        written.map_err(|error| Error::TempFile(error.into()))?;
        let pushed = self.sorter.push(token.external_id.as_bytes(), &self.buffer);
        pushed.map_err(Error::TempFile)
    }

    /// The listing, with a fingerprint of its tokens. If an id occurs twice, because pages shifted while they
    /// were read, the last occurrence counts.
    ///
    /// # Errors
    /// If tokens cannot be stored or read back.
    pub fn finish(self) -> Result<Listing, Error> {
        self.collect(true, |_, _| {}).map_err(Error::TempFile)
    }

    /// The listing of rows, without a fingerprint. If an id occurs twice, the first occurrence counts;
    /// `on_duplicate` gets its place, and that of each further one.
    pub(super) fn finish_rows(
        self,
        on_duplicate: impl FnMut(Place, Place),
    ) -> Result<Listing, Error> {
        let listing = self.collect(false, on_duplicate).map_err(Error::TempFile)?;
        Ok(Listing {
            fingerprint: None,
            ..listing
        })
    }

    fn collect(
        self,
        last_counts: bool,
        mut on_duplicate: impl FnMut(Place, Place),
    ) -> io::Result<Listing> {
        let sorted = self.sorter.finish()?;
        let mut count = 0;
        let mut digest = Sha256::new();
        let mut records = sorted.merge()?;
        let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
        while let Some(record) = records.next().transpose()? {
            // The value is JSON with the id in it, so values need no separator.
            digest.update(&record.value);
            match &first {
                Some((key, value)) if *key == record.key => {
                    on_duplicate(decode(value)?.0, decode(&record.value)?.0);
                }
                _ => {
                    count += 1;
                    first = Some((record.key, record.value));
                }
            }
        }
        let records = sorted.merge()?.peekable();
        Ok(Listing {
            tokens: Tokens(Box::new(UniqueTokens {
                records,
                last_counts,
            })),
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

fn decode(value: &[u8]) -> io::Result<(Place, ListedToken)> {
    Ok(serde_json::from_slice(value)?)
}

struct UniqueTokens {
    records: Peekable<Merge>,
    /// Of several tokens with the same id.
    last_counts: bool,
}

impl UniqueTokens {
    fn read_next(&mut self) -> io::Result<Option<ListedToken>> {
        let Some(mut record) = self.records.next().transpose()? else {
            return Ok(None);
        };
        while let Some(Ok(other)) = self
            .records
            .next_if(|next| next.as_ref().is_ok_and(|next| next.key == record.key))
        {
            if self.last_counts {
                record = other;
            }
        }
        Ok(Some(decode(&record.value)?.1))
    }
}

impl Iterator for UniqueTokens {
    type Item = Result<ListedToken, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().map_err(Error::TempFile).transpose()
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
