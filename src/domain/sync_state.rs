//! The sync state of a source or directory: when it was synced, with what result, and when it is synced
//! next.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Backoff, Schedule};

/// This many failures in a row alert the administrators.
const ALERT_AFTER_FAILURES: i64 = 3;

/// At most an hour: lapsed cannot warn about tokens that it cannot see.
const BACKOFF: Backoff = Backoff {
    min: TimeDelta::minutes(1),
    max: TimeDelta::hours(1),
};

#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct SyncState {
    pub last_sync_at: Option<DateTime<Utc>>,
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, or what was wrong with its result.
    pub error: Option<String>,
    pub failures: i64,
    /// Start of the failures in a row.
    pub failing_since: Option<DateTime<Utc>>,
    /// The upstream asked us to wait until then.
    pub deferred_until: Option<DateTime<Utc>>,
}

/// An alert to administrators after an attempt.
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
    #[must_use]
    pub fn is_due(&self, now: DateTime<Utc>, by_clock: bool, schedule: Option<&Schedule>) -> bool {
        if self.is_deferred(now) {
            return false;
        }
        // A last attempt in the future comes from a clock that jumped.
        let Some(last) = self.last_sync_at.filter(|last| by_clock && *last <= now) else {
            return true;
        };
        let is_scheduled = schedule
            .and_then(|schedule| schedule.next_after(last))
            .is_none_or(|next| next <= now);
        is_scheduled && now >= last + self.backoff_delay()
    }

    /// When the next scheduled sync may start, by its schedule, its back-off and `deferred_until`. `None`
    /// if it was never synced.
    #[must_use]
    pub fn next_attempt_at(&self, schedule: Option<&Schedule>) -> Option<DateTime<Utc>> {
        let last = self.last_sync_at?;
        let scheduled = schedule.and_then(|schedule| schedule.next_after(last));
        let earliest = [
            scheduled,
            Some(last + self.backoff_delay()),
            self.deferred_until,
        ];
        earliest.into_iter().flatten().max()
    }

    #[must_use]
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
        let since = self
            .failing_since
            .filter(|_| self.failures >= ALERT_AFTER_FAILURES);
        *self = Self {
            last_sync_at: Some(now),
            last_good_sync_at: Some(now),
            ..Self::default()
        };
        since.map(|since| SyncAlert::Recovered { since })
    }

    pub fn record_failure(&mut self, now: DateTime<Utc>, error: String) -> Option<SyncAlert> {
        self.last_sync_at = Some(now);
        self.error = Some(error);
        self.failures += 1;
        self.deferred_until = None;
        let since = *self.failing_since.get_or_insert(now);
        (self.failures == ALERT_AFTER_FAILURES).then_some(SyncAlert::Failing { since })
    }

    /// Alerts as after failures, because the upstream asked us to wait so long that its last data no longer
    /// counts.
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
        self.deferred_until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

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
}
