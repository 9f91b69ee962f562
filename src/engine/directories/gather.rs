//! Gathers from a pull what concerns the people who matter, and doubts a pull that cannot be right.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::directories::{Extent, Pulled};
use crate::domain::access::{Case, Sighting};
use crate::domain::{Address, Identity, IdentityStatus, IssuerMode, Issuers, Person, Reason};
use crate::sources::gather::hex;
use crate::store::DirectoryRow;

use super::WatchedDirectory;

/// A listing of this many people is not believed when it has shrunk by half.
const SHRINK_GUARD_FROM: u64 = 20;

/// So many people may lack the field that tells their status without a doubt about all the rest.
const LACKING: u64 = 3;

/// Nobody has this address, so whoever answers to it answers to every question.
const NOBODY: &str = "nobody-has-this-address@lapsed.invalid";

/// Why a pull is not believed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It lists nobody, although it did before.
    #[error(
        "it lists nobody at all, and listed {before} before; see that its credentials may still read people, and \
         that what is configured still leads to them"
    )]
    Empty {
        /// People before.
        before: u64,
    },
    /// Somebody who surely has access has not.
    #[error(
        "the canary {number} of {count} is not told of as active; mend what the directory shows, or correct \
         `canaries`"
    )]
    Canary {
        /// Its place in the configuration.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// It answers with anybody to any question.
    #[error("it tells of an address that nobody has, so its answers are not about those asked for")]
    AnswersAnything,
    /// A field is missing from too many.
    #[error(
        "{lacking} of {told} people come without the field that tells their status; let its credentials read it"
    )]
    FieldMissing {
        /// People without it.
        lacking: u64,
        /// People in all.
        told: u64,
    },
    /// Nobody is in any of the allowed groups, and nobody knows that anybody ever was.
    #[error(
        "nobody is seen in the allowed groups; correct `allowed_groups`, or let its credentials read who is in them"
    )]
    NobodyInGroups,
    /// A look by id does not even find who is there.
    #[error(
        "it lists people whom it does not find by their id, so nobody's absence can be proved; let its \
         credentials read single people"
    )]
    BlindById,
}

/// The people who matter: those asked for, and those known.
pub(super) struct Wanted {
    /// Everybody the directory tells of matters.
    is_everybody: bool,
    /// Issuers' addresses by those that directories have for them.
    by_address: HashMap<String, Vec<String>>,
    /// Issuers' addresses by the accounts that they were matched to.
    by_id: HashMap<String, Vec<String>>,
    issuers: Issuers,
    known: HashMap<String, Identity>,
    canaries: Vec<Address>,
    /// What the directory is asked for, in order.
    pub people: Vec<Address>,
}

impl Wanted {
    /// Nobody yet but the canaries, and somebody whom no directory knows.
    pub fn new(watched: &WatchedDirectory, issuers: &Issuers) -> Self {
        let nobody = NOBODY.parse().ok();
        Self {
            is_everybody: watched.directory.is_kept_whole(),
            by_address: HashMap::new(),
            by_id: HashMap::new(),
            issuers: issuers.clone(),
            known: HashMap::new(),
            canaries: watched.canaries.clone(),
            people: watched.canaries.iter().cloned().chain(nobody).collect(),
        }
    }

