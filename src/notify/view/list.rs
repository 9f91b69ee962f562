//! Several entries in one mail: sections, groups and rows, the most urgent first, the others counted.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;

use crate::domain::{Address, Basis, Expiry, ExpiryOrigin, When};
use crate::language::{self, Language, phrase};
use crate::notify::letter::{EndedEntry, Entry, ExpiryEntry};
use crate::text;
use crate::time::shift;

use super::mail::Mail;
use super::parts::{Alert, Group, Link, Row, explain_gaps, shell_quote};
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
        let mail = tokens.mail;
        let letter = mail.letter;
        let items = &tokens.items;
        let all = tokens.count();
        let listed = items.len().min(limit);
        let is_detailed = all <= MAX_DETAILED;
        let summary = tokens.summary_line();
        let next = items.iter().find(|item| item.section == Section::Expiring);
        Self {
            headline: tokens.subject_line(&summary),
            summary,
            tokens: phrase!(mail.language, "tokens", count = all),
            next: next.map(|item| mail.date_time(item.when)),
            sections: sections(tokens, listed, is_detailed),
            alerts: letter.alerts().take(10).map(Alert::new).collect(),
            findings: letter.summary().map(|all| Summary::new(all, mail, 0)),
            more: More::new(&items[listed..], mail),
            late: tokens.late_note(),
            by_policy: tokens.policy_note(),
            outdated: tokens.outdated_note().filter(|_| !is_detailed),
            ending: Ending::new(items, mail, is_detailed),
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
    let mail = tokens.mail;
    let language = mail.language;
    let by_section = tokens.items[..listed].chunk_by(|a, b| a.section == b.section);
    let mut parts = Vec::new();
    for items in by_section {
        let section = items[0].section;
        let name = match section {
            Section::Revoked => "without-access",
            Section::Ended => "revoked",
            Section::Expired => "expired",
            Section::Expiring => "expiring",
        };
        let title = phrase!(language, "section-title", section = name);
        let count = phrase!(language, "tokens", count = tokens.count_in(section));
        let mut groups: Vec<Group> = Vec::new();
        for item in items {
            let (title, note) = group_title(item, mail);
            let row = if is_detailed {
                detailed_row(item, mail)
            } else {
                short_row(item, mail)
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
            title: phrase!(language, "titled", title = title, count = count),
            groups,
        });
    }
    parts
}

fn group_title(item: &Item<'_>, mail: Mail<'_>) -> (String, Option<String>) {
    let language = mail.language;
    if let Entry::Revoked(entry) = item.entry {
        let issuer = item.token.issuer.as_ref();
        let unknown = || phrase!(language, "no-issuer").into();
        let issuer = issuer.map_or_else(unknown, Address::readable);
        let evidence = text::one_line(&entry.evidence, text::MAX_TEXT);
        let since = mail.day(entry.since);
        let note = phrase!(
            language,
            "no-access-since",
            since = since,
            evidence = evidence
        );
        return (text::one_line(&issuer, 254), Some(note));
    }
    let day = mail.day(item.when);
    if item.when.day.is_some() {
        return (day, None);
    }
    let offset = language::utc_offset(item.when.at, mail.letter.zone);
    (
        phrase!(language, "day-with-offset", day = day, offset = offset),
        None,
    )
}

fn short_row(item: &Item<'_>, mail: Mail<'_>) -> Row {
    let source = text::one_line(item.source, text::MAX_SUBJECT_NAME);
    let mut tail = format!("{source} {}", short_id(item));
    let last_use = item.last_use(mail).short;
    if !last_use.is_empty() {
        tail = format!("{tail} {last_use}");
    }
    if let Some((_, at)) = item.revocation() {
        let day = mail.language.short_day(at, mail.now(), mail.letter.zone);
        tail = phrase!(mail.language, "row-ends-on", row = tail, day = day);
    }
    row(item, mail, tail)
}

