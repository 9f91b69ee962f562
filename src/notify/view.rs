//! What templates see: a letter in words. The facts are put into phrases here; which of them a mail
//! shows, and the sentences around them, are the templates' own.

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

use crate::domain::{ExpiryOrigin, Ground};

use self::{
    facts::{Situation, TokenFacts, Use},
    list::List,
    summary::Summary,
};
use super::{
    letter::{AlertEntry, EndedEntry, Entry, ExpiryEntry, Letter},
    plain, wording,
};

/// The longest link to a token's page: a line of a mail has at most 998 octets.
const LONGEST_LINK: usize = 500;

/// What all mails of one installation share.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Where people find lapsed's pages, without a slash at the end.
    pub base_url: Option<String>,
}

/// What a template sees, and how much of the letter it lists.
#[derive(Debug)]
pub struct View {
    /// The variables.
    pub variables: Map<String, Value>,
    /// How many tokens are listed one by one.
    pub listed: usize,
}

/// Puts a letter into words; lists at most `limit` tokens one by one.
pub(super) fn view(letter: &Letter, place: &Place, limit: usize) -> View {
    let frame = Frame::of(letter, place);
    let (mut variables, listed) = match letter.entries.as_slice() {
        [Entry::Expiry(entry)] => (object(&Expiry::of(entry, letter)), 1),
        [Entry::Ended(entry)] => (object(&Ended::of(entry, letter)), 1),
        [Entry::Alert(entry)] => (object(&Alert::of(entry)), 0),
        [Entry::Summary(entry)] => {
            let summary = Summary::of(entry, letter, limit);
            (object(&summary), summary.listed)
        }
        _ => {
            let list = List::of(letter, limit);
            (object(&list), list.listed)
        }
    };
    variables.extend(object(&frame));
    View { variables, listed }
}

fn object(view: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(view) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => unreachable!("a view is a struct of texts"),
    }
}

