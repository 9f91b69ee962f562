//! Several entries in one mail: sections, groups and rows, the most urgent first, the others counted.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::domain::{Basis, Expiry, ExpiryOrigin, Token, Topic};
use crate::notify::letter::{EndedEntry, Entry, ExpiryEntry, Letter, RevokedEntry, UnlistedTokens};
use crate::notify::wording;
use crate::text;

use super::ending::Ending;
use super::facts::{LastUse, Situation};
use super::more::More;
use super::summary::Summary;
use super::tally::{
    count_in_section, count_unlisted, late_note, policy_note, skipped_issuers, subject_line,
    summary_line,
};
use super::{Alert, Link};

/// Longer lists show one line for each token.
const MAX_DETAILED: usize = 25;

/// In the order of the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Revoked,
    Ended,
    Expired,
    Expiring,
}

impl Section {
    pub fn from_unlisted(rest: &UnlistedTokens, letter: &Letter) -> Self {
        match (rest.topic, rest.at()) {
            (Topic::SsoRevoked, _) => Self::Revoked,
            (Topic::Revoked, _) => Self::Ended,
            (_, Some(at)) if at <= letter.now => Self::Expired,
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
    pub(super) entry: TokenEntry<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum TokenEntry<'a> {
    Expiry(&'a ExpiryEntry),
    Revoked(&'a RevokedEntry),
    Ended(&'a EndedEntry),
}

/// The variables of the templates `digest` and `revoked_access`.
#[derive(Serialize)]
pub(super) struct List {
    /// `12 tokens expire within 7 days`
    summary: String,
    /// The summary for the subject, with the first token if useful.
    headline: String,
    /// `12 tokens`
    tokens: String,
    /// When the next token expires.
    next: Option<String>,
    sections: Vec<Part>,
    alerts: Vec<Alert>,
    findings: Option<Summary>,
    more: Option<More>,
    /// `3 warnings could not be delivered in time; …`
    late: Option<String>,
    /// `3 of these dates are set by our policy: …`
    by_policy: Option<String>,
    /// Announced revocations and how to stop them.
    ending: Option<Ending>,
    /// Whether all tokens are revoked, so that there is nothing to delete.
    all_revoked: bool,
    /// Why issuers do not get the mail, if the rows have no room for it: `40 tokens: the token has no issuer`.
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
    /// `10:00`
    clock: Option<String>,
    name: String,
    tail: String,
    lines: Vec<String>,
    /// At the source; only in detailed lists.
    page: Option<Link>,
}

impl List {
    pub fn new(letter: &Letter, limit: usize) -> Self {
        let items = items(letter);
        let listed = items.len().min(limit);
        let is_detailed = items.len() + count_unlisted(letter) <= MAX_DETAILED;
        let summary = summary_line(&items, letter);
        let (shown, rest) = items.split_at(listed);
        Self {
            headline: subject_line(&summary, &items, letter),
            summary,
            tokens: wording::quantity(items.len() + count_unlisted(letter), "token"),
            next: items
                .iter()
                .find(|item| item.section == Section::Expiring)
                .map(|item| wording::date_time(item.at(), letter.zone)),
            sections: sections(shown, &items, letter, is_detailed),
            alerts: letter
                .entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Alert(alert) => Some(Alert::new(alert)),
                    Entry::Expiry(_) | Entry::Revoked(_) | Entry::Ended(_) | Entry::Summary(_) => {
                        None
                    }
                })
                .take(10)
                .collect(),
            findings: letter.summary().map(|all| Summary::new(all, letter, 0)),
            more: More::new(rest, letter),
            late: late_note(&items, letter),
            by_policy: policy_note(&items),
            ending: Ending::new(&items, letter, is_detailed),
            all_revoked: count_in_section(&items, letter, Section::Ended)
                == items.len() + count_unlisted(letter),
            instead_of_issuer: if is_detailed {
                Vec::new()
            } else {
                skipped_issuers(&items)
            },
            listed,
        }
    }
}

/// The most urgent first.
fn items(letter: &Letter) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = letter
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Revoked(entry) => Some(Item {
                section: Section::Revoked,
                token: &entry.token,
                entry: TokenEntry::Revoked(entry),
            }),
            Entry::Expiry(entry) => Some(Item {
                section: if entry.is_past(letter.now) {
                    Section::Expired
                } else {
                    Section::Expiring
                },
                token: &entry.token,
                entry: TokenEntry::Expiry(entry),
            }),
            Entry::Ended(entry) => Some(Item {
                section: Section::Ended,
                token: &entry.token,
                entry: TokenEntry::Ended(entry),
            }),
            Entry::Alert(_) | Entry::Summary(_) => None,
        })
        .collect();
    items.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    items
}

