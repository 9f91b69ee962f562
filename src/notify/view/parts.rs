//! What several mails have in common: a token, its last use, links, rows and alerts.

use std::net::IpAddr;

use serde::Serialize;
use url::Url;

use super::mail::Mail;
use crate::domain::{Address, Expiry, Token};
use crate::language::{Language, phrase};
use crate::notify::letter::{AlertEntry, Callers, ExpiryEntry, OwnerGap};
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
    pub fn new(token: &Token, source: &str, mail: Mail<'_>) -> Self {
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
            expiry: match (token.expires(), token.expiry) {
                (Some(when), _) => mail.date_time(when),
                (None, Expiry::Never) => phrase!(mail.language, "no-expiry", expiry = "never"),
                (None, _) => phrase!(mail.language, "no-expiry", expiry = "unknown"),
            },
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
    /// The phrase as a sentence, or that its source does not report it.
    pub sentence: String,
    /// `used 4m ago`, for long lists; empty if unknown.
    pub short: String,
}

impl LastUse {
    /// With what still uses an expired token.
    pub fn with_callers(self, callers: &Callers, language: &Language) -> Self {
        let advice = phrase!(language, "advice", advice = "replace-now");
        let callers = describe_callers(callers, language);
        let phrase = phrase!(language, "used-by", callers = callers, advice = advice);
        Self {
            known: true,
            sentence: phrase!(language, "last-use-by", phrase = phrase.as_str()),
            phrase,
            ..self
        }
    }

    pub fn new(token: &Token, situation: Situation, mail: Mail<'_>) -> Self {
        let language = mail.language;
        let Some(used_at) = token.last_used_at else {
            return if token.reports_use {
                Self::never_used(situation, language)
            } else {
                Self::not_reported(language)
            };
        };
        let age = mail.now() - used_at;
        let ago = language.ago(age);
        let (is_recent, advice) = match (age.num_seconds(), situation) {
            (..172_800, Situation::Revoked) => (true, "find-user"),
            (..172_800, _) => (true, "replace-now"),
            (..2_592_000, Situation::Expiring | Situation::Overdue) => (false, "replace-in-time"),
            (..2_592_000, Situation::Expired) => (false, "replace"),
            (..2_592_000, Situation::Revoked) => (false, "find-user"),
            (..7_776_000, _) => (false, "ask"),
            (_, _) => (false, "unneeded"),
        };
        let advice = phrase!(language, "advice", advice = advice);
        let when = ago.as_str();
        let phrase = if is_recent {
            phrase!(language, "used-recently", ago = when, advice = advice)
        } else {
            phrase!(language, "used-last", ago = when, advice = advice)
        };
        let seconds = age.num_seconds().max(0);
        let (unit, count) = match seconds {
            0..3_600 => ("minutes", seconds / 60),
            3_600..172_800 => ("hours", seconds / 3_600),
            _ => ("days", seconds / 86_400),
        };
        let count = count.to_string();
        Self {
            known: true,
            sentence: phrase!(language, "last-use", phrase = phrase.as_str()),
            phrase,
            when: ago,
            short: phrase!(language, "short-use", unit = unit, count = count),
        }
    }

    fn never_used(situation: Situation, language: &Language) -> Self {
        let advice = match situation {
            Situation::Expiring => "let-expire",
            Situation::Expired => "nothing",
            Situation::Revoked => "revoke",
            Situation::Overdue => "delete",
        };
        let advice = phrase!(language, "advice", advice = advice);
        let phrase = phrase!(language, "used-not", advice = advice);
        Self {
            known: true,
            when: phrase!(language, "never-used"),
            sentence: phrase!(language, "last-use", phrase = phrase.as_str()),
            phrase,
            short: phrase!(language, "short-use", unit = "never", count = ""),
        }
    }

    fn not_reported(language: &Language) -> Self {
        Self {
            known: false,
            when: phrase!(language, "use-not-reported"),
            phrase: String::new(),
            sentence: phrase!(language, "last-use-unknown"),
            short: String::new(),
        }
    }
}

/// `3 calls an hour still use it, from 10.1.2.3`
fn describe_callers(callers: &Callers, language: &Language) -> String {
    let calls = match callers.calls / 24 {
        0 => phrase!(language, "calls-lately", count = callers.calls),
        per_hour => phrase!(language, "calls-per-hour", count = per_hour),
    };
    if callers.addresses.is_empty() {
        return calls;
    }
    let addresses: Vec<_> = callers.addresses.iter().map(IpAddr::to_string).collect();
    let addresses = addresses.join(", ");
    phrase!(language, "calls-from", calls = calls, addresses = addresses)
}

/// Why neither the issuer nor another owner gets the mail; `None` if one does.
pub(super) fn explain_gaps(entry: &ExpiryEntry, language: &Language) -> Option<String> {
    let gaps = entry.instead_of_issuer.iter();
    let gaps: Vec<_> = gaps.map(|gap| explain_gap(gap, language)).collect();
    (!gaps.is_empty()).then(|| text::one_line(&gaps.join(", "), text::MAX_TEXT))
}

fn explain_gap(gap: &OwnerGap, language: &Language) -> String {
    match gap {
        OwnerGap::Unreadable(reason) => {
            phrase!(language, "issuer-unreadable", reason = reason.as_str())
        }
        OwnerGap::NoIssuer => phrase!(language, "issuer-missing"),
        OwnerGap::LostAccess {
            owner,
            evidence: Some(evidence),
        } => phrase!(
            language,
            "issuer-lost-access",
            issuer = owner.readable(),
            evidence = evidence.as_str(),
        ),
        OwnerGap::LostAccess {
            owner,
            evidence: None,
        } => phrase!(language, "owner-lost-access", owner = owner.readable()),
        OwnerGap::Refused { owner, reply } => phrase!(
            language,
            "issuer-refused",
            issuer = owner.readable(),
            reason = reply.as_str(),
        ),
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
    use crate::language::Languages;
    use crate::notify::sample;
    use crate::notify::view::Installation;

    fn last_use(token: &Token, situation: Situation) -> LastUse {
        let letter = &sample::all(sample::now())[0].letter;
        let mail = Mail {
            letter,
            language: &Languages::load(None).unwrap().english(),
            installation: &Installation::default(),
        };
        LastUse::new(token, situation, mail)
    }

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
        assert_eq!(last_use(&token, situation).phrase, expected);
    }

    #[test]
    fn a_token_is_not_called_unused_if_its_source_does_not_report_use() {
        let mut token = sample::token("ci-deploy");
        token.last_used_at = None;
        token.reports_use = false;
        let last_use = last_use(&token, Situation::Expiring);
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
