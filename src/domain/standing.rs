//! How it stands with a source or directory: when it was asked, what came of it, when it is asked again.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Backoff, Schedule};

/// So many failures in a row are told to administrators.
const TOLD_FROM: i64 = 3;

/// Between attempts that fail. At most an hour: what cannot be seen cannot be warned about.
const BACKOFF: Backoff = Backoff {
    min: TimeDelta::minutes(1),
    max: TimeDelta::hours(1),
};

/// What is known of how it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Standing {
    /// The last attempt.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// The last attempt that went well.
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed, or what was wrong with what it brought.
    pub error: Option<String>,
    /// Attempts that failed in a row.
    pub failures: i64,
    /// Since when they have failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// The other side asked not to be asked before.
    pub deferred_until: Option<DateTime<Utc>>,
}

/// What administrators are told of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It has failed so often that somebody must look.
    Failing {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// It works again after that.
    Recovered {
        /// Since when it had failed.
        since: DateTime<Utc>,
    },
}

/// Up to when the word of a directory holds that was last read well `read_at`: for `fresh_for` after it
/// should have been read again.
#[must_use]
pub fn fresh_until(
    read_at: DateTime<Utc>,
    schedule: Option<&Schedule>,
    fresh_for: TimeDelta,
) -> DateTime<Utc> {
    let next = schedule.and_then(|schedule| schedule.next_after(read_at));
    next.unwrap_or(read_at)
        .checked_add_signed(fresh_for)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl Standing {
    /// Whether it is asked now. A wish to be left alone holds always; `schedule` and back-off only where
    /// it is asked `by_clock`: a person who asks wants an answer.
    #[must_use]
    pub fn is_due(&self, now: DateTime<Utc>, by_clock: bool, schedule: Option<&Schedule>) -> bool {
        if self.is_deferred(now) {
            return false;
        }
        // A last attempt in the future was made by a clock that jumped.
        let Some(last) = self.last_sync_at.filter(|last| by_clock && *last <= now) else {
            return true;
        };
        let is_scheduled = schedule
            .and_then(|schedule| schedule.next_after(last))
            .is_none_or(|next| next <= now);
        is_scheduled && now >= last + self.pause()
    }

    /// Until when the clock leaves it alone: for its schedule, its failures, or its own wish. `None`
    /// where it was never asked.
    #[must_use]
    pub fn rests_until(&self, schedule: Option<&Schedule>) -> Option<DateTime<Utc>> {
        let last = self.last_sync_at?;
        let scheduled = schedule.and_then(|schedule| schedule.next_after(last));
        let rests = [scheduled, Some(last + self.pause()), self.deferred_until];
        rests.into_iter().flatten().max()
    }

    /// Whether it asked to be left alone for longer.
    #[must_use]
    pub fn is_deferred(&self, now: DateTime<Utc>) -> bool {
        self.deferred_until.is_some_and(|until| now < until)
    }

    /// How long it is left alone after its failures.
    fn pause(&self) -> TimeDelta {
        match u32::try_from(self.failures).unwrap_or(u32::MAX) {
            0 => TimeDelta::zero(),
            failures => BACKOFF.after(failures, Uuid::nil()),
        }
    }

    /// It answered.
    pub fn succeeded(&mut self, now: DateTime<Utc>) -> Option<News> {
        let since = self.failing_since.filter(|_| self.failures >= TOLD_FROM);
        *self = Self {
            last_sync_at: Some(now),
            last_good_sync_at: Some(now),
            ..Self::default()
        };
        since.map(|since| News::Recovered { since })
    }

    /// It did not, or not as it should.
    pub fn failed(&mut self, now: DateTime<Utc>, said: String) -> Option<News> {
        self.last_sync_at = Some(now);
        self.error = Some(said);
        self.failures += 1;
        self.deferred_until = None;
        let since = *self.failing_since.get_or_insert(now);
        (self.failures == TOLD_FROM).then_some(News::Failing { since })
    }

    /// It asks to be left alone for so long that nothing of what it said holds any more: somebody must look,
    /// as after failures.
    pub fn blind(&mut self, since: DateTime<Utc>, said: String) -> Option<News> {
        self.error = Some(said);
        if self.failures >= TOLD_FROM {
            return None;
        }
        self.failures = TOLD_FROM;
        let since = *self.failing_since.get_or_insert(since);
        Some(News::Failing { since })
    }

    /// It asked to be left alone, which is no failure.
    pub fn deferred(&mut self, now: DateTime<Utc>, wait: TimeDelta) {
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
    fn a_schedule_and_failures_hold_the_clock_back_but_no_person() {
        let hourly: Schedule = Schedule::new("0 * * * *", chrono_tz::UTC).unwrap();
        let mut standing = Standing::default();
        assert!(standing.is_due(at(0), true, Some(&hourly)), "never asked");
        standing.succeeded(at(0));
        assert!(!standing.is_due(at(59), true, Some(&hourly)));
        assert!(standing.is_due(at(60), true, Some(&hourly)));
        assert!(
            standing.is_due(at(1), false, Some(&hourly)),
            "a person asks"
        );
        for _ in 0..4 {
            standing.failed(at(0), "down".to_owned());
        }
        assert!(!standing.is_due(at(5), true, None), "4 failures: 8 minutes");
        assert!(standing.is_due(at(8), true, None));
        assert!(
            standing.is_due(at(-10), true, None),
            "the clock jumped back"
        );
        assert_eq!(standing.rests_until(None), Some(at(8)));
        assert_eq!(standing.rests_until(Some(&hourly)), Some(at(60)));
    }

    #[test]
    fn a_wish_to_be_left_alone_holds_for_everybody_and_is_no_failure() {
        let mut standing = Standing::default();
        standing.deferred(at(0), TimeDelta::minutes(10));
        assert!(!standing.is_due(at(9), false, None));
        assert!(standing.is_due(at(10), false, None));
        assert_eq!((standing.failures, &standing.error), (0, &None));
    }

    #[test]
    fn the_third_failure_and_the_recovery_are_news_once() {
        let mut standing = Standing::default();
        assert_eq!(standing.failed(at(0), "down".to_owned()), None);
        assert_eq!(standing.failed(at(1), "down".to_owned()), None);
        let since = at(0);
        let third = standing.failed(at(2), "down".to_owned());
        assert_eq!(third, Some(News::Failing { since }));
        assert_eq!(standing.failed(at(3), "down".to_owned()), None);
        assert_eq!(standing.succeeded(at(4)), Some(News::Recovered { since }));
        assert_eq!(standing.succeeded(at(5)), None);
        standing.failed(at(6), "down".to_owned());
        assert_eq!(standing.succeeded(at(7)), None, "one failure is no news");
    }
}
