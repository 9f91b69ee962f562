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
        /// Unknown: a loss is claimed, and awaits its confirmation.
        Unconfirmed = "unconfirmed",
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
    /// Mailboxes and sign-in names by which issuers are matched; the main one first. Empty
    /// only in a look by id, of an account whose addresses were taken away.
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

/// What a look at one account by its immutable id brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookedUp {
    /// The account.
    Found(Box<Person>),
    /// There is none of this id.
    Gone {
        /// In the directory's words, to follow "says": `404 for its id`, `it is in the recycle bin`.
        evidence: String,
        /// Whether that is a statement about a deletion, such as an entry in a recycle bin, and not only
        /// the lack of an answer.
        is_certain: bool,
    },
    /// It did not say: its rights do not reach that far.
    Unclear(String),
}

/// What is known of a person from one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The address as tokens name the person, or as the directory does.
    pub email: Address,
    /// [`Person::id`] of the account that they were matched to once and for all.
    pub account_id: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// What is believed now.
    pub status: IdentityStatus,
    /// The last clear statement that was believed; differs from `status` while that is unknown.
    pub known_status: IdentityStatus,
    /// Why the status is what it is.
    pub reason: Option<Reason>,
    /// The directory's own words for `known_status`, to follow "says". Empty where it has said nothing yet.
    pub evidence: String,
    /// Since when `known_status` holds: by the directory's word, else since it was first seen.
    pub since: Option<DateTime<Utc>>,
    /// When the directory first gave that evidence; `None` where it has said nothing yet.
    pub observed_at: Option<DateTime<Utc>>,
    /// A loss that awaits its confirmation, or that an operator rejected.
    pub candidate: Option<IdentityStatus>,
    /// Since when it does.
    pub candidate_since: Option<DateTime<Utc>>,
    /// In whose words.
    pub candidate_evidence: Option<String>,
}
