//! Sends the accounts of a listing to the engine, each once and with its membership of the allowed groups.

use std::collections::HashSet;

use uuid::Uuid;

use super::id::id_key;
use super::{Group, PersonSink};
use crate::domain::Person;

/// The allowed groups, with the keys of their members.
#[derive(Debug, Default)]
pub(super) struct AllowedGroups {
    pub groups: Vec<Group>,
    members: HashSet<Uuid>,
}

impl AllowedGroups {
    /// Adds a group with its members, those of nested groups included.
    pub fn add(&mut self, name: &str, members: HashSet<Uuid>) {
        self.groups.push(Group {
            name: name.to_owned(),
            members: members.len() as u64,
        });
        self.members.extend(members);
    }

    /// Whether an account is in one of the groups; `None` if no group is configured.
    pub fn is_member(&self, key: Uuid) -> Option<bool> {
        (!self.groups.is_empty()).then(|| self.members.contains(&key))
    }
}

pub(super) struct PersonCollector<'a, 't> {
    allowed_groups: &'a AllowedGroups,
    sink: &'a mut PersonSink<'t>,
    seen: HashSet<Uuid>,
}

impl<'a, 't> PersonCollector<'a, 't> {
    pub fn new(allowed_groups: &'a AllowedGroups, sink: &'a mut PersonSink<'t>) -> Self {
        Self {
            allowed_groups,
            sink,
            seen: HashSet::new(),
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
        let is_new = self.seen.insert(key);
        Some(person).filter(|person| is_new && person.main.is_some())
    }

    pub fn send(&mut self, person: Person) {
        (self.sink)(person);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directories::account::{AccountBuilder, AccountStatus};

    #[test]
    fn an_account_is_sent_once_with_its_membership_if_it_has_an_address() {
        let mut sent = Vec::new();
        let mut sink = |person: Person| sent.push((person.id, person.is_member));
        let mut allowed_groups = AllowedGroups::default();
        allowed_groups.add("ops", HashSet::from([id_key("a")]));
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
}
