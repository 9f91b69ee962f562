//! The terms on which a source or directory is watched, and its sync state: when it was synced, with what result,
//! and when it is synced next.

use std::path::PathBuf;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Address, Schedule};
use crate::time::shift;

/// This many failures in a row alert the administrators.
const ALERT_AFTER_FAILURES: i64 = 3;

/// At most an hour: lapsed cannot warn about tokens that it cannot see.
const BACKOFF: Backoff = Backoff {
    min: TimeDelta::minutes(1),
    max: TimeDelta::hours(1),
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "may contain only a-z, 0-9, _ and -, must begin with a letter or digit, and has at most 60 characters"
)]
pub struct InvalidName;

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_valid = text.len() <= 60
            && text.starts_with(is_alphanumeric)
            && text.chars().all(|c| is_alphanumeric(c) || "_-".contains(c));
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidName)
    }
}

#[derive(Debug, Clone, Default)]
pub struct SourceTerms {
    /// `[a-z0-9][a-z0-9_-]*`, not `local`; unique.
    pub name: String,
    pub kind: &'static str,
    /// When the source is synced; `None` means at every sweep.
    pub schedule: Option<Schedule>,
    pub allow_revoke: bool,
    /// The life that lapsed gives its tokens without an expiry, counted from their creation.
    pub policy_ttl: Option<TimeDelta>,
    /// A file that assigns owners to its tokens.
    pub owners: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct DirectoryTerms {
    /// `[a-z0-9][a-z0-9_-]*`; unique.
    pub name: String,
    pub kind: &'static str,
    /// When the directory is synced; `None` means at every sweep.
    pub schedule: Option<Schedule>,
    /// Names or ids of groups; people must be in at least one. Empty means no such condition.
    pub allowed_groups: Vec<String>,
    /// People who always have access; a listing without them as active is rejected.
    pub canaries: Vec<Address>,
    /// How long a person must be missing before they count as deleted.
    pub absence_grace: TimeDelta,
    /// How long after a due sync its data still counts.
    pub fresh_for: TimeDelta,
    /// The share of active people, from 0 to 1, who may lose access in one listing.
    pub breaker_share: f64,
    /// Losses up to this count never trip the breaker.
    pub breaker_min: u32,
}

impl Default for DirectoryTerms {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: "",
            schedule: None,
            allowed_groups: Vec::new(),
            canaries: Vec::new(),
            absence_grace: TimeDelta::minutes(30),
            fresh_for: TimeDelta::days(1),
            breaker_share: 0.1,
            breaker_min: 3,
        }
    }
}

impl DirectoryTerms {
    /// Until when data that was read at `read_at` counts: for `fresh_for` after the next sync is due.
    pub fn fresh_until(&self, read_at: DateTime<Utc>) -> DateTime<Utc> {
        let schedule = self.schedule.as_ref();
        let next = schedule.and_then(|schedule| schedule.next_after(read_at));
        shift(next.unwrap_or(read_at), self.fresh_for)
    }

