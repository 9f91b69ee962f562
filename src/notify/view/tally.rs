//! What many things in one mail come to: the summary, the subject, and what holds for several of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::notify::{
    letter::{ExpiryEntry, Letter, Rest},
    plain, wording,
};

use super::{
    facts::short_name,
    list::{Item, Section, Subject},
    summary,
};

/// How many tokens of a section there are, with those that the letter only counts.
pub(super) fn count(items: &[Item<'_>], letter: &Letter, section: Section) -> usize {
    let listed = items.iter().filter(|item| item.section == section).count();
    let rest = letter
        .rest
        .iter()
        .filter(|rest| Section::of(rest, letter) == section);
    listed + rest.map(|rest| rest.count).sum::<usize>()
}

/// How many tokens the letter only counts.
pub(super) fn uncounted(letter: &Letter) -> usize {
    letter.rest.iter().map(|rest| rest.count).sum()
}

/// `2 tokens of people without access, 3 expired, 9 expire within 7 days`.
pub(super) fn summary(items: &[Item<'_>], letter: &Letter) -> String {
    let others = letter.entries.len() - items.len();
    let all = items.len() + uncounted(letter);
    let revoked = count(items, letter, Section::Revoked);
    let expired = count(items, letter, Section::Expired);
    if revoked == all && others == 0 {
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
    let ended = count(items, letter, Section::Ended);
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
    if letter.alerts() > 0 {
        parts.push(wording::counted(letter.alerts(), "alert"));
    }
    parts.extend(letter.summary().map(summary::total));
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
pub(super) fn headline(summary: &str, items: &[Item<'_>], letter: &Letter) -> String {
    let Some(first) = items.first() else {
        return summary.to_owned();
    };
    let mixed = items.len() < letter.entries.len()
        || items.iter().any(|item| item.section != first.section);
    let ends = items.iter().filter_map(Item::end).map(|(_, at)| at);
    let end = ends.min().map(|at| wording::left(at - letter.now));
    match (first.section, items, end) {
        _ if mixed => summary.to_owned(),
        (Section::Revoked, [item], Some(left)) => {
            let name = short_name(item.token);
            format!("Token {name} ends in {left}: its issuer lost access")
        }
        (Section::Revoked, _, Some(left)) => {
            let tokens = wording::counted(items.len() + uncounted(letter), "token");
            format!("{tokens} of people without access, the first ends in {left}")
        }
        (Section::Revoked, [_], None) => {
            let name = short_name(first.token);
            format!("Token {name} still works, but its issuer lost access")
        }
        (Section::Revoked | Section::Ended, ..) => summary.to_owned(),
        (Section::Expired | Section::Expiring, ..) => {
            let name = plain::line(&short_name(first.token), 30);
            let day = wording::day(first.at(), letter.zone);
            format!("{summary}, first {name} on {day}")
        }
    }
}

pub(super) fn late(items: &[Item<'_>], letter: &Letter) -> Option<String> {
    let late: Vec<DateTime<Utc>> = items
        .iter()
        .filter_map(|item| match item.entry {
            Subject::Expiry(entry) if entry.is_late(letter.now) => Some(entry.due_at),
            Subject::Expiry(_) | Subject::Revoked(_) | Subject::Ended(_) => None,
        })
        .collect();
    let first = late.iter().min()?;
    Some(format!(
        "{} could not be delivered in time; the first was due on {}.",
        wording::counted(late.len(), "warning"),
        wording::exact(*first, letter.zone)
    ))
}

pub(super) fn by_policy(items: &[Item<'_>]) -> Option<String> {
    let count = items.iter().filter(|item| item.is_by_policy()).count();
    let dates = match count {
        0 => return None,
        1 => "One of these dates is".to_owned(),
        count if count == items.len() => "These dates are".to_owned(),
        count => format!(
            "{} of these dates are",
            wording::thousands(i64::try_from(count).unwrap_or(i64::MAX))
        ),
    };
    Some(format!(
        "{dates} set by our policy alone: such a token works on after its date, until somebody deletes it."
    ))
}

pub(super) fn reasons(items: &[Item<'_>]) -> Vec<String> {
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
