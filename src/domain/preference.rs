//! How a person wants to be notified.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::string_enum::string_enum;
use super::{Address, Generation, Step, Token, TokenId};
use crate::time::shift;

/// A token that was used within this time is in daily use: it would be missed.
pub const DAILY_USE: TimeDelta = TimeDelta::days(7);

string_enum! {
    /// Where a notice is delivered.
    Channel {
        Mail = "mail",
        /// In the person's account at the token service.
        Account = "account",
    }
}

/// Each `None` is as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    pub address: Address,
    /// Widest first; empty for no warnings.
    pub steps: Option<Vec<Step>>,
    /// `Account`: no mails.
    pub channel: Option<Channel>,
    pub language: Option<String>,
    pub timezone: Option<Tz>,
    /// When their mails of the day are sent.
    pub digest_at: Option<NaiveTime>,
    /// Changes with each change; 0 if the person has not set anything.
    pub version: i64,
}

impl Preference {
    pub fn none(address: Address) -> Self {
        Self {
            address,
            steps: None,
            channel: None,
            language: None,
            timezone: None,
            digest_at: None,
            version: 0,
        }
    }
}

/// When tokens are due because of what people prefer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonalTimes {
    /// Every step that anyone chose, widest first.
    pub steps: Vec<Step>,
    /// Whether anyone chose a time of day or a zone.
    pub has_digests: bool,
    /// Whether there are any preferences, or people with an account at the token service.
    pub has_wishes: bool,
}

/// What the recipients of notices about some tokens prefer, and what they have read.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    preferences: HashMap<String, Preference>,
    users: HashSet<String>,
    read: HashSet<(TokenId, String, DateTime<Utc>)>,
}

/// Where one notice is delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    pub by_mail: bool,
    pub in_account: bool,
}

impl Wishes {
    pub fn new(preferences: Vec<Preference>, users: HashSet<String>) -> Self {
        let key = |preference: Preference| (preference.address.key().to_owned(), preference);
        Self {
            preferences: preferences.into_iter().map(key).collect(),
            users,
            read: HashSet::new(),
        }
    }

    pub fn get(&self, person: &Address) -> Option<&Preference> {
        self.preferences.get(person.key())
    }

    /// Whether what anyone has read matters.
    pub fn needs_read(&self) -> bool {
        let mut preferences = self.preferences.values();
        preferences.any(|preference| preference.channel == Some(Channel::Account))
    }

    /// Records that a person read a notice in their account about this expiry of a token.
    pub fn add_read(&mut self, token: TokenId, person_key: String, generation: DateTime<Utc>) {
        self.read.insert((token, person_key, generation));
    }

    /// Whether a copy of each mail is in the person's account.
    pub fn wants_copy(&self, person: &Address) -> bool {
        let channel = self.get(person).and_then(|preference| preference.channel);
        self.users.contains(person.key()) && channel != Some(Channel::Mail)
    }

    /// Where a person gets the warning of a step; nowhere, if it is not one of theirs. `standard` are the steps of the
    /// token for those who chose none.
    ///
    /// The last step of a token in daily use cannot be switched off, and goes by mail, too, until it is read.
    pub(super) fn delivery(
        &self,
        person: &Address,
        (token, generation): (&Token, Generation),
        (step, standard): (Step, &[Step]),
        now: DateTime<Utc>,
    ) -> Delivery {
        let preference = self.get(person);
        let own = preference.and_then(|preference| preference.steps.as_deref());
        let own = own.unwrap_or(standard);
        let is_last = |steps: &[Step]| last_step(steps) == Some(step);
        let is_used = token.last_used_at >= Some(shift(now, -DAILY_USE));
        let is_kept = is_used && is_last(standard);
        if !is_kept && !own.contains(&step) {
            return Delivery::default();
        }
        let in_account = self.wants_copy(person);
        let channel = preference.and_then(|preference| preference.channel);
        let is_in_account_only = channel == Some(Channel::Account) && in_account;
        let read = (token.id, person.key().to_owned(), generation.at);
        let is_overlooked = is_used && (is_kept || is_last(own)) && !self.read.contains(&read);
        Delivery {
            by_mail: !is_in_account_only || is_overlooked,
            in_account,
        }
    }
}

/// The tightest step before the expiry.
fn last_step(steps: &[Step]) -> Option<Step> {
    let before = steps.iter().copied().filter(|step| *step > Step::ZERO);
    before.min().or_else(|| steps.iter().copied().min())
}
