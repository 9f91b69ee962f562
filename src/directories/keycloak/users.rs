//! The users of a realm, and the people made from them. Those whose user storage may be out of reach are held back.

use std::collections::{BTreeSet, HashSet};

use serde::Deserialize;
use uuid::Uuid;

use super::api::Item;
use crate::directories::account::{AccountBuilder, AccountStatus, PersonCollector, id_key};
use crate::directories::json::{self, Flag};
use crate::domain::{Address, IdentityStatus, Person, Reason};
use crate::upstream::Error;

/// The name prefix of service accounts. The list leaves them out, a search does not.
const SERVICE: &str = "service-account-";

/// The evidence if it is not known whether the user storage answers.
const UNREACHABLE_STORAGE: &str = "enabled=false, while its user storage may be out of reach";

/// The listing is rejected if more people than this, and more than 5 %, are from storages that may be out
/// of reach.
const MAX_UNCONFIRMED: usize = 3;

/// A `UserRepresentation`, which may be a brief one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(default, deserialize_with = "json::text")]
    pub username: Option<String>,
    #[serde(default, deserialize_with = "json::text")]
    email: Option<String>,
    #[serde(default, deserialize_with = "json::text")]
    first_name: Option<String>,
    #[serde(default, deserialize_with = "json::text")]
    last_name: Option<String>,
    #[serde(default)]
    enabled: Flag,
    /// The user storage that the account was imported from.
    #[serde(rename = "federationLink", default, deserialize_with = "json::text")]
    pub storage: Option<String>,
    #[serde(default, deserialize_with = "json::text")]
    service_account_client_id: Option<String>,
}

impl Item for User {
    fn mark_seen(&self, seen: &mut HashSet<Uuid>) -> bool {
        seen.insert(id_key(&self.id))
    }
}

impl User {
    pub fn is_service(&self) -> bool {
        let name = self.username.as_deref().unwrap_or_default();
        self.service_account_client_id.is_some() || name.starts_with(SERVICE)
    }

    /// Whether Keycloak itself does not store the account: its id names the user storage and the id there.
    pub fn is_external(&self) -> bool {
        self.id.starts_with("f:")
    }

    /// The user storage of an imported account that is shown as disabled. Since 26.4 Keycloak reports
    /// `enabled=false` if the storage is out of reach or no longer has the account (keycloak/keycloak#42589).
    pub fn doubtful_storage(&self) -> Option<&str> {
        self.storage
            .as_deref()
            .filter(|_| self.enabled.value() == Some(false))
    }

    pub fn has_address(&self, address: &Address) -> bool {
        self.account().has_address(address)
    }

    fn account(&self) -> AccountBuilder {
        AccountBuilder::default()
            .mailboxes(self.email.as_deref())
            .sign_in_name(self.username.as_deref())
            .full_name([self.first_name.as_deref(), self.last_name.as_deref()])
    }

    pub fn into_person(self) -> Person {
        // Without `since`: Keycloak does not record when an account was disabled.
        let status = AccountStatus::from_flag("enabled", &self.enabled);
        self.account().build(self.id, status)
    }
}

/// The people of a page.
#[cfg(test)]
pub(in crate::directories) fn read_people(page: serde_json::Value) -> Option<Vec<Person>> {
    let page: json::Records<User> = serde_json::from_value(page).ok()?;
    Some(page.items.into_iter().map(User::into_person).collect())
}

/// Sends each account once. Those shown as disabled by a user storage wait until [`Collector::finish`].
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
        let doubtful = user.doubtful_storage().map(str::to_owned);
        let is_enabled = user.enabled.value() == Some(true);
        let alive = user.storage.clone().filter(|_| is_enabled);
        let seen = self.people.count();
        let person = self.people.admit(user.into_person());
        // Only the first reading of an account counts. A storage that was out of reach then, and answers now, must
        // not confirm its accounts as disabled.
        if self.people.count() > seen {
            self.alive.extend(alive);
        }
        let Some(person) = person else {
            return;
        };
        match doubtful {
            Some(storage) => self.doubtful.push((storage, person)),
            None => self.people.send(person),
        }
    }

    /// Counts records that are left out because they have no id.
    pub fn add_without_id(&mut self, count: u64) {
        self.people.without_id += count;
    }

    pub fn without_id(&self) -> u64 {
        self.people.without_id
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
        let is_unconfirmed = |(storage, _): &&(String, Person)| !reachable.contains(storage);
        let unconfirmed = self.doubtful.iter().filter(is_unconfirmed).count();
        if unconfirmed > MAX_UNCONFIRMED && unconfirmed * 20 > seen {
            let reason = format!(
                "{unconfirmed} of {seen} people are shown as disabled because their user storage is out of \
                 reach, is switched off, or has no enabled account; find the storage under User federation, \
                 and remove it there if it is no longer used"
            );
            return Err(Error::content(place, reason));
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
