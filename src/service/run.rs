//! The tasks of a service that verifies: they read, follow what others change, and write uses.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::store::UseRow;

use super::feed::Feed;
use super::uses::rows;
use super::{Result, Service};

const FLUSH_INTERVAL: Duration = Duration::from_secs(30);
/// Tokens whose uses one transaction writes: others wait for it.
const PAGE_TOKENS: usize = 1000;

impl Service {
    /// Runs until it is stopped. From then on, verifications read the store, and [`Service::flush`] writes what they
    /// count.
    pub async fn run(&self, stopping: CancellationToken) -> Result<()> {
        let feed = Feed::new(self.store().clone(), self.clock.clone(), self.cache.clone());
        tokio::join!(
            feed.run(stopping.clone()),
            self.reader.run(stopping.clone()),
            self.flush_regularly(stopping),
        );
        self.flush().await
    }

    /// Writes the uses counted since the last call. What cannot be written stays in memory.
    pub async fn flush(&self) -> Result<()> {
        let mut counted = self.uses.take();
        // In order, so that two processes do not wait for each other.
        counted.sort_by_key(|(token, _)| *token);
        let mut rest = counted.as_slice();
        while !rest.is_empty() {
            let (page, next) = rest.split_at(rest.len().min(PAGE_TOKENS));
            let rows = page
                .iter()
                .map(|(token, tallies)| rows(*token, tallies))
                .collect();
            if let Err(error) = self.write_uses(rows).await {
                self.uses.put_back(rest.to_vec());
                return Err(error);
            }
            rest = next;
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

    async fn flush_regularly(&self, stopping: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + FLUSH_INTERVAL, FLUSH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.flush().await {
                tracing::warn!(error = %Causes(&error), "cannot write when tokens were used; trying again");
            }
        }
    }
}
