//! What is remembered of a server from one listing to the next.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::Address;

pub(super) const LIFETIME: TimeDelta = TimeDelta::hours(24);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// When the whole list had a person whom the filters did not find.
    filters_failed_at: Option<DateTime<Utc>>,
    /// By [`Address::key`]: people who were asked for one by one, because the list or the filters left them out.
    asked: BTreeMap<String, Asked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub at: DateTime<Utc>,
    /// The users with the address, in order.
    pub ids: Vec<String>,
    /// Whether the server filters by sign-in names only, so that others may have it as a mailbox.
    #[serde(default)]
    pub by_name_only: bool,
    /// When the users were last read by their ids.
    #[serde(default)]
    read_at: Option<DateTime<Utc>>,
}

impl Asked {
    pub fn new(at: DateTime<Utc>, mut ids: Vec<String>, by_name_only: bool) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self {
            at,
            ids,
            by_name_only,
            read_at: None,
        }
    }

    /// Whether users with the address may have been missed.
    pub fn is_unclear(&self) -> bool {
        self.by_name_only && self.ids.is_empty()
    }

    /// When the users were last seen, by a filter or by their ids.
    pub fn seen_at(&self) -> DateTime<Utc> {
        self.read_at.map_or(self.at, |read_at| read_at.max(self.at))
    }
}

impl Memory {
    /// What a cursor says about these people; nothing if it is no memory.
    pub fn parse(text: Option<&str>, people: &HashSet<&str>, now: DateTime<Utc>) -> Self {
        let mut memory: Self = text
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        // A time in the future comes from a clock that jumped.
        memory.filters_failed_at = memory.filters_failed_at.filter(|at| *at <= now);
        memory
            .asked
            .retain(|key, asked| asked.at <= now && people.contains(key.as_str()));
        memory
    }

    pub fn to_text(&self) -> Option<String> {
        let is_empty = *self == Self::default();
        serde_json::to_string(self).ok().filter(|_| !is_empty)
    }

    pub fn trusts_filters(&self, now: DateTime<Utc>) -> bool {
        self.filters_failed_at.is_none_or(|at| now - at >= LIFETIME)
    }

    pub fn distrust_filters(&mut self, now: DateTime<Utc>) {
        self.filters_failed_at = Some(now);
    }

    pub fn asked(&self, person: &Address) -> Option<&Asked> {
        self.asked.get(person.key())
    }

    pub fn is_fresh(&self, person: &Address, now: DateTime<Utc>) -> bool {
        self.asked(person)
            .is_some_and(|asked| now - asked.at < LIFETIME)
    }

    pub fn remember(&mut self, person: &Address, asked: Asked) {
        self.asked.insert(person.key().to_owned(), asked);
    }

    pub fn note_read(&mut self, person: &Address, now: DateTime<Utc>) {
        if let Some(asked) = self.asked.get_mut(person.key()) {
            asked.read_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_memory_lasts_a_day_and_only_for_the_people_of_the_query() {
        let people: [Address; 2] =
            ["ada@example.org", "bob@example.org"].map(|it| it.parse().unwrap());
        let both = people.iter().map(Address::key).collect();
        let (noon, later) = (at("2026-11-22T12:00:00Z"), at("2026-11-23T11:59:59Z"));
        let mut memory = Memory::parse(Some("no memory"), &both, noon);
        assert_eq!(memory.to_text(), None);
        memory.distrust_filters(noon);
        memory.remember(&people[0], Asked::new(noon, vec!["7".to_owned()], false));
        memory.remember(&people[1], Asked::new(noon, Vec::new(), true));
        let text = memory.to_text();
        let read = Memory::parse(text.as_deref(), &both, later);
        assert_eq!(read, memory);
        assert!(read.is_fresh(&people[0], later) && !read.trusts_filters(later));
        let next_day = at("2026-11-23T12:00:00Z");
        assert!(!read.is_fresh(&people[0], next_day) && read.trusts_filters(next_day));
        let fewer = Memory::parse(text.as_deref(), &HashSet::from([people[1].key()]), later);
        assert!(fewer.asked(&people[0]).is_none() && fewer.is_fresh(&people[1], later));
        let earlier = Memory::parse(text.as_deref(), &both, at("2026-11-22T11:00:00Z"));
        assert_eq!(earlier, Memory::default());
    }
}
