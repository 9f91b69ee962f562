//! The tokens of a mail about several: their order, their counts, and the lines about all of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{Address, ExpiryOrigin, Token, Topic, When};
use crate::language::phrase;
use crate::notify::letter::{Entry, Letter, UnlistedTokens};
use crate::text;

use super::mail::Mail;
use super::parts::{LastUse, Situation, explain_gaps, short_name};
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
    pub fn new(entry: &'a Entry, mail: Mail<'a>) -> Option<Self> {
        let token = entry.token()?;
        let expires = token.expires();
        let (section, when) = match entry {
            Entry::Revoked(entry) => (Section::Revoked, expires.unwrap_or(entry.since.into())),
            Entry::Ended(entry) => (Section::Ended, entry.at.into()),
            Entry::Expiry(entry) => {
                let section = if entry.is_past(mail.now()) {
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
            source: mail.installation.source_title(&token.source),
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

    pub fn last_use(&self, mail: Mail<'_>) -> LastUse {
        let situation = match self.section {
            Section::Revoked => Situation::Revoked,
            _ if self.is_by_policy() => Situation::Overdue,
            Section::Ended | Section::Expired => Situation::Expired,
            Section::Expiring => Situation::Expiring,
        };
        let last_use = LastUse::new(self.token, situation, mail);
        match self.entry {
            Entry::Expiry(entry) if self.section == Section::Expired => match &entry.still_used {
                Some(callers) => last_use.with_callers(callers, mail.language),
                None => last_use,
            },
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
    pub mail: Mail<'a>,
    /// Sorted by section, the most urgent first.
    pub items: Vec<Item<'a>>,
}

impl<'a> Tokens<'a> {
    pub fn new(mail: Mail<'a>) -> Self {
        let mut items = Vec::new();
        for entry in &mail.letter.entries {
            items.extend(Item::new(entry, mail));
        }
        items.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
        Self { mail, items }
    }

    /// Includes those that the letter only counts.
    pub fn count(&self) -> usize {
        self.items.len() + self.mail.letter.count_unlisted()
    }

    pub fn count_in(&self, section: Section) -> usize {
        let listed = self.items.iter().filter(|item| item.section == section);
        let mut count = listed.count();
        for rest in &self.mail.letter.unlisted {
            if Section::from_unlisted(rest, self.mail.letter) == section {
                count += rest.count;
            }
        }
        count
    }

    /// `2 tokens of people without access, 3 expired, 9 expire within 7 days`.
    pub fn summary_line(&self) -> String {
        let Mail {
            letter, language, ..
        } = self.mail;
        let others = letter.entries.len() - self.items.len();
        let revoked = self.count_in(Section::Revoked);
        if revoked == self.count() && others == 0 {
            return self.revoked_summary();
        }
        let mut parts = Vec::new();
        if revoked > 0 {
            let tokens = phrase!(language, "tokens", count = revoked);
            parts.push(phrase!(language, "part-without-access", tokens = tokens));
        }
        // Only the first part has the noun.
        let tokens = |parts: &[String], count| match parts {
            [] => phrase!(language, "tokens", count = count),
            _ => language.number(count),
        };
        let ended = self.count_in(Section::Ended);
        if ended > 0 {
            let tokens = tokens(&parts, ended);
            parts.push(phrase!(language, "part-revoked", tokens = tokens));
        }
        let expired = self.count_in(Section::Expired);
        if expired > 0 {
            let tokens = tokens(&parts, expired);
            parts.push(phrase!(language, "part-expired", tokens = tokens));
        }
        let expiring = self.count_in(Section::Expiring);
        if let Some(within) = self.expire_within() {
            let tokens = tokens(&parts, expiring);
            parts.push(phrase!(
                language,
                "part-expiring",
                count = expiring,
                tokens = tokens,
                within = within,
            ));
        }
        let alerts = letter.alerts().count();
        if alerts > 0 {
            parts.push(phrase!(language, "alerts", count = alerts));
        }
        let findings = letter.summary();
        parts.extend(findings.map(|findings| summary::total(findings, language)));
        parts.join(", ")
    }

    /// `within 7 days`; `None` if no listed token will expire.
    fn expire_within(&self) -> Option<String> {
        let Mail {
            letter, language, ..
        } = self.mail;
        let last = self.items.last()?;
        if last.section != Section::Expiring {
            return None;
        }
        let latest = letter.unlisted.iter().filter_map(|tokens| tokens.latest);
        let last = latest.chain([last.when]).max_by_key(|when| when.at);
        Some(language.within(last.unwrap_or(letter.now.into()), letter.now))
    }

    fn revoked_summary(&self) -> String {
        let language = self.mail.language;
        let tokens = phrase!(language, "tokens", count = self.count());
        let mut issuers: Vec<_> = self.items.iter().map(|item| &item.token.issuer).collect();
        issuers.dedup();
        match (self.items.as_slice(), issuers.len()) {
            ([item], _) => phrase!(
                language,
                "one-lost-access",
                owners = count_owners(item.token)
            ),
            (_, 1) => phrase!(language, "issuer-of-several-lost-access", tokens = tokens),
            (_, issuers) => phrase!(
                language,
                "issuers-lost-access",
                count = issuers,
                tokens = tokens,
            ),
        }
    }

    /// The summary, with the first token if all are in one section.
    pub fn subject_line(&self, summary: &str) -> String {
        let items = self.items.as_slice();
        let Mail {
            letter, language, ..
        } = self.mail;
        let Some(first) = items.first() else {
            return summary.to_owned();
        };
        let mixed = items.len() < letter.entries.len()
            || items.iter().any(|item| item.section != first.section);
        let ends = items.iter().filter_map(Item::revocation).map(|(_, at)| at);
        let end = ends.min().map(|at| language.time_in(at - letter.now));
        match (first.section, items, end) {
            _ if mixed => summary.to_owned(),
            (Section::Revoked, [item], Some(when)) => phrase!(
                language,
                "subject-ending",
                owners = count_owners(item.token),
                name = short_name(item.token),
                when = when,
            ),
            (Section::Revoked, _, Some(when)) => phrase!(
                language,
                "subject-endings",
                tokens = phrase!(language, "tokens", count = self.count()),
                when = when,
            ),
            (Section::Revoked, [_], None) => phrase!(
                language,
                "subject-lost-access",
                owners = count_owners(first.token),
                name = short_name(first.token),
            ),
            (Section::Revoked | Section::Ended, ..) => summary.to_owned(),
            (Section::Expired | Section::Expiring, ..) => phrase!(
                language,
                "first-token",
                summary = summary,
                name = text::one_line(&short_name(first.token), 30),
                day = self.mail.day(first.when),
            ),
        }
    }

    /// `3 warnings could not be delivered in time; …`
    pub fn late_note(&self) -> Option<String> {
        let Mail {
            letter, language, ..
        } = self.mail;
        let mut late = Vec::new();
        for item in &self.items {
            match item.entry {
                Entry::Expiry(entry) if entry.is_late(letter.now) => late.push(entry.due_at),
                _ => {}
            }
        }
        let due = self.mail.date_time(*late.iter().min()?);
        Some(phrase!(
            language,
            "late-note",
            count = late.len(),
            due = due
        ))
    }

    /// `3 of these dates are set by our policy: …`
    pub fn policy_note(&self) -> Option<String> {
        let items = &self.items;
        let count = items.iter().filter(|item| item.is_by_policy()).count();
        let which = match count {
            0 => return None,
            1 => "one",
            count if count == items.len() => "all",
            _ => "some",
        };
        let language = self.mail.language;
        Some(phrase!(
            language,
            "policy-note",
            which = which,
            count = count
        ))
    }

    /// `3 of these dates are the last that lapsed could read: …`
    pub fn outdated_note(&self) -> Option<String> {
        let is_outdated = |item: &&Item<'_>| item.is_outdated();
        let count = self.items.iter().filter(is_outdated).count();
        let which = match count {
            0 => return None,
            1 => "one",
            _ => "some",
        };
        let language = self.mail.language;
        Some(phrase!(
            language,
            "outdated-note",
            which = which,
            count = count
        ))
    }

    /// Why issuers do not get the mail: `40 tokens: the token has no issuer`.
    pub fn skipped_issuers(&self) -> Vec<String> {
        let language = self.mail.language;
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for item in &self.items {
            if let Entry::Expiry(entry) = item.entry
                && let Some(reason) = explain_gaps(entry, language)
            {
                *counts.entry(reason).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| -count);
        let lines = counts.into_iter().take(5).map(|(reason, count)| {
            let tokens = phrase!(language, "tokens", count = count);
            let reason = text::one_line(&reason, 120);
            phrase!(language, "titled", title = tokens, count = reason)
        });
        lines.collect()
    }
}

/// Whether a token has an issuer alone or several owners, for phrases.
fn count_owners(token: &Token) -> &'static str {
    if token.co_owners.is_empty() {
        "one"
    } else {
        "several"
    }
}
