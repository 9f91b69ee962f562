//! Several entries in one mail: sections, groups and rows, the most urgent first, the others counted.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};
use serde::Serialize;

use crate::domain::{Address, Basis, Expiry, ExpiryOrigin, When};
use crate::notify::letter::{EndedEntry, Entry, ExpiryEntry, Letter};
use crate::notify::wording;
use crate::text;
use crate::time::shift;

use super::parts::{Alert, Group, Link, Row, shell_quote};
use super::summary::Summary;
use super::tokens::{Item, Section, Tokens};

/// Longer lists show one line for each token.
const MAX_DETAILED: usize = 25;
/// Sources that are counted beyond the list.
const MAX_SOURCES: usize = 8;
/// Days that are counted for a source.
const MAX_DAYS: usize = 7;
/// How long after the revocation the proposed acknowledgement lasts.
const ACKNOWLEDGED_AFTER_END: TimeDelta = TimeDelta::days(30);

/// The variables of the templates `digest` and `revoked_access`.
#[derive(Serialize)]
pub(super) struct List {
    /// `12 tokens expire within 7 days`
    summary: String,
    /// The summary for the subject, with the first token if useful.
    headline: String,
    /// How many in all: `12 tokens`.
    tokens: String,
    next: Option<String>,
    sections: Vec<Part>,
    alerts: Vec<Alert>,
    findings: Option<Summary>,
    more: Option<More>,
    /// `3 warnings could not be delivered in time; …`
    late: Option<String>,
    /// `3 of these dates are set by our policy: …`
    by_policy: Option<String>,
    /// `3 of these dates are the last ones that lapsed could read: …`, if the rows have no room for it.
    outdated: Option<String>,
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

impl List {
    pub fn new(tokens: &Tokens<'_>, limit: usize) -> Self {
        let letter = tokens.letter;
        let items = &tokens.items;
        let all = tokens.count();
        let listed = items.len().min(limit);
        let is_detailed = all <= MAX_DETAILED;
        let summary = tokens.summary_line();
        let next = items.iter().find(|item| item.section == Section::Expiring);
        Self {
            headline: tokens.subject_line(&summary),
            summary,
            tokens: wording::quantity(all, "token"),
            next: next.map(|item| wording::date_time(item.when, letter.zone)),
            sections: sections(tokens, listed, is_detailed),
            alerts: letter.alerts().take(10).map(Alert::new).collect(),
            findings: letter.summary().map(|all| Summary::new(all, letter, 0)),
            more: More::new(&items[listed..], letter),
            late: tokens.late_note(),
            by_policy: tokens.policy_note(),
            outdated: tokens.outdated_note().filter(|_| !is_detailed),
            ending: Ending::new(items, letter, is_detailed),
            all_revoked: tokens.count_in(Section::Ended) == all,
            instead_of_issuer: if is_detailed {
                Vec::new()
            } else {
                tokens.skipped_issuers()
            },
            listed,
        }
    }
}

fn sections(tokens: &Tokens<'_>, listed: usize, is_detailed: bool) -> Vec<Part> {
    let letter = tokens.letter;
    let by_section = tokens.items[..listed].chunk_by(|a, b| a.section == b.section);
    let mut parts = Vec::new();
    for items in by_section {
        let section = items[0].section;
        let title = match section {
            Section::Revoked => "Issuer lost access",
            Section::Ended => "Revoked",
            Section::Expired => "Expired",
            Section::Expiring => "Expiring",
        };
        let count = wording::quantity(tokens.count_in(section), "token");
        let mut groups: Vec<Group> = Vec::new();
        for item in items {
            let (title, note) = group_title(item, letter);
            let row = if is_detailed {
                detailed_row(item, letter)
            } else {
                short_row(item, letter)
            };
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
            title: format!("{title}: {count}"),
            groups,
        });
    }
    parts
}

fn group_title(item: &Item<'_>, letter: &Letter) -> (String, Option<String>) {
    if let Entry::Revoked(entry) = item.entry {
        let issuer = item.token.issuer.as_ref();
        let issuer = issuer.map_or("no issuer".into(), Address::readable);
        let evidence = text::one_line(&entry.evidence, text::MAX_TEXT);
        let since = wording::day(entry.since, letter.zone);
        let note = format!("No access since {since}: {evidence}");
        return (text::one_line(&issuer, 254), Some(note));
    }
    let day = wording::day(item.when, letter.zone);
    if item.when.day.is_some() {
        return (day, None);
    }
    let offset = wording::utc_offset(item.when.at, letter.zone);
    (format!("{day} ({offset})"), None)
}

