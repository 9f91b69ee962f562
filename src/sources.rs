//! Token sources: systems and files that list tokens. A source never sees the store.
//!
//! [`ListingBuilder`] builds listings from tokens in any order, in bounded memory.

pub mod cells;
pub mod devtron;
mod external_sort;
mod fields;
pub mod file;
pub mod gcore;
mod kind;
pub mod nocodb;
mod owner_cell;
pub mod owners;
pub mod rancher;
pub(crate) mod rows;
pub mod sql;

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::{Address, ListedToken, Token, TokenId, column};

pub use crate::upstream::{
    CheckReport, Error, Fetched, ProxyRules, RefusedRow, RefusedRows, Right,
};
pub use kind::Kind;

use external_sort::{ExternalSorter, Merge, RUN_SIZE, Record};
use owner_cell::join_owners;
use rows::Span;

const UNKNOWN_OWN_TOKEN: &str = "it is not known which token lapsed itself uses for the source";

#[async_trait]
pub trait Source: Send + Sync {
    /// Lists the tokens, or reports that nothing has changed since the last listing.
    ///
    /// # Errors
    /// If the listing could not be read to its end. Nothing is concluded from a failed listing.
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error>;

    /// Tests whether [`Source::fetch`] can work, and reports what the credentials allow.
    ///
    /// # Errors
    /// What prevents a listing, and how to fix it.
    async fn check(&self) -> Result<CheckReport, Error>;

    /// Ends a token permanently, and verifies that it has ended.
    ///
    /// # Errors
    /// If it is lapsed's own credential, must not be ended, or still works.
    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let _ = external_id;
        Err(Error::CannotRevoke)
    }

    /// Whether lapsed itself uses this token, as far as that is known without a request.
    fn is_own(&self, token: &Token) -> bool {
        let _ = token;
        false
    }

    /// What to configure before the source can revoke tokens; `None` if it can.
    fn missing_to_revoke(&self) -> Option<&'static str> {
        None
    }

    /// Whether lapsed reports expired tokens to this source.
    fn marks_expired(&self) -> bool {
        false
    }

    /// Marks tokens as expired at the source. Each token is marked once, or twice if the program is killed
    /// before it has recorded that.
    async fn mark_expired(&self, tokens: &[Token]) -> ExpiryAck {
        let _ = tokens;
        ExpiryAck::default()
    }

    /// The web page of the source on which people manage this token.
    fn token_page(&self, external_id: &str) -> Option<String> {
        let _ = external_id;
        None
    }
}

#[derive(Debug, Default)]
pub struct ExpiryAck {
    /// Tokens that are now marked at the source.
    pub done: Vec<TokenId>,
    /// Tokens that the source rejected. A token in neither list was not tried.
    pub failed: Vec<TokenId>,
    /// The first failure, or why nothing could be tried.
    pub error: Option<Error>,
}

#[derive(Debug, Clone, Default)]
pub struct LastListing {
    pub fingerprint: Option<String>,
    /// When it was requested; `None` if there was none.
    pub asked_at: Option<DateTime<Utc>>,
}

/// A listing. Its tokens are streamed in the order of their external ids, and each id occurs once.
#[derive(Default)]
pub struct Listing {
    pub tokens: Tokens,
    pub count: u64,
    /// It may lack tokens, so a token that it lacks is not gone.
    pub is_partial: bool,
    /// The administrators of the accounts; `None` if the source does not report them.
    pub admins: Option<Vec<AccountAdmin>>,
    /// The longest life that the source allows a token.
    pub max_life: Option<MaxLife>,
    /// A listing with refused rows is not complete.
    pub refusals: RefusedRows,
    /// A digest by which an unchanged listing is recognised.
    pub fingerprint: Option<String>,
    pub columns: ColumnCounts,
}

/// How many records have a value in a column, and in how many it cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColumnCount {
    pub values: u64,
    pub empty: u64,
    pub unreadable: u64,
}

