//! What several mails have in common: a token, its last use, links, rows and alerts.

use chrono::{DateTime, Utc};
use serde::Serialize;
use url::Url;

use crate::domain::{Address, Token};
use crate::notify::letter::{AlertEntry, Letter};
use crate::notify::wording;
use crate::text;

/// A line of a mail has at most 998 octets.
const MAX_LINK_OCTETS: usize = 500;

#[derive(Serialize)]
pub(super) struct TokenFacts {
    /// The name, or the external id if there is none.
    pub name: String,
    /// The name, cut for the subject of the mail.
    pub short_name: String,
    pub source: String,
    pub account: Option<String>,
    pub role: Option<String>,
    pub scope: Option<String>,
    pub description: Option<String>,
    /// The address, with the name if it is known: `Ada Lovelace <ada@example.org>`.
    pub issuer: Option<String>,
    /// The addresses of the other owners: `bob@example.org, eve@example.org`.
    pub owners: Option<String>,
    pub id: String,
    /// The id at the source.
    pub external_id: String,
    /// `Sat 28 Nov 2026 at 09:00 UTC`, a plain date, `never` or `unknown`.
    pub expiry: String,
}

impl TokenFacts {
    /// `source` is how mails call its source.
    pub fn new(token: &Token, source: &str, letter: &Letter) -> Self {
        let text = |text: &Option<String>| {
            let shown = text::isolated_line(text.as_deref()?, text::MAX_TEXT);
            (!shown.is_empty()).then_some(shown)
        };
        Self {
            name: text::display_name(&token.name, &token.external_id, text::MAX_NAME),
            short_name: short_name(token),
            source: text::one_line(source, text::MAX_NAME),
            external_id: text::one_line(&token.external_id, text::MAX_TEXT),
            account: text(&token.account),
            role: text(&token.role),
            scope: text(&token.scope),
            description: text(&token.description),
            issuer: format_issuer(token),
            owners: format_co_owners(token),
            id: token.id.to_string(),
            expiry: token.expires().map_or_else(
                || token.expiry.kind().to_owned(),
                |when| wording::date_time(when, letter.zone),
            ),
        }
    }
}

pub(super) fn short_name(token: &Token) -> String {
    text::display_name(&token.name, &token.external_id, text::MAX_SUBJECT_NAME)
}

fn format_issuer(token: &Token) -> Option<String> {
    let address = text::one_line(&token.issuer.as_ref()?.readable(), 254);
    let name = token.issuer_name.as_deref().unwrap_or_default();
    let name = text::isolated_line(name, text::MAX_SUBJECT_NAME);
    Some(if name.is_empty() || name.contains('@') {
        address
    } else {
        format!("{name} <{address}>")
    })
}

fn format_co_owners(token: &Token) -> Option<String> {
    let owners: Vec<_> = token.co_owners.iter().map(Address::readable).collect();
    (!owners.is_empty()).then(|| text::one_line(&owners.join(", "), text::MAX_TEXT))
}

/// Decides the advice about the last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    Expiring,
    Expired,
    Revoked,
    /// A date of the policy was reached; the token does not expire by itself.
    Overdue,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct LastUse {
    pub known: bool,
    /// `4 minutes ago`, `never`, `not reported by its source`.
    pub when: String,
    /// `used 4 minutes ago: replace it now`, `never used: let it expire`.
    pub phrase: String,
    /// `used 4m ago`, for long lists; empty if unknown.
    pub short: String,
}

impl LastUse {
    /// With what still uses an expired token, if that is known.
    pub fn with_callers(self, still_used: Option<&str>) -> Self {
        match still_used {
            Some(callers) => Self {
                known: true,
                phrase: format!("{callers}: replace it now"),
                ..self
            },
            None => self,
        }
    }

    pub fn new(token: &Token, now: DateTime<Utc>, situation: Situation) -> Self {
        const DAY: i64 = 86_400;
        let Some(used_at) = token.last_used_at else {
            return if token.reports_use {
                Self::never_used(situation)
            } else {
                Self {
                    known: false,
                    when: "not reported by its source".to_owned(),
                    phrase: String::new(),
                    short: String::new(),
                }
            };
        };
        let age = now - used_at;
        let ago = wording::ago(age);
        let (verb, advice) = match (age.num_seconds(), situation) {
            (..172_800, Situation::Revoked) => ("used", "find out who uses it"),
            (..172_800, _) => ("used", "replace it now"),
            (..2_592_000, Situation::Expiring | Situation::Overdue) => {
                ("last used", "replace it in time")
            }
            (..2_592_000, Situation::Expired) => ("last used", "replace it"),
            (..2_592_000, Situation::Revoked) => ("last used", "find out who uses it"),
            (..7_776_000, _) => ("last used", "ask whether it is still needed"),
            (_, _) => ("last used", "probably no longer needed"),
        };
        let seconds = age.num_seconds().max(0);
        let short = match seconds {
            0..3_600 => format!("used {}m ago", seconds / 60),
            3_600..172_800 => format!("used {}h ago", seconds / 3_600),
            _ => format!("used {}d ago", seconds / DAY),
        };
        Self {
            known: true,
            phrase: format!("{verb} {ago}: {advice}"),
            when: ago,
            short,
        }
    }

