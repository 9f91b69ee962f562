//! Counts the tokens of a mail for its summary, its subject and notes about several tokens.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::notify::letter::{ExpiryEntry, Letter, UnlistedTokens};
use crate::notify::wording;
use crate::text;

use super::facts::short_name;
use super::list::{Item, Section, TokenEntry};
use super::summary;

/// Tokens in a section, including those that the letter only counts.
pub(super) fn count_in_section(items: &[Item<'_>], letter: &Letter, section: Section) -> usize {
    let listed = items.iter().filter(|item| item.section == section).count();
    let rest = letter
        .unlisted
        .iter()
        .filter(|rest| Section::from_unlisted(rest, letter) == section);
    listed + rest.map(|rest| rest.count).sum::<usize>()
}

pub(super) fn count_unlisted(letter: &Letter) -> usize {
    letter.unlisted.iter().map(|rest| rest.count).sum()
}

/// `2 tokens of people without access, 3 expired, 9 expire within 7 days`.
pub(super) fn summary_line(items: &[Item<'_>], letter: &Letter) -> String {
    let others = letter.entries.len() - items.len();
    let all = items.len() + count_unlisted(letter);
    let revoked = count_in_section(items, letter, Section::Revoked);
    let expired = count_in_section(items, letter, Section::Expired);
    if revoked == all && others == 0 {
        return revoked_summary(items, all);
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
    let ended = count_in_section(items, letter, Section::Ended);
    if ended > 0 {
        parts.push(format!("{} revoked", tokens(&parts, ended)));
    }
    if expired > 0 {
        parts.push(format!("{} expired", tokens(&parts, expired)));
    }
    if let Some(last) = items
        .last()
        .filter(|item| item.section == Section::Expiring)
    {
        let count = count_in_section(items, letter, Section::Expiring);
        let verb = if count == 1 { "expires" } else { "expire" };
        let last = letter
            .unlisted
            .iter()
            .filter_map(UnlistedTokens::at)
            .fold(last.at(), DateTime::max);
        let left = wording::time_left(last - letter.now);
        parts.push(format!("{} {verb} within {left}", tokens(&parts, count)));
    }
    if letter.count_alerts() > 0 {
        parts.push(wording::quantity(letter.count_alerts(), "alert"));
    }
    parts.extend(letter.summary().map(summary::total));
    parts.join(", ")
}

fn revoked_summary(items: &[Item<'_>], all: usize) -> String {
    let tokens = wording::quantity(all, "token");
    let mut issuers: Vec<_> = items.iter().map(|item| &item.token.issuer).collect();
    issuers.dedup();
    match (items, issuers.len()) {
        ([_], _) => "This token still works, but its issuer lost access".to_owned(),
        (_, 1) => format!("{tokens} still work, but their issuer lost access"),
        (_, issuers) => {
            let issuers = wording::quantity(issuers, "issuer");
            format!("{tokens} still work, but their {issuers} lost access")
        }
    }
}

/// The summary, with the first token if all are in one section.
pub(super) fn subject_line(summary: &str, items: &[Item<'_>], letter: &Letter) -> String {
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
            format!("Token {name} will be revoked in {left}: its issuer lost access")
        }
        (Section::Revoked, _, Some(left)) => {
            let tokens = wording::quantity(items.len() + count_unlisted(letter), "token");
            format!("{tokens} of people without access, the first will be revoked in {left}")
        }
        (Section::Revoked, [_], None) => {
            let name = short_name(first.token);
            format!("Token {name} still works, but its issuer lost access")
        }
        (Section::Revoked | Section::Ended, ..) => summary.to_owned(),
        (Section::Expired | Section::Expiring, ..) => {
            let name = text::one_line(&short_name(first.token), 30);
            let day = wording::day(first.at(), letter.zone);
            format!("{summary}, first {name} on {day}")
        }
    }
}

pub(super) fn late_note(items: &[Item<'_>], letter: &Letter) -> Option<String> {
    let late: Vec<DateTime<Utc>> = items
        .iter()
        .filter_map(|item| match item.entry {
            TokenEntry::Expiry(entry) if entry.is_late(letter.now) => Some(entry.due_at),
            TokenEntry::Expiry(_) | TokenEntry::Revoked(_) | TokenEntry::Ended(_) => None,
        })
        .collect();
    let first = late.iter().min()?;
    Some(format!(
        "{} could not be delivered in time; the first was due on {}.",
        wording::quantity(late.len(), "warning"),
        wording::date_time(*first, letter.zone)
    ))
}

pub(super) fn policy_note(items: &[Item<'_>]) -> Option<String> {
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

pub(super) fn skipped_issuers(items: &[Item<'_>]) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for item in items {
        if let TokenEntry::Expiry(ExpiryEntry {
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
                wording::quantity(count, "token"),
                text::one_line(reason, 120)
            )
        })
        .collect()
}
