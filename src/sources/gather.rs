//! Tokens as they come in, page by page and in any order, made into a listing: sorted, each id once,
//! in bounded memory.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::domain::Listed;

use super::sorter::{Merge, RUN_SIZE, Record, Sorter};
use super::{Error, Listing, Tokens};

/// The longest external id in bytes; what is longer is no id but a mistake.
const ID_LIMIT: usize = 512;

/// A listing that is being gathered.
pub struct Gathering {
    sorter: Sorter,
    /// A token's value for the sorter, kept for its memory.
    buffer: Vec<u8>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            sorter: Sorter::new(RUN_SIZE),
            buffer: Vec::new(),
        }
    }
}

impl Gathering {
    /// Takes one token.
    ///
    /// # Errors
    /// When it has no id, or cannot be kept.
    pub fn push(&mut self, token: &Listed) -> Result<(), Error> {
        let id = &token.external_id;
        if id.is_empty() || id.len() > ID_LIMIT {
            return Err(Error::Content {
                place: "the listing".to_owned(),
                reason: format!("a token has an id of {} bytes", id.len()),
            });
        }
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, token);
        written.map_err(|error| Error::Scratch(error.into()))?;
        let pushed = self.sorter.push(id.as_bytes(), &self.buffer);
        pushed.map_err(Error::Scratch)
    }

    /// The listing, with a fingerprint of its tokens. Where an id came twice, because pages moved while
    /// they were read, the last counts.
    ///
    /// # Errors
    /// When tokens cannot be kept or read back.
    pub fn finish(self) -> Result<Listing, Error> {
        let sorted = self.sorter.finish().map_err(Error::Scratch)?;
        let mut count = 0;
        let mut previous = None;
        let mut digest = Sha256::new();
        for record in sorted.merge().map_err(Error::Scratch)? {
            let Record { key, value } = record.map_err(Error::Scratch)?;
            // It begins with the id, and ends with itself: it is JSON.
            digest.update(&value);
            if previous.as_ref() != Some(&key) {
                count += 1;
                previous = Some(key);
            }
        }
        let tokens = Latest {
            records: sorted.merge().map_err(Error::Scratch)?,
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

/// Of the tokens of one id, the one that came last.
struct Latest {
    records: Merge,
    next: Option<Record>,
}

impl Latest {
    fn read(&mut self) -> Result<Option<Listed>, Error> {
        let mut latest = match self.next.take() {
            Some(record) => record,
            None => match self.records.next() {
                Some(record) => record.map_err(Error::Scratch)?,
                None => return Ok(None),
            },
        };
        for record in self.records.by_ref() {
            let record = record.map_err(Error::Scratch)?;
            if record.key != latest.key {
                self.next = Some(record);
                break;
            }
            latest = record;
        }
        let token = serde_json::from_slice(&latest.value);
        token
            .map(Some)
            .map_err(|error| Error::Scratch(error.into()))
    }
}

impl Iterator for Latest {
    type Item = Result<Listed, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Cell;

    #[test]
    fn a_listing_is_in_order_and_holds_each_id_once_as_it_came_last() {
        let mut gathering = Gathering::default();
        for (id, name) in [("b", "first"), ("a", "only"), ("b", "last"), ("c", "end")] {
            let token = Listed {
                name: Cell::Value(name.to_owned()),
                ..Listed::named(id)
            };
            gathering.push(&token).unwrap();
        }
        let listing = gathering.finish().unwrap();
        assert_eq!(listing.count, 3);
        let tokens: Vec<_> = listing.tokens.map(Result::unwrap).collect();
        let names: Vec<_> = tokens
            .iter()
            .map(|token| (token.external_id.as_str(), token.name.clone().over(None)))
            .collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            names,
            [("a", name("only")), ("b", name("last")), ("c", name("end"))]
        );
    }

    #[test]
    fn equal_listings_have_one_fingerprint_whatever_the_order() {
        let fingerprint = |tokens: &[(&str, &str)]| {
            let mut gathering = Gathering::default();
            for (id, name) in tokens {
                let name = Cell::Value((*name).to_owned());
                let token = Listed {
                    name,
                    ..Listed::named(*id)
                };
                gathering.push(&token).unwrap();
            }
            gathering.finish().unwrap().fingerprint.unwrap()
        };
        let one = fingerprint(&[("a", "x"), ("b", "y")]);
        assert_eq!(one, fingerprint(&[("b", "y"), ("a", "x")]));
        assert_ne!(one, fingerprint(&[("a", "x"), ("b", "z")]));
        assert_ne!(one, fingerprint(&[("a", "x")]));
    }

    #[test]
    fn a_token_without_an_id_ends_the_listing() {
        assert!(Gathering::default().push(&Listed::default()).is_err());
    }
}
