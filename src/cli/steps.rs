//! The outcome of each step of a token's current expiry, as text.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::output::when::format_instant;
use super::output::{Cell, Column, Field, Row};
use crate::domain::{NoticeState, Policy, Status, Step, StepState, Token, Topic};
use crate::store::NoticeRow;
use crate::time::shift;

/// A step of a token's current expiry; not in the JSON output.
pub(super) struct StepRow {
    pub(super) step: Step,
    pub(super) at: DateTime<Utc>,
    /// `sent to 2 people`, `skipped: as wide as the token's life`, `not yet`, …
    pub(super) outcome: String,
}

impl Row for StepRow {
    const FIELDS: &'static [Field<Self>] = &[];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("STEP", 0, |row, _| Cell::new(row.step.to_string())),
        Column::fixed("AT", 0, |row, view| Cell::when(row.at, view)),
        Column::elastic("OUTCOME", 0, 20, |row, _| Cell::new(&row.outcome)),
    ];
    const EMPTY_MESSAGE: &'static str = "no steps: it has no known expiry";
}

/// The configured steps and the steps of planned notices, widest first.
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
    let planned = notices
        .iter()
        .filter(|notice| is_about_expiry(notice, token))
        .filter_map(|notice| notice.step.map(Step::from_seconds));
    let steps: BTreeSet<Step> = outlook
        .iter()
        .map(|step| step.step)
        .chain(planned)
        .collect();
    let rows = steps.into_iter().rev().map(|step| {
        let of_step: Vec<_> = notices
            .iter()
            .filter(|notice| is_about_expiry(notice, token) && is_about_step(notice, step))
            .collect();
        let state = outlook
            .iter()
            .find(|outlook| outlook.step == step)
            .map(|outlook| outlook.state);
        let outcome = match (notices_outcome(&of_step, now, policy.zone), state) {
            (Some(outcome), _) => outcome,
            (None, Some(state)) => no_notice_reason(token, step, state, now),
            (None, None) => String::new(),
        };
        StepRow {
            step,
            at: shift(expires_at, -step.width()),
            outcome,
        }
    });
    rows.collect()
}

/// Whether the notice is a warning about the token's current expiry.
pub(super) fn is_about_expiry(notice: &NoticeRow, token: &Token) -> bool {
    notice.topic == Topic::Expiry
        && token.expiry.at() == Some(notice.generation)
        && token.secret_version == notice.secret_version
}

pub(super) fn is_about_step(notice: &NoticeRow, step: Step) -> bool {
    notice.step == Some(step.seconds())
}

/// Whether the expiry had passed when lapsed first saw it.
pub(super) fn was_first_seen_expired(token: &Token) -> bool {
    let first_known_at = token
        .first_seen_at
        .max(token.life_from.unwrap_or(token.first_seen_at));
    token.expiry.at().is_some_and(|at| at <= first_known_at)
}

/// Why there is no notice of a step.
pub(super) fn no_notice_reason(
    token: &Token,
    step: Step,
    state: StepState,
    now: DateTime<Utc>,
) -> String {
    let status = token.status_at(now);
    match state {
        StepState::TooWide => "skipped: as wide as the token's life".to_owned(),
        _ if was_first_seen_expired(token) => {
            "none: it had expired when lapsed first saw it".to_owned()
        }
        StepState::Planned if token.planned_step.is_some_and(|planned| planned < step) => {
            "covered by a tighter step".to_owned()
        }
        StepState::Planned => "there was no recipient".to_owned(),
        StepState::Open { .. } => match status {
            Status::Active => "not yet".to_owned(),
            Status::Expired => "none yet, although it has expired: see the next sweep".to_owned(),
            Status::Disabled | Status::Revoked | Status::Gone => {
                format!("none: the token is {status}")
            }
        },
    }
}

/// The outcome of the notices of one step: `sent to 2 people; failed for 1 person`.
fn notices_outcome(notices: &[&NoticeRow], now: DateTime<Utc>, zone: Tz) -> Option<String> {
    let count = |state| {
        notices
            .iter()
            .filter(|notice| notice.state == state)
            .count()
    };
    let first_send_time = notices
        .iter()
        .filter(|notice| notice.state == NoticeState::Planned && !notice.held)
        .map(|notice| send_time(notice))
        .min();
    let planned = first_send_time.map(|at| match at {
        at if at <= now => "due, sent by the next sweep".to_owned(),
        at => format!("planned for {}", format_instant(at, zone)),
    });
    let held = notices.iter().filter(|notice| notice.held).count();
    let counts = [
        (count(NoticeState::Sent), "sent to"),
        (count(NoticeState::Sending), "being sent to"),
        (count(NoticeState::Unknown), "unknown for"),
        (held, "held for"),
        (count(NoticeState::Failed), "failed for"),
        (count(NoticeState::Cancelled), "cancelled for"),
        (count(NoticeState::Suppressed), "suppressed for"),
    ];
    let mut outcomes = Vec::new();
    for (count, what) in counts {
        match count {
            0 => {}
            1 => outcomes.push(format!("{what} 1 person")),
            _ => outcomes.push(format!("{what} {count} people")),
        }
    }
    outcomes.extend(planned);
    (!outcomes.is_empty()).then(|| outcomes.join("; "))
}

/// When an unsent notice is sent: at its time, or when its mail is tried again.
pub(super) fn send_time(notice: &NoticeRow) -> DateTime<Utc> {
    match notice.next_at {
        Some(next_at) if notice.attempts > 0 => next_at,
        _ => notice.send_at,
    }
}
