//! Which expiry a token gets, and what a refusal says.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;
use crate::domain::TokenId;
use crate::domain::service::{CredentialState, NewSecret, PublicId, StoredSecret};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    at("2026-11-30T12:00:00Z")
}

fn days(days: i64) -> Lifetime {
    Lifetime::For(TimeDelta::days(days))
}

fn named(name: &str, ttl: Option<TimeDelta>) -> KindTerms {
    KindTerms {
        name: name.to_owned(),
        ttl,
        can_issue: name != "retired",
    }
}

/// At most a year, 30 days unless chosen; `kubeconfig` 16 hours, `robot` for ever.
fn terms() -> Terms {
    Terms {
        kinds: vec![
            named("kubeconfig", Some(TimeDelta::hours(16))),
            named("robot", None),
            named("retired", Some(TimeDelta::hours(1))),
        ],
        ..Terms::default()
    }
}

fn expiry(terms: &Terms, kind: &str, lifetime: Lifetime) -> Result<String, Problem> {
    let expiry = terms.expiry(&Kind::parse(kind), lifetime, now())?;
    Ok(expiry.map_or("never".to_owned(), |at| at.to_rfc3339()))
}

#[test]
fn a_token_gets_the_expiry_that_is_asked_for_or_the_default() {
    let terms = terms();
    for (kind, lifetime, expected) in [
        ("api", Lifetime::Default, "2026-12-30T12:00:00+00:00"),
        ("api", days(365), "2027-11-30T12:00:00+00:00"),
        (
            "api",
            Lifetime::Until(at("2026-12-01T08:30:00Z")),
            "2026-12-01T08:30:00+00:00",
        ),
        ("kubeconfig", Lifetime::Default, "2026-12-01T04:00:00+00:00"),
        (
            "kubeconfig",
            Lifetime::For(TimeDelta::hours(1)),
            "2026-11-30T13:00:00+00:00",
        ),
        ("robot", Lifetime::Default, "never"),
        ("robot", days(7), "2026-12-07T12:00:00+00:00"),
    ] {
        assert_eq!(expiry(&terms, kind, lifetime).unwrap(), expected, "{kind}");
    }
}

#[test]
fn a_refusal_names_the_maximum_and_the_latest_expiry() {
    let terms = terms();
    let year = ("365d".to_owned(), at("2027-11-30T12:00:00Z"));
    let hours = ("16h".to_owned(), at("2026-12-01T04:00:00Z"));
    for (kind, lifetime, pointer, latest, text) in [
        (
            "api",
            days(366),
            "/expires_in",
            &year,
            "a life of 366d is longer than the maximum of 365d; the latest expiry is 2027-11-30T12:00:00Z",
        ),
        (
            "api",
            Lifetime::Until(at("2027-11-30T12:00:01Z")),
            "/expires_at",
            &year,
            "a life until 2027-11-30T12:00:01Z is longer than the maximum of 365d; the latest expiry is 2027-11-30T12:00:00Z",
        ),
        (
            "api",
            Lifetime::Never,
            "/never",
            &year,
            "a token that never expires is not allowed; the maximum is 365d; the latest expiry is 2027-11-30T12:00:00Z",
        ),
        (
            "kubeconfig",
            days(1),
            "/expires_in",
            &hours,
            "a life of 1d is longer than the maximum of 16h; the latest expiry is 2026-12-01T04:00:00Z",
        ),
        (
            "kubeconfig",
            Lifetime::Never,
            "/never",
            &hours,
            "a token that never expires is not allowed; the maximum is 16h; the latest expiry is 2026-12-01T04:00:00Z",
        ),
    ] {
        let problem = expiry(&terms, kind, lifetime).unwrap_err();
        assert_eq!(problem.to_string(), text);
        assert_eq!(problem.kind, ProblemKind::Invalid);
        assert_eq!(problem.pointer, Some(pointer), "{text}");
        assert_eq!(problem.latest.as_ref(), Some(latest), "{text}");
    }
}