/// What every mail says beside its matter.
#[derive(Serialize)]
struct Frame {
    /// When it was written, exactly.
    written: String,
    /// Why this person gets it: `you issued this token`.
    why: String,
    /// The command that shows whether it is genuine.
    check_command: String,
    /// The source at which the tokens can be looked up, where there is one alone.
    check_source: Option<String>,
    /// A page about it, where lapsed has pages.
    link: Option<Link>,
    unreachable: Vec<Unreached>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Link {
    url: String,
    /// Whether it may be made to click on: only `https` is.
    secure: bool,
}

#[derive(Serialize)]
struct Unreached {
    address: String,
    reason: String,
}

impl Frame {
    fn of(letter: &Letter, place: &Place) -> Self {
        let mut sources: Vec<&str> = letter.entries.iter().filter_map(Entry::source).collect();
        sources.sort_unstable();
        sources.dedup();
        Self {
            written: wording::exact(letter.now, letter.zone),
            why: why(letter),
            check_command: check_command(letter),
            check_source: match sources.as_slice() {
                [source] => Some(plain::line(source, plain::NAME)),
                _ => None,
            },
            link: place.base_url.as_deref().map(|base| Link::to(letter, base)),
            unreachable: letter
                .unreachable
                .iter()
                .take(10)
                .map(|unreachable| Unreached {
                    address: plain::line(unreachable.address.as_str(), plain::NAME),
                    reason: plain::line(&unreachable.reason, plain::TEXT),
                })
                .collect(),
        }
    }
}

impl Link {
    fn to(letter: &Letter, base_url: &str) -> Self {
        let base_url = plain::line(base_url.trim_end_matches('/'), plain::TEXT);
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

    /// The page of a token at its source; only an address of the web that can be pasted whole.
    fn to_page(page: Option<&str>) -> Option<Self> {
        let url = Url::parse(page?).ok()?;
        let is_web = matches!(url.scheme(), "https" | "http") && url.has_host();
        let is_plain = url.username().is_empty() && url.password().is_none();
        let url = url.to_string();
        (is_web && is_plain && url.len() <= LONGEST_LINK).then(|| Self {
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
            let recipient = more::shell_word(letter.to.as_str());
            format!("lapsed notice list --recipient {recipient}")
        }
    }
}

fn why(letter: &Letter) -> String {
    let (mut issuer, mut admin, mut accounts) = (false, false, BTreeSet::new());
    let mut tokens = 0;
    for entry in &letter.entries {
        let (ground, token) = match entry {
            Entry::Expiry(entry) => (entry.ground, Some(&entry.token)),
            Entry::Revoked(entry) => (entry.ground, Some(&entry.token)),
            Entry::Ended(entry) => (entry.ground, Some(&entry.token)),
            Entry::Alert(_) | Entry::Summary(_) => (Ground::Admin, None),
        };
        tokens += usize::from(token.is_some());
        match ground {
            Ground::Issuer => issuer = true,
            Ground::Admin => admin = true,
            Ground::AccountAdmin => {
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
        reasons.push(format!("you are an admin of {}", named(&accounts)));
    }
    if admin {
        reasons.push("you are an administrator of lapsed".to_owned());
    }
    reasons.join(", and ")
}

fn named(accounts: &BTreeSet<&str>) -> String {
    let mut names: Vec<String> = accounts
        .iter()
        .filter(|account| !account.is_empty())
        .take(5)
        .map(|account| plain::isolated(plain::line(account, plain::NAME_IN_SUBJECT)))
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

/// One token that expires, or has expired.
#[derive(Serialize)]
struct Expiry {
    token: TokenFacts,
    /// Whether the reader issued it.
    yours: bool,
    /// `Sat 28 Nov 2026`, in the reader's zone.
    expires_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    expires_at: String,
    /// `7 days`.
    left: String,
    /// `3 hours ago`.
    ago: String,
    last_use: Use,
    /// When the warning was due that comes only now.
    late: Option<String>,
    instead_of_issuer: Option<String>,
    /// Whether the date is one of this organisation's policy: the token itself works on after it.
    by_policy: bool,
    /// Its page at its source.
    page: Option<Link>,
}

impl Expiry {
    fn of(entry: &ExpiryEntry, letter: &Letter) -> Self {
        // An expiry notice about a token without an expiry cannot be planned; if it comes to that,
        // the instant at which it was due is the nearest truth.
        let at = entry.token.expiry.at().unwrap_or(entry.due_at);
        let by_policy = entry.token.expiry_origin == Some(ExpiryOrigin::Policy);
        let situation = match (by_policy, entry.is_past(letter.now)) {
            (true, _) => Situation::Overdue,
            (false, true) => Situation::Expired,
            (false, false) => Situation::Expiring,
        };
        Self {
            token: TokenFacts::of(&entry.token, letter),
            yours: entry.ground == Ground::Issuer,
            expires_on: wording::day(at, letter.zone),
            expires_at: wording::exact(at, letter.zone),
            left: wording::left(at - letter.now),
            ago: wording::ago(letter.now - at),
            last_use: Use::of(&entry.token, entry.token.use_told, letter.now, situation),
            late: entry
                .is_late(letter.now)
                .then(|| wording::exact(entry.due_at, letter.zone)),
            instead_of_issuer: entry
                .instead_of_issuer
                .as_deref()
                .map(|reason| plain::line(reason, plain::TEXT)),
            by_policy,
            page: Link::to_page(entry.page.as_deref()),
        }
    }
}

/// One token that was ended at its source.
#[derive(Serialize)]
struct Ended {
    token: TokenFacts,
    /// Whether the reader issued it.
    yours: bool,
    /// Who ended it.
    by: String,
    /// `Sat 28 Nov 2026`, in the reader's zone.
    revoked_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    revoked_at: String,
    /// Why, in the words of whoever ended it.
    reason: Option<String>,
    last_use: Use,
    /// Its page at its source.
    page: Option<Link>,
}

impl Ended {
    fn of(entry: &EndedEntry, letter: &Letter) -> Self {
        let reason = entry.reason.as_deref().unwrap_or_default();
        let reason = plain::isolated(plain::line(reason, plain::TEXT));
        Self {
            token: TokenFacts::of(&entry.token, letter),
            yours: entry.ground == Ground::Issuer,
            by: plain::line(&entry.by, plain::NAME),
            revoked_on: wording::day(entry.at, letter.zone),
            revoked_at: wording::exact(entry.at, letter.zone),
            reason: (!reason.is_empty()).then_some(reason),
            last_use: Use::of(
                &entry.token,
                entry.token.use_told,
                letter.now,
                Situation::Expired,
            ),
            page: Link::to_page(entry.page.as_deref()),
        }
    }
}

/// Something about lapsed itself.
#[derive(Serialize)]
struct Alert {
    title: String,
    blocks: Vec<Block>,
}

/// A paragraph, or the lines of a command.
#[derive(Serialize)]
struct Block {
    paragraph: Option<String>,
    commands: Vec<String>,
}

impl Alert {
    fn of(entry: &AlertEntry) -> Self {
        let text: String = entry.text.chars().take(4_000).collect();
        let mut blocks = Vec::new();
        for part in text.replace("\r\n", "\n").split("\n\n") {
            let lines = || part.lines().filter(|line| !line.trim().is_empty());
            if lines().next().is_none() {
                continue;
            }
            let is_command = lines().all(|line| line.starts_with("    "));
            blocks.push(Block {
                paragraph: (!is_command).then(|| plain::line(part, 2_000)),
                commands: if is_command {
                    lines().map(|line| plain::line(line, plain::TEXT)).collect()
                } else {
                    Vec::new()
                },
            });
        }
        Self {
            title: plain::line(&entry.title, 70),
            blocks,
        }
    }
}