impl<'a> Item<'a> {
    /// Keeps groups together: by issuer and evidence, or by day and source.
    fn sort_key(
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
            TokenEntry::Revoked(entry) => (
                self.token.issuer.as_ref().map_or("", |issuer| issuer.key()),
                entry.evidence.as_str(),
            ),
            TokenEntry::Expiry(_) | TokenEntry::Ended(_) => ("", ""),
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
            TokenEntry::Expiry(entry) => entry.due_at,
            TokenEntry::Revoked(entry) => entry.since,
            TokenEntry::Ended(entry) => return entry.at,
        };
        self.token.expiry.at().unwrap_or(due)
    }

    /// The finding for which lapsed revokes the token, and when.
    pub fn revocation(&self) -> Option<(Uuid, DateTime<Utc>)> {
        match self.entry {
            TokenEntry::Revoked(entry) => entry.end,
            TokenEntry::Expiry(_) | TokenEntry::Ended(_) => None,
        }
    }

    fn last_use(&self, letter: &Letter) -> LastUse {
        let situation = match (self.entry, self.section) {
            (TokenEntry::Revoked(_), _) => Situation::Revoked,
            (TokenEntry::Expiry(_), _) if self.is_by_policy() => Situation::Overdue,
            (TokenEntry::Ended(_), _) | (TokenEntry::Expiry(_), Section::Expired) => {
                Situation::Expired
            }
            (TokenEntry::Expiry(_), _) => Situation::Expiring,
        };
        LastUse::new(self.token, letter.now, situation)
    }

    pub fn is_by_policy(&self) -> bool {
        let by_policy = self.token.expiry_origin == Some(ExpiryOrigin::Policy);
        by_policy && matches!(self.entry, TokenEntry::Expiry(_))
    }

    fn page(&self) -> Option<Link> {
        Link::to_page(match self.entry {
            TokenEntry::Expiry(entry) => entry.page.as_deref(),
            TokenEntry::Revoked(entry) => entry.page.as_deref(),
            TokenEntry::Ended(entry) => entry.page.as_deref(),
        })
    }

    fn basis(&self) -> Basis {
        match self.entry {
            TokenEntry::Expiry(entry) => entry.basis,
            TokenEntry::Revoked(entry) => entry.basis,
            TokenEntry::Ended(entry) => entry.basis,
        }
    }
}

fn sections(shown: &[Item<'_>], all: &[Item<'_>], letter: &Letter, is_detailed: bool) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for chunk in shown.chunk_by(|a, b| a.section == b.section) {
        let section = chunk[0].section;
        let count = count_in_section(all, letter, section);
        let title = match section {
            Section::Revoked => "Issuer lost access",
            Section::Ended => "Revoked",
            Section::Expired => "Expired",
            Section::Expiring => "Expiring",
        };
        let mut groups: Vec<Group> = Vec::new();
        for item in chunk {
            let (title, note) = group_title(item, letter);
            let row = row(item, letter, is_detailed);
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
            title: format!("{title}: {}", wording::quantity(count, "token")),
            groups,
        });
    }
    parts
}

fn group_title(item: &Item<'_>, letter: &Letter) -> (String, Option<String>) {
    match item.entry {
        TokenEntry::Revoked(entry) => {
            let issuer = item
                .token
                .issuer
                .as_ref()
                .map_or("no issuer", |issuer| issuer.as_str());
            let evidence = text::one_line(&entry.evidence, text::MAX_TEXT);
            let since = wording::day(entry.since, letter.zone);
            (
                text::one_line(issuer, 254),
                Some(format!("No access since {since}: {evidence}")),
            )
        }
        TokenEntry::Expiry(_) | TokenEntry::Ended(_) => {
            let day = wording::day(item.at(), letter.zone);
            let offset = wording::utc_offset(item.at(), letter.zone);
            (format!("{day} ({offset})"), None)
        }
    }
}

