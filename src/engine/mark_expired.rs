//! Reports expired tokens to the sources that mark them.
//!
//! A token's report is stored as owed with its expiry and cleared when the source has it, so that a program that is
//! killed loses nothing; at worst a source gets one batch of tokens twice.

use chrono::TimeDelta;

use super::{Engine, Error, Report, SweepOptions, WatchedSource};

/// Tokens reported before that is stored.
const BATCH_SIZE: i64 = 50;

/// A token that a source did not mark is reported again after this time.
const RETRY_AFTER: TimeDelta = TimeDelta::minutes(10);

impl Engine {
    pub(super) fn sources_that_mark_expired(&self) -> Vec<&str> {
        self.sources
            .iter()
            .filter(|watched| watched.source.marks_expired())
            .map(|watched| watched.terms.name.as_str())
            .collect()
    }

    /// Reports to every source that wants it, except one whose last sync failed.
    pub(super) async fn mark_expired_at_sources(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        for watched in &self.sources {
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
                self.mark_expired_at_source(watched, report).await?;
            }
        }
        Ok(())
    }

    async fn mark_expired_at_source(
        &self,
        watched: &WatchedSource,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
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
                    super::sweep::error_chain(&error.into())
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
