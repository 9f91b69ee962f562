//! Reports expired tokens to the sources that mark them.
//!
//! A token's report is stored as owed with its expiry and cleared when the source has it, so that a program that is
//! killed loses nothing; at worst a source gets one batch of tokens twice.

use chrono::TimeDelta;

use crate::clock::Clock;
use crate::store::Store;

use super::common::{Error, OnProgress, Report};
use super::upstream::{SweepOptions, WatchedSource};

/// Tokens reported before that is stored.
const BATCH_SIZE: i64 = 50;

/// A token that a source did not mark is reported again after this time.
const RETRY_AFTER: TimeDelta = TimeDelta::minutes(10);

pub(super) struct MarkExpired<'a> {
    pub store: &'a Store,
    pub clock: &'a Clock,
    pub sources: &'a [WatchedSource],
    pub on_progress: OnProgress<'a>,
}

impl MarkExpired<'_> {
    /// Reports to every source that wants it, except one whose last sync failed.
    pub async fn run(&self, options: &SweepOptions, report: &mut Report) -> Result<(), Error> {
        for watched in self.sources {
            if !watched.source.marks_expired() || !options.includes(&watched.terms.name) {
                continue;
            }
            let known = self
                .store
                .begin_read()
                .await?
                .find_source(&watched.terms.name)
                .await?;
            if known.is_some_and(|known| known.sync_state.failures == 0) {
                self.report_to(watched, report).await?;
            }
        }
        Ok(())
    }

    async fn report_to(&self, watched: &WatchedSource, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        loop {
            let mut tx = self.store.begin_read().await?;
            let owed = tx
                .find_tokens_to_mark_expired(&watched.terms.name, now, BATCH_SIZE)
                .await?;
            drop(tx);
            if owed.is_empty() {
                return Ok(());
            }
            let ack = watched.source.mark_expired(&owed).await;
            let mut tx = self.store.begin().await?;
            tx.set_mark_expired_at(&ack.done, None).await?;
            tx.set_mark_expired_at(&ack.failed, Some(now + RETRY_AFTER))
                .await?;
            tx.commit().await?;
            report.expiries_reported += ack.done.len() as u64;
            if let Some(error) = ack.error {
                report.problems.push(format!(
                    "source {}: could not mark tokens as expired: {}",
                    watched.terms.name,
                    Error::from(error).chain()
                ));
            }
            if ack.done.len() + ack.failed.len() < owed.len() {
                // The source is unreachable; the other tokens wait for the next sweep.
                return Ok(());
            }
            (self.on_progress)();
        }
    }
}
