//! The tokens of a mail about several: their order, their counts, and the lines about all of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{Address, ExpiryOrigin, Token, Topic, When};
use crate::notify::letter::{Entry, Letter, UnlistedTokens};
use crate::notify::wording;
use crate::text;

use super::installation::Installation;
use super::parts::{LastUse, Situation, short_name};
use super::summary;

/// The sections of a list, in the order of the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Revoked,
    Ended,
    Expired,
    Expiring,
}

impl Section {
    pub fn from_unlisted(rest: &UnlistedTokens, letter: &Letter) -> Self {
        match (rest.topic, rest.latest) {
            (Topic::SsoRevoked, _) => Self::Revoked,
            (Topic::Revoked, _) => Self::Ended,
            (_, Some(latest)) if latest.at <= letter.now => Self::Expired,
            (_, Some(_) | None) => Self::Expiring,
        }
    }

    /// Whether its tokens are counted by expiry day.
    pub fn is_dated(self) -> bool {
        match self {
            Self::Revoked | Self::Ended => false,
            Self::Expired | Self::Expiring => true,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub section: Section,
    pub token: &'a Token,
    /// What mails call its source.
    pub source: &'a str,
    pub entry: &'a Entry,
    /// When it expires or was revoked; without an expiry, when it was due or its issuer lost access.
    pub when: When,
}

impl<'a> Item<'a> {
    /// `None` if the entry is not about a token.
    pub fn new(entry: &'a Entry, letter: &Letter, installation: &'a Installation) -> Option<Self> {
        let token = entry.token()?;
        let expires = token.expires();
        let (section, when) = match entry {
            Entry::Revoked(entry) => (Section::Revoked, expires.unwrap_or(entry.since.into())),
            Entry::Ended(entry) => (Section::Ended, entry.at.into()),
            Entry::Expiry(entry) => {
                let section = if entry.is_past(letter.now) {
                    Section::Expired
                } else {
                    Section::Expiring
                };
                (section, expires.unwrap_or(entry.due_at.into()))
            }
            Entry::OldSecret(_)
            | Entry::Alert(_)
            | Entry::Summary(_)
            | Entry::Test
            | Entry::SignIn(_) => return None,
        };
        Some(Self {
            section,
            token,
            source: installation.source_title(&token.source),
            entry,
            when,
        })
    }

    /// Keeps groups together: by issuer and evidence, or by day and source.
    fn sort_key(&self) -> impl Ord + use<'a> {
        let token = self.token;
        let group = match self.entry {
            Entry::Revoked(entry) => Some((
                token.issuer.as_ref().map(Address::key),
                entry.evidence.as_str(),
            )),
            _ => None,
        };
        let at = token.expiry.at();
        (self.section, group, at, &token.source, &token.name)
    }

    /// The finding for which lapsed revokes the token, and when.
    pub fn revocation(&self) -> Option<(Uuid, DateTime<Utc>)> {
        match self.entry {
            Entry::Revoked(entry) => entry.end,
            _ => None,
        }
    }

    pub fn last_use(&self, letter: &Letter) -> LastUse {
        let situation = match self.section {
            Section::Revoked => Situation::Revoked,
            _ if self.is_by_policy() => Situation::Overdue,
            Section::Ended | Section::Expired => Situation::Expired,
            Section::Expiring => Situation::Expiring,
        };
        let last_use = LastUse::new(self.token, letter.now, situation);
        match self.entry {
            Entry::Expiry(entry) if self.section == Section::Expired => {
                last_use.with_callers(entry.still_used.as_deref())
            }
            _ => last_use,
        }
    }

    /// Whether the source has another expiry, which could not be read.
    pub fn is_outdated(&self) -> bool {
        let has_expiry = self.section != Section::Ended && self.token.expiry.at().is_some();
        let is_by_policy = self.token.expiry_origin == Some(ExpiryOrigin::Policy);
        has_expiry && !is_by_policy && self.token.has_outdated_expiry()
    }

    /// Whether the date comes from the policy; the token itself works after it.
    pub fn is_by_policy(&self) -> bool {
        let by_policy = self.token.expiry_origin == Some(ExpiryOrigin::Policy);
        by_policy && matches!(self.entry, Entry::Expiry(_))
    }
}

pub(super) struct Tokens<'a> {
    pub letter: &'a Letter,
    /// Sorted by section, the most urgent first.
    pub items: Vec<Item<'a>>,
}

impl<'a> Tokens<'a> {
    pub fn new(letter: &'a Letter, installation: &'a Installation) -> Self {
        let mut items = Vec::new();
        for entry in &letter.entries {
            items.extend(Item::new(entry, letter, installation));
        }
        items.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        Self { letter, items }
    }

    /// Includes those that the letter only counts.
    pub fn count(&self) -> usize {
        self.items.len() + self.letter.count_unlisted()
    }

    pub fn count_in(&self, section: Section) -> usize {
        let listed = self.items.iter().filter(|item| item.section == section);
        let mut count = listed.count();
        for rest in &self.letter.unlisted {
            if Section::from_unlisted(rest, self.letter) == section {
                count += rest.count;
            }
        }
        count
    }

