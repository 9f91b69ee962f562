//! Counts the tokens that a list leaves out by source and day, with the command that shows them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use crate::notify::letter::Letter;
use crate::notify::wording;
use crate::text;

use super::list::{Item, Section};

/// Lines of counts.
const MAX_SOURCES: usize = 8;
/// Days in one line.
const MAX_DAYS: usize = 7;

#[derive(Serialize)]
pub(super) struct More {
    /// `150 more tokens`.
    pub count: String,
    pub sources: Vec<Counts>,
    /// `3 more sources`, if there are too many.
    pub others: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Counts {
    /// `exports: 100 on Sat 28 Nov 2026, 50 on Sun 29 Nov 2026`.
    pub counts: String,
    pub command: String,
}

#[derive(Default)]
struct Tally {
    days: BTreeMap<NaiveDate, (DateTime<Utc>, i64)>,
    undated: i64,
}

impl More {
    /// `None` if the list is complete.
    pub fn new(rest: &[Item<'_>], letter: &Letter) -> Option<Self> {
        let unlisted: usize = letter.unlisted.iter().map(|rest| rest.count).sum();
        if rest.len() + unlisted == 0 {
            return None;
        }
        let mut tallies: BTreeMap<(Section, &str), Tally> = BTreeMap::new();
        for item in rest {
            let tally = tallies
                .entry((item.section, item.token.source.as_str()))
                .or_default();
            match item.token.expiry.at().filter(|_| item.section.is_dated()) {
                Some(at) => {
                    let day = at.with_timezone(&letter.zone).date_naive();
                    let count = tally.days.entry(day).or_insert((at, 0));
                    *count = (count.0.max(at), count.1 + 1);
                }
                None => tally.undated += 1,
            }
        }
        for rest in &letter.unlisted {
            let section = Section::from_unlisted(rest, letter);
            let tally = tallies.entry((section, rest.source.as_str())).or_default();
            let added = i64::try_from(rest.count).unwrap_or(i64::MAX);
            match rest.at().filter(|_| section.is_dated()) {
                Some(at) => {
                    let day = at.with_timezone(&letter.zone).date_naive();
                    let count = tally.days.entry(day).or_insert((at, 0));
                    *count = (count.0.max(at), count.1 + added);
                }
                None => tally.undated += added,
            }
        }
        let others = tallies.len().saturating_sub(MAX_SOURCES);
        Some(Self {
            count: wording::quantity(rest.len() + unlisted, "more token"),
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
        let mut counts: Vec<String> = self
            .days
            .values()
            .take(MAX_DAYS)
            .map(|(at, count)| {
                let day = wording::short_day(*at, letter.now, letter.zone);
                format!("{} on {day}", wording::thousands(*count))
            })
            .collect();
        let later: i64 = self
            .days
            .values()
            .skip(MAX_DAYS)
            .map(|(_, count)| count)
            .sum();
        if later > 0 {
            counts.push(format!("{} on later days", wording::thousands(later)));
        }
        if self.undated > 0 {
            counts.push(wording::quantity(self.undated, "token"));
        }
        Counts {
            counts: format!(
                "{}: {}",
                text::one_line(source, text::MAX_NAME),
                counts.join(", ")
            ),
            command: self.command(section, source, letter),
        }
    }

    fn command(&self, section: Section, source: &str, letter: &Letter) -> String {
        let source = shell_quote(&text::one_line(source, text::MAX_NAME));
        match section {
            Section::Revoked => "lapsed finding list --kind sso_revoked".to_owned(),
            Section::Ended => format!("lapsed token list --source {source} --status revoked"),
            Section::Expired => format!("lapsed token list --source {source} --status expired"),
            Section::Expiring => {
                let last = self.days.values().last().map_or(letter.now, |(at, _)| *at);
                let days = (last - letter.now).num_seconds().max(1).div_euclid(86_400) + 1;
                format!("lapsed token list --source {source} --expires-within {days}d")
            }
        }
    }
}

/// Quotes a text for a POSIX shell.
pub(super) fn shell_quote(text: &str) -> String {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"._-@+=:/%,".contains(&b);
    if !text.is_empty() && text.bytes().all(is_safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_name_is_safe_in_a_shell_command() {
        for (text, word) in [
            ("exports", "exports"),
            ("team a", "'team a'"),
            ("$(rm -rf ~)", "'$(rm -rf ~)'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_quote(text), word);
        }
    }
}
