//! Many things in one mail: sections, groups and rows, the most urgent first, the rest counted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    domain::{Expiry, Ground, Token},
    notify::{
        letter::{Entry, ExpiryEntry, Letter, Rest, RevokedEntry},
        plain, wording,
    },
};

use super::{
    Alert,
    facts::{Situation, Use, short_name},
    more::More,
};

/// Up to so many tokens are listed with all that is known of them; longer lists have a line each.
const RICH: usize = 25;

/// The parts of a list, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Revoked,
    Expired,
    Expiring,
}

impl Section {
    /// Where tokens that are only counted belong.
    pub fn of(rest: &Rest, letter: &Letter) -> Self {
        match rest.at() {
            _ if rest.is_revoked => Self::Revoked,
            Some(at) if at <= letter.now => Self::Expired,
            Some(_) | None => Self::Expiring,
        }
    }
}

/// One token of a list.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub section: Section,
    pub token: &'a Token,
    entry: Subject<'a>,
}

#[derive(Clone, Copy)]
enum Subject<'a> {
    Expiry(&'a ExpiryEntry),
    Revoked(&'a RevokedEntry),
}

/// What the templates `digest` and `revoked_access` see.
#[derive(Serialize)]
pub(super) struct List {
    /// What it is about: `12 tokens expire in the next 7 days`.
    summary: String,
    /// The same for a subject, with the first token and its day where that helps.
    headline: String,
    /// `12 tokens`.
    tokens: String,
    /// When the next one expires, where any does.
    next: Option<String>,
    sections: Vec<Part>,
    alerts: Vec<Alert>,
    more: Option<More>,
    /// `3 warnings were due before …`, where any is late.
    late: Option<String>,
    /// Why issuers are not told, where the rows have no room for it: `40: the token has no issuer`.
    instead_of_issuer: Vec<String>,
    #[serde(skip)]
    pub listed: usize,
}

#[derive(Serialize)]
struct Part {
    title: String,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    title: String,
    note: Option<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// `10:00`.
    clock: Option<String>,
    name: String,
    /// What follows the name on its line.
    tail: String,
    /// What stands under it.
    lines: Vec<String>,
}

impl List {
    pub fn of(letter: &Letter, limit: usize) -> Self {
        let items = items(letter);
        let listed = items.len().min(limit);
        let rich = items.len() + uncounted(letter) <= RICH;
        let summary = summary(&items, letter);
        let (shown, rest) = items.split_at(listed);
        Self {
            headline: headline(&summary, &items, letter),
            summary,
            tokens: wording::counted(items.len() + uncounted(letter), "token"),
            next: items
                .iter()
                .find(|item| item.section == Section::Expiring)
                .map(|item| wording::exact(item.at(), letter.zone)),
            sections: sections(shown, &items, letter, rich),
            alerts: letter
                .entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Alert(alert) => Some(Alert::of(alert)),
                    Entry::Expiry(_) | Entry::Revoked(_) => None,
                })
                .take(10)
                .collect(),
            more: More::of(rest, letter),
            late: late(&items, letter),
            instead_of_issuer: if rich { Vec::new() } else { reasons(&items) },
            listed,
        }
    }
}

/// The tokens, the most urgent first: who lost access, what has expired, what expires next.
fn items(letter: &Letter) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = letter
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Revoked(entry) => Some(Item {
                section: Section::Revoked,
                token: &entry.token,
                entry: Subject::Revoked(entry),
            }),
            Entry::Expiry(entry) => Some(Item {
                section: if entry.is_past(letter.now) {
                    Section::Expired
                } else {
                    Section::Expiring
                },
                token: &entry.token,
                entry: Subject::Expiry(entry),
            }),
            Entry::Alert(_) => None,
        })
        .collect();
    items.sort_by(|a, b| a.order().cmp(&b.order()));
    items
}

impl<'a> Item<'a> {
    /// Groups stay together: by issuer and evidence, or by the day and the source.
    fn order(
        &self,
    ) -> (
        Section,
        &'a str,
        &'a str,
        Option<DateTime<Utc>>,
        &'a str,
        &'a str,
    ) {
        let (issuer, evidence) = match self.entry {
            Subject::Revoked(entry) => (
                self.token.issuer.as_ref().map_or("", |issuer| issuer.key()),
                entry.evidence.as_str(),
            ),
            Subject::Expiry(_) => ("", ""),
        };
        let at = self.token.expiry.at();
        (
            self.section,
            issuer,
            evidence,
            at,
            &self.token.source,
            &self.token.name,
        )
    }

    fn at(&self) -> DateTime<Utc> {
        let due = match self.entry {
            Subject::Expiry(entry) => entry.due_at,
            Subject::Revoked(entry) => entry.since,
        };
        self.token.expiry.at().unwrap_or(due)
    }