#[expect(clippy::too_many_lines, reason = "a row field by field")]
fn row(item: &Item<'_>, letter: &Letter, is_detailed: bool) -> Row {
    let token = item.token;
    let id: String = token.id.to_string().chars().take(8).collect();
    let last_use = item.last_use(letter);
    let clock = match item.entry {
        TokenEntry::Expiry(_) | TokenEntry::Ended(_) => {
            Some(wording::clock(item.at(), letter.zone))
        }
        TokenEntry::Revoked(_) => None,
    };
    let name = text::display_name(&token.name, &token.external_id, text::MAX_NAME);
    if !is_detailed {
        let source = text::one_line(&token.source, text::MAX_SUBJECT_NAME);
        let tail = format!("{source} {id} {}", last_use.short);
        let mut tail = tail.trim_end().to_owned();
        if let Some((_, at)) = item.revocation() {
            let day = wording::short_day(at, letter.now, letter.zone);
            tail = format!("{tail}, revoked on {day}");
        }
        return Row {
            clock,
            name,
            tail,
            lines: Vec::new(),
            page: None,
        };
    }
    let mut lines = vec![facts_line(item, &id)];
    if last_use.known {
        lines.push(last_use.phrase);
    }
    if let TokenEntry::Expiry(entry) = item.entry {
        lines.extend(notes(entry, letter));
    }
    if let TokenEntry::Ended(entry) = item.entry {
        lines.push(revoked_by(entry));
    }
    if let Some((finding, at)) = item.revocation() {
        let at = wording::date_time(at, letter.zone);
        lines.push(format!("lapsed revokes it on {at}"));
        lines.push(format!("finding {finding}"));
    }
    let tail = match item.section {
        Section::Expiring => {
            let left = wording::time_left(item.at() - letter.now);
            format!("in {left}{}", wording::utc_suffix(item.at(), letter.zone))
        }
        Section::Expired | Section::Ended => {
            let ago = wording::ago(letter.now - item.at());
            format!("{ago}{}", wording::utc_suffix(item.at(), letter.zone))
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

fn revoked_by(entry: &EndedEntry) -> String {
    let by = text::one_line(&entry.by, text::MAX_NAME);
    let reason = entry.reason.as_deref().unwrap_or_default();
    match text::isolated_line(reason, text::MAX_TEXT) {
        reason if reason.is_empty() => format!("revoked by {by}"),
        reason => format!("revoked by {by}: {reason}"),
    }
}

fn facts_line(item: &Item<'_>, id: &str) -> String {
    let token = item.token;
    let part = |label: &str, text: &Option<String>| {
        let shown = text::isolated_line(text.as_deref()?, 60);
        (!shown.is_empty()).then(|| format!("{label} {shown}"))
    };
    let mut parts = vec![text::one_line(&token.source, text::MAX_NAME)];
    parts.extend(part("account", &token.account));
    parts.extend(part("role", &token.role));
    parts.extend(part("scope", &token.scope));
    let is_issuer_known = item.basis() == Basis::Issuer || item.section == Section::Revoked;
    if let Some(issuer) = token.issuer.as_ref().filter(|_| !is_issuer_known) {
        parts.push(format!("issued by {issuer}"));
    }
    parts.push(format!("id {id}"));
    parts.join(", ")
}

fn notes(entry: &ExpiryEntry, letter: &Letter) -> Vec<String> {
    let mut notes = Vec::new();
    if entry.token.expiry_origin == Some(ExpiryOrigin::Policy) {
        notes.push("a date set by our policy: the token works after it".to_owned());
    }
    if entry.is_late(letter.now) {
        let due = wording::date_time(entry.due_at, letter.zone);
        notes.push(format!(
            "the warning was due on {due} and could not be delivered in time"
        ));
    }
    if let Some(reason) = &entry.instead_of_issuer {
        notes.push(format!(
            "the issuer does not get this mail: {}",
            text::one_line(reason, text::MAX_TEXT)
        ));
    }
    notes
}
