//! Which notices are planned, and when the token is next due.

use super::{at, policy, step, token};
use crate::domain::{AccountAdmins, Expiry, Policy, Recipient, Status, Step, Token, Wishes, plan};

fn all_recipients(policy: &Policy, token: &Token) -> Vec<Recipient> {
    policy.recipients(token, &AccountAdmins::default(), &[], &|_| false)
}

/// The planned notices as `step recipient send_at`.
fn planned(token: &Token, policy: &Policy, horizon: &str) -> Vec<String> {
    let planned = plan(
        token,
        &all_recipients(policy, token),
        &Wishes::default(),
        policy,
        at(horizon),
    );
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
            &Wishes::default(),
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
        &Wishes::default(),
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
            &Wishes::default(),
            &policy(),
            at("2026-12-01T00:00:00Z"),
        );
        assert!(found.notices.is_empty() && found.due_at.is_none());
    }
}

#[test]
fn a_step_without_recipients_counts_as_planned() {
    let found = plan(
        &token(),
        &[],
        &Wishes::default(),
        &policy(),
        at("2026-11-21T09:00:00Z"),
    );
    assert!(found.notices.is_empty());
    assert_eq!(found.planned_step, Some(step("7d")));
}

mod wishes {
    use std::collections::HashSet;

    use chrono::NaiveTime;

    use super::super::address;
    use super::*;
    use crate::domain::{Channel, PersonalTimes, Preference};

    /// Ada, who has an account, with this preference.
    fn wishes(change: impl FnOnce(&mut Preference)) -> Wishes {
        let mut preference = Preference::none(address("ada@example.org"));
        change(&mut preference);
        Wishes::new(
            vec![preference],
            HashSet::from(["ada@example.org".to_owned()]),
        )
    }

    /// `step channel` of what is planned for Ada about a token last used at `used_at`.
    fn planned_for_ada(wishes: &Wishes, used_at: Option<&str>, horizon: &str) -> Vec<String> {
        let token = Token {
            last_used_at: used_at.map(at),
            issuer: Some(address("Ada@example.org")),
            ..token()
        };
        let policy = Policy {
            personal: PersonalTimes {
                steps: vec![step("14d"), step("3d")],
                has_digests: false,
                has_wishes: true,
            },
            ..policy()
        };
        let recipients = all_recipients(&policy, &token);
        let planned = plan(&token, &recipients, wishes, &policy, at(horizon));
        let mails = planned.notices.iter().map(|notice| (notice, "mail"));
        let in_accounts = planned.in_accounts.iter().map(|notice| (notice, "account"));
        let of_ada = mails
            .chain(in_accounts)
            .filter(|(notice, _)| notice.recipient.key() == "ada@example.org");
        of_ada
            .map(|(notice, channel)| format!("{} {channel}", notice.step.unwrap()))
            .collect()
    }

    const AT_14D: &str = "2026-11-14T12:00:00Z";
    const AT_3D: &str = "2026-11-25T12:00:00Z";
    const AT_1D: &str = "2026-11-27T12:00:00Z";
    const AN_HOUR_BEFORE_1D: &str = "2026-11-27T11:00:00Z";
    const A_WEEK_BEFORE_1D: &str = "2026-11-20T13:00:00Z";

    #[test]
    fn each_person_has_their_own_steps() {
        let chosen = wishes(|ada| ada.steps = Some(vec![step("14d"), step("3d")]));
        assert_eq!(
            planned_for_ada(&chosen, None, AT_14D),
            ["14d mail", "14d account"]
        );
        assert_eq!(
            planned_for_ada(&chosen, None, AT_3D),
            ["3d mail", "3d account"]
        );
        let usual = wishes(|_| ());
        assert!(planned_for_ada(&usual, None, AT_14D).is_empty());
        assert_eq!(
            planned_for_ada(&usual, None, AT_3D),
            ["7d mail", "7d account"]
        );
    }

    #[test]
    fn the_last_step_of_a_token_in_daily_use_ignores_preferences() {
        for chosen in [
            wishes(|ada| ada.steps = Some(Vec::new())),
            wishes(|ada| ada.channel = Some(Channel::Account)),
        ] {
            let planned = planned_for_ada(&chosen, Some(AN_HOUR_BEFORE_1D), AT_1D);
            assert_eq!(planned, ["1d mail", "1d account"]);
        }
        let nothing = wishes(|ada| ada.steps = Some(Vec::new()));
        let planned = planned_for_ada(&nothing, Some(A_WEEK_BEFORE_1D), AT_1D);
        assert_eq!(planned, ["1d mail", "1d account"]);
        assert!(planned_for_ada(&nothing, Some(AT_14D), AT_1D).is_empty());
        let early = wishes(|ada| ada.steps = Some(vec![step("14d")]));
        let planned = planned_for_ada(&early, Some(A_WEEK_BEFORE_1D), AT_1D);
        assert_eq!(planned, ["1d mail", "1d account"]);
    }

    #[test]
    fn what_is_overlooked_in_the_account_is_mailed_at_the_last_step() {
        let mut chosen = wishes(|ada| ada.channel = Some(Channel::Account));
        assert_eq!(
            planned_for_ada(&chosen, Some(AT_14D), AT_3D),
            ["7d account"]
        );
        let planned = planned_for_ada(&chosen, Some(A_WEEK_BEFORE_1D), AT_1D);
        assert_eq!(planned, ["1d mail", "1d account"]);
        assert_eq!(
            planned_for_ada(&chosen, Some(AT_14D), AT_1D),
            ["1d account"],
            "unused"
        );
        let token = token();
        let generation = token.generation().unwrap().at;
        chosen.add_read(token.id, "ada@example.org".to_owned(), generation);
        let planned = planned_for_ada(&chosen, Some(A_WEEK_BEFORE_1D), AT_1D);
        assert_eq!(planned, ["1d account"]);
    }

    #[test]
    fn without_an_account_everything_is_mailed() {
        let mut ada = Preference::none(address("ada@example.org"));
        ada.channel = Some(Channel::Account);
        let chosen = Wishes::new(vec![ada], HashSet::new());
        assert_eq!(planned_for_ada(&chosen, None, AT_3D), ["7d mail"]);
        let only_mail = wishes(|ada| ada.channel = Some(Channel::Mail));
        assert_eq!(planned_for_ada(&only_mail, None, AT_3D), ["7d mail"]);
    }

    #[test]
    fn a_personal_time_of_day_is_before_the_step_and_never_late() {
        let chosen = wishes(|ada| {
            ada.digest_at = NaiveTime::from_hms_opt(8, 0, 0);
            ada.timezone = Some(chrono_tz::America::New_York);
        });
        let token = token();
        let policy = Policy {
            personal: PersonalTimes {
                has_digests: true,
                has_wishes: true,
                ..PersonalTimes::default()
            },
            ..policy()
        };
        let recipients = all_recipients(&policy, &token);
        let expires_at = token.expiry.at().unwrap();
        let due_at = policy.due_at(&token).unwrap();
        let planned = plan(&token, &recipients, &chosen, &policy, due_at);
        let of_ada = planned
            .notices
            .iter()
            .find(|notice| notice.recipient.key() == "ada@example.org");
        let send_at = of_ada.unwrap().send_at;
        assert_eq!(send_at, at("2026-11-20T13:00:00Z"), "8:00 in New York");
        assert!(due_at <= send_at && send_at <= expires_at - step("7d").width());
    }
}
