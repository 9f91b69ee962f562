//! Builds the variables of the templates from a letter. Phrases are made here; templates choose which to
//! show and add the sentences around them.

mod ending;
mod facts;
mod list;
mod more;
mod summary;
mod tally;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::domain::{Basis, ExpiryOrigin};

use self::facts::{LastUse, Situation, TokenFacts};
use self::list::List;
use self::summary::Summary;
use super::letter::{AlertEntry, EndedEntry, Entry, ExpiryEntry, Letter};
use super::wording;
use crate::text;

/// A line of a mail has at most 998 octets.
const MAX_LINK_OCTETS: usize = 500;

/// Data of this installation that all mails show.
#[derive(Debug, Clone, Default)]
pub struct Installation {
    /// Start of links to lapsed's pages.
    pub base_url: Option<String>,
}

#[derive(Debug)]
pub struct View {
    pub variables: Map<String, Value>,
    /// How many tokens or findings are listed individually.
    pub listed: usize,
}

/// Lists at most `limit` tokens or findings individually.
pub(super) fn build(letter: &Letter, installation: &Installation, limit: usize) -> View {
    let frame = Frame::new(letter, installation);
    let (mut variables, listed) = match letter.entries.as_slice() {
        [Entry::Expiry(entry)] => (to_object(&Expiry::new(entry, letter)), 1),
        [Entry::Ended(entry)] => (to_object(&Ended::new(entry, letter)), 1),
        [Entry::Alert(entry)] => (to_object(&Alert::new(entry)), 0),
        [Entry::Summary(entry)] => {
            let summary = Summary::new(entry, letter, limit);
            (to_object(&summary), summary.listed)
        }
        _ => {
            let list = List::new(letter, limit);
            (to_object(&list), list.listed)
        }
    };
    variables.extend(to_object(&frame));
    View { variables, listed }
}

fn to_object(view: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(view) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => unreachable!("a view is a struct of texts"),
    }
}

/// The variables that all mails share.
#[derive(Serialize)]
struct Frame {
    written: String,
    /// `you issued this token`
    why: String,
    /// Shows whether the mail is genuine.
    check_command: String,
    /// The source of the tokens, if all have the same.
    check_source: Option<String>,
    /// The page about the mail in lapsed.
    link: Option<Link>,
    unreachable: Vec<Unreached>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Link {
    url: String,
    /// Only `https` links are clickable.
    secure: bool,
}

#[derive(Serialize)]
struct Unreached {
    address: String,
    reason: String,
}

impl Frame {
    fn new(letter: &Letter, installation: &Installation) -> Self {
        let mut sources: Vec<&str> = letter.entries.iter().filter_map(Entry::source).collect();
        sources.sort_unstable();
        sources.dedup();
        Self {
            written: wording::date_time(letter.now, letter.zone),
            why: reason_for_recipient(letter),
            check_command: check_command(letter),
            check_source: match sources.as_slice() {
                [source] => Some(text::one_line(source, text::MAX_NAME)),
                _ => None,
            },
            link: installation
                .base_url
                .as_deref()
                .map(|base| Link::to_lapsed(letter, base)),
            unreachable: letter
                .unreachable
                .iter()
                .take(10)
                .map(|unreachable| Unreached {
                    address: text::one_line(unreachable.address.as_str(), text::MAX_NAME),
                    reason: text::one_line(&unreachable.reason, text::MAX_TEXT),
                })
                .collect(),
        }
    }
}

impl Link {
    fn to_lapsed(letter: &Letter, base_url: &str) -> Self {
        let base_url = text::one_line(base_url.trim_end_matches('/'), text::MAX_TEXT);
        let url = match letter.entries.as_slice() {
            [Entry::Expiry(ExpiryEntry { token, .. })] => format!("{base_url}/tokens/{}", token.id),
            [Entry::Revoked(entry)] => format!("{base_url}/tokens/{}", entry.token.id),
            [Entry::Ended(entry)] => format!("{base_url}/tokens/{}", entry.token.id),
            _ => base_url,
        };
        Self {
            secure: url.starts_with("https://"),
            url,
        }
    }

