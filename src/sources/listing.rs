//! Builds listings from tokens in any order: sorted by id, each id once, in bounded memory.

use std::io;
use std::iter::Peekable;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::external_sort::{ExternalSorter, Merge, RUN_SIZE, Record};
use super::{Error, Listing, Tokens, hex};
use crate::domain::ListedToken;

/// The longest external id in bytes.
pub(super) const MAX_ID_LENGTH: usize = 512;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowPosition {
    /// The index of the file; 0 for a query.
    pub file: usize,
    /// The line in the file, or the number of the row; from 1.
    pub line: u64,
}

pub struct ListingBuilder {
    sorter: ExternalSorter,
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

/// Which of several tokens with the same id is listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    First,
    Last,
}

impl ListingBuilder {
    /// Checks the id and adds the token.
    pub fn push(&mut self, token: &ListedToken) -> Result<(), Error> {
        let length = token.external_id.len();
        if length == 0 || length > MAX_ID_LENGTH {
            let reason = format!("a token has an id of {length} bytes");
            return Err(Error::content("the listing", reason));
        }
        self.push_checked(RowPosition::default(), token)
    }

    /// Adds a token whose id the caller has checked.
    pub(super) fn push_checked(
        &mut self,
        position: RowPosition,
        token: &ListedToken,
    ) -> Result<(), Error> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, &(position, token))
            .map_err(|error| Error::TempFile(error.into()))?;
        self.sorter
            .push(token.external_id.as_bytes(), &self.buffer)
            .map_err(Error::TempFile)
    }

    /// Builds the listing, with a fingerprint of its tokens. An id can occur twice if pages shifted while they
    /// were read; the last occurrence is kept.
    pub fn finish(self) -> Result<Listing, Error> {
        self.collect(Keep::Last, |_, _| {}).map_err(Error::TempFile)
    }

    /// Builds the listing of rows, without a fingerprint. If an id occurs several times, the first is kept, and
    /// `on_duplicate(first, repeated)` is called for each of the others.
    pub(super) fn finish_rows(
        self,
        on_duplicate: impl FnMut(RowPosition, RowPosition),
    ) -> Result<Listing, Error> {
        self.collect(Keep::First, on_duplicate)
            .map_err(Error::TempFile)
    }

    fn collect(
        self,
        keep: Keep,
        mut on_duplicate: impl FnMut(RowPosition, RowPosition),
    ) -> io::Result<Listing> {
        let sorted = self.sorter.finish()?;
        let mut count = 0;
        let mut digest = Sha256::new();
        let mut first: Option<Record> = None;
        // The first pass counts, computes the fingerprint and finds duplicates; the tokens are read in a second.
        for record in sorted.merge()? {
            let record = record?;
            // A JSON value ends by itself, so the digest needs no separator.
            if keep == Keep::Last {
                digest.update(&record.value);
            }
            match &first {
                Some(first) if first.key == record.key && keep == Keep::Last => {}
                Some(first) if first.key == record.key => {
                    let (first_position, _) = decode(&first.value)?;
                    let (position, _) = decode(&record.value)?;
                    on_duplicate(first_position, position);
                }
                _ => {
                    count += 1;
                    first = Some(record);
                }
            }
        }
        let records = sorted.merge()?.peekable();
        Ok(Listing {
            tokens: Tokens(Box::new(UniqueTokens { records, keep })),
            count,
            fingerprint: (keep == Keep::Last).then(|| hex(digest)),
            ..Listing::default()
        })
    }
}

fn decode(value: &[u8]) -> io::Result<(RowPosition, ListedToken)> {
    Ok(serde_json::from_slice(value)?)
}

struct UniqueTokens {
    records: Peekable<Merge>,
    keep: Keep,
}

impl UniqueTokens {
    fn read_next(&mut self) -> io::Result<Option<ListedToken>> {
        let Some(mut record) = self.records.next().transpose()? else {
            return Ok(None);
        };
        while let Some(Ok(duplicate)) = self
            .records
            .next_if(|next| next.as_ref().is_ok_and(|next| next.key == record.key))
        {
            if self.keep == Keep::Last {
                record = duplicate;
            }
        }
        let (_, token) = decode(&record.value)?;
        Ok(Some(token))
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
