//! Builds the variables of the templates from a letter: what depends on data. Templates choose which to show, and
//! ask for the sentences around them.

mod facts;
mod installation;
mod list;
mod mail;
mod parts;
mod summary;
mod tokens;

use std::collections::BTreeSet;
use std::net::IpAddr;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{Basis, When};

use self::facts::{Fact, Facts};
pub use self::installation::{Installation, SourceInfo};
use self::list::List;
use self::mail::Mail;
use self::parts::{Alert, LastUse, Link, TokenFacts, shell_quote};
use self::summary::Summary;
use self::tokens::{Item, Section, Tokens};
use super::letter::{EndedEntry, Entry, ExpiryEntry, Letter, OldSecretEntry, SignInEntry};
use crate::language::{Language, phrase};
use crate::text;

#[derive(Debug)]
pub struct View {
    pub variables: Map<String, Value>,
    /// How many tokens or findings are listed individually.
    pub listed: usize,
}

/// Lists at most `limit` tokens or findings individually.
pub(super) fn build(
    letter: &Letter,
    installation: &Installation,
    language: &Language,
    limit: usize,
) -> View {
    let mail = Mail {
        letter,
        language,
        installation,
    };
    let frame = Frame::new(mail);
    let tokens = Tokens::new(mail);
    let (mut variables, listed) = match (letter.entries.as_slice(), tokens.items.as_slice()) {
        ([Entry::Expiry(entry)], [item]) => (to_object(&Expiry::new(entry, item, mail)), 1),
        ([Entry::Ended(entry)], [item]) => (to_object(&Ended::new(entry, item, mail)), 1),
        ([Entry::OldSecret(entry)], _) => (to_object(&OldSecret::new(entry, mail)), 1),
        ([Entry::Test], _) => (Map::new(), 0),
        ([Entry::SignIn(entry)], _) => (sign_in(entry, mail), 0),
        ([Entry::Alert(entry)], _) => (to_object(&Alert::new(entry)), 0),
        ([Entry::Summary(entry)], _) => {
            let summary = Summary::new(entry, mail, limit);
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

fn sign_in(entry: &SignInEntry, mail: Mail<'_>) -> Map<String, Value> {
    let until = mail.date_time(entry.until);
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
    /// Its tag.
    language: String,
    direction: &'static str,
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
    fn new(mail: Mail<'_>) -> Self {
        let Mail {
            letter,
            language,
            installation,
        } = mail;
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
            language: language.tag(),
            direction: language.direction(),
            written: mail.date_time(letter.now),
            why: reason_for_recipient(mail),
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

fn reason_for_recipient(mail: Mail<'_>) -> String {
    let Mail {
        letter, language, ..
    } = mail;
    if let [Entry::Test] = letter.entries.as_slice() {
        return phrase!(language, "why-test");
    }
    if let [Entry::SignIn(_)] = letter.entries.as_slice() {
        return phrase!(language, "why-sign-in");
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
        let tokens = match tokens {
            1 => "one",
            _ if is_admin || !accounts.is_empty() => "some",
            _ => "all",
        };
        reasons.push(if is_owner {
            phrase!(language, "why-owner", tokens = tokens)
        } else {
            phrase!(language, "why-issuer", tokens = tokens)
        });
    }
    if !accounts.is_empty() {
        reasons.push(reason_for_admin(&accounts, language));
    }
    if is_admin {
        reasons.push(phrase!(language, "why-admin"));
    }
    let both = |first, second| phrase!(language, "why-both", first = first, second = second);
    reasons.into_iter().reduce(both).unwrap_or_default()
}

fn is_issuer_of(entry: &Entry, letter: &Letter) -> bool {
    let issuer = entry.token().and_then(|token| token.issuer.as_ref());
    issuer == Some(&letter.to)
}

fn reason_for_admin(accounts: &BTreeSet<&str>, language: &Language) -> String {
    let mut names: Vec<String> = accounts
        .iter()
        .filter(|account| !account.is_empty())
        .take(5)
        .map(|account| text::isolated_line(account, text::MAX_SUBJECT_NAME))
        .collect();
    let count = names.len();
    if count > 0 && accounts.len() > count {
        names.push(phrase!(language, "others"));
    }
    let names = names.join(", ");
    phrase!(
        language,
        "why-account-admin",
        count = count,
        accounts = names
    )
}

/// One token that expires or has expired.
#[derive(Serialize)]
struct Expiry {
    token: TokenFacts,
    facts: Vec<Fact>,
    /// Whether the recipient owns it.
    yours: bool,
    /// `Sat 28 Nov 2026`, in the recipient's zone; a plain date as the source wrote it.
    expires_on: String,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`; without the time for a plain date.
    expires_at: String,
    /// Until the expiry: `7 days`.
    left: String,
    /// `in 7 days`
    ends_in: String,
    /// `within 7 days`
    ends_within: String,
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
    fn new(entry: &ExpiryEntry, item: &Item<'_>, mail: Mail<'_>) -> Self {
        let language = mail.language;
        let token = TokenFacts::new(item.token, item.source, mail);
        let last_use = item.last_use(mail);
        let expires_at = mail.date_time(item.when);
        let mut facts = Facts::new(&token, language);
        facts.add_rights(&token, language);
        facts.add_people(&token, language);
        let label = match (item.is_by_policy(), item.section) {
            (true, _) => phrase!(language, "fact-due"),
            (false, Section::Expired) => phrase!(language, "fact-expired"),
            (false, _) => phrase!(language, "fact-expires"),
        };
        facts.add(label, &expires_at);
        facts.add(phrase!(language, "fact-last-use"), &last_use.when);
        Self {
            facts: facts.finish(&token, language),
            token,
            yours: entry.basis == Basis::Issuer,
            expires_on: mail.day(item.when),
            expires_at,
            left: language.left_until(item.when, mail.now()),
            ends_in: language.in_until(item.when, mail.now()),
            ends_within: language.deadline(item.when, mail.now()),
            ago: language.ago_since(item.when, mail.now()),
            last_use,
            late: entry
                .is_late(mail.now())
                .then(|| mail.date_time(entry.due_at)),
            instead_of_issuer: parts::explain_gaps(entry, language),
            by_policy: item.is_by_policy(),
            outdated: item.is_outdated(),
            page: Link::to_page(entry.page.as_deref()),
            help: mail.installation.help(&item.token.source),
        }
    }
}

/// One token that was revoked at its source.
#[derive(Serialize)]
struct Ended {
    token: TokenFacts,
    facts: Vec<Fact>,
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
    fn new(entry: &EndedEntry, item: &Item<'_>, mail: Mail<'_>) -> Self {
        let language = mail.language;
        let token = TokenFacts::new(item.token, item.source, mail);
        let last_use = item.last_use(mail);
        let by = text::one_line(&entry.by, text::MAX_NAME);
        let revoked_at = mail.date_time(item.when);
        let mut facts = Facts::new(&token, language);
        facts.add_rights(&token, language);
        facts.add_people(&token, language);
        facts.add(phrase!(language, "fact-revoked"), &revoked_at);
        facts.add(phrase!(language, "fact-revoked-by"), &by);
        facts.add(phrase!(language, "fact-last-use"), &last_use.when);
        let reason = entry.reason.as_deref().unwrap_or_default();
        let reason = text::isolated_line(reason, text::MAX_TEXT);
        Self {
            facts: facts.finish(&token, language),
            token,
            yours: entry.basis == Basis::Issuer,
            by,
            revoked_on: mail.day(item.when),
            revoked_at,
            reason: (!reason.is_empty()).then_some(reason),
            last_use,
            page: Link::to_page(entry.page.as_deref()),
            help: mail.installation.help(&item.token.source),
        }
    }
}

/// One token whose old secret is still used.
#[derive(Serialize)]
struct OldSecret {
    token: TokenFacts,
    facts: Vec<Fact>,
    /// Whether the recipient owns it.
    yours: bool,
    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`.
    ends_at: String,
    /// `4 hours`.
    left: String,
    /// `in 4 hours`
    ends_in: String,
    /// Whether the old secret has ended meanwhile.
    over: bool,
    /// `10.1.2.3, 10.1.2.4`.
    addresses: Option<String>,
    page: Option<Link>,
}

impl OldSecret {
    fn new(entry: &OldSecretEntry, mail: Mail<'_>) -> Self {
        let language = mail.language;
        let source = mail.installation.source_title(&entry.token.source);
        let token = TokenFacts::new(&entry.token, source, mail);
        let addresses: Vec<_> = entry.addresses.iter().map(IpAddr::to_string).collect();
        let addresses = (!addresses.is_empty()).then(|| addresses.join(", "));
        let ends_at = mail.date_time(entry.ends_at);
        let mut facts = Facts::new(&token, language);
        facts.add_people(&token, language);
        facts.add(phrase!(language, "fact-old-until"), &ends_at);
        let from = addresses.clone();
        let from = from.unwrap_or_else(|| phrase!(language, "unknown-address"));
        facts.add(phrase!(language, "fact-used-from"), &from);
        Self {
            facts: facts.finish(&token, language),
            token,
            yours: entry.basis == Basis::Issuer,
            ends_at,
            left: language.left_until(When::from(entry.ends_at), mail.now()),
            ends_in: language.in_until(When::from(entry.ends_at), mail.now()),
            over: entry.ends_at <= mail.now(),
            addresses,
            page: Link::to_page(entry.page.as_deref()),
        }
    }
}