fn short_row(item: &Item<'_>, letter: &Letter) -> Row {
    let source = text::one_line(item.source, text::MAX_SUBJECT_NAME);
    let mut tail = format!("{source} {}", short_id(item));
    let last_use = item.last_use(letter).short;
    if !last_use.is_empty() {
        tail = format!("{tail} {last_use}");
    }
    if let Some((_, at)) = item.revocation() {
        let day = wording::short_day(at, letter.now, letter.zone);
        tail = format!("{tail}, revoked on {day}");
    }
    row(item, letter, tail)
}

fn detailed_row(item: &Item<'_>, letter: &Letter) -> Row {
    let suffix = match item.when.day {
        Some(_) => String::new(),
        None => wording::utc_suffix(item.when.at, letter.zone),
    };
    let tail = match (item.section, item.token.expiry) {
        (Section::Expiring, _) => {
            format!("in {}{suffix}", wording::left_until(item.when, letter.now))
        }
        (Section::Expired | Section::Ended, _) => {
            format!("{}{suffix}", wording::ago_since(item.when, letter.now))
        }
        (Section::Revoked, Expiry::Never) => "never expires".to_owned(),
        (Section::Revoked, Expiry::Unknown) => "expiry unknown".to_owned(),
        (Section::Revoked, Expiry::At(_)) => {
            format!("expires on {}", wording::day(item.when, letter.zone))
        }
    };
    let mut lines = vec![facts_line(item)];
    let last_use = item.last_use(letter);
    if last_use.known {
        lines.push(last_use.phrase);
    }
    if item.is_outdated() {
        lines.push(
            "its source says an expiry that could not be read; this date is the last one that lapsed could read"
                .to_owned(),
        );
    }
    match item.entry {
        Entry::Expiry(entry) => lines.extend(notes(entry, letter)),
        Entry::Ended(entry) => lines.push(revoked_by(entry)),
        _ => {}
    }
    if let Some((finding, at)) = item.revocation() {
        let at = wording::date_time(at, letter.zone);
        lines.push(format!("lapsed revokes it on {at}"));
        lines.push(format!("finding {finding}"));
    }
    Row {
        lines,
        page: Link::to_page(item.entry.page()),
        ..row(item, letter, tail)
    }
}

fn row(item: &Item<'_>, letter: &Letter, tail: String) -> Row {
    let token = item.token;
    let has_clock = item.section != Section::Revoked && item.when.day.is_none();
    Row {
        clock: has_clock.then(|| wording::clock(item.when.at, letter.zone)),
        name: text::display_name(&token.name, &token.external_id, text::MAX_NAME),
        tail,
        lines: Vec::new(),
        page: None,
    }
}

fn short_id(item: &Item<'_>) -> String {
    item.token.id.to_string().chars().take(8).collect()
}

fn revoked_by(entry: &EndedEntry) -> String {
    let by = text::one_line(&entry.by, text::MAX_NAME);
    let reason = entry.reason.as_deref().unwrap_or_default();
    match text::isolated_line(reason, text::MAX_TEXT) {
        reason if reason.is_empty() => format!("revoked by {by}"),
        reason => format!("revoked by {by}: {reason}"),
    }
}

fn facts_line(item: &Item<'_>) -> String {
    let token = item.token;
    let part = |label: &str, text: &Option<String>| {
        let shown = text::isolated_line(text.as_deref()?, 60);
        (!shown.is_empty()).then(|| format!("{label} {shown}"))
    };
    let mut parts = vec![text::one_line(item.source, text::MAX_NAME)];
    parts.extend(part("account", &token.account));
    parts.extend(part("role", &token.role));
    parts.extend(part("scope", &token.scope));
    let is_issuer_known = item.entry.basis() == Basis::Issuer || item.section == Section::Revoked;
    if !is_issuer_known && let Some(issuer) = &token.issuer {
        parts.push(format!("issued by {}", issuer.readable()));
    }
    parts.push(format!(
        "id {}",
        text::one_line(&token.external_id, text::MAX_NAME)
    ));
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
        let reason = text::one_line(reason, text::MAX_TEXT);
        notes.push(format!("the issuer does not get this mail: {reason}"));
    }
    notes
}

/// Counts the tokens that the list leaves out by source and day, with the command that shows them.
#[derive(Serialize)]
struct More {
    /// How many are left out: `150 more tokens`.
    count: String,
    sources: Vec<Counts>,
    /// `3 more sources`, if there are too many.
    others: Option<String>,
}

#[derive(Serialize)]
struct Counts {
    /// `exports: 100 on Sat 28 Nov 2026, 50 on Sun 29 Nov 2026`.
    counts: String,
    command: String,
}

#[derive(Default)]
struct Tally {
    /// The last expiry of each day, and how many expire on it.
    days: BTreeMap<NaiveDate, (When, i64)>,
    undated: i64,
}