/// The columns of a listing by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnCounts {
    pub by_name: BTreeMap<String, ColumnCount>,
    /// More than tokens where several records are about one.
    pub records: u64,
}

impl ColumnCounts {
    fn count(&mut self, token: &ListedToken) {
        self.records += 1;
        for (name, has_value) in token.columns() {
            let count = self.of(name);
            count.values += u64::from(has_value);
            count.empty += u64::from(!has_value);
        }
        for name in token.unreadable.keys() {
            self.of(name).unreadable += 1;
        }
    }

    /// What a person should look at, of the records of a listing: the `first` cell that cannot be read, columns
    /// that are empty or unreadable in all or most records, and missing expiries.
    fn notes(&self, first: Option<String>) -> Vec<String> {
        let records = self.records;
        if records == 0 {
            return Vec::new();
        }
        let in_most = |count: u64| match count {
            1 if records == 1 => Some("in the only record".to_owned()),
            count if count >= records => Some(format!("in all {records} records")),
            count if count * 2 > records => Some(format!("in {count} of {records} records")),
            _ => None,
        };
        let expected = [column::ISSUER, column::EXPIRES_AT, column::CREATED_AT];
        let first = first.map(|cell| format!("a cell cannot be read, {cell}"));
        let mut notes = Vec::from_iter(first);
        for (name, count) in &self.by_name {
            if let Some(how_often) = in_most(count.unreadable) {
                notes.push(format!("{name} cannot be read {how_often}"));
            }
            let is_expected = expected.contains(&name.as_str());
            if let Some(how_often) = in_most(count.empty).filter(|_| is_expected) {
                notes.push(format!("{name} is empty or NULL {how_often}"));
            }
        }
        if !self.by_name.contains_key(column::EXPIRES_AT) {
            notes.push("there is no expires_at, so no expiry is known".to_owned());
        }
        notes
    }

    /// The names of the columns that have values, most of which can be read.
    pub fn readable(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for (name, count) in &self.by_name {
            if count.values > count.unreadable {
                columns.push(name.as_str());
            }
        }
        columns
    }

    fn of(&mut self, name: &str) -> &mut ColumnCount {
        // Without an allocation for each cell.
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.to_owned(), ColumnCount::default());
        }
        self.by_name.get_mut(name).expect("inserted above")
    }
}

impl Listing {
    /// Returns the listing unless it equals the last one in its tokens and in everything else it reports.
    pub fn compare_with(mut self, last: &LastListing) -> Fetched<Self> {
        let other_facts = (self.is_partial, &self.max_life, &self.admins);
        if let Some(tokens) = &self.fingerprint {
            let digest = Sha256::new_with_prefix(tokens).chain_update(format!("{other_facts:?}"));
            self.fingerprint = Some(hex(digest));
            if self.fingerprint == last.fingerprint {
                return Fetched::Unchanged;
            }
        }
        Fetched::New(self)
    }
}

/// The outcome of a request to delete a token: whatever the response was, a list that was requested afterwards
/// decides.
fn deletion_outcome(
    response: Result<(), Error>,
    is_listed: Result<bool, Error>,
) -> Result<(), Error> {
    if is_listed.map_err(Error::outcome_unknown)? {
        Err(response.err().unwrap_or(Error::StillThere))
    } else {
        Ok(())
    }
}

pub(crate) fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub struct Tokens(pub Box<dyn Iterator<Item = Result<ListedToken, Error>> + Send>);

impl Default for Tokens {
    fn default() -> Self {
        Self(Box::new(std::iter::empty()))
    }
}

