//! Who was told of, and who is not told of yet because their user storage may be out of reach.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::answers::User;
use crate::directories::Tell;
use crate::domain::{IdentityStatus, Person, Reason};

/// What is said of those whose user storage nobody proves to answer.
const UNREACHED: &str =
    "enabled=false, as of everybody of its user storage, which may be out of reach";

/// Tells of each account once.
pub(super) struct Roll<'a, 't> {
    tell: &'a mut Tell<'t>,
    /// Who is in an allowed group; `None` where that does not matter.
    members: Option<HashSet<Uuid>>,
    told: HashSet<Uuid>,
    /// Of each user storage that answers, the name of somebody who is enabled there.
    witnesses: BTreeMap<String, String>,
    /// Those who are shown as disabled, with their user storage.
    in_doubt: Vec<(String, Person)>,
}

impl<'a, 't> Roll<'a, 't> {
    pub fn new(tell: &'a mut Tell<'t>, members: Option<HashSet<Uuid>>) -> Self {
        Self {
            tell,
            members,
            told: HashSet::new(),
            witnesses: BTreeMap::new(),
            in_doubt: Vec::new(),
        }
    }

    /// Tells of an account, unless it was told of.
    pub fn add(&mut self, user: User) {
        let key = user.key();
        if !self.told.insert(key) {
            return;
        }
        if let (Some(storage), Some(name), true) =
            (user.storage(), user.username(), user.is_enabled())
        {
            let witness = self.witnesses.entry(storage.to_owned());
            witness.or_insert_with(|| name.to_owned());
        }
        let storage = user.storage_in_doubt().map(str::to_owned);
        let members = self.members.as_ref();
        let Some(person) = user.person(members.map(|members| members.contains(&key))) else {
            return;
        };
        match storage {
            Some(storage) => self.in_doubt.push((storage, person)),
            None => (self.tell)(person),
        }
    }

    /// Whether somebody is shown as disabled, and nobody from the same user storage as enabled.
    pub fn is_in_doubt(&self) -> bool {
        let mut storages = self.in_doubt.iter().map(|(storage, _)| storage);
        storages.any(|storage| !self.witnesses.contains_key(storage))
    }

    /// Tells of the rest. Who comes from a user storage that nobody proves to answer is unknown.
    pub fn finish(self) -> BTreeMap<String, String> {
        for (storage, mut person) in self.in_doubt {
            if !self.witnesses.contains_key(&storage) {
                person.status = IdentityStatus::Unknown;
                person.reason = Some(Reason::FieldMissing);
                UNREACHED.clone_into(&mut person.evidence);
            }
            (self.tell)(person);
        }
        self.witnesses
    }
}