impl More {
    /// `None` if the list is complete.
    fn new(rest: &[Item<'_>], letter: &Letter) -> Option<Self> {
        let all = rest.len() + letter.count_unlisted();
        if all == 0 {
            return None;
        }
        let listed = rest.iter().map(|item| {
            let source = item.token.source.as_str();
            (item.section, source, item.token.expires(), 1)
        });
        let unlisted = letter.unlisted.iter().map(|rest| {
            let section = Section::from_unlisted(rest, letter);
            let count = i64::try_from(rest.count).unwrap_or(i64::MAX);
            (section, rest.source.as_str(), rest.latest, count)
        });
        let mut tallies: BTreeMap<(Section, &str), Tally> = BTreeMap::new();
        for (section, source, when, count) in listed.chain(unlisted) {
            let tally = tallies.entry((section, source)).or_default();
            match when {
                Some(when) if section.is_dated() => {
                    let day = wording::date(when, letter.zone);
                    let (last, of_day) = tally.days.entry(day).or_insert((when, 0));
                    if when.at > last.at {
                        *last = when;
                    }
                    *of_day += count;
                }
                _ => tally.undated += count,
            }
        }
        let others = tallies.len().saturating_sub(MAX_SOURCES);
        Some(Self {
            count: wording::quantity(all, "more token"),
            sources: tallies
                .iter()
                .take(MAX_SOURCES)
                .map(|((section, source), tally)| tally.line(*section, source, letter))
                .collect(),
            others: (others > 0).then(|| wording::quantity(others, "more source")),
        })
    }
}

impl Tally {
    fn line(&self, section: Section, source: &str, letter: &Letter) -> Counts {
        let source = text::one_line(source, text::MAX_NAME);
        let mut counts = Vec::new();
        let mut days = self.days.values();
        for (when, count) in days.by_ref().take(MAX_DAYS) {
            let day = wording::short_day(*when, letter.now, letter.zone);
            counts.push(format!("{} on {day}", wording::thousands(*count)));
        }
        let later: i64 = days.map(|(_, count)| count).sum();
        if later > 0 {
            counts.push(format!("{} on later days", wording::thousands(later)));
        }
        if self.undated > 0 {
            counts.push(wording::quantity(self.undated, "token"));
        }
        Counts {
            counts: format!("{source}: {}", counts.join(", ")),
            command: self.command(section, &source, letter),
        }
    }

    fn command(&self, section: Section, source: &str, letter: &Letter) -> String {
        let source = shell_quote(source);
        match section {
            Section::Revoked => "lapsed finding list --kind sso_revoked".to_owned(),
            Section::Ended => format!("lapsed token list --source {source} --status revoked"),
            Section::Expired => format!("lapsed token list --source {source} --status expired"),
            Section::Expiring => {
                let last = self.days.values().map(|(when, _)| when.at).max();
                let last = last.unwrap_or(letter.now);
                let days = (last - letter.now).num_seconds().max(1).div_euclid(86_400) + 1;
                format!("lapsed token list --source {source} --expires-within {days}d")
            }
        }
    }
}

/// Announces which tokens lapsed revokes by itself, and how to stop it.
#[derive(Serialize)]
struct Ending {
    /// `lapsed revokes this token in 24 hours, on Sun 22 Nov 2026 at 09:00 UTC`.
    sentence: String,
    /// Stops it for a time.
    command: String,
    /// Lists the ids for `command`, if the mail does not show them.
    ids: Option<&'static str>,
}

impl Ending {
    fn new(items: &[Item<'_>], letter: &Letter, is_detailed: bool) -> Option<Self> {
        let ends: Vec<_> = items.iter().filter_map(Item::revocation).collect();
        let (finding, at) = *ends.iter().min_by_key(|(_, at)| *at)?;
        let minute = TimeDelta::minutes(1);
        let first = if ends.iter().all(|(_, other)| *other - at < minute) {
            ""
        } else {
            "the first "
        };
        let left = wording::time_left(at - letter.now);
        let on = wording::date_time(at, letter.zone);
        let what = match (ends.len(), items.len()) {
            (1, 1) => "this token".to_owned(),
            (1, _) => "one of these tokens".to_owned(),
            (ends, items) if ends == items => "these tokens".to_owned(),
            (ends, _) => format!("{ends} of these tokens"),
        };
        let id = match ends.len() {
            1 => finding.to_string(),
            _ => "ID".to_owned(),
        };
        let until = shift(at, ACKNOWLEDGED_AFTER_END).format("%Y-%m-%d");
        Some(Self {
            sentence: format!("lapsed revokes {what} {first}in {left}, on {on}"),
            command: format!("lapsed finding acknowledge {id} --until {until} --reason WHY"),
            ids: (!is_detailed).then_some("lapsed finding list --kind sso_revoked"),
        })
    }
}
