//! The last snapshot, computed at most once in half a minute and shared by all who scrape.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::health::{Health, Snapshot};
use crate::causes::Causes;

/// How long a snapshot is shown before it is computed again.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// A snapshot and when it was done; `None` when it could not be had, which is in the log.
type Counted = (Option<Arc<Snapshot>>, Instant);

/// The last snapshot, shared by all who scrape.
pub(super) struct Cache {
    health: Arc<dyn Health>,
    kept: Duration,
    /// The count that is under way (it shows `None`) or done.
    latest: Mutex<Option<watch::Receiver<Option<Counted>>>>,
}

impl Cache {
    pub(super) fn new(health: Arc<dyn Health>, kept: Duration) -> Self {
        Self {
            health,
            kept,
            latest: Mutex::default(),
        }
    }

    /// The snapshot that is under way or recent enough, else a new one. A failure is kept as long
    /// as a success: a store in trouble is not asked for a count over all tokens at every scrape.
    pub(super) async fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut count = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            match latest.as_ref() {
                Some(count) if self.serves(count) => count.clone(),
                _ => latest.insert(self.count()).clone(),
            }
        };
        // The only error is that the count panicked, which the panic hook has logged.
        let counted = count.wait_for(Option::is_some).await.ok()?;
        counted.as_ref().and_then(|(snapshot, _)| snapshot.clone())
    }

    fn serves(&self, count: &watch::Receiver<Option<Counted>>) -> bool {
        match count.borrow().as_ref() {
            Some((_, done_at)) => done_at.elapsed() < self.kept,
            // Under way, unless it has panicked and dropped its end.
            None => count.has_changed().is_ok(),
        }
    }

    /// Counts in a task of its own: a scrape that gives up must not throw the work away, or a
    /// count that takes longer than the scraper's patience would never end.
    fn count(&self) -> watch::Receiver<Option<Counted>> {
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
