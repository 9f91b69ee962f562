//! What became of the steps of a token's present expiry, in words.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::output::{
    rows::StepRow,
    when::{Instant, instant},
};
use crate::domain::{NoticeState, Policy, Prospect, Status, Step, Token, Topic};
use crate::store::NoticeRow;

/// Each configured step, and each that was configured when notices were planned, widest first.
pub(super) fn step_rows(
    token: &Token,
    policy: &Policy,
    notices: &[NoticeRow],
    now: DateTime<Utc>,
) -> Vec<StepRow> {
    let Some(expires_at) = token.expiry.at() else {
        return Vec::new();
    };
    let outlook = policy.outlook(token);
    let planned = notices.iter().filter(|notice| is_of(notice, expires_at));
    let planned = planned.filter_map(|notice| notice.step.map(Step::from_seconds));
    let steps: BTreeSet<Step> = outlook.iter().map(|it| it.step).chain(planned).collect();
    let rows = steps.into_iter().rev().map(|step| {
        let of_step: Vec<_> = notices
            .iter()
            .filter(|notice| is_of(notice, expires_at) && is_at(notice, step))
            .collect();
        let prospect = outlook
            .iter()
            .find(|it| it.step == step)
            .map(|it| it.prospect);
        let outcome = match (told(&of_step, now), prospect) {
            (Some(told), _) => told,
            (None, Some(prospect)) => untold(token, step, prospect, now),
            (None, None) => String::new(),
        };
        StepRow {
            step,
            at: Instant(expires_at - step.width()),
            outcome,
        }
    });
    rows.collect()
}

/// Whether the notice is a warning about this expiry.
pub(super) fn is_of(notice: &NoticeRow, expires_at: DateTime<Utc>) -> bool {
    notice.topic == Topic::Expiry.as_str() && notice.generation == expires_at
}

/// Whether the notice is about this step.
pub(super) fn is_at(notice: &NoticeRow, step: Step) -> bool {
    notice.step == Some(step.seconds())
}

/// Whether the notice's plan waits for an operator.
pub(super) fn is_held(notice: &NoticeRow) -> bool {
    notice.state == NoticeState::Planned.as_str() && notice.reason.as_deref() == Some("held")
}

/// Whether the expiry had passed when lapsed learned of it.
pub(super) fn was_seen_expired(token: &Token) -> bool {
    let learned_at = token
        .first_seen_at
        .max(token.life_from.unwrap_or(token.first_seen_at));
    token.expiry.at().is_some_and(|at| at <= learned_at)
}

/// Why nobody was told of a step at all.
pub(super) fn untold(token: &Token, step: Step, prospect: Prospect, now: DateTime<Utc>) -> String {
    let status = token.status_at(now);
    match prospect {
        Prospect::TooWide => "skipped: as wide as the token's life".to_owned(),
        _ if was_seen_expired(token) => "none: it was first seen already expired".to_owned(),
        Prospect::Planned if token.planned_step.is_some_and(|planned| planned < step) => {
            "settled by a tighter step".to_owned()
        }
        Prospect::Planned => "nobody was there to be told".to_owned(),
        Prospect::Open { .. } => match status {
            Status::Active => "not yet".to_owned(),
            Status::Expired => "none yet, though it has expired: the next sweep looks".to_owned(),
            Status::Disabled | Status::Revoked | Status::Gone => {
                format!("none: the token is {status}")
            }
        },
    }
}

/// What became of the notices of one step: `sent to 2 people; failed for 1 person`.
fn told(notices: &[&NoticeRow], now: DateTime<Utc>) -> Option<String> {
    let count = |state: NoticeState| {
        let of_state = notices
            .iter()
            .filter(|notice| notice.state == state.as_str() && !is_held(notice));
        of_state.count()
    };
    let waiting = notices
        .iter()
        .filter(|it| it.state == NoticeState::Planned.as_str() && !is_held(it));
    let first = waiting.map(|notice| goes_at(notice)).min();
    let planned = first.map(|at| match at {
        at if at <= now => "due, goes with the next sweep".to_owned(),
        at => format!("planned for {}", instant(Instant(at))),
    });
    let held = notices.iter().filter(|notice| is_held(notice)).count();
    let told = [
        (count(NoticeState::Sent), "sent to"),
        (count(NoticeState::Sending), "being sent to"),
        (count(NoticeState::Unknown), "in doubt for"),
        (held, "held for"),
        (count(NoticeState::Failed), "failed for"),
        (count(NoticeState::Cancelled), "cancelled for"),
        (count(NoticeState::Suppressed), "settled without a mail for"),
    ];
    let told = told.into_iter().filter(|(count, _)| *count > 0);
    let told = told.map(|(count, what)| match count {
        1 => format!("{what} 1 person"),
        _ => format!("{what} {count} people"),
    });
    let told: Vec<_> = told.chain(planned).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// When an unsent notice goes: at its time, or when its mail is tried again.
pub(super) fn goes_at(notice: &NoticeRow) -> DateTime<Utc> {
    match notice.next_at {
        Some(next_at) if notice.attempts > 0 => next_at,
        _ => notice.send_at,
    }
}
