//! The core of the planning: which notices are owed for a token, to whom, and when it is next due.

use chrono::{DateTime, Utc};

use super::{Basis, Generation, NewNotice, Occurrence, Policy, Recipient, Step, Token, Topic};

/// The result of planning one token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenPlan {
    /// The notices now owed. Inserting one that already exists changes nothing.
    pub notices: Vec<NewNotice>,
    /// The tightest step that is now planned.
    pub planned_step: Option<Step>,
    /// When the token must be planned again.
    pub due_at: Option<DateTime<Utc>>,
}

/// Plans the steps of `token` that are due up to `horizon`, the time of the next sweep: a step that is
/// due before then would otherwise be late.
///
/// A step is planned for all recipients at once, each with their own `send_at`, so a token is read once
/// per step. If several steps are due for a recipient at once, only the tightest is planned.
#[must_use]
pub fn plan(
    token: &Token,
    recipients: &[Recipient],
    policy: &Policy,
    horizon: DateTime<Utc>,
) -> TokenPlan {
    let Some(generation) = token.generation() else {
        return TokenPlan {
            notices: Vec::new(),
            planned_step: token.planned_step,
            due_at: None,
        };
    };
    let steps: Vec<Step> = policy
        .open_steps(token, token.planned_step)
        .filter(|step| policy.plan_at(generation.at, *step) <= horizon)
        .collect();
    let planned_step = steps.last().copied().or(token.planned_step);
    let due_at = policy.due_after(token, planned_step);
    let notices = recipients
        .iter()
        .flat_map(|recipient| {
            notices_for_recipient(token, generation, recipient, &steps, policy, horizon)
        })
        .collect();
    TokenPlan {
        notices,
        planned_step,
        due_at,
    }
}

/// Every warning about `token` from `now` on if nothing changes: planned step by step, as sweeps would
/// at the instants when a step is due. A step without any recipient is returned as `Err` with its
/// instant.
#[must_use]
pub fn forecast_notices(
    token: &Token,
    recipients: &[Recipient],
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Result<NewNotice, (Step, DateTime<Utc>)>> {
    let mut token = token.clone();
    let mut forecast = Vec::new();
    while let (Some(due_at), Some(expires_at)) = (policy.due_at(&token), token.expiry.at()) {
        let planned = plan(&token, recipients, policy, due_at.max(now));
        if planned.planned_step == token.planned_step {
            break;
        }
        token.planned_step = planned.planned_step;
        match token.planned_step {
            Some(step) if recipients.is_empty() => {
                forecast.push(Err((step, policy.send_at(expires_at, step, Basis::Issuer))));
            }
            _ => forecast.extend(planned.notices.into_iter().map(Ok)),
        }
    }
    forecast
}

/// The notices of `steps` (widest first) that one recipient is owed.
fn notices_for_recipient(
    token: &Token,
    generation: Generation,
    recipient: &Recipient,
    steps: &[Step],
    policy: &Policy,
    horizon: DateTime<Utc>,
) -> Vec<NewNotice> {
    let timed: Vec<(Step, DateTime<Utc>)> = steps
        .iter()
        .map(|step| (*step, policy.send_at(generation.at, *step, recipient.basis)))
        .collect();
    let is_overtaken = |index: usize, send_at: DateTime<Utc>| {
        timed[index + 1..]
            .iter()
            .any(|(_, tighter)| *tighter <= send_at.max(horizon))
    };
    timed
        .iter()
        .enumerate()
        .filter(|(index, (_, send_at))| !is_overtaken(*index, *send_at))
        .map(|(_, (step, send_at))| {
            let occurrence = Occurrence {
                topic: Topic::Expiry,
                generation,
                step: Some(*step),
            };
            NewNotice::for_token(token, occurrence, recipient, *send_at)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeDelta;
    use rstest::rstest;

    use super::super::{AccountAdmins, Expiry, Status, StepState, TokenId};
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn token(life: TimeDelta) -> Token {
        let expires_at = at("2026-12-01T10:30:00Z");
        Token {
            id: TokenId::new("s", "1"),
            source: "s".into(),
            external_id: "1".into(),
            name: String::new(),
            issuer: Some("ada@example.org".parse().unwrap()),
            expiry: Expiry::At(expires_at),
            secret_version: 1,
            first_seen_at: expires_at - life,
            life_from: Some(expires_at - life),
            ..Token::default()
        }
    }

    fn policy(digest: bool) -> Policy {
        Policy {
            steps: ["30d", "7d", "1d", "0d"]
                .map(|step| step.parse().unwrap())
                .into(),
            merge_ahead: TimeDelta::hours(1),
            admin_digest: digest.then(|| chrono::NaiveTime::from_hms_opt(9, 0, 0).unwrap()),
            zone: chrono_tz::Europe::Berlin,
            admins: vec!["security@example.org".parse().unwrap()],
            accounts: BTreeMap::new(),
            max_per_sweep: 0,
            rules: crate::domain::Rules::default(),
        }
    }

    /// What sweeps at every tick plan.
    fn planned_by_sweeps(token: &Token, policy: &Policy, start: DateTime<Utc>) -> Vec<NewNotice> {
        let recipients = policy.recipients(token, &AccountAdmins::default(), false, &|_| false);
        let (mut token, mut notices, mut now) = (token.clone(), Vec::new(), start);
        while Some(now) <= token.expiry.at() {
            let horizon = now + TimeDelta::minutes(15);
            if policy
                .due_at(&token)
                .is_some_and(|due_at| due_at <= horizon)
            {
                let planned = plan(&token, &recipients, policy, horizon);
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
        let recipients = policy.recipients(&token, &AccountAdmins::default(), false, &|_| false);
        let forecast: Result<Vec<_>, _> = forecast_notices(&token, &recipients, &policy, start)
            .into_iter()
            .collect();
        assert_eq!(forecast.unwrap(), planned_by_sweeps(&token, &policy, start));
    }

    #[test]
    fn a_step_without_recipients_is_in_the_forecast() {
        let (token, policy) = (token(TimeDelta::days(90)), policy(false));
        let start = token.expiry.at().unwrap() - TimeDelta::days(2);
        let forecast = forecast_notices(&token, &[], &policy, start);
        assert_eq!(
            forecast,
            [
                Err(("7d".parse().unwrap(), at("2026-11-24T10:30:00Z"))),
                Err(("1d".parse().unwrap(), at("2026-11-30T10:30:00Z"))),
                Err((Step::ZERO, at("2026-12-01T10:30:00Z"))),
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
        let recipients = policy.recipients(&disabled, &AccountAdmins::default(), false, &|_| false);
        let start = at("2026-11-01T00:00:00Z");
        assert_eq!(forecast_notices(&disabled, &recipients, &policy, start), []);
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
}
