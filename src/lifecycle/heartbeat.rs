//! The heartbeat of the work itself, on which the watchdog depends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A handle with which work reports progress. Clones share the heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    started_at: Instant,
    /// Microseconds from `started_at` to the last beat.
    last: Arc<AtomicU64>,
    timeout: Duration,
}

impl Heartbeat {
    /// Times out after `timeout` without a beat; creation counts as the first beat.
    ///
    /// `timeout` must be longer than the interval between the ticks of two sweeps, and longer than any step
    /// of a sweep that cannot be interrupted, such as one mail.
    pub fn new(timeout: Duration) -> Self {
        Self {
            started_at: Instant::now(),
            last: Arc::default(),
            timeout,
        }
    }

    /// Cheap enough to call for every row of a long job.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last.fetch_max(elapsed, Ordering::Relaxed);
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn last(&self) -> Instant {
        self.started_at + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }

    pub fn has_timed_out(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last()) > self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_times_out_without_a_beat() {
        let timeout = Duration::from_mins(1);
        let heartbeat = Heartbeat::new(timeout);
        assert!(!heartbeat.has_timed_out(heartbeat.started_at + timeout));
        assert!(heartbeat.has_timed_out(heartbeat.started_at + timeout + Duration::from_millis(1)));
    }

    #[test]
    fn clones_share_the_heartbeat() {
        let heartbeat = Heartbeat::new(Duration::ZERO);
        let other = heartbeat.clone();
        other.last.store(5_000_000, Ordering::Relaxed);
        other.beat();
        let beat = heartbeat.started_at + Duration::from_secs(5);
        assert!(!heartbeat.has_timed_out(beat), "a beat never moves back");
        assert!(heartbeat.has_timed_out(beat + Duration::from_millis(1)));
    }
}