fn detailed_row(item: &Item<'_>, mail: Mail<'_>) -> Row {
    let language = mail.language;
    let mut lines = vec![facts_line(item, language)];
    let last_use = item.last_use(mail);
    if last_use.known {
        lines.push(last_use.phrase);
    }
    if item.is_outdated() {
        lines.push(phrase!(language, "row-outdated"));
    }
    match item.entry {
        Entry::Expiry(entry) => lines.extend(notes(entry, mail)),
        Entry::Ended(entry) => lines.push(revoked_by(entry, language)),
        _ => {}
    }
    if let Some((finding, at)) = item.revocation() {
        let at = mail.date_time(at);
        lines.push(phrase!(language, "row-ends", at = at));
        lines.push(phrase!(language, "row-finding", id = finding.to_string()));
    }
    Row {
        lines,
        page: Link::to_page(item.entry.page()),
        ..row(item, mail, when_it_ends(item, mail))
    }
}

/// What follows the name: when it expires or did, in words.
fn when_it_ends(item: &Item<'_>, mail: Mail<'_>) -> String {
    let language = mail.language;
    let with_utc = |time| language.with_utc(time, item.when, mail.letter.zone);
    match (item.section, item.token.expiry) {
        (Section::Expiring, _) => with_utc(language.in_until(item.when, mail.now())),
        (Section::Expired | Section::Ended, _) => {
            with_utc(language.ago_since(item.when, mail.now()))
        }
        (Section::Revoked, Expiry::Never) => phrase!(language, "row-never-expires"),
        (Section::Revoked, Expiry::Unknown) => phrase!(language, "row-expiry-unknown"),
        (Section::Revoked, Expiry::At(_)) => {
            phrase!(language, "row-expires-on", day = mail.day(item.when))
        }
    }
}

fn row(item: &Item<'_>, mail: Mail<'_>, tail: String) -> Row {
    let token = item.token;
    let has_clock = item.section != Section::Revoked && item.when.day.is_none();
    Row {
        clock: has_clock.then(|| language::clock(item.when.at, mail.letter.zone)),
        name: text::display_name(&token.name, &token.external_id, text::MAX_NAME),
        tail,
        lines: Vec::new(),
        page: None,
    }
}

fn short_id(item: &Item<'_>) -> String {
    item.token.id.to_string().chars().take(8).collect()
}

fn revoked_by(entry: &EndedEntry, language: &Language) -> String {
    let by = text::one_line(&entry.by, text::MAX_NAME);
    let reason = entry.reason.as_deref().unwrap_or_default();
    match text::isolated_line(reason, text::MAX_TEXT) {
        reason if reason.is_empty() => phrase!(language, "row-revoked-by", by = by),
        reason => phrase!(language, "row-revoked-because", by = by, reason = reason),
    }
}

fn facts_line(item: &Item<'_>, language: &Language) -> String {
    let token = item.token;
    let known = |text: &Option<String>| {
        let shown = text::isolated_line(text.as_deref()?, 60);
        (!shown.is_empty()).then_some(shown)
    };
    let mut parts = vec![text::one_line(item.source, text::MAX_NAME)];
    let account = known(&token.account);
    parts.extend(account.map(|account| phrase!(language, "row-account", name = account)));
    parts.extend(known(&token.role).map(|role| phrase!(language, "row-role", name = role)));
    parts.extend(known(&token.scope).map(|scope| phrase!(language, "row-scope", name = scope)));
    let is_issuer_known = item.entry.basis() == Basis::Issuer || item.section == Section::Revoked;
    if !is_issuer_known && let Some(issuer) = &token.issuer {
        parts.push(phrase!(language, "row-issuer", name = issuer.readable()));
    }
    let id = text::one_line(&token.external_id, text::MAX_NAME);
    parts.push(phrase!(language, "row-id", name = id));
    parts.join(", ")
}

