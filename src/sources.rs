//! Token sources: systems and files that list tokens. A source never sees the store.

pub mod cells;
pub mod database;
pub mod devtron;
pub mod file;
pub mod gcore;
mod kind;
pub mod listing;
pub mod nocodb;
pub mod owners;
pub mod rancher;
pub(crate) mod rows;
mod sorter;
pub mod sql;
pub mod tokens;

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::domain::{Address, ListedToken, Token, TokenId};
use crate::{ldap, web};

pub use kind::{Common, Kind};

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

/// The outcome of [`Source::mark_expired`].
#[derive(Debug, Default)]
pub struct ExpiryAck {
    /// Tokens that are now marked at the source.
    pub done: Vec<TokenId>,
    /// Tokens that the source rejected. A token in neither list was not tried.
    pub failed: Vec<TokenId>,
    /// The first failure, or why nothing could be tried.
    pub error: Option<Error>,
}

/// The last good listing of a source.
#[derive(Debug, Clone, Default)]
pub struct LastListing {
    /// See [`Listing::fingerprint`].
    pub fingerprint: Option<String>,
    /// When it was requested; `None` if there was none.
    pub asked_at: Option<DateTime<Utc>>,
}

/// The result of a check, which lists nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Example: `CSV, 14 tokens`.
    pub summary: String,
    /// What the credentials can and cannot do.
    pub rights: Vec<Right>,
}

impl From<String> for CheckReport {
    fn from(summary: String) -> Self {
        Self {
            summary,
            rights: Vec::new(),
        }
    }
}

/// Something that the credentials may need permission for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// Example: `list the tokens of all users`.
    pub what: String,
    /// How to add the right; `None` if the credentials have it.
    pub missing: Option<String>,
}

pub enum Fetched<T> {
    Unchanged,
    New(T),
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
}

impl Listing {
    /// Returns the listing unless it equals the last one in its tokens and in everything else it reports.
    #[must_use]
    pub fn compare_with(mut self, last: &LastListing) -> Fetched<Self> {
        let other_facts = (self.is_partial, &self.max_life, &self.admins);
        let digest = self.fingerprint.as_ref().map(|tokens| {
            let digest = Sha256::new_with_prefix(tokens);
            digest.chain_update(format!("{other_facts:?}"))
        });
        self.fingerprint = digest.map(listing::hex);
        if self.fingerprint.is_some() && self.fingerprint == last.fingerprint {
            return Fetched::Unchanged;
        }
        Fetched::New(self)
    }
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
    /// `None` means unlimited.
    pub life: Option<TimeDelta>,
    /// Example: `auth-token-max-ttl-minutes is 0`.
    pub evidence: String,
}

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
        Self::Content {
            place: format!("{}:{}", refusal.file, refusal.line),
            reason: refusal.reason,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}{}", read_advice(source))]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    /// Rows that do not fit into memory could not be written or read back.
    #[error("cannot store rows in a temporary file; set TMPDIR to a directory with free space")]
    TempFile(#[source] io::Error),
    #[error(
        "{path} changed while it was read; write it under another name and rename it when it is complete"
    )]
    Changed { path: String },
    /// The path is not a readable file, or the folder has nothing to read.
    #[error("{path} {reason}")]
    Path {
        path: String,
        /// What is wrong, and what it should be.
        reason: &'static str,
    },
    #[error(transparent)]
    Web(#[from] web::Error),
    #[error(transparent)]
    Ldap(#[from] ldap::Error),
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The credentials are not sufficient.
    #[error("{what}; {fix}")]
    Rights { what: String, fix: String },
    /// The source lists only the tokens of the user whose credentials lapsed has.
    #[error("the credentials show only the tokens of their own user; {fix}")]
    OwnTokensOnly { fix: String },
    #[error("the source has no token {0:?}")]
    NoSuchToken(String),
    #[error(
        "this is the token that lapsed itself uses for the source; revoke it by hand when you replace it"
    )]
    OwnToken,
    #[error("sources of this kind cannot revoke tokens; revoke it in the system that issued it")]
    CannotRevoke,
    #[error("the source accepted the request, but the token still exists")]
    StillThere,
    /// The attempt to end the token was rolled back, so nothing has changed.
    #[error(transparent)]
    RolledBack(Box<Error>),
    /// Nothing was attempted, because the token could not be looked up.
    #[error(transparent)]
    NotAttempted(Box<Error>),
    #[error("the request was sent, but its outcome could not be verified")]
    OutcomeUnknown(#[source] Box<Error>),
    /// The content as a whole is invalid, for example without a header or with an unknown column.
    #[error("{place}: {reason}")]
    Content {
        place: String,
        /// Why, and what to write instead.
        reason: String,
    },
}

impl Error {
    /// How long the source asked us to wait. A request to wait is not a failure.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Web(error) => error.wait(),
            Self::RolledBack(error) | Self::NotAttempted(error) | Self::OutcomeUnknown(error) => {
                error.wait()
            }
            _ => None,
        }
    }

    pub(crate) fn not_attempted(self) -> Self {
        Self::NotAttempted(Box::new(self))
    }

    pub(crate) fn outcome_unknown(self) -> Self {
        Self::OutcomeUnknown(Box::new(self))
    }

    /// Whether the token may have ended in spite of the error.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Web(_) | Self::Content { .. } => self.wait().is_none(),
            Self::StillThere | Self::OutcomeUnknown(_) => true,
            Self::Database(error) => error.is_in_doubt(),
            _ => false,
        }
    }
}

fn read_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; correct the path, or run the export first",
        ErrorKind::PermissionDenied => "; make it readable for the user that runs lapsed",
        ErrorKind::IsADirectory => "; specify a file in it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
