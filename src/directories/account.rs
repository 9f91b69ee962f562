//! Builds people from accounts. For directories that identify members of groups by id, it also sends each person
//! once, with their membership of the allowed groups.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::json::Flag;
use super::{Group, PersonSink};
use crate::domain::{Address, IdentityStatus, Person, Reason};
use crate::sources::cells;

/// Whether an account works, and the evidence for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountStatus {
    pub status: IdentityStatus,
    pub reason: Option<Reason>,
    pub since: Option<DateTime<Utc>>,
    pub evidence: String,
}

impl AccountStatus {
    pub fn active(evidence: impl Into<String>) -> Self {
        Self::new(IdentityStatus::Active, None, evidence)
    }

    /// An administrator disabled the account.
    pub fn disabled(evidence: impl Into<String>) -> Self {
        Self::new(IdentityStatus::Disabled, Some(Reason::Admin), evidence)
    }

    /// The field with the status is missing or invalid.
    pub fn unknown(evidence: impl Into<String>) -> Self {
        let reason = Some(Reason::FieldMissing);
        Self::new(IdentityStatus::Unknown, reason, evidence)
    }

    pub fn new(
        status: IdentityStatus,
        reason: Option<Reason>,
        evidence: impl Into<String>,
    ) -> Self {
        Self {
            status,
            reason,
            since: None,
            evidence: evidence.into(),
        }
    }

    /// The status of an account with a boolean field.
    pub fn from_flag(field: &str, flag: &Flag) -> Self {
        match flag {
            Flag::Set(true, json) => Self::active(format!("{field}={json}")),
            Flag::Set(false, json) => Self::disabled(format!("{field}={json}")),
            Flag::Missing => Self::unknown(format!("no field {field}")),
            Flag::Invalid => Self::unknown(format!("{field} is neither true nor false")),
        }
    }
}

/// Collects what an account shows of a person. Texts that are no addresses, and empty names, are skipped.
#[derive(Debug, Default)]
pub(super) struct AccountBuilder {
    mailboxes: Vec<Address>,
    sign_in_name: Option<Address>,
    fallbacks: Vec<Address>,
    name: Option<String>,
}

impl AccountBuilder {
    /// Adds mailboxes. The first of all is the main one.
    pub fn mailboxes<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let addresses = texts.into_iter().map(Address::parse_cell);
        for address in addresses.flatten() {
            if !self.mailboxes.contains(&address) {
                self.mailboxes.push(address);
            }
        }
        self
    }

    /// Adds the mailboxes among `proxyAddresses` (Exchange): `SMTP:` marks the main one, `smtp:` the others;
    /// `X500:`, `sip:` and the like are not mailboxes.
    pub fn proxy_addresses<'a>(self, texts: impl Iterator<Item = &'a str>) -> Self {
        let (main, others): (Vec<_>, Vec<_>) = texts
            .filter_map(|text| text.split_once(':'))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("smtp"))
            .partition(|(scheme, _)| *scheme == "SMTP");
        let addresses = main.into_iter().chain(others).map(|(_, address)| address);
        self.mailboxes(addresses)
    }

    /// Sets the sign-in name. It is the main address only of an account without a mailbox.
    pub fn sign_in_name(mut self, text: Option<&str>) -> Self {
        self.sign_in_name = text.and_then(|text| Address::parse_cell(text).ok());
        self
    }

    /// Adds addresses that count only if no account has them as its own.
    pub fn fallbacks<'a>(mut self, texts: impl Iterator<Item = &'a str>) -> Self {
        self.fallbacks = texts
            .filter_map(|text| Address::parse_cell(text).ok())
            .collect();
        self
    }

    /// Sets the name, unless an earlier one is set.
    pub fn name(self, text: Option<&str>) -> Self {
        self.full_name([text])
    }

    /// Sets the name from its parts, unless an earlier one is set.
    pub fn full_name<'a>(mut self, parts: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let parts = parts
            .into_iter()
            .filter_map(|part| cells::text(part).into_option());
        let parts: Vec<String> = parts.collect();
        if self.name.is_none() && !parts.is_empty() {
            self.name = Some(parts.join(" "));
        }
        self
    }

    pub fn has_address(&self, address: &Address) -> bool {
        self.mailboxes.contains(address) || self.signs_in_as(address)
    }

    pub fn signs_in_as(&self, address: &Address) -> bool {
        self.sign_in_name.as_ref() == Some(address)
    }

    pub fn build(self, id: String, status: AccountStatus) -> Person {
        let mut addresses = self.mailboxes;
        let sign_in_name = self.sign_in_name;
        addresses.extend(
            sign_in_name
                .clone()
                .filter(|name| !addresses.contains(name)),
        );
        let mut addresses = addresses.into_iter();
        Person {
            id: Some(id),
            main: addresses.next(),
            others: addresses.collect(),
            sign_in_name,
            fallbacks: self.fallbacks,
            name: self.name,
            status: status.status,
            reason: status.reason,
            since: status.since,
            evidence: status.evidence,
            is_member: None,
        }
    }
}

