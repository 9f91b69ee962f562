//! What every job uses: settings, limits, ids, errors and the report.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::{Backoff, RevocationPolicy, Schedule};

pub(super) use super::error::Error;
pub(super) use super::report::Report;

#[derive(Debug, Clone)]
pub struct Settings {
    pub sweep: Schedule,
    /// When administrators get a summary of open findings; `None` means never.
    pub summary: Option<Schedule>,
    pub delivery: Delivery,
    pub retention: Retention,
    /// How tokens of people without access are revoked; `None` only flags them.
    pub response: Option<RevocationPolicy>,
}

#[derive(Debug, Clone)]
pub struct Delivery {
    /// How long a sweep or a claimed mail belongs to one process unless it renews the lease.
    pub lease: TimeDelta,
    pub backoff: Backoff,
    /// A mail that could not be delivered for this long fails.
    pub give_up: TimeDelta,
    pub connections: usize,
    /// 0 means no limit.
    pub messages_per_connection: u32,
    /// Over all connections; may be below 1. `None` means no limit.
    pub mails_per_second: Option<f64>,
}

/// How long data is kept.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Tokens, after they are gone.
    pub gone_tokens: TimeDelta,
    /// Notices that are not about a token.
    pub notices: TimeDelta,
    /// Findings, after they are resolved.
    pub findings: TimeDelta,
    pub runs: TimeDelta,
    pub audit: TimeDelta,
}

/// Called while a job makes progress, for the watchdog.
pub(super) type OnProgress<'a> = &'a (dyn Fn() + Send + Sync);

/// A lease or a back-off that ends more than this many times its length from now was set by a clock that jumped.
/// One that ends only a little late was set by a process whose clock is slightly ahead; to treat that one as expired
/// would send a mail twice.
pub(super) const MAX_SKEW_FACTOR: i32 = 2;
/// Rows per transaction: large enough to be fast, small enough to let other processes write.
pub(super) const PAGE_SIZE: i64 = 1000;
/// A sweep starts shortly after its tick and takes some time. Whatever falls due in that time after the next tick
/// is handled by this sweep, so that "at least 7 days" is exact to the second.
const HORIZON_MARGIN: TimeDelta = TimeDelta::seconds(10);

/// What falls due before this instant is handled now: the next sweep would be late for it.
pub(super) fn horizon(sweep: &Schedule, now: DateTime<Utc>) -> DateTime<Utc> {
    sweep
        .next_after(now)
        .map_or(now, |next| next + HORIZON_MARGIN)
}

/// A UUID version 7 (RFC 9562 §5.7), so that ids sort by time.
#[must_use]
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}
