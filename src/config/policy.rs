//! `[policy]`: rules for tokens. `[retention]`: how long data is kept.

use chrono::TimeDelta;

use crate::domain::RevocationPolicy;

use super::field::Field;
use super::table::Table;

/// Rules for tokens; a violation is a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The longest allowed life; `None` means no limit.
    pub max_ttl: Option<TimeDelta>,
    /// A token not used for this long is a finding; `None` turns the check off.
    pub unused_after: Option<TimeDelta>,
    /// How tokens are revoked when their issuers lose access; `None` only flags them.
    pub response: Option<RevocationPolicy>,
}

/// How long data is kept; at least a day each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Tokens, after they are gone.
    pub gone_tokens: TimeDelta,
    /// Notices of tokens that no longer exist.
    pub notices: TimeDelta,
    pub runs: TimeDelta,
    /// Findings, after they are resolved.
    pub findings: TimeDelta,
    pub audit: TimeDelta,
}

const DAY: TimeDelta = TimeDelta::days(1);

impl Policy {
    pub(super) fn from_table(mut table: Table) -> Self {
        let policy = Self {
            max_ttl: table.with_default("max_ttl", None, duration_or_off),
            unused_after: table.with_default("unused_after", None, duration_or_off),
            response: response(&mut table),
        };
        table.finish();
        policy
    }
}

/// `max_revocations_per_day` is at least one: with zero, lapsed would announce revocations that never happen.
fn response(table: &mut Table) -> Option<RevocationPolicy> {
    let choices = [("flag", false), ("revoke", true)];
    let is_wanted = table.with_default("sso_revoked", false, |field| field.choice(&choices));
    let response = RevocationPolicy {
        revoke_after: table.with_default("revoke_after", TimeDelta::days(3), |field| {
            field.duration(TimeDelta::hours(1))
        }),
        max_per_day: table.with_default("max_revocations_per_day", 10, |field| {
            field.integer(1..=10_000).map_err(|error| {
                format!("{error}; to revoke none, set policy.sso_revoked = \"flag\"")
            })
        }),
    };
    is_wanted.then_some(response)
}

impl Retention {
    pub(super) fn from_table(mut table: Table) -> Self {
        let mut days = |key, default| {
            table.with_default(key, TimeDelta::days(default), |field| field.duration(DAY))
        };
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

fn duration_or_off(field: &Field) -> Result<Option<TimeDelta>, String> {
    match field.text() {
        Ok("off") => Ok(None),
        _ => field.duration(TimeDelta::minutes(1)).map(Some),
    }
}