/// The allowed groups, with the keys of their members.
#[derive(Debug, Default)]
pub(super) struct AllowedGroups {
    pub groups: Vec<Group>,
    members: HashSet<Uuid>,
    has_unidentified_members: bool,
}

impl AllowedGroups {
    /// Adds a group with its members, those of nested groups included.
    pub fn add(&mut self, name: &str, members: GroupMembers) {
        self.groups.push(Group {
            name: name.to_owned(),
            members: members.ids.len() as u64 + members.without_id,
        });
        self.members.extend(members.ids);
        self.has_unidentified_members |= members.without_id > 0;
    }

    /// Whether an account is in one of the groups; `None` if no group is configured.
    pub fn is_member(&self, key: Uuid) -> Option<bool> {
        (!self.groups.is_empty()).then(|| self.members.contains(&key))
    }
}

/// The members of one group, by [`id_key`].
#[derive(Debug, Default)]
pub(super) struct GroupMembers {
    pub ids: HashSet<Uuid>,
    /// Members who cannot be identified.
    pub without_id: u64,
}

/// Someone who is in none of the allowed groups, while a member of them cannot be identified, is unknown: they may
/// be that member.
pub(super) fn doubt_absence_from_groups(person: &mut Person) {
    if person.is_member == Some(false) && person.status == IdentityStatus::Active {
        person.status = IdentityStatus::Unknown;
        person.reason = Some(Reason::Unconfirmed);
        person.is_member = None;
        person.evidence += ", but the allowed groups have members without an id";
    }
}

pub(super) struct PersonCollector<'a, 't> {
    allowed_groups: &'a AllowedGroups,
    sink: &'a mut PersonSink<'t>,
    seen: HashSet<Uuid>,
    /// Records of people that were left out because they have no id.
    pub without_id: u64,
}

impl<'a, 't> PersonCollector<'a, 't> {
    pub fn new(allowed_groups: &'a AllowedGroups, sink: &'a mut PersonSink<'t>) -> Self {
        Self {
            allowed_groups,
            sink,
            seen: HashSet::new(),
            without_id: 0,
        }
    }

    /// How many accounts were seen, those without an address included.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Sends an account with an address, unless it was seen before: pages are not a snapshot, so an account may
    /// come twice.
    pub fn add(&mut self, person: Person) {
        if let Some(person) = self.admit(person) {
            (self.sink)(person);
        }
    }

    /// The account with its membership, unless it was seen before or has no address.
    pub fn admit(&mut self, mut person: Person) -> Option<Person> {
        let key = id_key(person.id.as_deref().unwrap_or_default());
        person.is_member = self.allowed_groups.is_member(key);
        if self.allowed_groups.has_unidentified_members {
            doubt_absence_from_groups(&mut person);
        }
        let is_new = self.seen.insert(key);
        Some(person).filter(|person| is_new && person.shows_an_address())
    }

    pub fn send(&mut self, person: Person) {
        (self.sink)(person);
    }
}

/// An id as a compact key. GUIDs are compared regardless of case, other ids are not.
pub(super) fn id_key(id: &str) -> Uuid {
    parse_guid(id).unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
}

