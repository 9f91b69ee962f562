//! Collects the relevant people from a listing, and detects a listing that cannot be right.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::directories::{Extent, PeopleListing};
use crate::domain::access::{Binding, Observation, PersonUnderReview};
use crate::domain::{Address, Identity, IdentityStatus, IssuerMode, Issuers, Person, Reason};
use crate::sources::hex;
use crate::store::DirectoryRow;

use crate::engine::common::Implausible;
use crate::engine::upstream::WatchedDirectory;

/// Up to this many people may lack the field with their status before the whole listing is implausible.
const MAX_WITHOUT_STATUS: u64 = 3;

/// No account has this address. A directory that returns one for it does not respect the query.
const UNUSED_ADDRESS: &str = "nobody-has-this-address@lapsed.invalid";

/// The people who matter: those in the query, and those known.
pub(super) struct RelevantPeople {
    is_everybody: bool,
    /// Issuers' address keys by the addresses that directories have for them.
    by_address: HashMap<String, Vec<String>>,
    /// Issuers' address keys by the ids of the accounts they are bound to.
    by_id: HashMap<String, Vec<String>>,
    issuers: Issuers,
    known: HashMap<String, Identity>,
    canaries: Vec<Address>,
    /// The query, in order of address.
    pub people: Vec<Address>,
}

impl RelevantPeople {
    /// Starts with the canaries and [`UNUSED_ADDRESS`].
    pub fn new(watched: &WatchedDirectory, issuers: &Issuers) -> Self {
        let canaries = watched.terms.canaries.clone();
        let unused = UNUSED_ADDRESS.parse().ok();
        let people = canaries.iter().cloned().chain(unused).collect();
        Self {
            is_everybody: watched.directory.stores_everyone(),
            by_address: HashMap::new(),
            by_id: HashMap::new(),
            issuers: issuers.clone(),
            known: HashMap::new(),
            canaries,
            people,
        }
    }

