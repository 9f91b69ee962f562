//! Many things in one mail: sections, groups and rows, the most urgent first, the rest counted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    domain::{Expiry, Ground, Token},
    notify::{
        letter::{Entry, ExpiryEntry, Letter, RevokedEntry},
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
    /// The subject: what it is about, how many and when.
    headline: String,
    /// `12 tokens`.
    tokens: String,
    /// The most urgent one, where any expires.
    first: Option<First>,
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
struct First {
    name: String,
    expires_at: String,
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
        let rich = items.len() <= RICH;
        let (shown, rest) = items.split_at(listed);
        Self {
            headline: headline(&items, letter),
            tokens: wording::counted(items.len(), "token"),
            first: items
                .iter()
                .find(|item| item.section == Section::Expiring)
                .map(|item| First {
                    name: plain::label(&item.token.name, &item.token.external_id, plain::NAME),
                    expires_at: wording::exact(item.at(), letter.zone),
                }),
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
            (Subject::Revoked(entry), _) => (entry.use_told, Situation::Revoked),
            (Subject::Expiry(entry), Section::Expired) => (entry.use_told, Situation::Expired),
            (Subject::Expiry(entry), _) => (entry.use_told, Situation::Expiring),
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

/// `2 tokens of people without access, 3 expired, 9 expire in the next 7 days`.
fn headline(items: &[Item<'_>], letter: &Letter) -> String {
    let of = |section| items.iter().filter(move |item| item.section == section);
    let count = |section| of(section).count();
    let (revoked, expired, expiring) = (
        count(Section::Revoked),
        count(Section::Expired),
        count(Section::Expiring),
    );
    let alerts = letter.entries.len() - items.len();
    let only = [revoked, expired, expiring, alerts]
        .iter()
        .filter(|n| **n > 0)
        .count()
        == 1;
    let verb = |count, one, many| if count == 1 { one } else { many };
    if only && revoked > 0 {
        return revoked_headline(items);
    }
    let mut parts = Vec::new();
    if revoked > 0 {
        parts.push(format!(
            "{} of people without access",
            wording::counted(revoked, "token")
        ));
    }
    let tokens = |parts: &[String], count: usize| match parts {
        [] => wording::counted(count, "token"),
        _ => wording::thousands(i64::try_from(count).unwrap_or(i64::MAX)),
    };
    if expired > 0 {
        parts.push(format!(
            "{} {}",
            tokens(&parts, expired),
            verb(expired, "has expired", "have expired")
        ));
    }
    if let Some(last) = of(Section::Expiring).last() {
        let left = wording::left(last.at() - letter.now);
        let verb = verb(expiring, "expires", "expire");
        parts.push(format!(
            "{} {verb} in the next {left}",
            tokens(&parts, expiring)
        ));
    }
    if alerts > 0 {
        parts.push(wording::counted(alerts, "alert"));
    }
    if only && let Some(first) = items.first() {
        let name = plain::line(&short_name(first.token), 30);
        parts.push(format!(
            "first {name} on {}",
            wording::day(first.at(), letter.zone)
        ));
    }
    parts.join(", ")
}

fn revoked_headline(items: &[Item<'_>]) -> String {
    match items {
        [item] => {
            let name = plain::label(
                &item.token.name,
                &item.token.external_id,
                plain::NAME_IN_SUBJECT,
            );
            format!("Token {name} still works, but its issuer lost access")
        }
        _ => {
            let tokens = wording::counted(items.len(), "token");
            let mut issuers: Vec<_> = items.iter().map(|item| &item.token.issuer).collect();
            issuers.dedup();
            match issuers.as_slice() {
                [_] => format!("{tokens} still work, but their issuer lost access"),
                more => format!(
                    "{tokens} still work, but their {} issuers lost access",
                    wording::thousands(i64::try_from(more.len()).unwrap_or(i64::MAX))
                ),
            }
        }
    }
}

fn sections(shown: &[Item<'_>], all: &[Item<'_>], letter: &Letter, rich: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for chunk in shown.chunk_by(|a, b| a.section == b.section) {
        let section = chunk[0].section;
        let count = all.iter().filter(|item| item.section == section).count();
        let title = match section {
            Section::Revoked => "Issuer lost access",
            Section::Expired => "Expired",
            Section::Expiring => "Expiring",
        };
        let mut groups: Vec<Group> = Vec::new();
        for item in chunk {
            let (title, note) = group(item, letter, rich);
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

fn group(item: &Item<'_>, letter: &Letter, rich: bool) -> (String, Option<String>) {
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
            let source = if rich {
                String::new()
            } else {
                format!(", {}", plain::line(&item.token.source, 40))
            };
            (format!("{day} ({offset}){source}"), None)
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
        let tail = format!("{id} {}", last_use.short).trim_end().to_owned();
        return Row {
            clock,
            name,
            tail,
            lines: Vec::new(),
        };
    }
    let mut lines = vec![facts(item, &id, letter)];
    if last_use.known {
        lines.push(last_use.phrase);
    }
    if let Subject::Expiry(entry) = item.entry {
        lines.extend(notes(entry, letter));
    }
    let tail = match item.section {
        Section::Expiring => format!("in {}", wording::left(item.at() - letter.now)),
        Section::Expired => wording::ago(letter.now - item.at()),
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

fn facts(item: &Item<'_>, id: &str, letter: &Letter) -> String {
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
    if let Subject::Expiry(_) = item.entry {
        let in_utc = wording::exact(item.at(), chrono_tz::Tz::UTC);
        if wording::offset(item.at(), letter.zone) != "UTC" {
            parts.push(in_utc);
        }
    }
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