/// Parses a GUID in the form with hyphens.
pub(super) fn parse_guid(text: &str) -> Option<Uuid> {
    let has_hyphens = text.len() == 36;
    Uuid::try_parse(text).ok().filter(|_| has_hyphens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(account: AccountBuilder) -> Person {
        account.build("id".to_owned(), AccountStatus::active("enabled=true"))
    }

    fn addresses(account: AccountBuilder) -> Vec<String> {
        let person = build(account);
        person.addresses().map(Address::to_string).collect()
    }

    #[test]
    fn the_main_address_is_the_mailbox_and_not_the_sign_in_name() {
        let account = AccountBuilder::default()
            .sign_in_name(Some("ada.l@corp.example.org"))
            .mailboxes(["no address", "Ada@example.org"])
            .mailboxes(["ada@EXAMPLE.org", "old@example.org"]);
        let found = addresses(account);
        let expected = [
            "Ada@example.org",
            "old@example.org",
            "ada.l@corp.example.org",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sign_in_name_is_the_main_address_if_there_is_no_mailbox() {
        let person = build(AccountBuilder::default().sign_in_name(Some("ada@example.org")));
        assert_eq!(person.main, person.sign_in_name);
        assert!(person.main.is_some() && person.others.is_empty());
        let person = build(AccountBuilder::default().sign_in_name(Some("root")));
        assert_eq!((person.main, person.sign_in_name), (None, None));
    }

    #[test]
    fn the_main_proxy_address_comes_first() {
        let texts = [
            "smtp:ada.l@example.org",
            "X500:/o=Example/cn=ada",
            "SMTP:lovelace@example.org",
            "sip:ada@sip.example.org",
            "Smtp:ada@example.org",
            "smtp:not one",
        ];
        let account = AccountBuilder::default().proxy_addresses(texts.into_iter());
        let expected = [
            "lovelace@example.org",
            "ada.l@example.org",
            "ada@example.org",
        ];
        assert_eq!(addresses(account), expected);
    }

    #[test]
    fn the_first_name_counts_and_is_trimmed() {
        let name = |account: AccountBuilder| build(account).name;
        let empty = AccountBuilder::default().name(Some(" ")).name(None);
        let full = empty.full_name([Some(" Ada"), None, Some("Lovelace ")]);
        assert_eq!(
            name(full.name(Some("Ada L."))).as_deref(),
            Some("Ada Lovelace")
        );
        assert_eq!(name(AccountBuilder::default().name(Some(""))), None);
    }

    #[test]
    fn an_account_is_sent_once_with_its_membership_if_it_has_an_address() {
        let mut sent = Vec::new();
        let mut sink = |person: Person| sent.push((person.id, person.is_member));
        let mut allowed_groups = AllowedGroups::default();
        let members = GroupMembers {
            ids: HashSet::from([id_key("a")]),
            without_id: 0,
        };
        allowed_groups.add("ops", members);
        let mut collector = PersonCollector::new(&allowed_groups, &mut sink);
        for (id, mailbox) in [
            ("a", "ada@example.org"),
            ("a", "ada@example.org"),
            ("b", "bob@example.org"),
            ("c", "no address"),
        ] {
            let account = AccountBuilder::default().mailboxes([mailbox]);
            collector.add(account.build(id.to_owned(), AccountStatus::active("on")));
        }
        assert_eq!(collector.count(), 3);
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        assert_eq!(sent, [(a, Some(true)), (b, Some(false))]);
    }

    #[test]
    fn someone_outside_groups_with_unidentified_members_may_have_access() {
        let mut sent = Vec::new();
        let mut sink = |person: Person| sent.push(person);
        let mut allowed_groups = AllowedGroups::default();
        let members = GroupMembers {
            ids: HashSet::from([id_key("a")]),
            without_id: 1,
        };
        allowed_groups.add("ops", members);
        let mut collector = PersonCollector::new(&allowed_groups, &mut sink);
        for (id, status) in [
            ("a", AccountStatus::active("on")),
            ("b", AccountStatus::active("on")),
            ("c", AccountStatus::disabled("off")),
        ] {
            let account = AccountBuilder::default().mailboxes(["ada@example.org"]);
            collector.add(account.build(id.to_owned(), status));
        }
        let shown = |person: &Person| (person.status, person.is_member, person.has_access());
        let shown: Vec<_> = sent.iter().map(shown).collect();
        let expected = [
            (IdentityStatus::Active, Some(true), true),
            (IdentityStatus::Unknown, None, true),
            (IdentityStatus::Disabled, Some(false), false),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_guids_are_compared_regardless_of_case() {
        let id = "87d349ed-44d7-43e1-9a83-5f2406dee5bd";
        assert_eq!(id_key(id), id_key(&id.to_uppercase()));
        assert_ne!(id_key("user-a"), id_key("user-A"));
        assert_ne!(id_key(id), id_key(&id.replace('-', "")));
    }
}
