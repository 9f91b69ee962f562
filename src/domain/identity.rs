//! The status of a person at a directory, with its evidence.

use chrono::{DateTime, Utc};

use super::Address;
use super::token::string_enum;

string_enum! {
    /// Whether a person still has access.
    IdentityStatus {
        Active = "active",
        Disabled = "disabled",
        Deleted = "deleted",
        /// They are in none of the allowed groups.
        OutOfGroup = "out_of_group",
        /// The directory reports nothing reliable.
        Unknown = "unknown",
    }
}

impl IdentityStatus {
    /// Whether this states a loss of access.
    #[must_use]
    pub fn is_lost(self) -> bool {
        match self {
            Self::Disabled | Self::Deleted | Self::OutOfGroup => true,
            Self::Active | Self::Unknown => false,
        }
    }
}

string_enum! {
    /// Why a status is what it is.
    Reason {
        /// Disabled: an administrator disabled the account.
        Admin = "admin",
        /// Disabled for a time, such as a leave.
        Suspended = "suspended",
        /// Disabled: the account has expired.
        Expired = "expired",
        /// Disabled: the account is archived together with its mail.
        Archived = "archived",
        /// Unknown: the directory never listed the person.
        NeverSeen = "never_seen",
        /// Unknown: several accounts have the address.
        Ambiguous = "ambiguous",
        /// Unknown: the account lacks the field that holds the status.
        FieldMissing = "field_missing",
        /// Unknown: the account was created and never used.
        NeverActivated = "never_activated",
        /// Unknown: the last listing lacks the person, and no deletion is proven yet.
        Absent = "absent",
        /// Unknown: the address now belongs to another account.
        BindingUnsafe = "binding_unsafe",
        /// Unknown: the last good sync of the directory is too old.
        Stale = "stale",
        /// Unknown: a loss awaits confirmation.
        Unconfirmed = "unconfirmed",
        /// Unknown: an operator rejected what the directory reports.
        Rejected = "rejected",
    }
}

/// What evidence ends with if a lookup by id gave or confirmed it.
#[must_use]
pub fn checked_suffix(checked_by_id: bool) -> &'static str {
    if checked_by_id { ", checked by id" } else { "" }
}

/// One account of a person, as a directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The immutable id of the account: entryUUID, objectGUID, a Graph, Okta, Keycloak or SCIM id. `None`
    /// where the directory has none, such as a file.
    pub id: Option<String>,
    /// The mailbox, or else the sign-in name. `None` only in a lookup by id of an account without addresses.
    pub main: Option<Address>,
    /// Further mailboxes and the sign-in name, by which issuers are matched, too.
    pub others: Vec<Address>,
    /// The sign-in name, if it is an address. It decides between two accounts with one mailbox.
    pub sign_in_name: Option<Address>,
    pub name: Option<String>,
    /// The status of the account itself, without regard to groups.
    pub status: IdentityStatus,
    pub reason: Option<Reason>,
    /// Start of the status, if the directory reports it.
    pub since: Option<DateTime<Utc>>,
    /// What the directory reports, such as `accountEnabled=false` or `status DEPROVISIONED`.
    pub evidence: String,
    /// Whether they are in an allowed group; `None` if none are configured or the groups were not read.
    pub is_member: Option<bool>,
}

impl Person {
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.main.iter().chain(&self.others)
    }

    /// Whether this is the key of the main address.
    #[must_use]
    pub fn is_main(&self, key: &str) -> bool {
        self.main.as_ref().is_some_and(|main| main.key() == key)
    }

    /// Whether this is the key of the sign-in name.
    #[must_use]
    pub fn signs_in_as(&self, key: &str) -> bool {
        self.sign_in_name
            .as_ref()
            .is_some_and(|name| name.key() == key)
    }

    /// Replaces one address by another.
    pub fn replace_address(&mut self, key: &str, new: &Address) {
        let addresses = self.main.iter_mut().chain(&mut self.others);
        for address in addresses.chain(&mut self.sign_in_name) {
            if address.key() == key {
                *address = new.clone();
            }
        }
    }
}

/// The result of the lookup of one account by its immutable id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Found(Box<Person>),
    Gone {
        /// What the directory reports, such as `404 for its id` or `it is in the recycle bin`.
        evidence: String,
        /// Whether the evidence proves a deletion, such as an entry in a recycle bin.
        is_certain: bool,
    },
    /// The directory did not answer, for example for lack of permission.
    Unclear(String),
}

/// What is known about a person from one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The address as it is on tokens, or at the directory.
    pub email: Address,
    /// [`Person::id`] of the account that they are bound to.
    pub account_id: Option<String>,
    pub name: Option<String>,
    pub status: IdentityStatus,
    /// The last accepted status; differs from `status` while that is unknown.
    pub known_status: IdentityStatus,
    pub reason: Option<Reason>,
    /// The evidence for `known_status`. Empty if the directory has never reported one.
    pub evidence: String,
    /// Whether a lookup by id gave or confirmed the evidence.
    pub checked_by_id: bool,
    /// Start of `known_status`, as the directory reports it, or else when it was first seen.
    pub since: Option<DateTime<Utc>>,
    /// When the evidence was first seen; `None` if there is none yet.
    pub observed_at: Option<DateTime<Utc>>,
    /// A loss that awaits confirmation, or that an operator rejected.
    pub candidate: Option<IdentityStatus>,
    pub candidate_since: Option<DateTime<Utc>>,
    pub candidate_evidence: Option<String>,
}
