//! The rate of a pass: this replica's share of what the mail server allows.

use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::domain::share_of_rate;
use crate::engine::common::Error;

use super::record::Recorder;

/// By how much a mail may be early: timers are late by some milliseconds.
const SLACK: Duration = Duration::from_millis(10);
/// The leases must be renewed in time, whatever the store does.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);

/// Lets one mail start at a time. The rate can change while mails wait.
pub(super) struct Pace {
    interval: watch::Sender<Duration>,
    last: Mutex<Option<Instant>>,
}

impl Pace {
    pub fn new(mails_per_second: f64) -> Self {
        Self {
            interval: watch::Sender::new(interval(mails_per_second)),
            last: Mutex::default(),
        }
    }

    pub fn set(&self, mails_per_second: f64) {
        self.interval.send_replace(interval(mails_per_second));
    }

    /// Waits for the turn of a mail.
    pub async fn wait(&self) {
        let mut last = self.last.lock().await;
        let mut interval = self.interval.subscribe();
        let now = Instant::now();
        let mut start = now;
        while let Some(last) = *last {
            start = last + *interval.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(start) => break,
                _ = interval.changed() => {}
            }
        }
        let earliest = Instant::now().checked_sub(SLACK).unwrap_or(now);
        *last = Some(start.max(earliest));
    }
}

fn interval(mails_per_second: f64) -> Duration {
    Duration::from_secs_f64(1.0 / mails_per_second)
}

impl Recorder<'_> {
    /// This replica's share of the rate, if there is a limit.
    pub(super) async fn load_rate(&self) -> Result<Option<f64>, Error> {
        let Some(rate) = self.settings.mails_per_second else {
            return Ok(None);
        };
        let replicas = self.store.begin_short_read().await?.list_replicas().await?;
        let now = self.clock.now();
        Ok(Some(share_of_rate(rate, &replicas, self.holder, now)))
    }

    /// Sets the rate by the replicas that are live now. Where they cannot be read, it stays.
    pub(super) async fn adjust_pace(&self, pace: &Pace) {
        let rate = tokio::time::timeout(LOAD_TIMEOUT, self.load_rate()).await;
        if let Ok(Ok(Some(rate))) = rate {
            pace.set(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_first_mail_goes_at_once_and_the_others_in_intervals() {
        let pace = Pace::new(50.0);
        let start = Instant::now();
        for _ in 0..11 {
            pace.wait().await;
        }
        assert!(start.elapsed() + SLACK >= 10 * Duration::from_millis(20));
        // At one in an hour, a second turn would not come.
        Pace::new(1.0 / 3600.0).wait().await;
    }

    #[tokio::test]
    async fn mails_that_wait_follow_a_new_rate() {
        let pace = Arc::new(Pace::new(1.0 / 3600.0));
        pace.wait().await;
        let turns: Vec<_> = (0..4)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.wait().await })
            })
            .collect();
        tokio::task::yield_now().await;
        pace.set(1000.0);
        for turn in turns {
            turn.await.unwrap();
        }
    }
}