    /// Takes in people who issued tokens, by their addresses.
    pub fn add_issuers(&mut self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if self.issuers.mode(&key) == IssuerMode::Sso {
                let address = self.issuers.at_directories(&key).to_owned();
                self.by_address.entry(address).or_default().push(key);
            }
        }
        for keys in self.by_address.values_mut() {
            keys.sort_unstable();
            keys.dedup();
        }
        let people = self.by_address.keys().filter_map(|key| key.parse().ok());
        self.people.extend(people);
        self.people.sort_unstable();
        self.people.dedup();
    }

    /// Takes in what was known before.
    pub fn know(&mut self, known: Vec<Identity>) {
        for identity in known {
            let key = identity.email.key().to_owned();
            if let Some(id) = &identity.account_id {
                self.by_id.entry(id.clone()).or_default().push(key.clone());
            }
            self.known.insert(key, identity);
        }
    }

    /// What is asked for and of whom it tells, in one word: of something else a cursor tells nothing.
    pub fn digest(&self, allowed_groups: &[String]) -> String {
        let mut digest = Sha256::new();
        for text in self.people.iter().map(Address::key) {
            digest.update(text);
            digest.update("\n");
        }
        // Whom the configuration leaves out or calls by another address may be no issuer, but known.
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

    /// The people known of whom nobody wants to know any more.
    pub fn forgotten(&self) -> Vec<String> {
        let wanted: HashSet<&String> = self.by_address.values().flatten().collect();
        let is_unwanted = |key: &&String| {
            if self.is_everybody {
                self.issuers.mode(key) != IssuerMode::Sso
            } else {
                !wanted.contains(key)
            }
        };
        let mut forgotten: Vec<String> = self.known.keys().filter(is_unwanted).cloned().collect();
        forgotten.sort_unstable();
        forgotten
    }

    fn is_issuer(&self, key: &str) -> bool {
        let at = self.by_address.get(self.issuers.at_directories(key));
        at.is_some_and(|keys| keys.iter().any(|it| it == key))
    }

    /// The issuers that an account belongs to.
    fn keys_of(&self, person: &Person) -> Vec<String> {
        let by_id = person.id.as_ref().and_then(|id| self.by_id.get(id));
        let mut keys: Vec<String> = by_id.into_iter().flatten().cloned().collect();
        for address in &person.addresses {
            keys.extend(
                self.by_address
                    .get(address.key())
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        }
        let main = person.email().key();
        if self.is_everybody && self.issuers.mode(main) == IssuerMode::Sso {
            keys.push(main.to_owned());
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// What a pull told so far.
#[derive(Default)]
pub(super) struct Gathered {
    accounts: BTreeMap<String, Vec<Person>>,
    /// How many accounts it told of.
    pub told: u64,
    lacking: u64,
    answers_anything: bool,
    /// For each canary whether it is active.
    canaries: HashMap<String, bool>,
    /// Somebody who is there, by whom a look by id is tried.
    pub somebody: Option<String>,
}

impl Gathered {
    /// Takes one account in.
    pub fn add(&mut self, wanted: &Wanted, person: &Person) {
        self.told += 1;
        let is_lacking = person.reason == Some(Reason::FieldMissing);
        self.lacking += u64::from(is_lacking);
        let is_active = person.status == IdentityStatus::Active && person.is_member != Some(false);
        for address in &person.addresses {
            self.answers_anything |= address.key() == NOBODY;
            if wanted.canaries.contains(address) {
                let canary = self.canaries.entry(address.key().to_owned()).or_default();
                *canary |= is_active;
            }
        }
        if is_active && person.id.is_some() {
            self.somebody
                .get_or_insert_with(|| person.id.clone().unwrap_or_default());
        }
        for key in wanted.keys_of(person) {
            self.accounts.entry(key).or_default().push(person.clone());
        }
    }

    /// How many issuers of tokens are among those it told of.
    pub fn issuers(&self, wanted: &Wanted) -> u64 {
        let told = self.accounts.keys();
        told.filter(|key| wanted.is_issuer(key)).count() as u64
    }

    /// Why the pull cannot be right, if it cannot.
    pub fn doubt(&self, wanted: &Wanted, pulled: &Pulled, row: &DirectoryRow) -> Option<Doubt> {
        let before = match pulled.extent {
            Extent::Everybody => u64::try_from(row.people).unwrap_or(0),
            // Of few who are asked for, all may have left: a directory answers so only when it surely sees people.
            Extent::Asked | Extent::Changes => 0,
        };
        if self.told == 0 && before > 0 {
            return Some(Doubt::Empty { before });
        }
        if self.answers_anything {
            return Some(Doubt::AnswersAnything);
        }
        if self.lacking > LACKING && self.lacking * 20 > self.told {
            let (lacking, told) = (self.lacking, self.told);
            return Some(Doubt::FieldMissing { lacking, told });
        }
        // Changes alone tell of a canary only when something is new about it.
        let unmentioned = pulled.extent == Extent::Changes;
        let is_sound = |canary: &Address| {
            let is_active = self.canaries.get(canary.key());
            is_active.copied().unwrap_or(unmentioned)
        };
        let ill = wanted.canaries.iter().position(|canary| !is_sound(canary));
        ill.map(|at| Doubt::Canary {
            number: at + 1,
            count: wanted.canaries.len(),
        })
    }

    /// How many people were told of and before, where that is so few that it is not believed.
    pub fn shrunk(&self, pulled: &Pulled, row: &DirectoryRow) -> Option<(u64, u64)> {
        let before = u64::try_from(row.people).unwrap_or(0);
        let is_shrunk = pulled.extent == Extent::Everybody
            && before >= SHRINK_GUARD_FROM
            && self.told * 2 <= before;
        is_shrunk.then_some((self.told, before))
    }

    /// Everybody who matters, each with what was told of them; in order of address.
    pub fn cases(mut self, mut wanted: Wanted, pulled: &Pulled) -> Vec<Case> {
        let forgotten: HashSet<String> = wanted.forgotten().into_iter().collect();
        let known = wanted.known.keys().filter(|key| !forgotten.contains(*key));
        for key in wanted.by_address.values().flatten().chain(known) {
            self.accounts.entry(key.clone()).or_default();
        }
        let removed: HashSet<&String> = pulled.removed.iter().collect();
        let case = |(key, accounts): (String, Vec<Person>)| {
            let known = wanted.known.remove(&key);
            let bound = known.as_ref().and_then(|known| known.account_id.as_deref());
            let is_removed = bound.is_some_and(|id| removed.contains(&id.to_owned()));
            let otherwise = match pulled.extent {
                Extent::Changes if !is_removed => Sighting::Unmentioned,
                _ => Sighting::Missing,
            };
            let email = match (&known, accounts.first()) {
                (_, Some(person)) if person.email().key() == key => person.email().clone(),
                (Some(known), _) => known.email.clone(),
                _ => key.parse().ok()?,
            };
            Some(Case {
                email,
                sighting: Sighting::of(&key, bound, accounts, otherwise),
                known,
            })
        };
        self.accounts.into_iter().filter_map(case).collect()
    }
}
