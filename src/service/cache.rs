//! The credentials and people that were read from the store, in a bounded amount of memory.
//!
//! Nothing that depends on time is decided here: an entry has the facts, and each use compares them with the clock.
//! An entry may be used only while the change feed is fresh ([`Cache::confirm`]), and what was read before a change
//! that was seen meanwhile is not taken in ([`Cache::epoch`]).

use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use crate::domain::TokenId;
use crate::domain::service::{Credential, ServicePerson};
use crate::store::{Change, MAX_CHAIN};

use super::packed::Packed;

/// Room for 200,000 tokens of usual size and what differs between the shards.
const MAX_TOKEN_BYTES: u64 = 80 * 1024 * 1024;
const EXPECTED_TOKENS: usize = 200_000;
const MAX_PEOPLE_BYTES: u64 = 16 * 1024 * 1024;
const EXPECTED_PEOPLE: usize = 10_000;
/// Of the table, for each entry.
const ENTRY_BYTES: u64 = 48;
/// How long after a poll of the change feed the entries may be used.
pub(super) const MAX_FEED_AGE: Duration = Duration::from_secs(1);

pub(super) struct Cache {
    tokens: QuickCache<TokenId, Packed, TokenBytes>,
    people: QuickCache<String, Arc<ServicePerson>, PersonBytes>,
    /// The number of changes seen. Locked while an entry is taken in or forgotten.
    epoch: Mutex<u64>,
    /// In microseconds of [`Clock::uptime`](crate::clock::Clock::uptime).
    fresh_until: AtomicU64,
}

/// A credential with those that it was exchanged for, and the person who issued the last of them.
#[derive(Clone)]
pub(super) struct Holding {
    pub chain: Vec<Arc<Credential>>,
    pub person: Arc<ServicePerson>,
}

/// The changes seen before a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

#[derive(Clone)]
struct TokenBytes;

impl Weighter<TokenId, Packed> for TokenBytes {
    fn weight(&self, _: &TokenId, packed: &Packed) -> u64 {
        packed.size() as u64 + ENTRY_BYTES
    }
}

#[derive(Clone)]
struct PersonBytes;

impl Weighter<String, Arc<ServicePerson>> for PersonBytes {
    fn weight(&self, key: &String, person: &Arc<ServicePerson>) -> u64 {
        let roles = person.roles.iter();
        let roles: usize = roles
            .map(|(account, role)| account.len() + role.len() + 80)
            .sum();
        let owners: usize = person
            .owners
            .iter()
            .map(|owner| owner.as_str().len() + 80)
            .sum();
        let name = person.name.as_ref().map_or(0, String::len);
        (3 * key.len() + name + roles + owners + size_of::<ServicePerson>() + 64) as u64
            + ENTRY_BYTES
    }
}

impl Holding {
    /// Whatever the person who issued the first token can change about it holds for what it was exchanged for.
    pub fn new(mut chain: Vec<Arc<Credential>>, person: Arc<ServicePerson>) -> Self {
        if let Some((root, derived)) = chain.split_last_mut() {
            for credential in derived {
                *credential = Arc::new(Credential {
                    issuer: root.issuer.clone(),
                    account: root.account.clone(),
                    role: root.role.clone(),
                    scopes: root.scopes.clone(),
                    networks: root.networks.clone(),
                    ..Credential::clone(credential)
                });
            }
        }
        Self { chain, person }
    }
}

impl Cache {
    pub fn new() -> Self {
        Self {
            tokens: QuickCache::with_weighter(EXPECTED_TOKENS, MAX_TOKEN_BYTES, TokenBytes),
            people: QuickCache::with_weighter(EXPECTED_PEOPLE, MAX_PEOPLE_BYTES, PersonBytes),
            epoch: Mutex::default(),
            fresh_until: AtomicU64::new(0),
        }
    }

    /// Call it before a read whose result is to be taken in.
    pub fn epoch(&self) -> Epoch {
        Epoch(*self.lock())
    }

