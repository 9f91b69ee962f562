//! Follows what other processes change: the command line, and other replicas.
//!
//! Changes are rows of the store, written with what they change. Their numbers are given out before they are
//! committed, so a smaller number may appear after a larger one: the last [`WINDOW`] are looked at again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::store::{self, Change, Store, Tx, Watch};

use super::Error;
use super::cache::Cache;
use super::mark::{Mark, RESUMED, SeenChange};

const POLL_INTERVAL: Duration = Duration::from_millis(250);
const WINDOW: i64 = 10_000;
/// After so long without a poll, changes may have been purged: everything is forgotten.
const MAX_GAP: Duration = Duration::from_hours(1);

pub struct Feed {
    store: Store,
    clock: Clock,
    cache: Arc<Cache>,
    watch: Option<Watch>,
    /// The changes seen, of the last [`WINDOW`] numbers.
    seen: HashMap<i64, Change>,
    /// The largest number that was given out at the last complete poll.
    last: i64,
    /// When the last complete poll began.
    polled_at: Option<Duration>,
    /// The store has changed since the last complete poll.
    is_behind: bool,
    /// A poll has failed, so another server may answer, which has as many changes and not the same.
    is_in_doubt: bool,
    memory: Memory,
}

/// What is known outside the store.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// Without one, a restore is not noticed.
    pub mark: Option<Mark>,
    /// The largest number in its file.
    pub last: Option<i64>,
    /// Whether tokens are verified.
    pub is_open: Arc<AtomicBool>,
    /// The value of [`RESUMED`] at the start: another one opens.
    pub resumed: Option<String>,
}

impl Feed {
    pub(super) fn new(store: Store, clock: Clock, cache: Arc<Cache>, memory: Memory) -> Self {
        Self {
            store,
            clock,
            cache,
            watch: None,
            seen: HashMap::new(),
            last: 0,
            polled_at: None,
            is_behind: true,
            is_in_doubt: false,
            memory,
        }
    }

    /// Polls until it is stopped. While that fails, the cache is not used.
    pub(super) async fn run(mut self, stopping: CancellationToken) {
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
        let polled = self.try_poll().await;
        self.is_in_doubt = polled.is_err();
        polled
    }

