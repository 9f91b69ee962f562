//! Why a job failed.

use std::time::Duration;

use chrono::TimeDelta;

use crate::causes::Causes;
use crate::domain::Status;
use crate::sources;
use crate::store;

/// Time limit for one listing, and for one revocation at a source.
pub(super) const LISTING_TIMEOUT: Duration = Duration::from_mins(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Listing(#[from] sources::Error),
    #[error("no complete listing within {} minutes", LISTING_TIMEOUT.as_secs() / 60)]
    TimedOut,
    #[error("no answer within {} minutes, so the outcome is unknown", LISTING_TIMEOUT.as_secs() / 60)]
    NoAnswer,
    #[error(transparent)]
    Revoke(#[from] RevokeRefusal),
    #[error(
        "the listing has only {found} entries, the last good one had {before}; if that is right, \
         accept it once with `lapsed sweep --accept-shrink {name}`"
    )]
    Shrunk {
        name: String,
        found: u64,
        before: u64,
    },
    /// After leaving out the refused rows, the listing is too short to be plausible.
    #[error(
        "{} refused, which leaves only {found} of {before} tokens, so nothing was changed; the first: {first}",
        rows_were(*count)
    )]
    MostlyRefused {
        count: u64,
        /// Place and reason of the first refused row.
        first: String,
        found: u64,
        before: u64,
    },
    /// A directory's listing with refused rows changes nothing.
    #[error("{} refused, so nothing was changed; the first: {first}", rows_were(*count))]
    Refused {
        count: u64,
        /// Place and reason of the first refused row.
        first: String,
    },
    #[error(transparent)]
    Implausible(#[from] Implausible),
    #[error("another sweep took over")]
    LeaseLost,
    #[error("stopped before it was done; what was stored until then is kept")]
    Stopped,
    #[error("a bug in lapsed: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether the store is unreachable and may come back.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// The error with its causes, on one line.
    pub(super) fn chain(&self) -> String {
        Causes(self).to_string()
    }

    /// How long a source or directory asked us to wait. That is not a failure.
    pub(super) fn wait(&self) -> Option<TimeDelta> {
        match self {
            Self::Listing(error) => TimeDelta::from_std(error.wait()?).ok(),
            _ => None,
        }
    }
}

/// Why a whole listing of people is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    #[error(
        "it lists no one, and listed {before} people before; check that its credentials may read people, and that \
         its configuration selects them"
    )]
    Empty { before: u64 },
    #[error(
        "the canary {number} of {count} is not listed as active; fix what the directory shows, or correct \
         `canaries`"
    )]
    Canary {
        /// Its place in the configuration.
        number: usize,
        count: usize,
    },
    #[error("it lists an address that no account has, so its answers do not match the query")]
    AnswersAnything,
    #[error("{lacking} of {listed} people have no status field; let its credentials read it")]
    FieldMissing { lacking: u64, listed: u64 },
    /// There are no members in any allowed group, and never were.
    #[error(
        "the allowed groups have no members; correct `allowed_groups`, or let its credentials read group members"
    )]
    NoGroupMembers,
    #[error(
        "it lists people but does not find them by id, so it cannot prove that a person is absent; let its \
             credentials read single people"
    )]
    LookUpFails,
}

/// Why lapsed does not try to revoke a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeRefusal {
    #[error("the token's source {0} is not in the configuration, so lapsed cannot reach it")]
    UnknownSource(String),
    #[error("lapsed may not revoke tokens of the source {0}")]
    NotAllowed(String),
    /// lapsed needs it to list the source.
    #[error("{}", sources::Error::OwnToken)]
    OwnToken,
    #[error("the token is {0}, so there is nothing to revoke")]
    NotActive(Status),
}

/// `1 row was` or `3 rows were`.
pub(super) fn rows_were(count: u64) -> String {
    if count == 1 {
        "1 row was".to_owned()
    } else {
        format!("{count} rows were")
    }
}
