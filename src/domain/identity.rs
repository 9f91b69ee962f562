//! A person's status at a directory, and what follows from it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Address, token::words};

words! {
    /// Whether a person still has access.
    IdentityStatus {
        /// The directory says yes.
        Active = "active",
        /// The directory says no.
        Disabled = "disabled",
        /// The directory says that the person is no more.
        Deleted = "deleted",
        /// The person is in none of the allowed groups.
        OutOfGroup = "out_of_group",
        /// The directory says nothing that can be relied on.
        Unknown = "unknown",
    }
}

impl IdentityStatus {
    /// Whether this is a positive statement that access is lost.
    #[must_use]
    pub fn is_lost(self) -> bool {
        match self {
            Self::Disabled | Self::Deleted | Self::OutOfGroup => true,
            Self::Active | Self::Unknown => false,
        }
    }
}

/// One person as a directory lists them, already checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Their mailbox, by which they are matched to issuers.
    pub email: Address,
    /// What the directory says.
    pub status: IdentityStatus,
    /// Their name.
    pub name: Option<String>,
    /// Their groups.
    pub groups: Vec<String>,
    /// Since when the status holds, where the directory knows.
    pub since: Option<DateTime<Utc>>,
    /// The directory's own words, for the evidence: `status "disabled" in people.csv, line 7`.
    pub evidence: String,
}
