//! The tasks of a service that verifies: they read, follow what others change, and write uses.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::store::UseRow;

use super::feed::{Feed, Memory};
use super::mark::{Mark, RESUMED};
use super::uses::{SHARDS, rows};
use super::{Error, Result, Service};

const FLUSH_INTERVAL: Duration = Duration::from_secs(30);
/// Tokens whose uses one transaction writes: others wait for it.
const PAGE_TOKENS: usize = 1000;

impl Service {
    /// Returns the work in the background, which ends when it is stopped. From then on, verifications read the store,
    /// and [`Service::flush`] writes what they count.
    ///
    /// Where the store lacks a change that `mark` has, as after a restore, no token is verified until an operator
    /// [resumes](Service::resume) it.
    pub async fn start(
        self: &Arc<Self>,
        mark: Option<Mark>,
        stopping: CancellationToken,
    ) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        let feed = self.feed(mark).await?;
        let service = Arc::clone(self);
        Ok(async move {
            // Each by itself, so that none waits for another's work.
            let work: [tokio::task::JoinHandle<()>; 3] = [
                tokio::spawn(feed.run(stopping.clone())),
                tokio::spawn(Arc::clone(&service).issue_waiting(stopping.clone())),
                tokio::spawn(Arc::clone(&service).flush_regularly(stopping.clone())),
            ];
            service.reader.run(stopping).await;
            for work in work {
                if let Err(error) = work.await
                    && error.is_panic()
                {
                    resume_unwind(error.into_panic());
                }
            }
            service.flush().await
        })
    }

    /// The change feed, which [`Service::start`] polls.
    pub async fn feed(&self, mark: Option<Mark>) -> Result<Feed> {
        let memory = self.recall(mark).await?;
        let (store, clock) = (self.store().clone(), self.clock.clone());
        Ok(Feed::new(store, clock, Arc::clone(&self.cache), memory))
    }

    /// Compares the store with what this machine remembers of it.
    async fn recall(&self, mark: Option<Mark>) -> Result<Memory> {
        let mut memory = Memory {
            mark,
            last: None,
            is_open: self.is_open.clone(),
            resumed: None,
        };
        let Some(mark) = &memory.mark else {
            tracing::warn!(
                "there is no $STATE_DIRECTORY, so a restore of the store would not be noticed"
            );
            return Ok(memory);
        };
        memory.last = mark.find_last()?.map(|last| last.id);
        if !mark.is_in(self.store()).await? {
            let mut tx = self.store().begin_short_read().await?;
            memory.resumed = tx.find_setting(RESUMED).await?;
            memory.is_open.store(false, Ordering::Relaxed);
            tracing::error!("{}", Error::Closed);
        }
        Ok(memory)
    }

    /// Writes the uses counted since the last call. What cannot be written stays in memory.
    pub async fn flush(&self) -> Result<()> {
        let mut is_written = false;
        for shard in 0..SHARDS {
            let counted = self.uses.take(shard);
            is_written |= !counted.is_empty();
            let mut rest = counted.as_slice();
            while !rest.is_empty() {
                let (page, next) = rest.split_at(rest.len().min(PAGE_TOKENS));
                let rows = page
                    .iter()
                    .map(|(token, entry)| rows(*token, entry))
                    .collect();
                if let Err(error) = self.write_uses(rows).await {
                    self.uses.put_back(rest);
                    return Err(error);
                }
                rest = next;
            }
        }
        if is_written {
            self.store().release_memory().await?;
        }
        Ok(())
    }

    /// Writes the rows of tokens. The rows of a token are of different hours; one statement takes one row a token.
    async fn write_uses(&self, mut rows: Vec<Vec<UseRow>>) -> Result<()> {
        let mut tx = self.store().begin_short().await?;
        while !rows.is_empty() {
            let of_an_hour: Vec<_> = rows.iter_mut().map(|rows| rows.remove(0)).collect();
            tx.add_uses(&of_an_hour).await?;
            rows.retain(|rows| !rows.is_empty());
        }
        Ok(tx.commit().await?)
    }

    async fn flush_regularly(self: Arc<Self>, stopping: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + FLUSH_INTERVAL, FLUSH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.flush().await {
                tracing::warn!(error = %Causes(&error), "cannot write when tokens were used; trying again");
            }
        }
    }
}
