//! Who was told of, and who is not told of yet because their user storage may be out of reach.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::answers::User;
use crate::directories::Tell;
use crate::domain::{IdentityStatus, Person, Reason};
use crate::sources::Error;

/// What is said of those whose user storage nobody proves to answer.
const UNREACHED: &str =
    "enabled=false, as of everybody of its user storage, which may be out of reach";

/// So many people of user storages that may be out of reach are no doubt about all the rest, nor are 5 %.
const MOST_UNPROVEN: usize = 3;

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

    /// Tells of the rest, and returns somebody who is enabled of each user storage. Who comes from one that
    /// nobody proves to answer is unknown; where those are many, that is no pull.
    pub fn finish(self, place: &str) -> Result<BTreeMap<String, String>, Error> {
        let told = self.told.len();
        let is_proven = |storage: &str| self.witnesses.contains_key(storage);
        let doubts = self.in_doubt.iter();
        let unproven = doubts.filter(|(storage, _)| !is_proven(storage)).count();
        if unproven > MOST_UNPROVEN && unproven * 20 > told {
            return Err(Error::Content {
                place: place.to_owned(),
                reason: format!(
                    "{unproven} of {told} people are shown as disabled, and nobody of their user storage as \
                     enabled; see under User federation whether Keycloak reaches it, and remove it there if it \
                     is no longer used"
                ),
            });
        }
        for (storage, mut person) in self.in_doubt {
            if !self.witnesses.contains_key(&storage) {
                person.status = IdentityStatus::Unknown;
                person.reason = Some(Reason::Unconfirmed);
                UNREACHED.clone_into(&mut person.evidence);
            }
            (self.tell)(person);
        }
        Ok(self.witnesses)
    }
}