impl Iterator for Tokens {
    type Item = Result<ListedToken, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// The longest external id in bytes.
const MAX_ID_LENGTH: usize = 512;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RowPosition {
    /// The index of the file; 0 for a query.
    pub file: usize,
    /// The line in the file, or the number of the row; from 1.
    pub line: u64,
    pub span: Span,
}

pub struct ListingBuilder {
    sorter: ExternalSorter,
    buffer: Vec<u8>,
    columns: ColumnCounts,
}

impl Default for ListingBuilder {
    fn default() -> Self {
        Self {
            sorter: ExternalSorter::new(RUN_SIZE),
            buffer: Vec::new(),
            columns: ColumnCounts::default(),
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
    fn push_checked(&mut self, position: RowPosition, token: &ListedToken) -> Result<(), Error> {
        self.columns.count(token);
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

    /// Builds the listing of rows, without a fingerprint. If an id occurs several times, the first is kept with the
    /// owners of those that differ in nothing else; for each of the others, `on_duplicate(first, repeated)` is called.
    fn finish_rows(
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
        // With its token, once that is needed.
        let mut first: Option<(Record, Option<(RowPosition, ListedToken)>)> = None;
        // The first pass counts, computes the fingerprint and finds duplicates; the tokens are read in a second.
        for record in sorted.merge()? {
            let record = record?;
            // A JSON value ends by itself, so the digest needs no separator.
            if keep == Keep::Last {
                digest.update(&record.value);
            }
            match &mut first {
                Some((first, _)) if first.key == record.key && keep == Keep::Last => {}
                Some((first, decoded)) if first.key == record.key => {
                    let (first_position, token) = match decoded {
                        Some(decoded) => decoded,
                        None => decoded.insert(decode(&first.value)?),
                    };
                    let (position, repeated) = decode(&record.value)?;
                    if !join_owners(token, repeated) {
                        on_duplicate(*first_position, position);
                    }
                }
                _ => {
                    count += 1;
                    first = Some((record, None));
                }
            }
        }
        let records = sorted.merge()?.peekable();
        Ok(Listing {
            tokens: Tokens(Box::new(UniqueTokens { records, keep })),
            count,
            fingerprint: (keep == Keep::Last).then(|| hex(digest)),
            columns: self.columns,
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
        let Some(record) = self.records.next().transpose()? else {
            return Ok(None);
        };
        let (_, mut token) = decode(&record.value)?;
        while let Some(Ok(duplicate)) = self
            .records
            .next_if(|next| next.as_ref().is_ok_and(|next| next.key == record.key))
        {
            let (_, repeated) = decode(&duplicate.value)?;
            match self.keep {
                Keep::First => drop(join_owners(&mut token, repeated)),
                Keep::Last => token = repeated,
            }
        }
        Ok(Some(token))
    }
}

impl Iterator for UniqueTokens {
    type Item = Result<ListedToken, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().map_err(Error::TempFile).transpose()
    }
}

/// An administrator of an account, as reported by a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountAdmin {
    /// The account's name, as in its tokens.
    pub account: String,
    pub address: Address,
}

/// The longest life that a source allows a token, and the setting that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxLife {
    /// `None` if it is unlimited, so that tokens never expire.
    pub life: Option<TimeDelta>,
    /// For example `auth-token-max-ttl-minutes is 0`.
    pub evidence: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Cell;

    fn listing() -> Listing {
        Listing {
            fingerprint: Some("tokens".to_owned()),
            ..Listing::default()
        }
    }

    #[test]
    fn a_listing_is_unchanged_only_if_everything_in_it_is() {
        let Fetched::New(first) = listing().compare_with(&LastListing::default()) else {
            panic!("unchanged without a last listing");
        };
        let last = LastListing {
            fingerprint: first.fingerprint,
            asked_at: None,
        };
        assert!(matches!(listing().compare_with(&last), Fetched::Unchanged));
        let unlimited = MaxLife {
            life: None,
            evidence: "0".to_owned(),
        };
        let others = [
            Listing {
                fingerprint: Some("others".to_owned()),
                ..listing()
            },
            Listing {
                is_partial: true,
                ..listing()
            },
            Listing {
                admins: Some(Vec::new()),
                ..listing()
            },
            Listing {
                max_life: Some(unlimited),
                ..listing()
            },
            Listing {
                fingerprint: None,
                ..listing()
            },
        ];
        for other in others {
            assert!(matches!(other.compare_with(&last), Fetched::New(_)));
        }
    }

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
