//! Builds the variables of the templates from a letter. Phrases are made here; templates choose which to
//! show and add the sentences around them.

mod installation;
mod list;
mod parts;
mod summary;
mod tokens;

use std::collections::BTreeSet;
use std::net::IpAddr;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{Basis, When};

pub use self::installation::{Installation, SourceInfo};
use self::list::List;
use self::parts::{Alert, LastUse, Link, TokenFacts, shell_quote};
use self::summary::Summary;
use self::tokens::{Item, Tokens};
use super::letter::{EndedEntry, Entry, ExpiryEntry, Letter, OldSecretEntry, SignInEntry};
use super::wording;
use crate::text;

#[derive(Debug)]
pub struct View {
    pub variables: Map<String, Value>,
    /// How many tokens or findings are listed individually.
    pub listed: usize,
}

/// Lists at most `limit` tokens or findings individually.
pub(super) fn build(letter: &Letter, installation: &Installation, limit: usize) -> View {
    let frame = Frame::new(letter, installation);
    let tokens = Tokens::new(letter, installation);
    let (mut variables, listed) = match (letter.entries.as_slice(), tokens.items.as_slice()) {
        ([Entry::Expiry(entry)], [item]) => (
            to_object(&Expiry::new(entry, item, letter, installation)),
            1,
        ),
        ([Entry::Ended(entry)], [item]) => {
            (to_object(&Ended::new(entry, item, letter, installation)), 1)
        }
        ([Entry::OldSecret(entry)], _) => {
            (to_object(&OldSecret::new(entry, letter, installation)), 1)
        }
        ([Entry::Test], _) => (Map::new(), 0),
        ([Entry::SignIn(entry)], _) => (sign_in(entry, letter), 0),
        ([Entry::Alert(entry)], _) => (to_object(&Alert::new(entry)), 0),
        ([Entry::Summary(entry)], _) => {
            let summary = Summary::new(entry, letter, limit);
            (to_object(&summary), summary.listed)
        }
        _ => {
            let list = List::new(&tokens, limit);
            (to_object(&list), list.listed)
        }
    };
    variables.extend(to_object(&frame));
    View { variables, listed }
}

fn sign_in(entry: &SignInEntry, letter: &Letter) -> Map<String, Value> {
    let until = wording::date_time(entry.until, letter.zone);
    let link = entry.link.expose_secret();
    [("link_url", link.into()), ("until", until.into())]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn to_object(view: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(view) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => unreachable!("a view is a struct of texts"),
    }
}

#[derive(Serialize)]
struct Frame {
    written: String,
    /// Why the recipient gets it: `you issued this token`.
    why: String,
    /// Shows whether the mail is genuine.
    check_command: String,
    /// The source of the tokens, if all have the same.
    check_source: Option<String>,
    link: Option<Link>,
    contact: Option<String>,
    unreachable: Vec<Unreached>,
}

#[derive(Serialize)]
struct Unreached {
    address: String,
    reason: String,
}

impl Frame {
    fn new(letter: &Letter, installation: &Installation) -> Self {
        let tokens = letter.entries.iter().filter_map(Entry::token);
        let sources: BTreeSet<&str> = tokens.map(|token| token.source.as_str()).collect();
        let unreachable = letter
            .unreachable
            .iter()
            .take(10)
            .map(|unreachable| Unreached {
                address: text::one_line(&unreachable.address.readable(), text::MAX_NAME),
                reason: text::one_line(&unreachable.reason, text::MAX_TEXT),
            });
        Self {
            written: wording::date_time(letter.now, letter.zone),
            why: reason_for_recipient(letter),
            check_command: check_command(letter),
            check_source: match sources.first() {
                Some(source) if sources.len() == 1 => Some(text::one_line(
                    installation.source_title(source),
                    text::MAX_NAME,
                )),
                _ => None,
            },
            link: installation.page(letter.only_token()),
            contact: installation.contact.clone(),
            unreachable: unreachable.collect(),
        }
    }
}

fn check_command(letter: &Letter) -> String {
    if let Some(token) = letter.only_token() {
        return format!("lapsed token show {}", token.id);
    }
    if let [Entry::Test] = letter.entries.as_slice() {
        return "lapsed check".to_owned();
    }
    if let [Entry::SignIn(_)] = letter.entries.as_slice() {
        return format!("lapsed user show {}", shell_quote(letter.to.as_str()));
    }
    if let [Entry::Summary(_)] = letter.entries.as_slice() {
        return "lapsed finding list".to_owned();
    }
    let recipient = shell_quote(letter.to.as_str());
    format!("lapsed notice list --recipient {recipient}")
}

