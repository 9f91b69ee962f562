//! Who uses which token: counted in memory, and written to the store now and then, at most one row for each token.
//!
//! A process that is killed loses what it counted since the last write. A use that finds no room is only counted as
//! such.

use std::collections::{BTreeMap, HashMap};
use std::iter;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use crate::domain::TokenId;
use crate::store::{AddressUse, UseRow};

/// Instead of the number of a secret: a token that it was exchanged for was used.
pub(super) const DERIVED: u32 = 0;
pub(super) const SHARDS: usize = 16;
/// Tokens whose uses are in memory at a time.
const MAX_TOKENS: usize = 200_000;
/// Of one token, more than the addresses that the store keeps.
const MAX_TALLIES: usize = 12;

#[derive(Default)]
pub(super) struct Uses {
    shards: [Mutex<HashMap<TokenId, Entry>>; SHARDS],
    /// Uses that found no room.
    lost: AtomicU64,
}

/// Most tokens are used with one secret from one address.
pub(super) struct Entry {
    first: Tally,
    more: Option<Box<More>>,
}

struct More(Vec<Tally>);

/// The uses of a token within an hour, with the same secret, from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// The number of the secret, or [`DERIVED`]; `None` for refused uses of a right secret.
    pub secret: Option<u32>,
    pub address: IpAddr,
    pub count: u32,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
}

impl Uses {
    pub fn count(&self, token: TokenId, tally: Tally) {
        let mut shard = self.lock(shard_of(token));
        let has_room = shard.len() < MAX_TOKENS / SHARDS;
        let is_counted = match shard.get_mut(&token) {
            Some(entry) => entry.add(tally),
            None if has_room => shard.insert(token, Entry::from(tally)).is_none(),
            None => false,
        };
        if !is_counted {
            self.lost
                .fetch_add(u64::from(tally.count), Ordering::Relaxed);
        }
    }

    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes a part of what was counted since it was last taken, in order of the tokens: what is taken is in memory
    /// twice while uses are counted again.
    pub fn take(&self, shard: usize) -> Vec<(TokenId, Entry)> {
        let entries = std::mem::take(&mut *self.lock(shard));
        let mut taken: Vec<_> = entries.into_iter().collect();
        taken.sort_unstable_by_key(|(token, _)| *token);
        taken
    }