    /// Whether data that was read then still counts.
    pub fn is_fresh(&self, read_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        read_at.is_some_and(|read_at| now <= self.fresh_until(read_at))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct SyncState {
    pub last_sync_at: Option<DateTime<Utc>>,
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, or what was wrong with its result.
    pub error: Option<String>,
    pub failures: i64,
    pub failing_since: Option<DateTime<Utc>>,
    /// The upstream asked us to wait until then.
    pub deferred_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncAlert {
    /// Too many attempts in a row have failed.
    Failing { since: DateTime<Utc> },
    /// An attempt succeeded after [`SyncAlert::Failing`].
    Recovered { since: DateTime<Utc> },
}

impl SyncState {
    /// Whether a sync may start now. `deferred_until` is always respected; `schedule` and back-off only if
    /// the sync is started `by_clock`, not by a person.
    pub fn is_due(&self, now: DateTime<Utc>, by_clock: bool, schedule: Option<&Schedule>) -> bool {
        if self.is_deferred(now) {
            return false;
        }
        // A last attempt in the future comes from a clock that jumped.
        if !by_clock || self.last_sync_at.is_some_and(|last| last > now) {
            return true;
        }
        self.next_attempt_at(schedule).is_none_or(|at| at <= now)
    }

    /// When the next scheduled sync may start, by its schedule, its back-off and `deferred_until`. `None`
    /// if it was never synced.
    pub fn next_attempt_at(&self, schedule: Option<&Schedule>) -> Option<DateTime<Utc>> {
        let last = self.last_sync_at?;
        let scheduled = schedule.and_then(|schedule| schedule.next_after(last));
        let after_backoff = Some(shift(last, self.backoff_delay()));
        scheduled.max(after_backoff).max(self.deferred_until)
    }

    pub fn is_deferred(&self, now: DateTime<Utc>) -> bool {
        self.deferred_until.is_some_and(|until| now < until)
    }

    fn backoff_delay(&self) -> TimeDelta {
        match u32::try_from(self.failures).unwrap_or(u32::MAX) {
            0 => TimeDelta::zero(),
            failures => BACKOFF.delay_after(failures, Uuid::nil()),
        }
    }

    pub fn record_success(&mut self, now: DateTime<Utc>) -> Option<SyncAlert> {
        let alert = match self.failing_since {
            Some(since) if self.failures >= ALERT_AFTER_FAILURES => {
                Some(SyncAlert::Recovered { since })
            }
            _ => None,
        };
        *self = Self {
            last_sync_at: Some(now),
            last_good_sync_at: Some(now),
            ..Self::default()
        };
        alert
    }

    pub fn record_failure(&mut self, now: DateTime<Utc>, error: String) -> Option<SyncAlert> {
        self.last_sync_at = Some(now);
        self.error = Some(error);
        self.failures += 1;
        self.deferred_until = None;
        let since = *self.failing_since.get_or_insert(now);
        (self.failures == ALERT_AFTER_FAILURES).then_some(SyncAlert::Failing { since })
    }

    /// Alerts as after failures, because the upstream asked us to wait so long that its last data no longer counts.
    pub fn mark_unobservable(&mut self, since: DateTime<Utc>, error: String) -> Option<SyncAlert> {
        self.error = Some(error);
        if self.failures >= ALERT_AFTER_FAILURES {
            return None;
        }
        self.failures = ALERT_AFTER_FAILURES;
        let since = *self.failing_since.get_or_insert(since);
        Some(SyncAlert::Failing { since })
    }

    /// The upstream asked us to wait, which is not a failure.
    pub fn defer(&mut self, now: DateTime<Utc>, wait: TimeDelta) {
        self.last_sync_at = Some(now);
        self.deferred_until = Some(shift(now, wait));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub min: TimeDelta,
    pub max: TimeDelta,
}

impl Backoff {
    /// The delay after the `attempt`-th failure (from 1): `min`, doubled up to `max`, less up to a fifth
    /// of it, so that attempts that failed together are not repeated together.
    ///
    /// The jitter is derived from the id and the attempt, so the result is reproducible.
    pub fn delay_after(self, attempt: u32, id: Uuid) -> TimeDelta {
        let doublings = attempt.saturating_sub(1).min(40);
        let full = self
            .min
            .num_milliseconds()
            .saturating_mul(1_i64 << doublings)
            .min(self.max.num_milliseconds());
        let seed = id
            .as_u128()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u128::from(attempt));
        let share = i64::try_from((seed >> 7) % 201).unwrap_or(0);
        TimeDelta::milliseconds(full - full.saturating_mul(share) / 1000)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_name_is_a_short_word_in_lower_case() {
        let longest = "x".repeat(60);
        for name in ["exports", "7-days", "hr_2", &longest] {
            assert_eq!(name.parse::<Name>().map(String::from), Ok(name.to_owned()));
        }
        let too_long = "x".repeat(61);
        for name in ["", "-x", "_x", "Exports", "a b", "a/b", "é", &too_long] {
            assert_eq!(name.parse::<Name>(), Err(InvalidName), "{name:?}");
        }
    }

    fn at(minute: i64) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, 8, 0, 0).unwrap() + TimeDelta::minutes(minute)
    }

    #[test]
    fn schedule_and_back_off_hold_for_the_clock_but_not_for_a_person() {
        let hourly: Schedule = Schedule::new("0 * * * *", chrono_tz::UTC).unwrap();
        let mut sync_state = SyncState::default();
        assert!(
            sync_state.is_due(at(0), true, Some(&hourly)),
            "never synced"
        );
        sync_state.record_success(at(0));
        assert!(!sync_state.is_due(at(59), true, Some(&hourly)));
        assert!(sync_state.is_due(at(60), true, Some(&hourly)));
        assert!(
            sync_state.is_due(at(1), false, Some(&hourly)),
            "started by a person"
        );
        for _ in 0..4 {
            sync_state.record_failure(at(0), "down".to_owned());
        }
        assert!(
            !sync_state.is_due(at(5), true, None),
            "4 failures: 8 minutes"
        );
        assert!(sync_state.is_due(at(8), true, None));
        assert!(
            sync_state.is_due(at(-10), true, None),
            "the clock jumped back"
        );
        assert_eq!(sync_state.next_attempt_at(None), Some(at(8)));
        assert_eq!(sync_state.next_attempt_at(Some(&hourly)), Some(at(60)));
    }

    #[test]
    fn a_deferral_holds_for_everyone_and_is_not_a_failure() {
        let mut sync_state = SyncState::default();
        sync_state.defer(at(0), TimeDelta::minutes(10));
        assert!(!sync_state.is_due(at(9), false, None));
        assert!(sync_state.is_due(at(10), false, None));
        assert_eq!((sync_state.failures, &sync_state.error), (0, &None));
    }

    #[test]
    fn the_third_failure_and_the_recovery_alert_once() {
        let mut sync_state = SyncState::default();
        assert_eq!(sync_state.record_failure(at(0), "down".to_owned()), None);
        assert_eq!(sync_state.record_failure(at(1), "down".to_owned()), None);
        let since = at(0);
        let third = sync_state.record_failure(at(2), "down".to_owned());
        assert_eq!(third, Some(SyncAlert::Failing { since }));
        assert_eq!(sync_state.record_failure(at(3), "down".to_owned()), None);
        assert_eq!(
            sync_state.record_success(at(4)),
            Some(SyncAlert::Recovered { since })
        );
        assert_eq!(sync_state.record_success(at(5)), None);
        sync_state.record_failure(at(6), "down".to_owned());
        assert_eq!(
            sync_state.record_success(at(7)),
            None,
            "one failure does not alert"
        );
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum() {
        let backoff = Backoff {
            min: TimeDelta::minutes(1),
            max: TimeDelta::hours(6),
        };
        let id = Uuid::from_u128(0x0193_5f2e_8a4b_7c11_9d3e_5a6b_7c8d_9e0f);
        let mut last = TimeDelta::zero();
        for attempt in 1..=9 {
            let delay = backoff.delay_after(attempt, id);
            let full = TimeDelta::minutes(1 << (attempt - 1));
            assert!(delay <= full && delay >= full * 4 / 5, "{attempt}: {delay}");
            assert!(delay > last);
            last = delay;
        }
        let long = backoff.delay_after(u32::MAX, id);
        assert!(long <= TimeDelta::hours(6) && long > TimeDelta::minutes(280));
    }
}
