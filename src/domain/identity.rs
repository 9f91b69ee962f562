//! The status of a person at a directory, with its evidence, and for which issuers a directory would report a loss
//! of access.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Address;
use super::string_enum::string_enum;

string_enum! {
    IdentityStatus {
        Active = "active",
        Disabled = "disabled",
        Deleted = "deleted",
        /// They are in none of the allowed groups.
        OutOfGroup = "out_of_group",
        Unknown = "unknown",
    }
}

impl IdentityStatus {
    pub fn is_lost(self) -> bool {
        match self {
            Self::Disabled | Self::Deleted | Self::OutOfGroup => true,
            Self::Active | Self::Unknown => false,
        }
    }
}

string_enum! {
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
        /// Unknown: the account exists, but the filter of the directory leaves it out.
        OutsideFilter = "outside_filter",
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
    /// Addresses that count only if no account has them as its own: `otherMails` of Entra.
    pub fallbacks: Vec<Address>,
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

    /// Whether the account may be used, as far as is known.
    pub fn has_access(&self) -> bool {
        !self.status.is_lost() && self.is_member != Some(false)
    }

    pub fn shows_an_address(&self) -> bool {
        self.main.is_some() || !self.fallbacks.is_empty()
    }

    /// Whether this is the key of one of its own addresses.
    pub fn has_address(&self, key: &str) -> bool {
        self.addresses().any(|address| address.key() == key)
    }

    /// Whether this is the key of an address that is not its own, but counts if it is no other account's.
    pub fn has_fallback(&self, key: &str) -> bool {
        !self.has_address(key) && self.fallbacks.iter().any(|address| address.key() == key)
    }

    /// The evidence, as that of the person with this key.
    pub fn evidence_for(&self, key: &str) -> String {
        let evidence = &self.evidence;
        if self.has_fallback(key) {
            return format!("{evidence}, found by a further address (otherMails)");
        }
        evidence.clone()
    }

    /// Whether this is the key of the main address.
    pub fn is_main(&self, key: &str) -> bool {
        self.main.as_ref().is_some_and(|main| main.key() == key)
    }

    /// Whether this is the key of the sign-in name.
    pub fn signs_in_as(&self, key: &str) -> bool {
        self.sign_in_name
            .as_ref()
            .is_some_and(|name| name.key() == key)
    }

    /// Replaces one address by another.
    pub fn replace_address(&mut self, key: &str, new: &Address) {
        let addresses = self.main.iter_mut().chain(&mut self.others);
        let addresses = addresses.chain(&mut self.fallbacks);
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
    /// The account works, but is not one of those that count.
    OutOfScope {
        evidence: String,
        /// Whether that is a loss of access.
        is_lost: bool,
    },
    /// The directory did not answer, for example for lack of permission.
    Unclear(String),
}

impl Lookup {
    pub(crate) fn found(person: Person) -> Self {
        Self::Found(Box::new(person))
    }

    pub(crate) fn gone(evidence: impl Into<String>) -> Self {
        Self::Gone {
            evidence: evidence.into(),
            is_certain: false,
        }
    }

    pub(crate) fn certainly_gone(evidence: impl Into<String>) -> Self {
        Self::Gone {
            evidence: evidence.into(),
            is_certain: true,
        }
    }

    pub(crate) fn unclear(reason: impl Into<String>) -> Self {
        Self::Unclear(reason.into())
    }
}

/// What is known about a person from one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The address as it is on tokens, or at the directory.
    pub email: Address,
    /// [`Person::id`] of the account that they are bound to.
    pub account_id: Option<String>,
    /// Whether an operator named this account.
    pub account_chosen: bool,
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

string_enum! {
    IssuerMode {
        /// A person that the directories know.
        Sso = "sso",
        /// A person with an account only at the source, which no directory covers.
        Local = "local",
        /// A robot or a shared account, which no directory covers.
        Service = "service",
        /// Left out of the coverage on purpose.
        Ignore = "ignore",
    }
}

/// The configuration of issuers. An issuer that is not configured is a person that directories know under
/// the same address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuers {
    /// Keys are addresses or `*@domain`, in lower case.
    pub modes: BTreeMap<String, IssuerMode>,
    /// From the address at the sources, in lower case, to the address at the directories.
    pub addresses: BTreeMap<String, Address>,
}

impl Issuers {
    /// The mode of the issuer with this [`Address::key`].
    pub fn mode(&self, key: &str) -> IssuerMode {
        let mode = self.modes.get(key).or_else(|| {
            let (_, domain) = key.rsplit_once('@')?;
            self.modes.get(&format!("*@{domain}"))
        });
        mode.copied().unwrap_or(IssuerMode::Sso)
    }

    /// The [`Address::key`] under which directories know the issuer with this key.
    pub fn directory_address<'a>(&'a self, key: &'a str) -> &'a str {
        self.addresses.get(key).map_or(key, Address::key)
    }
}