    pub fn add_issuers(&mut self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if self.issuers.mode(&key) == IssuerMode::Sso {
                let address = self.issuers.directory_address(&key).to_owned();
                self.by_address.entry(address).or_default().push(key);
            }
        }
        for keys in self.by_address.values_mut() {
            keys.sort_unstable();
            keys.dedup();
        }
        self.people
            .extend(self.by_address.keys().filter_map(|key| key.parse().ok()));
        self.people.sort_unstable();
        self.people.dedup();
    }

    pub fn add_known(&mut self, known: Vec<Identity>) {
        for identity in known {
            let key = identity.email.key().to_owned();
            if let Some(id) = &identity.account_id {
                self.by_id.entry(id.clone()).or_default().push(key.clone());
            }
            self.known.insert(key, identity);
        }
    }

    /// A digest of the query and of what makes people relevant: a cursor is valid only for the same digest.
    pub fn digest(&self, allowed_groups: &[String]) -> String {
        let mut digest = Sha256::new();
        for text in self.people.iter().map(Address::key) {
            digest.update(text);
            digest.update("\n");
        }
        // People whom the configuration excludes or maps to another address may be known without being issuers.
        for (name, mode) in &self.issuers.modes {
            digest.update(format!("\n{name} {mode}"));
        }
        for (name, address) in &self.issuers.addresses {
            digest.update(format!("\n{name} {}", address.key()));
        }
        for text in allowed_groups {
            digest.update("\0");
            digest.update(text);
        }
        hex(digest)
    }

    pub fn list_irrelevant(&self) -> Vec<String> {
        let relevant: HashSet<&String> = self.by_address.values().flatten().collect();
        let mut irrelevant = Vec::new();
        for key in self.known.keys() {
            let is_relevant = if self.is_everybody {
                self.issuers.mode(key) == IssuerMode::Sso
            } else {
                relevant.contains(key)
            };
            if !is_relevant {
                irrelevant.push(key.clone());
            }
        }
        irrelevant.sort_unstable();
        irrelevant
    }

    fn is_issuer(&self, key: &str) -> bool {
        let keys = self.by_address.get(self.issuers.directory_address(key));
        keys.is_some_and(|keys| keys.iter().any(|other| other == key))
    }

    fn issuer_keys(&self, person: &Person) -> Vec<String> {
        let by_id = person.id.as_ref().and_then(|id| self.by_id.get(id));
        let mut keys: Vec<String> = by_id.into_iter().flatten().cloned().collect();
        for address in person.addresses() {
            let by_address = self.by_address.get(address.key());
            keys.extend(by_address.into_iter().flatten().cloned());
        }
        if self.is_everybody
            && let Some(main) = &person.main
            && self.issuers.mode(main.key()) == IssuerMode::Sso
        {
            keys.push(main.key().to_owned());
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The person with this key, with the accounts that have their address or that they are bound to.
    fn take_review(
        &mut self,
        key: &str,
        mut accounts: Vec<Person>,
        listing: &PeopleListing,
    ) -> Option<PersonUnderReview> {
        let mut known = self.known.remove(key);
        let bound = known.as_ref().and_then(|known| known.account_id.clone());
        let is_removed = bound
            .as_ref()
            .is_some_and(|id| listing.removed.contains(id));
        let reason = known.as_ref().and_then(|known| known.reason);
        if listing.extent == Extent::Changes && reason == Some(Reason::Ambiguous) {
            // The other accounts have not changed, so they are not listed.
            accounts.clear();
        }
        let is_unread = listing.unread.contains(self.issuers.directory_address(key));
        if is_unread {
            // Another account of theirs may work.
            accounts.clear();
        }
        let otherwise = match listing.extent {
            _ if is_unread => Observation::Unmentioned,
            Extent::Changes if !is_removed => Observation::Unmentioned,
            _ => Observation::Missing,
        };
        let main = accounts.first().and_then(|person| person.main.clone());
        let email = match (&known, main) {
            (_, Some(main)) if main.key() == key => main,
            (Some(known), _) => known.email.clone(),
            _ => key.parse().ok()?,
        };
        // The review compares accounts with the issuer's own address, not with the mapped one.
        let mapped = self.issuers.directory_address(key);
        for account in &mut accounts {
            account.replace_address(mapped, &email);
        }
        let is_listed = accounts.iter().any(|account| account.id == bound);
        if accounts.iter().any(|account| account.has_address(key)) {
            accounts.retain(|account| !account.has_fallback(key));
        }
        let binding = bound.as_deref().map(|id| Binding {
            id,
            is_chosen: known.as_ref().is_some_and(|known| known.account_chosen),
        });
        let observation = Observation::from_accounts(key, binding, accounts, otherwise);
        // Both accounts are theirs, or the address was never the bound account's own.
        if let (Some(known), Observation::One(account)) = (&mut known, &observation)
            && is_listed
        {
            known.account_chosen &= known.account_id == account.id;
            known.account_id.clone_from(&account.id);
        }
        Some(PersonUnderReview {
            email,
            known,
            observation,
        })
    }
}

/// The relevant people of a listing, and counts about all of it.
#[derive(Default)]
pub(super) struct ListedPeople {
    accounts: BTreeMap<String, Vec<Person>>,
    /// Accounts by an address that is not their own, but counts if no account has it.
    by_fallback: HashMap<String, Vec<Person>>,
    /// All accounts listed, relevant or not.
    pub count: u64,
    lacking: u64,
    answers_anything: bool,
    canaries: HashMap<String, bool>,
    /// The id of an active account, to test look-ups by id.
    pub probe_id: Option<String>,
}

impl ListedPeople {
    pub fn add(&mut self, relevant: &RelevantPeople, person: &Person) {
        self.count += 1;
        self.lacking += u64::from(person.reason == Some(Reason::FieldMissing));
        let is_active = person.status == IdentityStatus::Active && person.is_member != Some(false);
        for address in person.addresses() {
            self.answers_anything |= address.key() == UNUSED_ADDRESS;
            if relevant.canaries.contains(address) {
                let canary = self.canaries.entry(address.key().to_owned()).or_default();
                *canary |= is_active;
            }
        }
        if is_active && person.id.is_some() {
            self.probe_id
                .get_or_insert_with(|| person.id.clone().unwrap_or_default());
        }
        for address in &person.fallbacks {
            let keys = relevant.by_address.get(address.key());
            for key in keys.into_iter().flatten() {
                let accounts = self.by_fallback.entry(key.clone()).or_default();
                accounts.push(person.clone());
            }
        }
        for key in relevant.issuer_keys(person) {
            self.accounts.entry(key).or_default().push(person.clone());
        }
    }

    pub fn count_issuers(&self, relevant: &RelevantPeople) -> u64 {
        let listed = self.accounts.keys();
        listed.filter(|key| relevant.is_issuer(key)).count() as u64
    }

    /// Why the listing cannot be right, if it cannot.
    pub fn check_plausible(
        &self,
        relevant: &RelevantPeople,
        listing: &PeopleListing,
        row: &DirectoryRow,
    ) -> Option<Implausible> {
        // Everybody in a short query may have left, but a listing of everybody is never empty.
        if self.count == 0 && listing.extent == Extent::Everybody {
            let before = u64::try_from(row.people).unwrap_or(0);
            return Some(Implausible::Empty { before });
        }
        if self.answers_anything {
            return Some(Implausible::AnswersAnything);
        }
        if self.lacking > MAX_WITHOUT_STATUS && self.lacking * 20 > self.count {
            return Some(Implausible::FieldMissing {
                lacking: self.lacking,
                listed: self.count,
            });
        }
        let position = relevant.canaries.iter().position(|canary| {
            // A listing of changes contains a canary only if it changed.
            let unmentioned =
                listing.extent == Extent::Changes || listing.unread.contains(canary.key());
            let is_active = self.canaries.get(canary.key()).copied();
            !is_active.unwrap_or(unmentioned)
        })?;
        Some(Implausible::Canary {
            number: position + 1,
            count: relevant.canaries.len(),
        })
    }

    /// The relevant people with what the listing shows of them, in order of address.
    pub fn into_reviews(
        mut self,
        mut relevant: RelevantPeople,
        listing: &PeopleListing,
    ) -> Vec<PersonUnderReview> {
        let forgotten: HashSet<String> = relevant.list_irrelevant().into_iter().collect();
        let known = relevant
            .known
            .keys()
            .filter(|key| !forgotten.contains(*key));
        for key in relevant.by_address.values().flatten().chain(known) {
            self.accounts.entry(key.clone()).or_default();
        }
        let mut by_fallback = self.by_fallback;
        // A listing of changes does not show whether another account has the address.
        if listing.extent == Extent::Changes {
            by_fallback.clear();
        }
        let review = |(key, mut accounts): (String, Vec<Person>)| {
            for account in by_fallback.remove(&key).unwrap_or_default() {
                if accounts.iter().all(|other| other.id != account.id) {
                    accounts.push(account);
                }
            }
            relevant.take_review(&key, accounts, listing)
        };
        self.accounts.into_iter().filter_map(review).collect()
    }
}
