//! What sample letters are made of.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::domain::{Address, Basis, Expiry, ExpiryOrigin, Step, Token, TokenId};
use crate::notify::letter::{Entry, ExpiryEntry, Letter, OwnerGap};

pub fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_795_251_600)
}

/// A token that has all optional data, expires in a week and was used four minutes ago.
pub fn token(name: &str) -> Token {
    let external_id = format!("key-{}", name.len());
    Token {
        id: TokenId::new("exports", name),
        source: "exports".to_owned(),
        external_id,
        name: name.to_owned(),
        description: Some("Deploys the shop from its pipeline".to_owned()),
        issuer: Some(address("ada@example.org")),
        issuer_name: Some("Ada Lovelace".to_owned()),
        account: Some("acme".to_owned()),
        role: Some("admin".to_owned()),
        scope: Some("repo:read, packages:write".to_owned()),
        created_at: Some(now() - TimeDelta::days(83)),
        expiry: Expiry::At(now() + TimeDelta::days(7)),
        expiry_origin: Some(ExpiryOrigin::Source),
        secret_version: 1,
        last_used_at: Some(now() - TimeDelta::minutes(4)),
        reports_use: true,
        first_seen_at: now() - TimeDelta::days(83),
        life_from: Some(now() - TimeDelta::days(83)),
        ..Token::default()
    }
}

impl Letter {
    /// Moves all times, so that the letter could have been written at another time.
    pub fn shift(&mut self, by: TimeDelta) {
        self.now += by;
        for entry in &mut self.entries {
            let token = match entry {
                Entry::Expiry(entry) => {
                    entry.due_at += by;
                    &mut entry.token
                }
                Entry::Revoked(entry) => {
                    entry.since += by;
                    if let Some((_, at)) = &mut entry.end {
                        *at += by;
                    }
                    &mut entry.token
                }
                Entry::Ended(entry) => {
                    entry.at += by;
                    &mut entry.token
                }
                Entry::OldSecret(entry) => {
                    entry.ends_at += by;
                    &mut entry.token
                }
                Entry::Summary(summary) => {
                    for finding in &mut summary.findings {
                        finding.since += by;
                        finding.last_used_at = finding.last_used_at.map(|at| at + by);
                    }
                    continue;
                }
                Entry::SignIn(entry) => {
                    entry.until += by;
                    continue;
                }
                Entry::Alert(_) | Entry::Test => continue,
            };
            if let Expiry::At(at) = &mut token.expiry {
                *at += by;
                token.expiry_day = token.expiry_day.map(|_| at.date_naive());
            }
            token.created_at = token.created_at.map(|at| at + by);
            token.last_used_at = token.last_used_at.map(|at| at + by);
            token.life_from = token.life_from.map(|at| at + by);
        }
    }
}

pub fn address(text: &str) -> Address {
    text.parse().expect("a sample's address is valid")
}

pub fn letter(reference: &str, entries: Vec<Entry>) -> Letter {
    Letter {
        reference: reference.to_owned(),
        to: address("ada@example.org"),
        zone: Tz::UTC,
        language: None,
        now: now(),
        entries,
        unlisted: Vec::new(),
        unreachable: Vec::new(),
    }
}

pub fn entry(token: Token, days: i64) -> ExpiryEntry {
    let step = Step::from_seconds(days * 86_400);
    let expires_at = token.expiry.at().unwrap_or_else(now);
    ExpiryEntry {
        due_at: expires_at - step.width(),
        token,
        step,
        basis: Basis::Issuer,
        instead_of_issuer: Vec::new(),
        page: None,
        still_used: None,
    }
}

/// The mail server of the issuer refuses their mailbox.
pub fn refused() -> OwnerGap {
    OwnerGap::Refused {
        owner: address("ada@example.org"),
        reply: "550 5.1.1 no such user".to_owned(),
    }
}

pub fn page_of(token: &Token) -> String {
    format!("https://exports.example.org/tokens/{}", token.external_id)
}
