//! Tell: lets sources that want it know which of their tokens have expired.
//!
//! The wish is written with the mark itself and taken back when the source knows, so that a program that is
//! killed loses nothing; at the worst a source hears of a page of tokens twice.

use chrono::TimeDelta;

use super::{Engine, Error, Report, SweepOptions, Watched};

/// Tokens that are told of before it is written down that they were.
const AT_ONCE: i64 = 50;

/// What a source did not take is offered again after this long.
const AGAIN_AFTER: TimeDelta = TimeDelta::minutes(10);

impl Engine {
    /// The names of the sources that want to hear of expiry.
    pub(super) fn telling(&self) -> Vec<&str> {
        let hears = |watched: &&Watched| watched.source.hears_of_expiry();
        let telling = self.sources.iter().filter(hears);
        telling.map(|watched| watched.name.as_str()).collect()
    }

    /// Tells every source that wants it. One that cannot be listed is left alone until it can.
    pub(super) async fn tell_sources(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        for watched in &self.sources {
            if !watched.source.hears_of_expiry() || !options.takes(&watched.name) {
                continue;
            }
            let known = self.store.read().await?.source(&watched.name).await?;
            if known.is_some_and(|known| known.standing.failures == 0) {
                self.tell(watched, report).await?;
            }
        }
        Ok(())
    }

    async fn tell(&self, watched: &Watched, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        loop {
            let mut tx = self.store.read().await?;
            let untold = tx.untold_tokens(&watched.name, now, AT_ONCE).await?;
            drop(tx);
            if untold.is_empty() {
                return Ok(());
            }
            let told = watched.source.expired(&untold).await;
            let mut tx = self.store.begin().await?;
            tx.tell_at(&told.done, None).await?;
            tx.tell_at(&told.failed, Some(now + AGAIN_AFTER)).await?;
            tx.commit().await?;
            report.expired_told += told.done.len() as u64;
            if let Some(error) = told.error {
                report.problems.push(format!(
                    "source {}: cannot be told that tokens have expired: {}",
                    watched.name,
                    super::sweep::chain(&error.into())
                ));
            }
            if told.done.len() + told.failed.len() < untold.len() {
                // It is away; the rest waits for the next sweep.
                return Ok(());
            }
            (self.on_progress)();
        }
    }
}
