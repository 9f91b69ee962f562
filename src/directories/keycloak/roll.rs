//! Who was told of, and who is not told of yet because their user storage may be out of reach.

use std::collections::{BTreeSet, HashSet};

use uuid::Uuid;

use super::answers::User;
use crate::directories::Tell;
use crate::domain::{IdentityStatus, Person, Reason};
use crate::sources::Error;

/// What is said of those whose user storage is not proven to answer.
const UNREACHED: &str = "enabled=false, while its user storage may be out of reach";

/// So many people of user storages that may be out of reach are no doubt about all the rest, nor are 5 %.
const MOST_UNPROVEN: usize = 3;

/// Tells of each account once.
pub(super) struct Roll<'a, 't> {
    tell: &'a mut Tell<'t>,
    /// Who is in an allowed group; `None` where that does not matter.
    members: Option<HashSet<Uuid>>,
    told: HashSet<Uuid>,
    /// User storages of which somebody is enabled.
    alive: BTreeSet<String>,
    /// Those who are shown as disabled, with their user storage.
    in_doubt: Vec<(String, Person)>,
}

impl<'a, 't> Roll<'a, 't> {
    pub fn new(tell: &'a mut Tell<'t>, members: Option<HashSet<Uuid>>) -> Self {
        Self {
            tell,
            members,
            told: HashSet::new(),
            alive: BTreeSet::new(),
            in_doubt: Vec::new(),
        }
    }

    /// Tells of an account, unless it was told of.
    pub fn add(&mut self, user: User) {
        let key = user.key();
        if !self.told.insert(key) {
            return;
        }
        if let Some(storage) = user.storage()
            && user.is_enabled()
        {
            self.alive.insert(storage.to_owned());
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
    pub fn lacks_witness(&self) -> bool {
        let mut storages = self.in_doubt.iter().map(|(storage, _)| storage);
        storages.any(|storage| !self.alive.contains(storage))
    }

    /// The user storages of those who are shown as disabled, as far as somebody else is enabled there.
    pub fn storages_in_doubt(&self) -> BTreeSet<String> {
        let storages = self.in_doubt.iter().map(|(storage, _)| storage);
        let alive = storages.filter(|storage| self.alive.contains(*storage));
        alive.cloned().collect()
    }

    /// Tells of the rest, and returns the user storages of which somebody is enabled. Who comes from one that
    /// is none of `answering` is unknown; where those are many, that is no pull.
    pub fn finish(
        self,
        place: &str,
        answering: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Error> {
        let told = self.told.len();
        let doubts = self.in_doubt.iter();
        let unproven = doubts.filter(|(storage, _)| !answering.contains(storage));
        let unproven = unproven.count();
        if unproven > MOST_UNPROVEN && unproven * 20 > told {
            return Err(Error::Content {
                place: place.to_owned(),
                reason: format!(
                    "{unproven} of {told} people are shown as disabled because their user storage is out of \
                     reach, switched off, or shows nobody as enabled; see under User federation which it is, \
                     and remove it there if it is no longer used"
                ),
            });
        }
        for (storage, mut person) in self.in_doubt {
            if !answering.contains(&storage) {
                person.status = IdentityStatus::Unknown;
                person.reason = Some(Reason::Unconfirmed);
                UNREACHED.clone_into(&mut person.evidence);
            }
            (self.tell)(person);
        }
        Ok(self.alive)
    }
}
