//! Collects the people of a listing, and holds back those whose user storage may be out of reach.

use std::collections::BTreeSet;

use super::responses::User;
use crate::directories::collector::PersonCollector;
use crate::domain::{IdentityStatus, Person, Reason};
use crate::sources::Error;

/// The evidence if it is not known whether the user storage answers.
const UNREACHABLE_STORAGE: &str = "enabled=false, while its user storage may be out of reach";

/// The listing is rejected if more people than this, and more than 5 %, are from storages that may be out
/// of reach.
const MAX_UNCONFIRMED: usize = 3;

/// Sends each account to the sink once.
pub(super) struct Collector<'a, 't> {
    people: PersonCollector<'a, 't>,
    /// User storages with an enabled account.
    alive: BTreeSet<String>,
    /// Accounts that are shown as disabled, with their user storage.
    doubtful: Vec<(String, Person)>,
}

impl<'a, 't> Collector<'a, 't> {
    pub fn new(people: PersonCollector<'a, 't>) -> Self {
        Self {
            people,
            alive: BTreeSet::new(),
            doubtful: Vec::new(),
        }
    }

    pub fn add(&mut self, user: User) {
        if let Some(storage) = user.storage()
            && user.is_enabled()
        {
            self.alive.insert(storage.to_owned());
        }
        let storage = user.doubtful_storage().map(str::to_owned);
        let Some(person) = self.people.admit(user.into_person()) else {
            return;
        };
        match storage {
            Some(storage) => self.doubtful.push((storage, person)),
            None => self.people.send(person),
        }
    }

    /// Whether a storage has accounts that are shown as disabled, and none that are enabled.
    pub fn has_unconfirmed_storage(&self) -> bool {
        let mut storages = self.doubtful.iter().map(|(storage, _)| storage);
        storages.any(|storage| !self.alive.contains(storage))
    }

    /// Storages that have accounts shown as disabled, and others that are enabled.
    pub fn doubtful_storages(&self) -> BTreeSet<String> {
        let storages = self.doubtful.iter().map(|(storage, _)| storage);
        let alive = storages.filter(|storage| self.alive.contains(*storage));
        alive.cloned().collect()
    }

    /// Sends the held-back accounts, and returns the storages with an enabled account. Accounts of storages
    /// that are not in `reachable` are unknown. Many of those are an error.
    pub fn finish(
        mut self,
        place: &str,
        reachable: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Error> {
        let seen = self.people.count();
        let doubtful = self.doubtful.iter();
        let unconfirmed = doubtful
            .filter(|(storage, _)| !reachable.contains(storage))
            .count();
        if unconfirmed > MAX_UNCONFIRMED && unconfirmed * 20 > seen {
            return Err(Error::Content {
                place: place.to_owned(),
                reason: format!(
                    "{unconfirmed} of {seen} people are shown as disabled because their user storage is out of \
                     reach, is switched off, or has no enabled account; find the storage under User federation, \
                     and remove it there if it is no longer used"
                ),
            });
        }
        for (storage, mut person) in self.doubtful {
            if !reachable.contains(&storage) {
                person.status = IdentityStatus::Unknown;
                person.reason = Some(Reason::Unconfirmed);
                UNREACHABLE_STORAGE.clone_into(&mut person.evidence);
            }
            self.people.send(person);
        }
        Ok(self.alive)
    }
}
