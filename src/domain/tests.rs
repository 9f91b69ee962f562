//! Tables of decisions about one token, and random histories of one.

mod access;
mod diff;
mod finding;
mod forecast;
mod history;
mod plan;
mod policy;
mod replica;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

use super::{Account, Address, Expiry, ExpiryOrigin, ListedToken, Policy, Step, Token, TokenId};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn step(text: &str) -> Step {
    text.parse().unwrap()
}

fn hour(text: &str) -> NaiveTime {
    text.parse().unwrap()
}

/// Steps 7d and 1d, digest at nine in UTC, one administrator.
fn policy() -> Policy {
    Policy {
        source_steps: std::collections::BTreeMap::new(),
        steps: vec![step("7d"), step("1d")],
        merge_ahead: TimeDelta::hours(1),
        admin_digest: Some(hour("09:00:00")),
        zone: chrono_tz::UTC,
        admins: vec![address("security@example.org")],
        accounts: [("acme".to_owned(), acme())].into(),
        max_per_sweep: 0,
        rules: crate::domain::Rules::default(),
        personal: crate::domain::PersonalTimes::default(),
    }
}

fn acme() -> Account {
    Account {
        name: "acme".to_owned(),
        admins: vec![address("boss@acme.example")],
        steps: None,
    }
}

/// Ada's token at acme with a life of 90 days, which expires at noon on 28 November 2026.
fn token() -> Token {
    Token {
        id: TokenId::new("exports", "1"),
        source: "exports".into(),
        external_id: "1".into(),
        name: "ci".into(),
        issuer: Some(address("ada@example.org")),
        account: Some("acme".into()),
        created_at: Some(at("2026-08-30T12:00:00Z")),
        expiry: Expiry::At(at("2026-11-28T12:00:00Z")),
        expiry_origin: Some(ExpiryOrigin::Source),
        secret_version: 1,
        first_seen_at: at("2026-08-31T00:00:00Z"),
        life_from: Some(at("2026-08-30T12:00:00Z")),
        ..Token::default()
    }
}

/// The token in a listing with only the id column.
fn only_id() -> ListedToken {
    ListedToken::with_id("1")
}