string_enum! {
    /// What all directories together know about an issuer: if their status is unknown, the [`Reason`]; if no directory
    /// covers them, the [`IssuerMode`].
    Cover {
        Active = "active",
        Lost = "lost",
        /// No directory has been asked about them yet.
        NotRead = "not_read",
        NeverSeen = "never_seen",
        Ambiguous = "ambiguous",
        FieldMissing = "field_missing",
        NeverActivated = "never_activated",
        Absent = "absent",
        OutsideFilter = "outside_filter",
        BindingUnsafe = "binding_unsafe",
        Stale = "stale",
        Unconfirmed = "unconfirmed",
        Rejected = "rejected",
        Local = "local",
        Service = "service",
        Ignore = "ignore",
    }
}

impl Cover {
    /// The coverage of an issuer with this mode and these statuses, one per directory. An unknown status is ignored if
    /// another directory has a known one.
    pub fn from_statuses(mode: IssuerMode, statuses: &[(IdentityStatus, Option<Reason>)]) -> Self {
        match mode {
            IssuerMode::Sso => {}
            IssuerMode::Local => return Self::Local,
            IssuerMode::Service => return Self::Service,
            IssuerMode::Ignore => return Self::Ignore,
        }
        let mut known = statuses.iter().map(|(status, _)| *status);
        if known.clone().any(IdentityStatus::is_lost) {
            return Self::Lost;
        }
        if known.any(|status| status == IdentityStatus::Active) {
            return Self::Active;
        }
        // The reasons for a loss have no cover of the same value, and say nothing about an unknown status.
        let unknown = statuses.iter().map(|(_, reason)| {
            let cover = reason.and_then(|reason| reason.as_str().parse().ok());
            cover.unwrap_or(Self::FieldMissing)
        });
        // A reason from a directory that has seen them says more than that another has not.
        let best = unknown.max_by_key(|cover| match cover {
            Self::NotRead => (0, *cover),
            Self::NeverSeen => (1, *cover),
            Self::Absent => (2, *cover),
            _ => (3, *cover),
        });
        best.unwrap_or(Self::NotRead)
    }

    /// `active`, `lost`, `unknown` or `not_covered`.
    pub fn group(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Lost => "lost",
            Self::Local | Self::Service | Self::Ignore => "not_covered",
            _ => "unknown",
        }
    }

    /// Whether a directory should know their access, but none does.
    pub fn is_unknown(self) -> bool {
        self.group() == "unknown"
    }
}

/// The number of issuers per cover.
pub type Coverage = BTreeMap<Cover, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_wins_over_its_domain_and_sso_is_the_default() {
        let issuers = Issuers {
            modes: [
                ("*@bots.example.org", IssuerMode::Service),
                ("eve@bots.example.org", IssuerMode::Sso),
                ("root@example.org", IssuerMode::Local),
            ]
            .map(|(key, mode)| (key.to_owned(), mode))
            .into(),
            addresses: BTreeMap::from([(
                "bob@old.example.org".to_owned(),
                "Bob@Example.org".parse().unwrap(),
            )]),
        };
        assert_eq!(issuers.mode("ci@bots.example.org"), IssuerMode::Service);
        assert_eq!(issuers.mode("eve@bots.example.org"), IssuerMode::Sso);
        assert_eq!(issuers.mode("root@example.org"), IssuerMode::Local);
        assert_eq!(issuers.mode("ada@example.org"), IssuerMode::Sso);
        assert_eq!(
            issuers.directory_address("bob@old.example.org"),
            "bob@example.org"
        );
        assert_eq!(
            issuers.directory_address("ada@example.org"),
            "ada@example.org"
        );
    }

    #[test]
    fn a_loss_wins_over_active_and_active_over_unknown() {
        use IdentityStatus::{Active, Disabled, Unknown};
        let never = (Unknown, Some(Reason::NeverSeen));
        let stale = (Unknown, Some(Reason::Stale));
        for (statuses, cover) in [
            (&[][..], Cover::NotRead),
            (&[never], Cover::NeverSeen),
            (&[never, (Active, None)], Cover::Active),
            (&[(Active, None), (Disabled, None)], Cover::Lost),
            (&[stale, never], Cover::Stale),
            (&[never, (Unknown, Some(Reason::Absent))], Cover::Absent),
        ] {
            assert_eq!(Cover::from_statuses(IssuerMode::Sso, statuses), cover);
            assert_eq!(
                Cover::from_statuses(IssuerMode::Service, statuses),
                Cover::Service
            );
        }
    }

    #[test]
    fn every_reason_for_an_unknown_status_keeps_its_value() {
        for reason in Reason::ALL {
            let cover =
                Cover::from_statuses(IssuerMode::Sso, &[(IdentityStatus::Unknown, Some(*reason))]);
            let is_loss = matches!(
                reason,
                Reason::Admin | Reason::Suspended | Reason::Expired | Reason::Archived
            );
            assert!(is_loss || cover.as_str() == reason.as_str(), "{reason}");
            assert!(cover.is_unknown());
        }
    }
}
