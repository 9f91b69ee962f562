//! A person's status at a directory, and what the directory says of it.

use chrono::{DateTime, Utc};

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

words! {
    /// Why a status is what it is.
    Reason {
        /// Disabled: somebody switched the account off for good.
        Admin = "admin",
        /// Disabled: for a time, such as a leave.
        Suspended = "suspended",
        /// Disabled: its own end has come.
        Expired = "expired",
        /// Disabled: put away, mail and all.
        Archived = "archived",
        /// Unknown: the directory never listed the person.
        NeverSeen = "never_seen",
        /// Unknown: it lists several accounts of that address.
        Ambiguous = "ambiguous",
        /// Unknown: it lists the account without the field that tells.
        FieldMissing = "field_missing",
        /// Unknown: the account was made, and never used.
        NeverActivated = "never_activated",
        /// Unknown: the last listing does not hold the person, and nothing proves a deletion yet.
        Absent = "absent",
        /// Unknown: the address now belongs to another account.
        BindingUnsafe = "binding_unsafe",
        /// Unknown: the directory has not been read well for too long.
        Stale = "stale",
        /// Unknown: an operator refused to believe what the directory says.
        Rejected = "rejected",
    }
}

/// One account of a person, as a directory tells of it in one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the directory itself knows the account by, and never changes: entryUUID, objectGUID, a
    /// Graph, Okta, Keycloak or SCIM id. `None` where it has no such thing, as a file.
    pub id: Option<String>,
    /// Mailboxes and sign-in names by which issuers are matched; the main one first. Never empty.
    pub addresses: Vec<Address>,
    /// Their name.
    pub name: Option<String>,
    /// What the account itself says: active, disabled, deleted, or unknown. Groups are another matter.
    pub status: IdentityStatus,
    /// Why it is disabled, or unknown.
    pub reason: Option<Reason>,
    /// Since when the status holds, where the directory knows.
    pub since: Option<DateTime<Utc>>,
    /// The directory's own words, to follow "says": `accountEnabled=false`, `status DEPROVISIONED`.
    pub evidence: String,
    /// Whether they are in at least one of the allowed groups; `None` where there are none, or nobody asked.
    pub is_member: Option<bool>,
}

impl Person {
    /// The mailbox to show.
    #[must_use]
    pub fn email(&self) -> &Address {
        &self.addresses[0]
    }
}