    /// The page of a token at its source, if it is a web address without credentials and not too long.
    fn to_page(page: Option<&str>) -> Option<Self> {
        let url = Url::parse(page?).ok()?;
        let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
        let is_plain = url.username().is_empty() && url.password().is_none();
        let url = url.to_string();
        (is_web && is_plain && url.len() <= MAX_LINK_OCTETS).then(|| Self {
            secure: url.starts_with("https://"),
            url,
        })
    }
}

fn check_command(letter: &Letter) -> String {
    match letter.entries.as_slice() {
        [Entry::Expiry(ExpiryEntry { token, .. })] => format!("lapsed token show {}", token.id),
        [Entry::Revoked(entry)] => format!("lapsed token show {}", entry.token.id),
        [Entry::Ended(entry)] => format!("lapsed token show {}", entry.token.id),
        [Entry::Summary(_)] => "lapsed finding list".to_owned(),
        _ => {
            let recipient = more::shell_quote(letter.to.as_str());
            format!("lapsed notice list --recipient {recipient}")
        }
    }
}

fn reason_for_recipient(letter: &Letter) -> String {
    let (mut issuer, mut admin, mut accounts) = (false, false, BTreeSet::new());
    let mut tokens = 0;
    for entry in &letter.entries {
        let (basis, token) = match entry {
            Entry::Expiry(entry) => (entry.basis, Some(&entry.token)),
            Entry::Revoked(entry) => (entry.basis, Some(&entry.token)),
            Entry::Ended(entry) => (entry.basis, Some(&entry.token)),
            Entry::Alert(_) | Entry::Summary(_) => (Basis::Admin, None),
        };
        tokens += usize::from(token.is_some());
        match basis {
            Basis::Issuer => issuer = true,
            Basis::Admin => admin = true,
            Basis::AccountAdmin => {
                accounts.insert(
                    token
                        .and_then(|token| token.account.as_deref())
                        .unwrap_or(""),
                );
            }
        }
    }
    let mut reasons = Vec::new();
    if issuer {
        let all = !admin && accounts.is_empty();
        reasons.push(match (tokens, all) {
            (1, _) => "you issued this token".to_owned(),
            (_, true) => "you issued these tokens".to_owned(),
            (_, false) => "you issued some of these tokens".to_owned(),
        });
    }
    if !accounts.is_empty() {
        reasons.push(format!("you are an admin of {}", account_list(&accounts)));
    }
    if admin {
        reasons.push("you are an administrator of lapsed".to_owned());
    }
    reasons.join(", and ")
}

fn account_list(accounts: &BTreeSet<&str>) -> String {
    let mut names: Vec<String> = accounts
        .iter()
        .filter(|account| !account.is_empty())
        .take(5)
        .map(|account| text::isolated_line(account, text::MAX_SUBJECT_NAME))
        .collect();
    if names.is_empty() {
        return "the account".to_owned();
    }
    let noun = if names.len() == 1 {
        "account"
    } else {
        "accounts"
    };
    if accounts.len() > names.len() {
        names.push("others".to_owned());
    }
    format!("{noun} {}", names.join(", "))
}

impl Entry {
    fn source(&self) -> Option<&str> {
        match self {
            Self::Expiry(entry) => Some(&entry.token.source),
            Self::Revoked(entry) => Some(&entry.token.source),
            Self::Ended(entry) => Some(&entry.token.source),
            Self::Alert(_) | Self::Summary(_) => None,
        }
    }
}

/// One token that expires or has expired.
#[derive(Serialize)]
struct Expiry {
    token: TokenFacts,
    /// Whether the recipient issued it.
    yours: bool,
    /// `Sat 28 Nov 2026`, in the recipient's zone.
    expires_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    expires_at: String,
    /// `7 days`.
    left: String,
    /// `3 hours ago`.
    ago: String,
    last_use: LastUse,
    /// When a late warning was due.
    late: Option<String>,
    instead_of_issuer: Option<String>,
    /// Whether the date comes from the policy; the token itself works after it.
    by_policy: bool,
    /// At the source.
    page: Option<Link>,
}

impl Expiry {
    fn new(entry: &ExpiryEntry, letter: &Letter) -> Self {
        // No notice is planned for a token without an expiry; the due time is the best fallback.
        let at = entry.token.expiry.at().unwrap_or(entry.due_at);
        let by_policy = entry.token.expiry_origin == Some(ExpiryOrigin::Policy);
        let situation = match (by_policy, entry.is_past(letter.now)) {
            (true, _) => Situation::Overdue,
            (false, true) => Situation::Expired,
            (false, false) => Situation::Expiring,
        };
        Self {
            token: TokenFacts::new(&entry.token, letter),
            yours: entry.basis == Basis::Issuer,
            expires_on: wording::day(at, letter.zone),
            expires_at: wording::date_time(at, letter.zone),
            left: wording::time_left(at - letter.now),
            ago: wording::ago(letter.now - at),
            last_use: LastUse::new(&entry.token, letter.now, situation),
            late: entry
                .is_late(letter.now)
                .then(|| wording::date_time(entry.due_at, letter.zone)),
            instead_of_issuer: entry
                .instead_of_issuer
                .as_deref()
                .map(|reason| text::one_line(reason, text::MAX_TEXT)),
            by_policy,
            page: Link::to_page(entry.page.as_deref()),
        }
    }
}

/// One token that was revoked at its source.
#[derive(Serialize)]
struct Ended {
    token: TokenFacts,
    /// Whether the recipient issued it.
    yours: bool,
    by: String,
    /// `Sat 28 Nov 2026`, in the recipient's zone.
    revoked_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    revoked_at: String,
    reason: Option<String>,
    last_use: LastUse,
    /// At the source.
    page: Option<Link>,
}

impl Ended {
    fn new(entry: &EndedEntry, letter: &Letter) -> Self {
        let reason = entry.reason.as_deref().unwrap_or_default();
        let reason = text::isolated_line(reason, text::MAX_TEXT);
        Self {
            token: TokenFacts::new(&entry.token, letter),
            yours: entry.basis == Basis::Issuer,
            by: text::one_line(&entry.by, text::MAX_NAME),
            revoked_on: wording::day(entry.at, letter.zone),
            revoked_at: wording::date_time(entry.at, letter.zone),
            reason: (!reason.is_empty()).then_some(reason),
            last_use: LastUse::new(&entry.token, letter.now, Situation::Expired),
            page: Link::to_page(entry.page.as_deref()),
        }
    }
}

#[derive(Serialize)]
struct Alert {
    title: String,
    blocks: Vec<Block>,
}

/// Either a paragraph or commands.
#[derive(Serialize)]
struct Block {
    paragraph: Option<String>,
    commands: Vec<String>,
}

impl Alert {
    fn new(entry: &AlertEntry) -> Self {
        let text: String = entry.text.chars().take(4_000).collect();
        let mut blocks = Vec::new();
        for part in text.replace("\r\n", "\n").split("\n\n") {
            let lines = || part.lines().filter(|line| !line.trim().is_empty());
            if lines().next().is_none() {
                continue;
            }
            let is_command = lines().all(|line| line.starts_with("    "));
            blocks.push(Block {
                paragraph: (!is_command).then(|| text::one_line(part, 2_000)),
                commands: if is_command {
                    lines()
                        .map(|line| text::one_line(line, text::MAX_TEXT))
                        .collect()
                } else {
                    Vec::new()
                },
            });
        }
        Self {
            title: text::one_line(&entry.title, 70),
            blocks,
        }
    }
}
