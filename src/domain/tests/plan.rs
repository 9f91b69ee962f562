//! Which notices are planned, and when the token is next due.

use super::{at, policy, step, token};
use crate::domain::{AccountAdmins, Expiry, Policy, Recipient, Status, Step, Token, plan};

fn all_recipients(policy: &Policy, token: &Token) -> Vec<Recipient> {
    policy.recipients(token, &AccountAdmins::default(), &[], &|_| false)
}

/// The planned notices as `step recipient send_at`.
fn planned(token: &Token, policy: &Policy, horizon: &str) -> Vec<String> {
    let planned = plan(token, &all_recipients(policy, token), policy, at(horizon));
    let notices = planned.notices.iter();
    notices
        .map(|notice| {
            let step = notice.step.unwrap();
            format!(
                "{step} {} {}",
                notice.recipient,
                notice.send_at.format("%d.%H:%M")
            )
        })
        .collect()
}

#[test]
fn a_step_is_planned_for_all_as_soon_as_it_is_due_for_one() {
    assert!(planned(&token(), &policy(), "2026-11-21T08:59:59Z").is_empty());
    assert_eq!(
        planned(&token(), &policy(), "2026-11-21T09:00:00Z"),
        [
            "7d ada@example.org 21.12:00",
            "7d boss@acme.example 21.09:00",
            "7d security@example.org 21.09:00",
        ]
    );
}

#[test]
fn only_the_tightest_of_several_due_steps_is_planned() {
    assert_eq!(
        planned(&token(), &policy(), "2026-11-27T12:00:00Z"),
        [
            "1d ada@example.org 27.12:00",
            "1d boss@acme.example 27.09:00",
            "1d security@example.org 27.09:00",
        ]
    );
    // Due within the horizon for the admins, but later for the issuer, who gets both in time.
    assert_eq!(
        planned(&token(), &policy(), "2026-11-27T10:00:00Z"),
        [
            "7d ada@example.org 21.12:00",
            "1d ada@example.org 27.12:00",
            "1d boss@acme.example 27.09:00",
            "1d security@example.org 27.09:00",
        ]
    );
}

#[test]
fn a_planned_token_is_due_at_its_next_step() {
    let (token, policy) = (token(), policy());
    for (horizon, step_after, due_after) in [
        ("2026-11-20T00:00:00Z", None, "2026-11-21T09:00:00Z"),
        ("2026-11-21T09:00:00Z", Some("7d"), "2026-11-27T09:00:00Z"),
        ("2026-11-27T09:00:00Z", Some("1d"), "2026-11-28T12:00:00Z"),
        ("2026-12-24T00:00:00Z", Some("1d"), "2026-11-28T12:00:00Z"),
    ] {
        let planned = plan(
            &token,
            &all_recipients(&policy, &token),
            &policy,
            at(horizon),
        );
        assert_eq!(planned.planned_step, step_after.map(step), "{horizon}");
        assert_eq!(planned.due_at, Some(at(due_after)), "{horizon}");
    }
}

#[test]
fn a_planned_step_is_not_planned_again() {
    let token = Token {
        planned_step: Some(step("7d")),
        ..token()
    };
    assert!(planned(&token, &policy(), "2026-11-26T00:00:00Z").is_empty());
    assert_eq!(planned(&token, &policy(), "2026-12-24T00:00:00Z").len(), 3);
    let token = Token {
        planned_step: Some(Step::ZERO),
        ..token
    };
    assert!(planned(&token, &policy(), "2026-12-24T00:00:00Z").is_empty());
}

#[test]
fn a_new_administrator_is_notified_from_the_next_step_on() {
    let policy_with_new = Policy {
        admins: vec![
            "security@example.org".parse().unwrap(),
            "new@example.org".parse().unwrap(),
        ],
        ..policy()
    };
    let token = Token {
        planned_step: Some(step("7d")),
        ..token()
    };
    assert!(planned(&token, &policy_with_new, "2026-11-22T00:00:00Z").is_empty());
    let next = planned(&token, &policy_with_new, "2026-11-27T09:00:00Z");
    assert!(
        next.contains(&"1d new@example.org 27.09:00".to_owned()),
        "{next:?}"
    );
}

#[test]
fn a_step_as_wide_as_the_life_is_skipped() {
    let week = Token {
        life_from: Some(at("2026-11-21T12:00:00Z")),
        ..token()
    };
    let found = planned(&week, &policy(), "2026-11-28T12:00:00Z");
    assert!(
        !found.is_empty() && found.iter().all(|notice| notice.starts_with("1d ")),
        "{found:?}"
    );
    let hour = Token {
        life_from: Some(at("2026-11-28T11:00:00Z")),
        ..token()
    };
    assert!(planned(&hour, &policy(), "2026-12-24T00:00:00Z").is_empty());
    let unknown = Token {
        life_from: None,
        ..token()
    };
    assert_eq!(
        planned(&unknown, &policy(), "2026-11-21T09:00:00Z").len(),
        3
    );
}

#[test]
fn an_expired_token_gets_the_warning_missed_in_an_outage_once() {
    let missed = Token {
        status: Status::Expired,
        due_at: Some(at("2026-11-21T09:00:00Z")),
        ..token()
    };
    let found = plan(
        &missed,
        &all_recipients(&policy(), &missed),
        &policy(),
        at("2026-12-01T00:00:00Z"),
    );
    assert_eq!(found.notices.len(), 3);
    assert!(
        found
            .notices
            .iter()
            .all(|notice| notice.step == Some(step("1d")))
    );
    assert_eq!((found.planned_step, found.due_at), (Some(step("1d")), None));
}

#[test]
fn a_token_without_an_expiry_has_no_notices() {
    for expiry in [Expiry::Never, Expiry::Unknown] {
        let token = Token {
            expiry,
            due_at: Some(at("2026-11-21T09:00:00Z")),
            ..token()
        };
        let found = plan(
            &token,
            &all_recipients(&policy(), &token),
            &policy(),
            at("2026-12-01T00:00:00Z"),
        );
        assert!(found.notices.is_empty() && found.due_at.is_none());
    }
}

#[test]
fn a_step_without_recipients_counts_as_planned() {
    let found = plan(&token(), &[], &policy(), at("2026-11-21T09:00:00Z"));
    assert!(found.notices.is_empty());
    assert_eq!(found.planned_step, Some(step("7d")));
}
