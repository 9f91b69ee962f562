//! The last snapshot, computed at most once in half a minute and shared by all scrapers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::health::{Health, Snapshot};
use crate::causes::Causes;

pub(super) const MAX_AGE: Duration = Duration::from_secs(30);

/// A snapshot and when it was complete; `None` if counting failed, which has been logged.
type CachedSnapshot = (Option<Arc<Snapshot>>, Instant);

pub(super) struct Cache {
    health: Arc<dyn Health>,
    max_age: Duration,
    /// The count in progress (its value is `None`) or completed.
    latest: Mutex<Option<watch::Receiver<Option<CachedSnapshot>>>>,
}

impl Cache {
    pub(super) fn new(health: Arc<dyn Health>, max_age: Duration) -> Self {
        Self {
            health,
            max_age,
            latest: Mutex::default(),
        }
    }

    /// The snapshot in progress or recent enough, else a new one. A failure is cached as long as a success,
    /// so that a store in trouble does not count all tokens at every scrape.
    pub(super) async fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut count = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            match latest.as_ref() {
                Some(count) if self.is_usable(count) => count.clone(),
                _ => latest.insert(self.start_count()).clone(),
            }
        };
        // The only error is that the count panicked, which the panic hook has logged.
        let counted = count.wait_for(Option::is_some).await.ok()?;
        counted.as_ref().and_then(|(snapshot, _)| snapshot.clone())
    }

    fn is_usable(&self, count: &watch::Receiver<Option<CachedSnapshot>>) -> bool {
        match count.borrow().as_ref() {
            Some((_, done_at)) => done_at.elapsed() < self.max_age,
            // In progress, unless it has panicked and dropped its end.
            None => count.has_changed().is_ok(),
        }
    }

    /// Counts in a separate task: if a scrape that gives up cancelled the work, a count longer than the
    /// scraper's time-out would never complete.
    fn start_count(&self) -> watch::Receiver<Option<CachedSnapshot>> {
        let (result, count) = watch::channel(None);
        let health = Arc::clone(&self.health);
        tokio::spawn(async move {
            let snapshot = match health.snapshot().await {
                Ok(snapshot) => Some(Arc::new(snapshot)),
                Err(fault) => {
                    tracing::warn!(
                        error = %Causes(fault.as_ref()),
                        "cannot count for metrics"
                    );
                    None
                }
            };
            result.send_replace(Some((snapshot, Instant::now())));
        });
        count
    }
}

#[cfg(test)]
mod tests;