#[test]
fn an_expiry_that_is_over_is_refused() {
    for lifetime in [
        Lifetime::Until(now()),
        Lifetime::Until(at("2020-01-01T00:00:00Z")),
        Lifetime::For(TimeDelta::zero()),
        Lifetime::For(TimeDelta::days(-1)),
    ] {
        let problem = expiry(&terms(), "api", lifetime).unwrap_err();
        let text = problem.to_string();
        assert!(
            text.ends_with("give an expiry after 2026-11-30T12:00:00Z"),
            "{text}"
        );
    }
}

#[test]
fn an_expiry_from_2200_on_is_never() {
    let until = Lifetime::Until(at("2200-01-01T00:00:00Z"));
    let long = Lifetime::For(TimeDelta::days(100 * 365));
    let longest = Lifetime::For(TimeDelta::MAX);
    let open = Terms {
        max_ttl: None,
        ..terms()
    };
    let free = Terms {
        allow_never: true,
        ..open.clone()
    };
    assert_eq!(expiry(&free, "api", until), Ok("never".to_owned()));
    assert_eq!(expiry(&free, "api", longest), Ok("never".to_owned()));
    assert_eq!(
        expiry(&free, "api", long),
        Ok("2126-11-06T12:00:00+00:00".to_owned())
    );
    let problem = expiry(&open, "api", until).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "a token that never expires is not allowed, nor one that expires after 2199; give an earlier expiry"
    );
    assert_eq!(
        expiry(&open, "api", Lifetime::Never).unwrap_err().latest,
        None
    );
}

#[test]
fn never_may_be_allowed_beside_a_maximum() {
    let terms = Terms {
        allow_never: true,
        ..terms()
    };
    assert_eq!(
        expiry(&terms, "api", Lifetime::Never),
        Ok("never".to_owned())
    );
    assert!(expiry(&terms, "api", days(366)).is_err());
}

#[test]
fn kinds_that_are_not_issued_are_refused_with_those_that_are() {
    for (kind, expected, text) in [
        (
            "session",
            ProblemKind::Invalid,
            "tokens of kind session are made by lapsed itself",
        ),
        (
            "access",
            ProblemKind::Invalid,
            "tokens of kind access are made by lapsed itself",
        ),
        (
            "retired",
            ProblemKind::Forbidden,
            "no tokens of kind retired are issued",
        ),
        (
            "kubconfig",
            ProblemKind::Invalid,
            "there is no kind \"kubconfig\"",
        ),
    ] {
        let problem = expiry(&terms(), kind, days(1)).unwrap_err();
        assert_eq!(
            problem.to_string(),
            format!("{text}; the kinds are api, kubeconfig, robot")
        );
        assert_eq!((problem.kind, problem.pointer), (expected, Some("/kind")));
    }
}

#[test]
fn the_head_of_a_token_says_its_kind() {
    let heads = ["api", "kubeconfig", "access"].map(|kind| terms().head(&Kind::parse(kind)));
    assert_eq!(heads, ["lapsed", "lapsedk", "lapseda"]);
}

/// Issued 60 days ago for 90 days.
fn credential(kind: &str, expires_at: Option<DateTime<Utc>>) -> Credential {
    let id = PublicId::generate();
    let created_at = now() - TimeDelta::days(60);
    Credential {
        id: TokenId::new("local", id.as_str()),
        kind: Kind::parse(kind),
        issuer: "ada@example.org".into(),
        account: None,
        role: None,
        scopes: "".parse().unwrap(),
        networks: "".parse().unwrap(),
        created_at,
        not_before: None,
        expires_at,
        state: CredentialState::Active,
        secret: StoredSecret {
            number: 1,
            digest: NewSecret::generate("lapsed", &id).digest,
            created_at,
            last_used_at: None,
        },
        old_secret: None,
        parent: None,
        version: 1,
        public_id: id,
    }
}