    fn never_used(situation: Situation) -> Self {
        let advice = match situation {
            Situation::Expiring => "let it expire",
            Situation::Expired => "nothing needs it",
            Situation::Revoked => "revoke it now",
            Situation::Overdue => "delete it",
        };
        Self {
            known: true,
            when: "never".to_owned(),
            phrase: format!("never used: {advice}"),
            short: "unused".to_owned(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Link {
    url: String,
    /// Only `https` links are clickable.
    secure: bool,
}

impl Link {
    pub fn new(url: String) -> Self {
        Self {
            secure: url.starts_with("https://"),
            url,
        }
    }

    /// The page of a token at its source, if it is a web address without credentials and not too long.
    pub fn to_page(page: Option<&str>) -> Option<Self> {
        let url = Url::parse(page?).ok()?;
        let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
        let is_plain = url.username().is_empty() && url.password().is_none();
        let url = url.to_string();
        (is_web && is_plain && url.len() <= MAX_LINK_OCTETS).then(|| Self::new(url))
    }
}

#[derive(Serialize)]
pub(super) struct Group {
    pub title: String,
    pub note: Option<String>,
    pub rows: Vec<Row>,
}

#[derive(Serialize)]
pub(super) struct Row {
    /// When it expires or was revoked, without the day: `10:00`.
    pub clock: Option<String>,
    pub name: String,
    pub tail: String,
    pub lines: Vec<String>,
    /// The token's page at the source; only in detailed lists.
    pub page: Option<Link>,
}

#[derive(Serialize)]
pub(super) struct Alert {
    title: String,
    blocks: Vec<Block>,
}

/// Either a paragraph or commands.
#[derive(Default, Serialize)]
struct Block {
    paragraph: Option<String>,
    commands: Vec<String>,
}

impl Alert {
    pub fn new(entry: &AlertEntry) -> Self {
        let text: String = entry.text.chars().take(4_000).collect();
        let mut blocks = Vec::new();
        for part in text.replace("\r\n", "\n").split("\n\n") {
            let lines: Vec<_> = part
                .lines()
                .filter(|line| !line.trim().is_empty())
                .collect();
            if lines.is_empty() {
                continue;
            }
            let mut block = Block::default();
            if lines.iter().all(|line| line.starts_with("    ")) {
                let commands = lines.iter();
                block.commands = commands
                    .map(|line| text::one_line(line, text::MAX_TEXT))
                    .collect();
            } else {
                block.paragraph = Some(text::one_line(part, 2_000));
            }
            blocks.push(block);
        }
        Self {
            title: text::one_line(&entry.title, 70),
            blocks,
        }
    }
}

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
    use chrono::TimeDelta;
    use rstest::rstest;

    use super::*;
    use crate::notify::sample;

    #[rstest]
    #[case(Some(4), Situation::Expiring, "used 4 minutes ago: replace it now")]
    #[case(Some(3 * 1_440), Situation::Expiring, "last used 3 days ago: replace it in time")]
    #[case(Some(45 * 1_440), Situation::Expiring, "last used 6 weeks ago: ask whether it is still needed")]
    #[case(Some(150 * 1_440), Situation::Expiring, "last used 5 months ago: probably no longer needed")]
    #[case(Some(60), Situation::Revoked, "used 1 hour ago: find out who uses it")]
    #[case(Some(-10), Situation::Expired, "used just now: replace it now")]
    #[case(None, Situation::Expiring, "never used: let it expire")]
    #[case(None, Situation::Revoked, "never used: revoke it now")]
    #[case(None, Situation::Overdue, "never used: delete it")]
    #[case(Some(3 * 1_440), Situation::Overdue, "last used 3 days ago: replace it in time")]
    fn the_last_use_comes_with_advice(
        #[case] minutes: Option<i64>,
        #[case] situation: Situation,
        #[case] expected: &str,
    ) {
        let now = sample::now();
        let mut token = sample::token("ci-deploy");
        token.last_used_at = minutes.map(|minutes| now - TimeDelta::minutes(minutes));
        assert_eq!(LastUse::new(&token, now, situation).phrase, expected);
    }

    #[test]
    fn a_token_is_not_called_unused_if_its_source_does_not_report_use() {
        let mut token = sample::token("ci-deploy");
        token.last_used_at = None;
        token.reports_use = false;
        let last_use = LastUse::new(&token, sample::now(), Situation::Expiring);
        assert!(!last_use.known);
        assert!(!last_use.phrase.contains("never"));
    }

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