fn reason_for_recipient(letter: &Letter) -> String {
    if let [Entry::Test] = letter.entries.as_slice() {
        return "an operator sent a test to your address".to_owned();
    }
    if let [Entry::SignIn(_)] = letter.entries.as_slice() {
        return "somebody asked to sign in with your address".to_owned();
    }
    let (mut is_issuer, mut is_owner) = (false, false);
    let mut is_admin = false;
    let mut accounts = BTreeSet::new();
    for entry in &letter.entries {
        match entry.basis() {
            Basis::Issuer if is_issuer_of(entry, letter) => is_issuer = true,
            Basis::Issuer => is_owner = true,
            Basis::Admin => is_admin = true,
            Basis::AccountAdmin => {
                let account = entry.token().and_then(|token| token.account.as_deref());
                accounts.insert(account.unwrap_or_default());
            }
        }
    }
    let mut reasons = Vec::new();
    if is_issuer || is_owner {
        let tokens = letter.entries.iter().filter_map(Entry::token).count();
        let what = if tokens == 1 {
            "this token"
        } else if is_admin || !accounts.is_empty() {
            "some of these tokens"
        } else {
            "these tokens"
        };
        let verb = if is_owner { "own" } else { "issued" };
        reasons.push(format!("you {verb} {what}"));
    }
    if !accounts.is_empty() {
        reasons.push(format!("you are an admin of {}", account_list(&accounts)));
    }
    if is_admin {
        reasons.push("you are an administrator of lapsed".to_owned());
    }
    reasons.join(", and ")
}

fn is_issuer_of(entry: &Entry, letter: &Letter) -> bool {
    let issuer = entry.token().and_then(|token| token.issuer.as_ref());
    issuer == Some(&letter.to)
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

/// One token that expires or has expired.
#[derive(Serialize)]
struct Expiry {
    token: TokenFacts,
    /// Whether the recipient owns it.
    yours: bool,
    /// `Sat 28 Nov 2026`, in the recipient's zone; a plain date as the source wrote it.
    expires_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`; without the time for a plain date.
    expires_at: String,
    /// Until the expiry: `7 days`.
    left: String,
    /// Since the expiry: `3 hours ago`.
    ago: String,
    last_use: LastUse,
    late: Option<String>,
    instead_of_issuer: Option<String>,
    /// Whether the date comes from the policy; the token itself works after it.
    by_policy: bool,
    /// Whether the source has another expiry, which could not be read.
    outdated: bool,
    page: Option<Link>,
    /// How to make a token at the source.
    help: Option<Link>,
}

impl Expiry {
    fn new(
        entry: &ExpiryEntry,
        item: &Item<'_>,
        letter: &Letter,
        installation: &Installation,
    ) -> Self {
        let late = entry.is_late(letter.now);
        Self {
            token: TokenFacts::new(item.token, item.source, letter),
            yours: entry.basis == Basis::Issuer,
            expires_on: wording::day(item.when, letter.zone),
            expires_at: wording::date_time(item.when, letter.zone),
            left: wording::left_until(item.when, letter.now),
            ago: wording::ago_since(item.when, letter.now),
            last_use: item.last_use(letter),
            late: late.then(|| wording::date_time(entry.due_at, letter.zone)),
            instead_of_issuer: entry
                .instead_of_issuer
                .as_ref()
                .map(|reason| text::one_line(reason, text::MAX_TEXT)),
            by_policy: item.is_by_policy(),
            outdated: item.is_outdated(),
            page: Link::to_page(entry.page.as_deref()),
            help: installation.help(&item.token.source),
        }
    }
}

/// One token that was revoked at its source.
#[derive(Serialize)]
struct Ended {
    token: TokenFacts,
    /// Whether the recipient owns it.
    yours: bool,
    by: String,
    /// `Sat 28 Nov 2026`, in the recipient's zone.
    revoked_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    revoked_at: String,
    reason: Option<String>,
    last_use: LastUse,
    page: Option<Link>,
    /// How to make a token at the source.
    help: Option<Link>,
}

impl Ended {
    fn new(
        entry: &EndedEntry,
        item: &Item<'_>,
        letter: &Letter,
        installation: &Installation,
    ) -> Self {
        let reason = entry.reason.as_deref().unwrap_or_default();
        let reason = text::isolated_line(reason, text::MAX_TEXT);
        Self {
            token: TokenFacts::new(item.token, item.source, letter),
            yours: entry.basis == Basis::Issuer,
            by: text::one_line(&entry.by, text::MAX_NAME),
            revoked_on: wording::day(item.when, letter.zone),
            revoked_at: wording::date_time(item.when, letter.zone),
            reason: (!reason.is_empty()).then_some(reason),
            last_use: item.last_use(letter),
            page: Link::to_page(entry.page.as_deref()),
            help: installation.help(&item.token.source),
        }
    }
}

/// One token whose old secret is still used.
#[derive(Serialize)]
struct OldSecret {
    token: TokenFacts,
    /// Whether the recipient owns it.
    yours: bool,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    ends_at: String,
    /// `4 hours`.
    left: String,
    /// Whether the old secret has ended meanwhile.
    over: bool,
    /// `10.1.2.3, 10.1.2.4`.
    addresses: Option<String>,
    page: Option<Link>,
}

impl OldSecret {
    fn new(entry: &OldSecretEntry, letter: &Letter, installation: &Installation) -> Self {
        let source = installation.source_title(&entry.token.source);
        let addresses: Vec<_> = entry.addresses.iter().map(IpAddr::to_string).collect();
        Self {
            token: TokenFacts::new(&entry.token, source, letter),
            yours: entry.basis == Basis::Issuer,
            ends_at: wording::date_time(entry.ends_at, letter.zone),
            left: wording::left_until(When::from(entry.ends_at), letter.now),
            over: entry.ends_at <= letter.now,
            addresses: (!addresses.is_empty()).then(|| addresses.join(", ")),
            page: Link::to_page(entry.page.as_deref()),
        }
    }
}