fn notes(entry: &ExpiryEntry, mail: Mail<'_>) -> Vec<String> {
    let language = mail.language;
    let mut notes = Vec::new();
    if entry.token.expiry_origin == Some(ExpiryOrigin::Policy) {
        notes.push(phrase!(language, "row-policy"));
    }
    if entry.is_late(mail.now()) {
        let due = mail.date_time(entry.due_at);
        notes.push(phrase!(language, "row-late", due = due));
    }
    if let Some(reason) = explain_gaps(entry, language) {
        notes.push(phrase!(language, "instead-of-issuer-note", reason = reason));
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
    fn new(rest: &[Item<'_>], mail: Mail<'_>) -> Option<Self> {
        let Mail {
            letter, language, ..
        } = mail;
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
                    let day = language::date(when, letter.zone);
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
            count: phrase!(language, "more-tokens", count = all),
            sources: tallies
                .iter()
                .take(MAX_SOURCES)
                .map(|((section, source), tally)| tally.line(*section, source, mail))
                .collect(),
            others: (others > 0).then(|| phrase!(language, "more-sources", count = others)),
        })
    }
}

impl Tally {
    fn line(&self, section: Section, source: &str, mail: Mail<'_>) -> Counts {
        let language = mail.language;
        let source = text::one_line(source, text::MAX_NAME);
        let mut counts = Vec::new();
        let mut days = self.days.values();
        for (when, count) in days.by_ref().take(MAX_DAYS) {
            let day = language.short_day(*when, mail.now(), mail.letter.zone);
            counts.push(phrase!(language, "count-on-day", count = *count, day = day));
        }
        let later: i64 = days.map(|(_, count)| count).sum();
        if later > 0 {
            counts.push(phrase!(language, "count-later", count = later));
        }
        if self.undated > 0 {
            counts.push(phrase!(language, "tokens", count = self.undated));
        }
        let command = self.command(section, &source, mail.now());
        let counts = counts.join(", ");
        Counts {
            counts: phrase!(language, "titled", title = source, count = counts),
            command,
        }
    }

    fn command(&self, section: Section, source: &str, now: DateTime<Utc>) -> String {
        let source = shell_quote(source);
        match section {
            Section::Revoked => "lapsed finding list --kind sso_revoked".to_owned(),
            Section::Ended => format!("lapsed token list --source {source} --status revoked"),
            Section::Expired => format!("lapsed token list --source {source} --status expired"),
            Section::Expiring => {
                let last = self.days.values().map(|(when, _)| when.at).max();
                let last = last.unwrap_or(now);
                let days = (last - now).num_seconds().max(1).div_euclid(86_400) + 1;
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
    fn new(items: &[Item<'_>], mail: Mail<'_>, is_detailed: bool) -> Option<Self> {
        let language = mail.language;
        let ends: Vec<_> = items.iter().filter_map(Item::revocation).collect();
        let (finding, at) = *ends.iter().min_by_key(|(_, at)| *at)?;
        let minute = TimeDelta::minutes(1);
        let is_at_once = ends.iter().all(|(_, other)| *other - at < minute);
        let which = match (ends.len(), items.len()) {
            (1, 1) => "only",
            (1, _) => "one",
            (ends, items) if ends == items => "all",
            _ => "some",
        };
        let tokens = phrase!(language, "ending-tokens", which = which, count = ends.len());
        let when = language.time_in(at - mail.now());
        let on = mail.date_time(at);
        let sentence = if is_at_once {
            phrase!(language, "ending", tokens = tokens, when = when, at = on)
        } else {
            phrase!(
                language,
                "ending-first",
                tokens = tokens,
                when = when,
                at = on
            )
        };
        let id = match ends.len() {
            1 => finding.to_string(),
            _ => "ID".to_owned(),
        };
        let until = shift(at, ACKNOWLEDGED_AFTER_END).format("%Y-%m-%d");
        Some(Self {
            sentence,
            command: format!("lapsed finding acknowledge {id} --until {until} --reason WHY"),
            ids: (!is_detailed).then_some("lapsed finding list --kind sso_revoked"),
        })
    }
}