#[test]
fn a_regenerated_token_keeps_its_former_length_of_life() {
    let terms = terms();
    let former = credential("api", Some(now() + TimeDelta::days(30)));
    let regenerated = |lifetime| terms.regenerated_expiry(&former, lifetime, now());
    let expected = now() + TimeDelta::days(90);
    assert_eq!(regenerated(Lifetime::Default), Ok(Some(expected)));
    let expected = now() + TimeDelta::days(7);
    assert_eq!(regenerated(days(7)), Ok(Some(expected)));
    assert!(regenerated(days(366)).is_err());

    // Also one whose kind is not issued or configured any more.
    for kind in ["retired", "gone"] {
        let former = credential(
            kind,
            Some(now() - TimeDelta::days(60) + TimeDelta::minutes(30)),
        );
        let expiry = terms.regenerated_expiry(&former, Lifetime::Default, now());
        assert_eq!(expiry, Ok(Some(now() + TimeDelta::minutes(30))), "{kind}");
    }
}

#[test]
fn a_former_life_that_the_policy_forbids_now_is_refused_and_not_cut() {
    let endless = credential("api", None);
    let problem = terms()
        .regenerated_expiry(&endless, Lifetime::Default, now())
        .unwrap_err();
    assert_eq!(
        problem.latest,
        Some(("365d".to_owned(), at("2027-11-30T12:00:00Z")))
    );
    assert!(
        terms()
            .regenerated_expiry(&endless, days(365), now())
            .is_ok()
    );
}

#[test]
fn a_token_that_works_later_lives_from_then_on() {
    let start = at("2027-01-01T00:00:00Z");
    let expiry = terms().expiry(&Kind::Api, days(30), start);
    assert_eq!(expiry, Ok(Some(at("2027-01-31T00:00:00Z"))));
    let waiting = Credential {
        not_before: Some(start),
        ..credential("api", Some(at("2027-01-31T00:00:00Z")))
    };
    let expiry = terms().regenerated_expiry(&waiting, Lifetime::Default, now());
    assert_eq!(expiry, Ok(Some(at("2027-01-31T00:00:00Z"))));
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    let seconds = -1_000_000..10_000_000_000i64;
    prop_oneof![
        Just(Lifetime::Default),
        Just(Lifetime::Never),
        seconds
            .clone()
            .prop_map(|seconds| Lifetime::For(TimeDelta::seconds(seconds))),
        seconds.prop_map(|seconds| Lifetime::Until(now() + TimeDelta::seconds(seconds))),
    ]
}

proptest! {
    /// What is granted is what was asked for, and a refusal is right about the maximum.
    #[test]
    fn no_expiry_is_beyond_the_maximum_and_none_is_cut(
        lifetime in lifetimes(),
        kind in prop::sample::select(vec!["api", "kubeconfig", "robot"]),
        max in prop::option::of(86_400..100_000_000i64),
        allow_never: bool,
    ) {
        let max_ttl = max.map(TimeDelta::seconds);
        let default_ttl = Some(TimeDelta::hours(12));
        let terms = Terms { max_ttl, default_ttl, allow_never, ..terms() };
        let kind = Kind::parse(kind);
        let life = terms.life(&kind);
        match terms.expiry(&kind, lifetime, now()) {
            Ok(Some(at)) => {
                prop_assert!(at > now());
                prop_assert!(life.max.is_none_or(|max| at <= now() + max));
                match lifetime {
                    Lifetime::For(ttl) => prop_assert_eq!(at, now() + ttl),
                    Lifetime::Until(asked) => prop_assert_eq!(at, asked),
                    Lifetime::Default => prop_assert_eq!(at, now() + life.default.unwrap()),
                    Lifetime::Never => prop_assert!(false, "an expiry that no one asked for"),
                }
            }
            Ok(None) => prop_assert!(life.allows_never),
            Err(Problem { latest: Some((_, latest)), .. }) => {
                prop_assert_eq!(latest, now() + life.max.unwrap());
                prop_assert_eq!(
                    terms.expiry(&kind, Lifetime::Until(latest), now()),
                    Ok(Some(latest))
                );
            }
            Err(_) => {}
        }
    }
}
