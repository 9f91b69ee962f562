//! The heart: which notices a token owes whom, and when it must be looked at again.

use chrono::{DateTime, Utc};

use super::{Ground, NewNotice, Occurrence, Policy, Recipient, Step, Token, Topic};

/// What is to be done about one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The notices now owed. Inserting one that exists already changes nothing.
    pub notices: Vec<NewNotice>,
    /// The tightest step that is planned after this.
    pub planned_step: Option<Step>,
    /// When to look at the token again.
    pub due_at: Option<DateTime<Utc>>,
}

/// Plans the steps of `token` that are due up to `horizon`, which is the next sweep's time: what is
/// due before then would otherwise come late.
///
/// A step is planned for all recipients at once, each with a `send_at` of his own, so a token is
/// looked at once for a step. Of several steps that are due to a recipient at once only the tightest
/// is planned.
#[must_use]
pub fn plan(
    token: &Token,
    recipients: &[Recipient],
    policy: &Policy,
    horizon: DateTime<Utc>,
) -> Planned {
    let Some(expires_at) = token.expiry.at() else {
        return Planned {
            notices: Vec::new(),
            planned_step: token.planned_step,
            due_at: None,
        };
    };
    let steps: Vec<Step> = policy
        .open_steps(token)
        .filter(|step| policy.plan_at(expires_at, *step) <= horizon)
        .collect();
    let planned_step = steps.last().copied().or(token.planned_step);
    let due_at = policy.due_at(&Token {
        planned_step,
        ..token.clone()
    });
    let notices = recipients
        .iter()
        .flat_map(|recipient| owed(token, expires_at, recipient, &steps, policy, horizon))
        .collect();
    Planned {
        notices,
        planned_step,
        due_at,
    }
}

/// Every warning that `token` will owe from `now` on if nothing changes: planned step by step, as
/// sweeps would whose ticks fall when something is due. A step that nobody is left to be told of is
/// given as `Err` with its instant.
#[must_use]
pub fn foresee(
    token: &Token,
    recipients: &[Recipient],
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<Result<NewNotice, (Step, DateTime<Utc>)>> {
    let mut token = token.clone();
    let mut foreseen = Vec::new();
    while let (Some(due_at), Some(expires_at)) = (policy.due_at(&token), token.expiry.at()) {
        let planned = plan(&token, recipients, policy, due_at.max(now));
        if planned.planned_step == token.planned_step {
            break;
        }
        token.planned_step = planned.planned_step;
        match token.planned_step {
            Some(step) if recipients.is_empty() => {
                foreseen.push(Err((
                    step,
                    policy.send_at(expires_at, step, Ground::Issuer),
                )));
            }
            _ => foreseen.extend(planned.notices.into_iter().map(Ok)),
        }
    }
    foreseen
}

/// The notices of `steps` (widest first) that one recipient is owed.
fn owed(
    token: &Token,
    expires_at: DateTime<Utc>,
    recipient: &Recipient,
    steps: &[Step],
    policy: &Policy,
    horizon: DateTime<Utc>,
) -> Vec<NewNotice> {
    let timed: Vec<(Step, DateTime<Utc>)> = steps
        .iter()
        .map(|step| (*step, policy.send_at(expires_at, *step, recipient.ground)))
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
                generation: expires_at,
                step: Some(*step),
            };
            NewNotice::about(token, occurrence, recipient, *send_at)
        })
        .collect()
}