    /// Gives back what could not be written.
    pub fn put_back(&self, taken: &[(TokenId, Entry)]) {
        for (token, entry) in taken {
            for tally in entry.tallies() {
                self.count(*token, tally);
            }
        }
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, HashMap<TokenId, Entry>> {
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of a token, one an hour, in order.
pub(super) fn rows(token: TokenId, entry: &Entry) -> Vec<UseRow> {
    let mut rows: BTreeMap<DateTime<Utc>, UseRow> = BTreeMap::new();
    for tally in entry.tallies() {
        let hour = tally.hour();
        let row = rows.entry(hour).or_insert_with(|| UseRow {
            token_id: token,
            hour,
            ok: 0,
            refused: 0,
            secrets: Vec::new(),
            addresses: Vec::new(),
        });
        tally.add_to(row);
    }
    rows.into_values().collect()
}

/// An id is a hash.
fn shard_of(token: TokenId) -> usize {
    usize::from(token.0.as_bytes()[15]) % SHARDS
}

impl From<Tally> for Entry {
    fn from(first: Tally) -> Self {
        Self { first, more: None }
    }
}

impl Entry {
    /// Whether there was room.
    fn add(&mut self, tally: Tally) -> bool {
        if let Some(same) = self.tallies_mut().find(|known| known.is_same(&tally)) {
            same.join(&tally);
        } else if self.tallies().count() < MAX_TALLIES {
            let more = self.more.get_or_insert_with(|| Box::new(More(Vec::new())));
            more.0.push(tally);
        } else {
            // The count stays exact; the address that was used longest ago makes room.
            let like = self.tallies_mut().filter(|known| known.is_like(&tally));
            let Some(oldest) = like.min_by_key(|known| known.last_at) else {
                return false;
            };
            oldest.join(&tally);
            oldest.address = tally.address;
        }
        true
    }

    fn tallies(&self) -> impl Iterator<Item = Tally> {
        let more = self.more.iter().flat_map(|more| &more.0);
        iter::once(self.first).chain(more.copied())
    }

    fn tallies_mut(&mut self) -> impl Iterator<Item = &mut Tally> {
        let more = self.more.iter_mut().flat_map(|more| &mut more.0);
        iter::once(&mut self.first).chain(more)
    }
}

impl Tally {
    /// One use.
    pub fn new(secret: Option<u32>, address: IpAddr, at: DateTime<Utc>) -> Self {
        Self {
            secret,
            address: address.to_canonical(),
            count: 1,
            first_at: at,
            last_at: at,
        }
    }

    pub fn hour(&self) -> DateTime<Utc> {
        let hour = self.last_at.duration_trunc(TimeDelta::hours(1));
        hour.unwrap_or(self.last_at)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.is_like(other)
    }

    /// Of the same hour and the same secret.
    fn is_like(&self, other: &Self) -> bool {
        let hour = |tally: &Self| tally.last_at.timestamp().div_euclid(3600);
        self.secret == other.secret && hour(self) == hour(other)
    }

    fn add_to(&self, row: &mut UseRow) {
        if let Some(number) = self.secret {
            row.ok = row.ok.saturating_add(self.count);
            match row.secrets.iter_mut().find(|(known, _)| *known == number) {
                Some((_, last)) => *last = self.last_at.max(*last),
                None => row.secrets.push((number, self.last_at)),
            }
        } else {
            row.refused = row.refused.saturating_add(self.count);
        }
        let is_refused = self.secret.is_none();
        let same = |known: &&mut AddressUse| {
            known.address == self.address && known.is_refused == is_refused
        };
        match row.addresses.iter_mut().find(same) {
            Some(known) => {
                known.first_at = self.first_at.min(known.first_at);
                known.last_at = self.last_at.max(known.last_at);
            }
            None => row.addresses.push(AddressUse {
                address: self.address,
                is_refused,
                first_at: self.first_at,
                last_at: self.last_at,
            }),
        }
    }

    fn join(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default()
    }

    fn token(number: u128) -> TokenId {
        TokenId(uuid::Uuid::from_u128(number))
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn take(uses: &Uses) -> Vec<(TokenId, Vec<Tally>)> {
        let taken = (0..SHARDS).flat_map(|shard| uses.take(shard));
        taken
            .map(|(token, entry)| (token, entry.tallies().collect()))
            .collect()
    }

    #[test]
    fn uses_of_one_hour_secret_and_address_are_one_tally() {
        let uses = Uses::default();
        for second in [7, 3, 5] {
            uses.count(token(1), Tally::new(Some(1), address(1), at(second)));
        }
        uses.count(token(1), Tally::new(None, address(1), at(9)));
        uses.count(token(1), Tally::new(Some(2), address(1), at(9)));
        uses.count(token(1), Tally::new(Some(1), address(2), at(9)));
        uses.count(token(1), Tally::new(Some(1), address(1), at(3609)));
        let taken = take(&uses);
        let [(_, tallies)] = taken.as_slice() else {
            panic!("{taken:?}");
        };
        let first = Tally {
            count: 3,
            first_at: at(3),
            last_at: at(7),
            ..Tally::new(Some(1), address(1), at(3))
        };
        assert_eq!(tallies[0], first);
        assert_eq!(tallies.len(), 5);
        assert!(take(&uses).is_empty());
    }

    #[test]
    fn an_address_of_ipv4_in_ipv6_is_the_one_of_ipv4() {
        let mapped = "::ffff:192.0.2.1".parse().unwrap_or(address(9));
        assert_eq!(Tally::new(None, mapped, at(0)).address, address(1));
    }

    #[test]
    fn many_addresses_cost_little_and_the_count_is_exact() {
        let uses = Uses::default();
        for last in 0..=255 {
            uses.count(
                token(1),
                Tally::new(Some(1), address(last), at(last.into())),
            );
        }
        let (_, tallies) = take(&uses).remove(0);
        assert_eq!(tallies.len(), MAX_TALLIES);
        assert_eq!(tallies.iter().map(|tally| tally.count).sum::<u32>(), 256);
        assert!(tallies.iter().any(|tally| tally.address == address(255)));
        assert_eq!(uses.lost(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_what_is_put_back_is_not_lost() {
        let uses = Uses::default();
        // All in one shard.
        let id = |number: u128| token(number << 8);
        let room = u128::try_from(MAX_TOKENS / SHARDS).unwrap_or_default();
        for number in 0..=room {
            uses.count(id(number), Tally::new(Some(1), address(1), at(0)));
        }
        assert_eq!(uses.lost(), 1);
        let taken = uses.take(0);
        uses.count(id(0), Tally::new(Some(1), address(1), at(1)));
        uses.put_back(&taken);
        assert_eq!(uses.lost(), 1);
        let counts = take(&uses).into_iter().map(|(_, tallies)| tallies[0].count);
        assert_eq!(u128::from(counts.sum::<u32>()), room + 1);
    }
}