    async fn try_poll(&mut self) -> store::Result<()> {
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
            self.look_for_resume().await?;
            self.read_changes(began_at).await?;
            self.is_behind = false;
        }
        self.polled_at = Some(began_at);
        self.cache.confirm(began_at);
        Ok(())
    }

    async fn read_changes(&mut self, began_at: Duration) -> store::Result<()> {
        let mut tx = self.store.begin_short_read().await?;
        let (count, last) = tx.count_changes(self.last.saturating_sub(WINDOW)).await?;
        let is_continuous = self.is_continuous(began_at, last);
        if is_continuous && !self.is_in_doubt {
            if (count, last) == (self.count_seen(), self.last) {
                return Ok(());
            }
            let new = tx.load_changes(self.last).await?;
            if count == self.count_seen() + to_count(new.len()) {
                self.take(new.iter());
                self.extend(new, last);
                return Ok(());
            }
            // One appeared late, or some were purged or lost.
        }
        let known = if is_continuous { self.last } else { last };
        let found = tx.load_changes(known.saturating_sub(WINDOW)).await?;
        let is_open = self.memory.is_open.load(Ordering::Relaxed);
        if is_open && self.has_lost(&mut tx, &found, is_continuous).await? {
            self.close(&mut tx).await?;
        } else if is_continuous {
            let is_new = |(id, _): &&(i64, Change)| !self.seen.contains_key(id);
            let new: Vec<_> = found.iter().filter(is_new).collect();
            self.take(new.into_iter());
        } else {
            self.cache.forget(&[Change::Everything]);
            let unmarked = self.memory.last.unwrap_or(last - 1);
            self.memorize(found.iter().filter(|(id, _)| *id > unmarked));
        }
        self.seen.clear();
        self.extend(found, last);
        Ok(())
    }

    /// Acts on changes that were not seen before.
    fn take<'a>(&mut self, new: impl Iterator<Item = &'a (i64, Change)> + Clone) {
        let changes: Vec<_> = new.clone().map(|(_, change)| change.clone()).collect();
        self.cache.forget(&changes);
        self.memorize(new);
    }

    fn count_seen(&self) -> i64 {
        to_count(self.seen.len())
    }

    /// Whether the store lacks a change that was seen: it was restored, or another server took over without it.
    async fn has_lost(
        &self,
        tx: &mut Tx,
        found: &[(i64, Change)],
        is_continuous: bool,
    ) -> store::Result<bool> {
        if !is_continuous {
            // There may be too many changes since then to look at all.
            return match self.seen.get(&self.last) {
                Some(change) => Ok(!tx.has_change(self.last, change).await?),
                None => Ok(false),
            };
        }
        let is_seen = |(id, stored): &&(i64, Change)| {
            let seen = self.seen.get(id);
            seen.is_some_and(|seen| seen.is_stored_as(stored))
        };
        Ok(found.iter().filter(is_seen).count() < self.seen.len())
    }

    /// Verifies no token until an operator has decided what the lost changes mean.
    async fn close(&mut self, tx: &mut Tx) -> store::Result<()> {
        self.memory.resumed = tx.find_setting(RESUMED).await?;
        self.memory.is_open.store(false, Ordering::Relaxed);
        self.cache.forget(&[Change::Everything]);
        tracing::error!("{}", Error::Closed);
        Ok(())
    }

    /// Whether no change can have been missed since the last poll.
    fn is_continuous(&self, began_at: Duration, last: i64) -> bool {
        let is_recent = |polled_at| began_at.saturating_sub(polled_at) < MAX_GAP;
        let is_near = (self.last..=self.last.saturating_add(WINDOW)).contains(&last);
        is_near && self.polled_at.is_some_and(is_recent)
    }

    /// Opens once an operator has decided about a store that was restored.
    async fn look_for_resume(&mut self) -> store::Result<()> {
        if self.memory.is_open.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut tx = self.store.begin_short_read().await?;
        if tx.find_setting(RESUMED).await? == self.memory.resumed {
            return Ok(());
        }
        self.forget_mark();
        self.memory.is_open.store(true, Ordering::Relaxed);
        tracing::info!("tokens are verified again");
        Ok(())
    }

    /// The memory of what the store has forgotten begins again.
    fn forget_mark(&mut self) {
        if let Some(mark) = &self.memory.mark
            && let Err(error) = mark.replace(&[])
        {
            self.give_up_mark(&error);
        }
        (self.memory.last, self.polled_at) = (None, None);
        self.seen.clear();
    }

    fn memorize<'a>(&mut self, changes: impl Iterator<Item = &'a (i64, Change)>) {
        let Some(mark) = &self.memory.mark else {
            return;
        };
        if !self.memory.is_open.load(Ordering::Relaxed) {
            return;
        }
        let at = self.clock.now();
        let seen = changes.map(|(id, change)| SeenChange {
            id: *id,
            at,
            change: change.clone(),
        });
        let seen: Vec<_> = seen.collect();
        match mark.append(&seen) {
            Ok(()) => {
                self.memory.last = self.memory.last.max(seen.iter().map(|seen| seen.id).max());
            }
            Err(error) => self.give_up_mark(&error),
        }
    }

    fn give_up_mark(&mut self, error: &io::Error) {
        if let Some(mark) = self.memory.mark.take() {
            let file = mark.path().display();
            tracing::error!(
                "cannot write {file}, so a restore of the store would not be noticed: {error}"
            );
        }
    }

    fn extend(&mut self, found: Vec<(i64, Change)>, last: i64) {
        let from = last.saturating_sub(WINDOW);
        self.seen.extend(found);
        self.seen.retain(|id, _| *id > from);
        self.last = last;
    }
}

fn to_count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
