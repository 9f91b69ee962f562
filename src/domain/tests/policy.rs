//! When a token is due, when a notice is sent, and to whom.

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use proptest::prelude::*;

use super::{acme, address, at, hour, policy, step, token};
use crate::domain::{Account, AccountAdmins, Basis, Expiry, Policy, Status, Step, Token};

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn a_token_is_due_at_the_first_instant_with_work() {
    let digest_off = Policy {
        admin_digest: None,
        ..policy()
    };
    let unsettled = Some(at("2026-11-20T00:00:00Z"));
    let token = Token {
        due_at: unsettled,
        ..token()
    };
    let planned = |text: &str| Some(step(text));
    for (case, token, policy, expected) in [
        // The admins' digest before the step is earlier than the issuer's merge window.
        (
            "digest",
            token.clone(),
            policy(),
            Some("2026-11-21T09:00:00Z"),
        ),
        (
            "no digest",
            token.clone(),
            digest_off.clone(),
            Some("2026-11-21T11:00:00Z"),
        ),
        (
            "7d planned",
            Token {
                planned_step: planned("7d"),
                ..token.clone()
            },
            policy(),
            Some("2026-11-27T09:00:00Z"),
        ),
        (
            "all planned: needs its mark",
            Token {
                planned_step: planned("1d"),
                ..token.clone()
            },
            policy(),
            Some("2026-11-28T12:00:00Z"),
        ),
        (
            "marked, all planned",
            Token {
                planned_step: planned("1d"),
                status: Status::Expired,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "marked, a step missed",
            Token {
                planned_step: planned("7d"),
                status: Status::Expired,
                ..token.clone()
            },
            policy(),
            Some("2026-11-27T09:00:00Z"),
        ),
        (
            "marked and settled",
            Token {
                status: Status::Expired,
                due_at: None,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "disabled",
            Token {
                status: Status::Disabled,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "revoked",
            Token {
                status: Status::Revoked,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "gone",
            Token {
                status: Status::Gone,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "endless",
            Token {
                expiry: Expiry::Never,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "unknown",
            Token {
                expiry: Expiry::Unknown,
                ..token.clone()
            },
            policy(),
            None,
        ),
        (
            "a life of seven days",
            Token {
                life_from: Some(at("2026-11-21T12:00:00Z")),
                ..token.clone()
            },
            policy(),
            Some("2026-11-27T09:00:00Z"),
        ),
        (
            "a life of seven days and a second",
            Token {
                life_from: Some(at("2026-11-21T11:59:59Z")),
                ..token.clone()
            },
            policy(),
            Some("2026-11-21T09:00:00Z"),
        ),
        (
            "a life shorter than every step",
            Token {
                life_from: Some(at("2026-11-28T11:00:00Z")),
                ..token.clone()
            },
            policy(),
            Some("2026-11-28T12:00:00Z"),
        ),
        (
            "an unknown life",
            Token {
                life_from: None,
                ..token.clone()
            },
            policy(),
            Some("2026-11-21T09:00:00Z"),
        ),
        (
            "no steps",
            token.clone(),
            Policy {
                steps: vec![],
                ..policy()
            },
            Some("2026-11-28T12:00:00Z"),
        ),
        (
            "at the expiry itself",
            token.clone(),
            Policy {
                steps: vec![Step::ZERO],
                ..digest_off
            },
            Some("2026-11-28T11:00:00Z"),
        ),
    ] {
        assert_eq!(policy.due_at(&token), expected.map(at), "{case}");
    }
}

#[test]
fn issuers_are_warned_at_the_step_and_admins_at_the_digest_before() {
    let expires_at = at("2026-11-28T12:00:00Z");
    let berlin = Policy {
        zone: chrono_tz::Europe::Berlin,
        ..policy()
    };
    let digest_off = Policy {
        admin_digest: None,
        ..policy()
    };
    for (policy, basis, expected) in [
        (policy(), Basis::Issuer, "2026-11-21T12:00:00Z"),
        (policy(), Basis::Admin, "2026-11-21T09:00:00Z"),
        (policy(), Basis::AccountAdmin, "2026-11-21T09:00:00Z"),
        (berlin, Basis::Admin, "2026-11-21T08:00:00Z"),
        (digest_off, Basis::Admin, "2026-11-21T12:00:00Z"),
    ] {
        assert_eq!(
            policy.send_at(expires_at, step("7d"), basis),
            at(expected),
            "{policy:?}"
        );
    }
}

#[test]
fn admins_reported_by_the_source_join_the_configured_ones() {
    let (policy, token) = (policy(), token());
    let mut admins = AccountAdmins::default();
    admins.add("exports", "acme", address("Boss@acme.example"));
    admins.add("exports", "acme", address("grace@acme.example"));
    admins.add("exports", "other", address("x@other.example"));
    admins.add("another", "acme", address("x@another.example"));
    let recipients = policy.recipients(&token, &admins, &[], &|_| false);
    let listed: Vec<String> = recipients
        .iter()
        .map(|recipient| format!("{} {}", recipient.basis, recipient.address))
        .collect();
    assert_eq!(
        listed,
        [
            "issuer ada@example.org",
            "account_admin boss@acme.example",
            "account_admin grace@acme.example",
            "admin security@example.org",
        ]
    );
    let stray = Token {
        account: None,
        ..token
    };
    assert_eq!(policy.recipients(&stray, &admins, &[], &|_| false).len(), 2);
}

#[test]
fn every_owner_is_a_recipient_unless_they_lost_access() {
    let [ada, bob, eve] = ["ada@example.org", "bob@example.org", "eve@example.org"].map(address);
    let shared = Token {
        co_owners: vec![bob.clone(), eve.clone()],
        account: None,
        ..token()
    };
    let list = |lost: &[crate::domain::Address], dead: &[&str]| -> Vec<String> {
        let is_dead = |address: &crate::domain::Address| dead.contains(&address.key());
        let admins = AccountAdmins::default();
        let recipients = policy().recipients(&shared, &admins, lost, &is_dead);
        let line = |to: &crate::domain::Recipient| format!("{} {}", to.basis, to.address);
        recipients.iter().map(line).collect()
    };
    let all = [
        "issuer ada@example.org",
        "issuer bob@example.org",
        "issuer eve@example.org",
        "admin security@example.org",
    ];
    assert_eq!(list(&[], &[]), all);
    assert_eq!(list(std::slice::from_ref(&ada), &[]), all[1..]);
    assert_eq!(
        list(std::slice::from_ref(&bob), &["ada@example.org"]),
        all[2..]
    );
    assert_eq!(list(&[ada, bob, eve], &[]), all[3..]);
}

#[test]
fn each_address_is_a_recipient_once_on_its_first_basis() {
    let list = |policy: &Policy, token: &Token, lost: bool, dead: &[&str]| -> Vec<String> {
        let is_dead = |address: &crate::domain::Address| dead.contains(&address.key());
        let lost: Vec<_> = token.issuer.iter().filter(|_| lost).cloned().collect();
        let recipients = policy.recipients(token, &AccountAdmins::default(), &lost, &is_dead);
        recipients
            .iter()
            .map(|recipient| format!("{} {}", recipient.basis, recipient.address))
            .collect()
    };
    let (policy, token) = (policy(), token());
    let all = [
        "issuer ada@example.org",
        "account_admin boss@acme.example",
        "admin security@example.org",
    ];
    assert_eq!(list(&policy, &token, false, &[]), all);
    assert_eq!(list(&policy, &token, true, &[]), all[1..]);
    assert_eq!(list(&policy, &token, false, &["ada@example.org"]), all[1..]);
    assert_eq!(
        list(&policy, &token, false, &["security@example.org"]),
        all[..2]
    );
    let elsewhere = Token {
        account: Some("other".into()),
        ..token.clone()
    };
    assert_eq!(list(&policy, &elsewhere, false, &[]), [all[0], all[2]]);
    let unowned = Token {
        issuer: None,
        account: None,
        ..token.clone()
    };
    assert_eq!(list(&policy, &unowned, false, &[]), [all[2]]);
    // An issuer who is also an admin is a recipient once; one who lost access is not a recipient.
    let ada_administers = Policy {
        admins: vec![address("ADA@example.org"), address("security@example.org")],
        ..policy.clone()
    };
    assert_eq!(list(&ada_administers, &token, false, &[]), all);
    assert_eq!(list(&ada_administers, &token, true, &[]), all[1..]);
    let without_admins = Policy {
        admins: vec![],
        accounts: [].into(),
        ..policy
    };
    assert!(list(&without_admins, &token, true, &[]).is_empty());
}

#[test]
fn steps_of_the_account_replace_those_of_the_source_and_of_all_tokens() {
    let of_source = Policy {
        source_steps: [("exports".to_owned(), vec![step("90d"), step("30d")])].into(),
        ..policy()
    };
    let mut of_account = of_source.clone();
    let acme = of_account.accounts.get_mut("acme").unwrap();
    acme.steps = Some(vec![step("14d")]);
    let shouted = Token {
        account: Some("ACME ".into()),
        ..token()
    };
    let elsewhere = Token {
        source: "rancher".into(),
        ..token()
    };
    let fits = |policy: &Policy, token: &Token| {
        let outlook = policy.outlook(token);
        let steps = outlook.iter().map(|outlook| outlook.step.to_string());
        steps.collect::<Vec<_>>()
    };
    assert_eq!(fits(&of_source, &token()), ["90d", "30d"]);
    assert_eq!(fits(&of_source, &elsewhere), ["7d", "1d"]);
    assert_eq!(fits(&of_account, &shouted), ["14d"]);
    assert_eq!(fits(&of_account, &elsewhere), ["14d"]);
    // Due at the digest before the step; 90 days are as wide as the token's life.
    let due_at = |policy: &Policy| policy.due_at(&token());
    assert_eq!(due_at(&of_source), Some(at("2026-10-29T09:00:00Z")));
    assert_eq!(due_at(&of_account), Some(at("2026-11-14T09:00:00Z")));
    let widest = |policy: &Policy| policy.widest_step().to_string();
    assert_eq!(
        (widest(&policy()), widest(&of_account)),
        ("7d".into(), "90d".into())
    );
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn everything_that_decides_due_at_is_in_the_fingerprint() {
    let first = policy().fingerprint();
    assert_eq!(first, policy().fingerprint());
    for (case, other) in [
        (
            "steps",
            Policy {
                steps: vec![step("7d")],
                ..policy()
            },
        ),
        (
            "steps of a source",
            Policy {
                source_steps: [("exports".to_owned(), vec![step("7d")])].into(),
                ..policy()
            },
        ),
        (
            "steps of an account",
            Policy {
                accounts: [(
                    "acme".to_owned(),
                    Account {
                        steps: Some(vec![step("7d")]),
                        ..acme()
                    },
                )]
                .into(),
                ..policy()
            },
        ),
        (
            "merging",
            Policy {
                merge_ahead: TimeDelta::zero(),
                ..policy()
            },
        ),
        (
            "digest",
            Policy {
                admin_digest: None,
                ..policy()
            },
        ),
        (
            "hour",
            Policy {
                admin_digest: Some(hour("09:01:00")),
                ..policy()
            },
        ),
        (
            "zone",
            Policy {
                zone: chrono_tz::Europe::Berlin,
                ..policy()
            },
        ),
    ] {
        assert_ne!(first, other.fingerprint(), "{case}");
    }
}

const ZONES: [chrono_tz::Tz; 7] = [
    chrono_tz::UTC,
    chrono_tz::Europe::Berlin,
    chrono_tz::America::New_York,
    chrono_tz::Australia::Lord_Howe,
    chrono_tz::America::Havana,
    chrono_tz::Asia::Kolkata,
    chrono_tz::Pacific::Apia,
];

/// Whether the clock in the zone shows the time at this instant, or a gap that skipped it has just ended.
fn is_hour(instant: DateTime<Utc>, hour: chrono::NaiveTime, zone: chrono_tz::Tz) -> bool {
    let local = instant.with_timezone(&zone);
    if local.time() == hour {
        return true;
    }
    let is_skipped = (0..=1).any(|days| {
        let day = local.date_naive() - TimeDelta::days(days);
        zone.from_local_datetime(&day.and_time(hour))
            .earliest()
            .is_none()
    });
    let before = (instant - TimeDelta::hours(1)).with_timezone(&zone);
    is_skipped && local.offset() != before.offset()
}

proptest! {
    #[test]
    fn the_digest_is_at_its_hour_and_never_after_the_step(
        // From 2025 to 2029.
        seconds in 1_735_689_600_i64..1_861_920_000,
        minute in 0_u32..1440,
        zone in prop::sample::select(ZONES.to_vec()),
        width in prop::sample::select(vec!["0d", "36h", "1d", "7d", "90d"]),
    ) {
        let hour = chrono::NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).unwrap();
        let policy = Policy { admin_digest: Some(hour), zone, ..policy() };
        let expires_at = DateTime::from_timestamp(seconds, 0).unwrap();
        let step_at = expires_at - step(width).width();
        let send_at = policy.send_at(expires_at, step(width), Basis::Admin);
        prop_assert!(send_at <= step_at, "{send_at} is after {step_at}");
        prop_assert!(step_at - send_at <= TimeDelta::hours(26), "{send_at} is long before {step_at}");
        prop_assert!(is_hour(send_at, hour, zone), "{} in {zone}", send_at.with_timezone(&zone));
        // There is no digest in between.
        let next = (1..=26).map(|hours| policy.send_at(
            send_at + TimeDelta::hours(hours) + step(width).width(), step(width), Basis::Admin));
        for next in next {
            prop_assert!(next == send_at || next > step_at || step_at < send_at, "{next} was skipped");
            if next > send_at { break; }
        }
        prop_assert!(policy.plan_at(expires_at, step(width)) <= send_at);
        prop_assert!(policy.plan_at(expires_at, step(width)) <= step_at - policy.merge_ahead);
    }
}