    /// `2 tokens of people without access, 3 expired, 9 expire within 7 days`.
    pub fn summary_line(&self) -> String {
        let items = &self.items;
        let letter = self.letter;
        let others = letter.entries.len() - items.len();
        let revoked = self.count_in(Section::Revoked);
        let expired = self.count_in(Section::Expired);
        if revoked == self.count() && others == 0 {
            return self.revoked_summary();
        }
        let mut parts = Vec::new();
        if revoked > 0 {
            parts.push(format!(
                "{} of people without access",
                wording::quantity(revoked, "token")
            ));
        }
        // Only the first part has the noun.
        let tokens = |parts: &[String], count| match parts {
            [] => wording::quantity(count, "token"),
            _ => wording::thousands(count),
        };
        let ended = self.count_in(Section::Ended);
        if ended > 0 {
            parts.push(format!("{} revoked", tokens(&parts, ended)));
        }
        if expired > 0 {
            parts.push(format!("{} expired", tokens(&parts, expired)));
        }
        if let Some(last) = items.last()
            && last.section == Section::Expiring
        {
            let count = self.count_in(Section::Expiring);
            let verb = if count == 1 { "expires" } else { "expire" };
            let latest = letter.unlisted.iter().filter_map(|tokens| tokens.latest);
            let last = latest.chain([last.when]).max_by_key(|when| when.at);
            let left = wording::within(last.unwrap_or(letter.now.into()), letter.now);
            parts.push(format!("{} {verb} within {left}", tokens(&parts, count)));
        }
        let alerts = letter.alerts().count();
        if alerts > 0 {
            parts.push(wording::quantity(alerts, "alert"));
        }
        parts.extend(letter.summary().map(summary::total));
        parts.join(", ")
    }

    fn revoked_summary(&self) -> String {
        let tokens = wording::quantity(self.count(), "token");
        let mut issuers: Vec<_> = self.items.iter().map(|item| &item.token.issuer).collect();
        issuers.dedup();
        match (self.items.as_slice(), issuers.len()) {
            ([item], _) => {
                let owners = name_owners(item.token);
                format!("This token still works, but its {owners} lost access")
            }
            (_, 1) => format!("{tokens} still work, but their issuer lost access"),
            (_, issuers) => {
                let issuers = wording::quantity(issuers, "issuer");
                format!("{tokens} still work, but their {issuers} lost access")
            }
        }
    }

    /// The summary, with the first token if all are in one section.
    pub fn subject_line(&self, summary: &str) -> String {
        let items = self.items.as_slice();
        let letter = self.letter;
        let Some(first) = items.first() else {
            return summary.to_owned();
        };
        let mixed = items.len() < letter.entries.len()
            || items.iter().any(|item| item.section != first.section);
        let ends = items.iter().filter_map(Item::revocation).map(|(_, at)| at);
        let end = ends.min().map(|at| wording::time_left(at - letter.now));
        match (first.section, items, end) {
            _ if mixed => summary.to_owned(),
            (Section::Revoked, [item], Some(left)) => {
                let name = short_name(item.token);
                let owners = name_owners(item.token);
                format!("Token {name} will be revoked in {left}: its {owners} lost access")
            }
            (Section::Revoked, _, Some(left)) => {
                let tokens = wording::quantity(self.count(), "token");
                format!("{tokens} of people without access, the first will be revoked in {left}")
            }
            (Section::Revoked, [_], None) => {
                let name = short_name(first.token);
                let owners = name_owners(first.token);
                format!("Token {name} still works, but its {owners} lost access")
            }
            (Section::Revoked | Section::Ended, ..) => summary.to_owned(),
            (Section::Expired | Section::Expiring, ..) => {
                let name = text::one_line(&short_name(first.token), 30);
                let day = wording::day(first.when, letter.zone);
                format!("{summary}, first {name} on {day}")
            }
        }
    }

    /// `3 warnings could not be delivered in time; …`
    pub fn late_note(&self) -> Option<String> {
        let mut late = Vec::new();
        for item in &self.items {
            match item.entry {
                Entry::Expiry(entry) if entry.is_late(self.letter.now) => late.push(entry.due_at),
                _ => {}
            }
        }
        let first = late.iter().min()?;
        Some(format!(
            "{} could not be delivered in time; the first was due on {}.",
            wording::quantity(late.len(), "warning"),
            wording::date_time(*first, self.letter.zone)
        ))
    }

    /// `3 of these dates are set by our policy: …`
    pub fn policy_note(&self) -> Option<String> {
        let items = &self.items;
        let count = items.iter().filter(|item| item.is_by_policy()).count();
        let dates = match count {
            0 => return None,
            1 => "One of these dates is".to_owned(),
            count if count == items.len() => "These dates are".to_owned(),
            count => format!("{} of these dates are", wording::thousands(count)),
        };
        Some(format!(
            "{dates} set by our policy: such a token works after its date until it is deleted."
        ))
    }

    /// `3 of these dates are the last that lapsed could read: …`
    pub fn outdated_note(&self) -> Option<String> {
        let is_outdated = |item: &&Item<'_>| item.is_outdated();
        let count = self.items.iter().filter(is_outdated).count();
        Some(match count {
            0 => return None,
            1 => "One of these dates is the last one that lapsed could read: its source says another, which could \
                  not be read."
                .to_owned(),
            _ => format!(
                "{} of these dates are the last ones that lapsed could read: their sources say others, which could \
                 not be read.",
                wording::thousands(count)
            ),
        })
    }

    /// Why issuers do not get the mail: `40 tokens: the token has no issuer`.
    pub fn skipped_issuers(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for item in &self.items {
            if let Entry::Expiry(entry) = item.entry
                && let Some(reason) = &entry.instead_of_issuer
            {
                *counts.entry(reason).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| -count);
        let lines = counts.into_iter().take(5).map(|(reason, count)| {
            let tokens = wording::quantity(count, "token");
            format!("{tokens}: {}", text::one_line(reason, 120))
        });
        lines.collect()
    }
}

fn name_owners(token: &Token) -> &'static str {
    if token.co_owners.is_empty() {
        "issuer"
    } else {
        "owners"
    }
}
