//! Follows what other processes change: the command line, and other replicas.
//!
//! Changes are rows of the store, written with what they change. Their numbers are given out before they are
//! committed, so a smaller number may appear after a larger one: the last [`WINDOW`] are looked at again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::store::{self, Change, Store, Watch};

use super::cache::Cache;

const POLL_INTERVAL: Duration = Duration::from_millis(250);
const WINDOW: i64 = 10_000;
/// After so long without a poll, changes may have been purged: everything is forgotten.
const MAX_GAP: Duration = Duration::from_hours(1);

pub(super) struct Feed {
    store: Store,
    clock: Clock,
    cache: Arc<Cache>,
    watch: Option<Watch>,
    /// The numbers of the changes seen, of the last [`WINDOW`].
    seen: HashSet<i64>,
    /// The largest number that was given out at the last complete poll.
    last: i64,
    /// When the last complete poll began.
    polled_at: Option<Duration>,
    /// The store has changed since the last complete poll.
    is_behind: bool,
}

impl Feed {
    pub fn new(store: Store, clock: Clock, cache: Arc<Cache>) -> Self {
        Self {
            store,
            clock,
            cache,
            watch: None,
            seen: HashSet::new(),
            last: 0,
            polled_at: None,
            is_behind: true,
        }
    }

    /// Polls until it is stopped. While that fails, the cache is not used.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_failed = false;
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(polled) = stopping.run_until_cancelled(self.poll()).await else {
                return;
            };
            match &polled {
                Ok(()) if has_failed => tracing::info!("changes of tokens can be read again"),
                Err(error) if !has_failed => tracing::warn!(
                    error = %Causes(error),
                    "cannot read changes of tokens; every verification reads the store"
                ),
                _ => {}
            }
            has_failed = polled.is_err();
        }
    }

    /// Looks once for changes. Only if that is complete is the cache known to be up to date.
    pub async fn poll(&mut self) -> store::Result<()> {
        let began_at = self.clock.uptime();
        let watch = match &mut self.watch {
            Some(watch) => watch,
            watch => watch.insert(self.store.watch().await?),
        };
        match watch.has_changed().await {
            Ok(has_changed) => self.is_behind |= has_changed,
            Err(error) => {
                // The connection may be of no more use.
                (self.watch, self.is_behind) = (None, true);
                return Err(error);
            }
        }
        if self.is_behind {
            self.read_changes(began_at).await?;
            self.is_behind = false;
        }
        self.polled_at = Some(began_at);
        self.cache.confirm(began_at);
        Ok(())
    }

    async fn read_changes(&mut self, began_at: Duration) -> store::Result<()> {
        let mut tx = self.store.begin_short_read().await?;
        let last = tx.last_change_id().await?;
        let from = last.saturating_sub(WINDOW);
        let found = tx.load_changes(from).await?;
        drop(tx);
        let is_continuous = self.polled_at.is_some_and(|polled_at| {
            began_at.saturating_sub(polled_at) < MAX_GAP && (from..=last).contains(&self.last)
        });
        let changes: Vec<Change> = if is_continuous {
            let is_new = |(id, _): &(i64, Change)| !self.seen.contains(id);
            found
                .iter()
                .filter(|it| is_new(it))
                .map(|(_, change)| change.clone())
                .collect()
        } else {
            vec![Change::Everything]
        };
        self.cache.forget(&changes);
        self.seen = found.into_iter().map(|(id, _)| id).collect();
        self.last = last;
        Ok(())
    }
}