    /// Every change committed before `polled_at` has been seen.
    pub fn confirm(&self, polled_at: Duration) {
        let until = micros(polled_at.saturating_add(MAX_FEED_AGE));
        self.fresh_until.fetch_max(until, Ordering::Relaxed);
    }

    pub fn is_fresh(&self, uptime: Duration) -> bool {
        micros(uptime) < self.fresh_until.load(Ordering::Relaxed)
    }

    /// How long ago the last complete poll of the change feed began; `None` before the first.
    pub fn feed_age(&self, uptime: Duration) -> Option<Duration> {
        let until = self.fresh_until.load(Ordering::Relaxed);
        let polled_at = Duration::from_micros(until).checked_sub(MAX_FEED_AGE)?;
        Some(uptime.saturating_sub(polled_at))
    }

    /// `None` if it is not complete in memory, or memory may be out of date.
    pub fn find(&self, id: TokenId, uptime: Duration) -> Option<Holding> {
        if !self.is_fresh(uptime) {
            return None;
        }
        let mut next = Some(id);
        let mut chain = Vec::with_capacity(1);
        while let Some(id) = next {
            if chain.len() == MAX_CHAIN {
                return None;
            }
            let credential = self.tokens.get(&id)?.unpack(id)?;
            next = credential.parent.map(|parent| parent.id);
            chain.push(Arc::new(credential));
        }
        let person = self.people.get(&chain.last()?.issuer)?;
        Some(Holding::new(chain, person))
    }

    /// Takes in what a read that began at `epoch` has found, unless a change was seen since.
    pub fn insert(&self, epoch: Epoch, chain: &[Arc<Credential>], person: &Arc<ServicePerson>) {
        let packed = chain
            .iter()
            .map(|credential| Some((credential.id, Packed::new(credential)?)));
        let Some(packed) = packed.collect::<Option<Vec<_>>>() else {
            return;
        };
        let seen = self.lock();
        if Epoch(*seen) != epoch {
            return;
        }
        for (id, packed) in packed {
            self.tokens.insert(id, packed);
        }
        self.people.insert(person.key.clone(), Arc::clone(person));
    }

