//! `[policy]` and `[retention]`: how tokens should be, and how long things are kept.

use chrono::TimeDelta;

use crate::domain::Response;

use super::{field::Field, table::Table};

/// How tokens should be; what is not is a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The longest life; `None` is any.
    pub max_ttl: Option<TimeDelta>,
    /// Unused for so long is unused; `None` is never.
    pub unused_after: Option<TimeDelta>,
    /// What is done about tokens that outlive their issuers' access; `None` only flags them.
    pub response: Option<Response>,
}

/// How long things are kept; at least a day each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Tokens after they ended.
    pub gone_tokens: TimeDelta,
    /// Notices of tokens that no longer exist.
    pub notices: TimeDelta,
    /// Records of sweeps.
    pub runs: TimeDelta,
    /// Findings after they were resolved.
    pub findings: TimeDelta,
    /// The audit trail.
    pub audit: TimeDelta,
}

const DAY: TimeDelta = TimeDelta::days(1);

impl Policy {
    pub(super) fn read(mut table: Table) -> Self {
        let policy = Self {
            max_ttl: table.or("max_ttl", None, span_or_off),
            unused_after: table.or("unused_after", None, span_or_off),
            response: response(&mut table),
        };
        table.finish();
        policy
    }
}

/// `max_revocations_per_day` begins at one: a limit of none would announce ends that never come.
fn response(table: &mut Table) -> Option<Response> {
    let words = [("flag", false), ("revoke", true)];
    let is_wanted = table.or("sso_revoked", false, |field| field.word(&words));
    let response = Response {
        revoke_after: table.or("revoke_after", TimeDelta::days(3), |field| {
            field.span(TimeDelta::hours(1))
        }),
        max_per_day: table.or("max_revocations_per_day", 10, |field| {
            field
                .whole(1..=10_000)
                .map_err(|said| format!("{said}; to end none, set policy.sso_revoked = \"flag\""))
        }),
    };
    is_wanted.then_some(response)
}

impl Retention {
    pub(super) fn read(mut table: Table) -> Self {
        let mut days =
            |key, default| table.or(key, TimeDelta::days(default), |field| field.span(DAY));
        let retention = Self {
            gone_tokens: days("gone_tokens", 400),
            notices: days("notices", 400),
            runs: days("runs", 90),
            findings: days("findings", 400),
            audit: days("audit", 1095),
        };
        table.finish();
        retention
    }
}

fn span_or_off(field: &Field) -> Result<Option<TimeDelta>, String> {
    match field.text() {
        Ok("off") => Ok(None),
        _ => field.span(TimeDelta::minutes(1)).map(Some),
    }
}
