//! The sign of life of the work itself, which the watchdog asks for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A handle by which work shows that it goes on. Clones beat for the same heart.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    started_at: Instant,
    /// Milliseconds from `started_at` to the last beat.
    last: Arc<AtomicU64>,
    allowed: Duration,
}

impl Heartbeat {
    /// A heart that may rest for `allowed` between two beats; being made is the first one.
    ///
    /// `allowed` must be longer than the pause between two sweeps' ticks and longer than any step
    /// of a sweep that cannot be interrupted, such as one mail.
    #[must_use]
    pub fn new(allowed: Duration) -> Self {
        Self {
            started_at: Instant::now(),
            last: Arc::default(),
            allowed,
        }
    }

    /// Shows life. Cheap enough for every row of a long job.
    pub fn touch(&self) {
        let elapsed = self.started_at.elapsed().as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.last.fetch_max(elapsed, Ordering::Relaxed);
    }

    /// How long it may rest.
    #[must_use]
    pub fn allowed(&self) -> Duration {
        self.allowed
    }

    /// Whether at `now` the last beat is longer ago than allowed.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started_at + last) > self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_is_silent_once_its_rest_is_longer_than_allowed() {
        let allowed = Duration::from_mins(1);
        let heart = Heartbeat::new(allowed);
        assert!(!heart.is_silent(heart.started_at + allowed));
        assert!(heart.is_silent(heart.started_at + allowed + Duration::from_millis(1)));
    }

    #[test]
    fn each_clone_beats_for_all() {
        let heart = Heartbeat::new(Duration::ZERO);
        let other = heart.clone();
        other.last.store(5_000, Ordering::Relaxed);
        other.touch();
        let beat = heart.started_at + Duration::from_secs(5);
        assert!(!heart.is_silent(beat), "a beat never moves back");
        assert!(heart.is_silent(beat + Duration::from_millis(1)));
    }
}
