//! The heartbeat of the work itself, on which the watchdog depends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A handle with which one kind of work reports progress. Clones share the heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    work: &'static str,
    started_at: Instant,
    /// Microseconds from `started_at` to the last beat.
    last: Arc<AtomicU64>,
    /// There is nothing to do.
    is_resting: Arc<AtomicBool>,
    timeout: Duration,
}

impl Heartbeat {
    /// Times out after `timeout` without a beat; creation counts as the first beat. `work` is for messages.
    ///
    /// `timeout` must be longer than any step of the work that cannot be interrupted, such as one mail.
    pub fn new(work: &'static str, timeout: Duration) -> Self {
        Self {
            work,
            started_at: Instant::now(),
            last: Arc::default(),
            is_resting: Arc::default(),
            timeout,
        }
    }

    /// Cheap enough to call for every row of a long job.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(elapsed, Ordering::Relaxed);
        self.is_resting.store(false, Ordering::Relaxed);
    }

    /// Work begins. `is_progress`: a beat; else what went before counts as a part of the same hang.
    pub fn wake(&self, is_progress: bool) {
        if is_progress {
            self.beat();
        } else {
            self.is_resting.store(false, Ordering::Relaxed);
        }
    }

    /// The work is done until it wakes or beats, which may be at any time.
    pub fn rest(&self) {
        self.is_resting.store(true, Ordering::Relaxed);
    }

    pub fn work(&self) -> &'static str {
        self.work
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn last(&self) -> Instant {
        self.started_at + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }

    pub fn has_timed_out(&self, now: Instant) -> bool {
        let is_late = now.saturating_duration_since(self.last()) > self.timeout;
        is_late && !self.is_resting.load(Ordering::Relaxed)
    }
}

/// The first kind of work that hangs.
pub fn find_stalled(heartbeats: &[Heartbeat], now: Instant) -> Option<&Heartbeat> {
    heartbeats
        .iter()
        .find(|heartbeat| heartbeat.has_timed_out(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_times_out_without_a_beat() {
        let timeout = Duration::from_mins(1);
        let heartbeat = Heartbeat::new("the sweep", timeout);
        assert!(!heartbeat.has_timed_out(heartbeat.started_at + timeout));
        assert!(heartbeat.has_timed_out(heartbeat.started_at + timeout + Duration::from_millis(1)));
    }

    #[test]
    fn work_that_rests_does_not_time_out() {
        let heartbeat = Heartbeat::new("the sweep", Duration::ZERO);
        let later = heartbeat.started_at + Duration::from_hours(1);
        assert!(heartbeat.has_timed_out(later));
        heartbeat.rest();
        assert!(!heartbeat.has_timed_out(later));
        heartbeat.beat();
        assert!(heartbeat.has_timed_out(later));
    }

    #[test]
    fn work_that_wakes_without_progress_is_as_late_as_before() {
        let mut heartbeat = Heartbeat::new("the sweep", Duration::from_mins(15));
        heartbeat.started_at -= Duration::from_mins(1);
        let before = heartbeat.last();
        heartbeat.rest();
        heartbeat.wake(false);
        assert_eq!(heartbeat.last(), before);
        assert!(heartbeat.has_timed_out(before + Duration::from_hours(1)));
        heartbeat.rest();
        heartbeat.wake(true);
        assert!(heartbeat.last() > before);
    }

    #[test]
    fn a_hung_delivery_is_not_hidden_by_sweeps() {
        let timeout = Duration::from_mins(15);
        let sweeping = Heartbeat::new("the sweep", timeout);
        let delivering = Heartbeat::new("the delivery", timeout);
        let both = [sweeping.clone(), delivering.clone()];
        delivering.rest();
        let stalled = |seconds| {
            let later = Duration::from_secs(seconds);
            // The sweep ends in time.
            let microseconds = u64::try_from(later.as_micros()).unwrap();
            sweeping.last.store(microseconds, Ordering::Relaxed);
            find_stalled(&both, delivering.started_at + later).map(Heartbeat::work)
        };
        assert_eq!(stalled(24 * 3600), None, "no mail is due for a day");
        delivering
            .last
            .store(24 * 3600 * 1_000_000, Ordering::Relaxed);
        delivering.is_resting.store(false, Ordering::Relaxed);
        assert_eq!(stalled(24 * 3600 + 900), None);
        assert_eq!(stalled(24 * 3600 + 901), Some("the delivery"));
    }

    #[test]
    fn clones_share_the_heartbeat() {
        let heartbeat = Heartbeat::new("the sweep", Duration::ZERO);
        let other = heartbeat.clone();
        other.last.store(5_000_000, Ordering::Relaxed);
        other.beat();
        let beat = heartbeat.started_at + Duration::from_secs(5);
        assert!(!heartbeat.has_timed_out(beat), "a beat never moves back");
        assert!(heartbeat.has_timed_out(beat + Duration::from_millis(1)));
    }
}
