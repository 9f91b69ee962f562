//! What a list leaves out: counted by source and day, with the command that shows it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use crate::notify::{letter::Letter, plain, wording};

use super::list::{Item, Section};

/// The most lines of counts.
const SOURCES: usize = 8;
/// The most days counted in one line.
const DAYS: usize = 7;

/// The tokens that are not listed one by one.
#[derive(Serialize)]
pub(super) struct More {
    /// `150 more tokens`.
    pub count: String,
    /// A line for each source.
    pub sources: Vec<Counts>,
    /// `3 more sources`, where even the lines would be too many.
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
    /// Counts what is left over; `None` when nothing is.
    pub fn of(rest: &[Item<'_>], letter: &Letter) -> Option<Self> {
        let uncounted: usize = letter.rest.iter().map(|rest| rest.count).sum();
        if rest.len() + uncounted == 0 {
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
        for rest in &letter.rest {
            let section = Section::of(rest, letter);
            let tally = tallies.entry((section, rest.source.as_str())).or_default();
            let many = i64::try_from(rest.count).unwrap_or(i64::MAX);
            match rest.at().filter(|_| section.is_dated()) {
                Some(at) => {
                    let day = at.with_timezone(&letter.zone).date_naive();
                    let count = tally.days.entry(day).or_insert((at, 0));
                    *count = (count.0.max(at), count.1 + many);
                }
                None => tally.undated += many,
            }
        }
        let others = tallies.len().saturating_sub(SOURCES);
        Some(Self {
            count: wording::counted(rest.len() + uncounted, "more token"),
            sources: tallies
                .iter()
                .take(SOURCES)
                .map(|((section, source), tally)| tally.line(*section, source, letter))
                .collect(),
            others: (others > 0).then(|| wording::counted(others, "more source")),
        })
    }
}

impl Tally {
    fn line(&self, section: Section, source: &str, letter: &Letter) -> Counts {
        let mut counts: Vec<String> = self
            .days
            .values()
            .take(DAYS)
            .map(|(at, count)| {
                let day = wording::short_day(*at, letter.now, letter.zone);
                format!("{} on {day}", wording::thousands(*count))
            })
            .collect();
        let later: i64 = self.days.values().skip(DAYS).map(|(_, count)| count).sum();
        if later > 0 {
            counts.push(format!("{} on later days", wording::thousands(later)));
        }
        if self.undated > 0 {
            counts.push(wording::number(self.undated, "token"));
        }
        Counts {
            counts: format!(
                "{}: {}",
                plain::line(source, plain::NAME),
                counts.join(", ")
            ),
            command: self.command(section, source, letter),
        }
    }

    fn command(&self, section: Section, source: &str, letter: &Letter) -> String {
        let source = shell_word(&plain::line(source, plain::NAME));
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

/// A text as one word of a POSIX shell.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@+=:/%,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_whatever_the_source_is_called() {
        for (text, word) in [
            ("exports", "exports"),
            ("team a", "'team a'"),
            ("$(rm -rf ~)", "'$(rm -rf ~)'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
