//! Token sources: systems and files that list tokens. A source never sees the store.

pub mod cells;
pub mod devtron;
mod external_sort;
pub mod file;
pub mod gcore;
mod kind;
pub mod listing;
pub mod nocodb;
pub mod owners;
pub mod rancher;
pub(crate) mod rows;
pub mod sql;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::domain::{Address, ListedToken, Token, TokenId};

pub use crate::upstream::{CheckReport, Error, Fetched, RefusedRow, RefusedRows, Right};
pub use kind::Kind;

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
