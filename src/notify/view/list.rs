//! Many things in one mail: sections, groups and rows, the most urgent first, the rest counted.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{Expiry, ExpiryOrigin, Ground, Token, Topic},
    notify::{
        letter::{EndedEntry, Entry, ExpiryEntry, Letter, Rest, RevokedEntry},
        plain, wording,
    },
};

use super::{
    Alert, Link,
    ending::Ending,
    facts::{Situation, Use},
    more::More,
    summary::Summary,
    tally::{by_policy, count, headline, late, reasons, summary, uncounted},
};

/// Up to so many tokens are listed with all that is known of them; longer lists have a line each.
const RICH: usize = 25;

/// The parts of a list, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Revoked,
    Ended,
    Expired,
    Expiring,
}

impl Section {
    /// Where tokens that are only counted belong.
    pub fn of(rest: &Rest, letter: &Letter) -> Self {
        match (rest.topic, rest.at()) {
            (Topic::SsoRevoked, _) => Self::Revoked,
            (Topic::Revoked, _) => Self::Ended,
            (_, Some(at)) if at <= letter.now => Self::Expired,
            (_, Some(_) | None) => Self::Expiring,
        }
    }

    /// Whether its tokens are counted by the day of their expiry.
    pub fn is_dated(self) -> bool {
        match self {
            Self::Revoked | Self::Ended => false,
            Self::Expired | Self::Expiring => true,
        }
    }
}

/// One token of a list.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub section: Section,
    pub token: &'a Token,
    pub(super) entry: Subject<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Expiry(&'a ExpiryEntry),
    Revoked(&'a RevokedEntry),
    Ended(&'a EndedEntry),
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
    /// All that is open, counted.
    findings: Option<Summary>,
    more: Option<More>,
    /// `3 warnings were due before …`, where any is late.
    late: Option<String>,
    /// `3 of these dates are of our policy …`, where any is.
    by_policy: Option<String>,
    /// What lapsed ends by itself and how to stop it, where it does.
    ending: Option<Ending>,
    /// Whether all of them are revoked, so that there is nothing to delete or to let lapse.
    all_revoked: bool,
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
    /// Its page at its source, where there is room for it.
    page: Option<Link>,
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
                    Entry::Expiry(_) | Entry::Revoked(_) | Entry::Ended(_) | Entry::Summary(_) => {
                        None
                    }
                })
                .take(10)
                .collect(),
            findings: letter.summary().map(|all| Summary::of(all, letter, 0)),
            more: More::of(rest, letter),
            late: late(&items, letter),
            by_policy: by_policy(&items),
            ending: Ending::of(&items, letter, rich),
            all_revoked: count(&items, letter, Section::Ended) == items.len() + uncounted(letter),
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
            Entry::Ended(entry) => Some(Item {
                section: Section::Ended,
                token: &entry.token,
                entry: Subject::Ended(entry),
            }),
            Entry::Alert(_) | Entry::Summary(_) => None,
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
            Subject::Expiry(_) | Subject::Ended(_) => ("", ""),
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

    pub fn at(&self) -> DateTime<Utc> {
        let due = match self.entry {
            Subject::Expiry(entry) => entry.due_at,
            Subject::Revoked(entry) => entry.since,
            Subject::Ended(entry) => return entry.at,
        };
        self.token.expiry.at().unwrap_or(due)
    }

    /// The finding for which lapsed ends the token, and when, where it does.
    pub fn end(&self) -> Option<(Uuid, DateTime<Utc>)> {
        match self.entry {
            Subject::Revoked(entry) => entry.end,
            Subject::Expiry(_) | Subject::Ended(_) => None,
        }
    }

    fn last_use(&self, letter: &Letter) -> Use {
        let situation = match (self.entry, self.section) {
            (Subject::Revoked(_), _) => Situation::Revoked,
            (Subject::Expiry(_), _) if self.is_by_policy() => Situation::Overdue,
            (Subject::Ended(_), _) | (Subject::Expiry(_), Section::Expired) => Situation::Expired,
            (Subject::Expiry(_), _) => Situation::Expiring,
        };
        Use::of(self.token, self.token.use_told, letter.now, situation)
    }

    /// Whether its date is one of our policy.
    pub fn is_by_policy(&self) -> bool {
        let by_policy = self.token.expiry_origin == Some(ExpiryOrigin::Policy);
        by_policy && matches!(self.entry, Subject::Expiry(_))
    }

    fn page(&self) -> Option<Link> {
        Link::to_page(match self.entry {
            Subject::Expiry(entry) => entry.page.as_deref(),
            Subject::Revoked(entry) => entry.page.as_deref(),
            Subject::Ended(entry) => entry.page.as_deref(),
        })
    }

    fn ground(&self) -> Ground {
        match self.entry {
            Subject::Expiry(entry) => entry.ground,
            Subject::Revoked(entry) => entry.ground,
            Subject::Ended(entry) => entry.ground,
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
            Section::Ended => "Revoked",
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
        Subject::Expiry(_) | Subject::Ended(_) => {
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
        Subject::Expiry(_) | Subject::Ended(_) => Some(wording::clock(item.at(), letter.zone)),
        Subject::Revoked(_) => None,
    };
    let name = plain::label(&token.name, &token.external_id, plain::NAME);
    if !rich {
        let source = plain::line(&token.source, plain::NAME_IN_SUBJECT);
        let tail = format!("{source} {id} {}", last_use.short);
        let mut tail = tail.trim_end().to_owned();
        if let Some((_, at)) = item.end() {
            let day = wording::short_day(at, letter.now, letter.zone);
            tail = format!("{tail}, ends on {day}");
        }
        return Row {
            clock,
            name,
            tail,
            lines: Vec::new(),
            page: None,
        };
    }
    let mut lines = vec![facts(item, &id)];
    if last_use.known {
        lines.push(last_use.phrase);
    }
    if let Subject::Expiry(entry) = item.entry {
        lines.extend(notes(entry, letter));
    }
    if let Subject::Ended(entry) = item.entry {
        lines.push(ending(entry));
    }
    if let Some((finding, at)) = item.end() {
        let at = wording::exact(at, letter.zone);
        lines.push(format!("lapsed ends it on {at}"));
        lines.push(format!("finding {finding}"));
    }
    let tail = match item.section {
        Section::Expiring => {
            let left = wording::left(item.at() - letter.now);
            format!("in {left}{}", wording::also_in_utc(item.at(), letter.zone))
        }
        Section::Expired | Section::Ended => {
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
        page: item.page(),
    }
}

/// Who ended a token, and why.
fn ending(entry: &EndedEntry) -> String {
    let by = plain::line(&entry.by, plain::NAME);
    let reason = entry.reason.as_deref().unwrap_or_default();
    match plain::isolated(plain::line(reason, plain::TEXT)) {
        reason if reason.is_empty() => format!("revoked by {by}"),
        reason => format!("revoked by {by}: {reason}"),
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
    if entry.token.expiry_origin == Some(ExpiryOrigin::Policy) {
        notes.push("a date of our policy: the token itself works on after it".to_owned());
    }
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