    fn last_use(&self, letter: &Letter) -> Use {
        let (told, situation) = match (self.entry, self.section) {
            (Subject::Revoked(entry), _) => (entry.token.use_told, Situation::Revoked),
            (Subject::Expiry(entry), Section::Expired) => {
                (entry.token.use_told, Situation::Expired)
            }
            (Subject::Expiry(entry), _) => (entry.token.use_told, Situation::Expiring),
        };
        Use::of(self.token, told, letter.now, situation)
    }

    fn ground(&self) -> Ground {
        match self.entry {
            Subject::Expiry(entry) => entry.ground,
            Subject::Revoked(entry) => entry.ground,
        }
    }
}

/// How many tokens of a section there are, with those that the letter only counts.
fn count(items: &[Item<'_>], letter: &Letter, section: Section) -> usize {
    let listed = items.iter().filter(|item| item.section == section).count();
    let rest = letter
        .rest
        .iter()
        .filter(|rest| Section::of(rest, letter) == section);
    listed + rest.map(|rest| rest.count).sum::<usize>()
}

/// How many tokens the letter only counts.
fn uncounted(letter: &Letter) -> usize {
    letter.rest.iter().map(|rest| rest.count).sum()
}

/// `2 tokens of people without access, 3 expired, 9 expire within 7 days`.
fn summary(items: &[Item<'_>], letter: &Letter) -> String {
    let alerts = letter.entries.len() - items.len();
    let all = items.len() + uncounted(letter);
    let revoked = count(items, letter, Section::Revoked);
    let expired = count(items, letter, Section::Expired);
    if revoked == all && alerts == 0 {
        return revoked_summary(items, all);
    }
    let mut parts = Vec::new();
    if revoked > 0 {
        parts.push(format!(
            "{} of people without access",
            wording::counted(revoked, "token")
        ));
    }
    // The noun once is enough.
    let tokens = |parts: &[String], count| match parts {
        [] => wording::counted(count, "token"),
        _ => wording::thousands(i64::try_from(count).unwrap_or(i64::MAX)),
    };
    if expired > 0 {
        parts.push(format!("{} expired", tokens(&parts, expired)));
    }
    if let Some(last) = items
        .last()
        .filter(|item| item.section == Section::Expiring)
    {
        let count = count(items, letter, Section::Expiring);
        let verb = if count == 1 { "expires" } else { "expire" };
        let last = letter
            .rest
            .iter()
            .filter_map(Rest::at)
            .fold(last.at(), DateTime::max);
        let left = wording::left(last - letter.now);
        parts.push(format!("{} {verb} within {left}", tokens(&parts, count)));
    }
    if alerts > 0 {
        parts.push(wording::counted(alerts, "alert"));
    }
    parts.join(", ")
}

fn revoked_summary(items: &[Item<'_>], all: usize) -> String {
    let tokens = wording::counted(all, "token");
    let mut issuers: Vec<_> = items.iter().map(|item| &item.token.issuer).collect();
    issuers.dedup();
    match (items, issuers.len()) {
        ([_], _) => "This token still works, but its issuer lost access".to_owned(),
        (_, 1) => format!("{tokens} still work, but their issuer lost access"),
        (_, issuers) => {
            let issuers = wording::counted(issuers, "issuer");
            format!("{tokens} still work, but their {issuers} lost access")
        }
    }
}

/// The summary for a subject: with the first token, where all are of one sort.
fn headline(summary: &str, items: &[Item<'_>], letter: &Letter) -> String {
    let Some(first) = items.first() else {
        return summary.to_owned();
    };
    let mixed = items.len() < letter.entries.len()
        || items.iter().any(|item| item.section != first.section);
    match (first.section, items) {
        _ if mixed => summary.to_owned(),
        (Section::Revoked, [_]) => {
            let name = short_name(first.token);
            format!("Token {name} still works, but its issuer lost access")
        }
        (Section::Revoked, _) => summary.to_owned(),
        (Section::Expired | Section::Expiring, _) => {
            let name = plain::line(&short_name(first.token), 30);
            let day = wording::day(first.at(), letter.zone);
            format!("{summary}, first {name} on {day}")
        }
    }
}

fn sections(shown: &[Item<'_>], all: &[Item<'_>], letter: &Letter, rich: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for chunk in shown.chunk_by(|a, b| a.section == b.section) {
        let section = chunk[0].section;
        let count = count(all, letter, section);
        let title = match section {
            Section::Revoked => "Issuer lost access",
            Section::Expired => "Expired",
            Section::Expiring => "Expiring",
        };
        let mut groups: Vec<Group> = Vec::new();
        for item in chunk {
            let (title, note) = group(item, letter);
            let row = row(item, letter, rich);
            match groups.last_mut() {
                Some(last) if last.title == title && last.note == note => last.rows.push(row),
                _ => groups.push(Group {
                    title,
                    note,
                    rows: vec![row],
                }),
            }
        }
        parts.push(Part {
            title: format!("{title}: {}", wording::counted(count, "token")),
            groups,
        });
    }
    parts
}

fn group(item: &Item<'_>, letter: &Letter) -> (String, Option<String>) {
    match item.entry {
        Subject::Revoked(entry) => {
            let issuer = item
                .token
                .issuer
                .as_ref()
                .map_or("no issuer", |issuer| issuer.as_str());
            let evidence = plain::line(&entry.evidence, plain::TEXT);
            let since = wording::day(entry.since, letter.zone);
            (
                plain::line(issuer, 254),
                Some(format!("No access since {since}: {evidence}")),
            )
        }
        Subject::Expiry(_) => {
            let day = wording::day(item.at(), letter.zone);
            let offset = wording::offset(item.at(), letter.zone);
            (format!("{day} ({offset})"), None)
        }
    }
}

fn row(item: &Item<'_>, letter: &Letter, rich: bool) -> Row {
    let token = item.token;
    let id: String = token.id.to_string().chars().take(8).collect();
    let last_use = item.last_use(letter);
    let clock = match item.entry {
        Subject::Expiry(_) => Some(wording::clock(item.at(), letter.zone)),
        Subject::Revoked(_) => None,
    };
    let name = plain::label(&token.name, &token.external_id, plain::NAME);
    if !rich {
        let source = plain::line(&token.source, plain::NAME_IN_SUBJECT);
        let tail = format!("{source} {id} {}", last_use.short);
        let tail = tail.trim_end().to_owned();
        return Row {
            clock,
            name,
            tail,
            lines: Vec::new(),
        };
    }
    let mut lines = vec![facts(item, &id)];
    if last_use.known {
        lines.push(last_use.phrase);
    }
    if let Subject::Expiry(entry) = item.entry {
        lines.extend(notes(entry, letter));
    }
    let tail = match item.section {
        Section::Expiring => {
            let left = wording::left(item.at() - letter.now);
            format!("in {left}{}", wording::also_in_utc(item.at(), letter.zone))
        }
        Section::Expired => {
            let ago = wording::ago(letter.now - item.at());
            format!("{ago}{}", wording::also_in_utc(item.at(), letter.zone))
        }
        Section::Revoked => match token.expiry {
            Expiry::Never => "never expires".to_owned(),
            Expiry::Unknown => "expiry unknown".to_owned(),
            Expiry::At(at) => format!("expires on {}", wording::day(at, letter.zone)),
        },
    };
    Row {
        clock,
        name,
        tail,
        lines,
    }
}

fn facts(item: &Item<'_>, id: &str) -> String {
    let token = item.token;
    let part = |label: &str, text: &Option<String>| {
        let shown = plain::isolated(plain::line(text.as_deref()?, 60));
        (!shown.is_empty()).then(|| format!("{label} {shown}"))
    };
    let mut parts = vec![plain::line(&token.source, plain::NAME)];
    parts.extend(part("account", &token.account));
    parts.extend(part("role", &token.role));
    parts.extend(part("scope", &token.scope));
    let told_himself = item.ground() == Ground::Issuer || item.section == Section::Revoked;
    if let Some(issuer) = token.issuer.as_ref().filter(|_| !told_himself) {
        parts.push(format!("issued by {issuer}"));
    }
    parts.push(format!("id {id}"));
    parts.join(", ")
}

fn notes(entry: &ExpiryEntry, letter: &Letter) -> Vec<String> {
    let mut notes = Vec::new();
    if entry.is_late(letter.now) {
        let due = wording::exact(entry.due_at, letter.zone);
        notes.push(format!(
            "the warning was due on {due} and could not be delivered before"
        ));
    }
    if let Some(reason) = &entry.instead_of_issuer {
        notes.push(format!(
            "the issuer is not told: {}",
            plain::line(reason, plain::TEXT)
        ));
    }
    notes
}

fn late(items: &[Item<'_>], letter: &Letter) -> Option<String> {
    let late: Vec<DateTime<Utc>> = items
        .iter()
        .filter_map(|item| match item.entry {
            Subject::Expiry(entry) if entry.is_late(letter.now) => Some(entry.due_at),
            Subject::Expiry(_) | Subject::Revoked(_) => None,
        })
        .collect();
    let first = late.iter().min()?;
    Some(format!(
        "{} could not be delivered in time; the first was due on {}.",
        wording::counted(late.len(), "warning"),
        wording::exact(*first, letter.zone)
    ))
}

fn reasons(items: &[Item<'_>]) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for item in items {
        if let Subject::Expiry(ExpiryEntry {
            instead_of_issuer: Some(reason),
            ..
        }) = item.entry
        {
            *counts.entry(reason).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| -count);
    counts
        .into_iter()
        .take(5)
        .map(|(reason, count)| {
            format!(
                "{}: {}",
                wording::number(count, "token"),
                plain::line(reason, 120)
            )
        })
        .collect()
}