    pub fn forget(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let mut seen = self.lock();
        *seen += 1;
        for change in changes {
            match change {
                Change::Credential(id) => drop(self.tokens.remove(id)),
                Change::User(key) => drop(self.people.remove(key.as_str())),
                Change::Everything => {
                    self.tokens.clear();
                    self.people.clear();
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::domain::LOCAL_SOURCE;
    use crate::domain::service::{
        CredentialState, Kind, Networks, NewSecret, Parent, PublicId, Scopes, StoredSecret,
    };

    const NOW: Duration = Duration::from_secs(1000);

    fn credential(kind: Kind, parent: Option<&Credential>) -> Arc<Credential> {
        let public_id = PublicId::generate();
        let secret = NewSecret::generate("lapsed", &public_id);
        Arc::new(Credential {
            id: TokenId::new(LOCAL_SOURCE, public_id.as_str()),
            public_id,
            kind,
            issuer: "ann@example.org".to_owned(),
            account: Some("team-a".to_owned()),
            role: Some("engineer".to_owned()),
            scopes: Scopes::default(),
            networks: Networks::default(),
            created_at: DateTime::UNIX_EPOCH,
            not_before: None,
            expires_at: Some(DateTime::UNIX_EPOCH + TimeDelta::days(30)),
            state: CredentialState::Active,
            secret: StoredSecret {
                number: 1,
                digest: secret.digest,
                created_at: DateTime::UNIX_EPOCH,
                last_used_at: None,
            },
            old_secret: None,
            parent: parent.map(|parent| Parent {
                id: parent.id,
                secret: parent.secret.number,
            }),
            version: 1,
        })
    }

    fn person() -> Arc<ServicePerson> {
        Arc::new(ServicePerson {
            key: "ann@example.org".to_owned(),
            address: "ann@example.org".parse().ok(),
            name: Some("Ann".to_owned()),
            is_super: false,
            is_sso: false,
            owners: Vec::new(),
            created_at: DateTime::UNIX_EPOCH,
            disabled_at: None,
            lost_access_at: None,
            roles: BTreeMap::from([("team-a".to_owned(), "engineer".to_owned())]),
            version: 1,
        })
    }

    fn fresh_cache() -> Cache {
        let cache = Cache::new();
        cache.confirm(NOW);
        cache
    }

    #[test]
    fn an_entry_is_used_only_while_the_feed_is_fresh() {
        let (cache, token) = (Cache::new(), credential(Kind::Api, None));
        cache.insert(cache.epoch(), std::slice::from_ref(&token), &person());
        assert!(cache.find(token.id, Duration::ZERO).is_none());
        assert_eq!(cache.feed_age(NOW), None);
        cache.confirm(NOW);
        assert!(cache.find(token.id, NOW).is_some());
        let last = NOW + MAX_FEED_AGE;
        let just_before = last.saturating_sub(Duration::from_micros(1));
        assert!(cache.find(token.id, just_before).is_some());
        assert!(cache.find(token.id, last).is_none());
        assert_eq!(cache.feed_age(last), Some(MAX_FEED_AGE));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_taken_in() {
        let (cache, token) = (fresh_cache(), credential(Kind::Api, None));
        let chain = std::slice::from_ref(&token);
        // The reader pauses after its read; meanwhile the token is revoked.
        let epoch = cache.epoch();
        cache.forget(&[Change::Credential(token.id)]);
        cache.insert(epoch, chain, &person());
        assert!(cache.find(token.id, NOW).is_none());
        cache.insert(cache.epoch(), chain, &person());
        assert!(cache.find(token.id, NOW).is_some());
    }

    #[test]
    fn a_change_removes_what_it_concerns() {
        let (cache, token, other) = (
            fresh_cache(),
            credential(Kind::Api, None),
            credential(Kind::Api, None),
        );
        let insert = || {
            for credential in [&token, &other] {
                cache.insert(cache.epoch(), std::slice::from_ref(credential), &person());
            }
        };
        let found = || [&token, &other].map(|it| cache.find(it.id, NOW).is_some());
        insert();
        assert_eq!(found(), [true, true]);
        cache.forget(&[Change::Credential(token.id)]);
        assert_eq!(found(), [false, true]);
        insert();
        cache.forget(&[Change::User(person().key.clone())]);
        assert_eq!(found(), [false, false]);
        insert();
        cache.forget(&[Change::Everything]);
        assert_eq!(found(), [false, false]);
    }

    #[test]
    fn what_was_exchanged_needs_all_that_came_before_and_has_its_rights() {
        let cache = fresh_cache();
        let token = Arc::new(Credential {
            role: Some("viewer".to_owned()),
            scopes: "app:read".parse().unwrap_or_default(),
            ..Credential::clone(&credential(Kind::Api, None))
        });
        let refresh = credential(Kind::Refresh, Some(&token));
        let access = credential(Kind::Access, Some(&refresh));
        let chain = [access.clone(), refresh.clone(), token.clone()];
        cache.insert(cache.epoch(), &chain, &person());
        let holding = cache.find(access.id, NOW);
        let first = holding.map(|holding| Arc::clone(&holding.chain[0]));
        let facts = first.map(|it| {
            (
                it.id,
                it.kind.clone(),
                it.role.clone(),
                it.scopes.to_string(),
            )
        });
        let expected = (
            access.id,
            Kind::Access,
            token.role.clone(),
            "app:read".to_owned(),
        );
        assert_eq!(facts, Some(expected));
        cache.forget(&[Change::Credential(token.id)]);
        assert!(cache.find(access.id, NOW).is_none());
    }

    #[test]
    fn two_hundred_thousand_tokens_fit() {
        let cache = fresh_cache();
        let person = person();
        let tokens: Vec<_> = (0..200_000).map(|_| credential(Kind::Api, None)).collect();
        for token in &tokens {
            cache.insert(cache.epoch(), std::slice::from_ref(token), &person);
        }
        let missing = tokens.iter().filter(|it| cache.find(it.id, NOW).is_none());
        assert_eq!(missing.count(), 0);
    }
}
