use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;

use super::{address, at, step};
use crate::domain::{
    AccountAdmins, Expiry, ForecastWarning, NewNotice, Policy, Status, StepState, Token, Wishes,
    forecast_notices, plan,
};

fn token(life: TimeDelta) -> Token {
    let expires_at = at("2026-12-01T10:30:00Z");
    Token {
        issuer: Some(address("ada@example.org")),
        expiry: Expiry::At(expires_at),
        secret_version: 1,
        first_seen_at: expires_at - life,
        life_from: Some(expires_at - life),
        ..Token::default()
    }
}

/// Steps 30d, 7d, 1d and 0d; with `digest`, administrators are warned at nine in Berlin.
fn policy(digest: bool) -> Policy {
    let policy = super::policy();
    Policy {
        steps: ["30d", "7d", "1d", "0d"].map(step).into(),
        admin_digest: policy.admin_digest.filter(|_| digest),
        zone: chrono_tz::Europe::Berlin,
        ..policy
    }
}

/// What sweeps at every tick plan.
fn planned_by_sweeps(token: &Token, policy: &Policy, start: DateTime<Utc>) -> Vec<NewNotice> {
    let recipients = policy.recipients(token, &AccountAdmins::default(), &[], &|_| false);
    let (mut token, mut notices, mut now) = (token.clone(), Vec::new(), start);
    while Some(now) <= token.expiry.at() {
        let horizon = now + TimeDelta::minutes(15);
        if policy
            .due_at(&token)
            .is_some_and(|due_at| due_at <= horizon)
        {
            let planned = plan(&token, &recipients, &Wishes::default(), policy, horizon);
            token.planned_step = planned.planned_step;
            notices.extend(planned.notices);
        }
        now = horizon;
    }
    notices
}

#[rstest]
#[case::long_before(90, 80)]
#[case::some_steps_passed(90, 5)]
#[case::on_the_last_day(90, 0)]
#[case::a_short_life(7, 7)]
fn the_forecast_is_what_sweeps_plan(
    #[case] life: i64,
    #[case] days_left: i64,
    #[values(false, true)] digest: bool,
) {
    let (token, policy) = (token(TimeDelta::days(life)), policy(digest));
    let start = token.expiry.at().unwrap() - TimeDelta::days(days_left) - TimeDelta::hours(2);
    let recipients = policy.recipients(&token, &AccountAdmins::default(), &[], &|_| false);
    let forecast: Option<Vec<_>> =
        forecast_notices(&token, &recipients, &Wishes::default(), &policy, start)
            .into_iter()
            .map(|warning| warning.notice)
            .collect();
    assert_eq!(forecast.unwrap(), planned_by_sweeps(&token, &policy, start));
}

#[test]
fn a_step_without_recipients_is_in_the_forecast() {
    let (token, policy) = (token(TimeDelta::days(90)), policy(false));
    let start = token.expiry.at().unwrap() - TimeDelta::days(2);
    let without_recipient = |step: &str, instant: &str| ForecastWarning {
        step: step.parse().unwrap(),
        at: at(instant),
        notice: None,
    };
    assert_eq!(
        forecast_notices(&token, &[], &Wishes::default(), &policy, start),
        [
            without_recipient("7d", "2026-11-24T10:30:00Z"),
            without_recipient("1d", "2026-11-30T10:30:00Z"),
            without_recipient("0d", "2026-12-01T10:30:00Z"),
        ]
    );
}

#[test]
fn a_disabled_token_has_an_empty_forecast() {
    let policy = policy(false);
    let disabled = Token {
        status: Status::Disabled,
        ..token(TimeDelta::days(90))
    };
    let recipients = policy.recipients(&disabled, &AccountAdmins::default(), &[], &|_| false);
    let start = at("2026-11-01T00:00:00Z");
    assert_eq!(
        forecast_notices(&disabled, &recipients, &Wishes::default(), &policy, start),
        []
    );
}

#[test]
fn the_outlook_lists_every_step_with_its_state() {
    let planned_step = Some("1d".parse().unwrap());
    let token = Token {
        planned_step,
        ..token(TimeDelta::days(7))
    };
    let outlook: Vec<_> = policy(false)
        .outlook(&token)
        .iter()
        .map(|outlook| (outlook.step.to_string(), outlook.state))
        .collect();
    let plan_at = at("2026-12-01T09:30:00Z");
    assert_eq!(
        outlook,
        [
            ("30d".to_owned(), StepState::TooWide),
            ("7d".to_owned(), StepState::TooWide),
            ("1d".to_owned(), StepState::Planned),
            ("0d".to_owned(), StepState::Open { plan_at }),
        ]
    );
}
