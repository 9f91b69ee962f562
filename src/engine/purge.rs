//! Purge: deletes old rows, a page at a time. `docs/retention.md` has the rules.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::Clock;
use crate::store::{PurgeCutoffs, Store};

use super::common::{Error, PAGE_SIZE, Report, Retention};

/// Searching for old rows costs reads; once an hour is enough.
const PURGE_INTERVAL_SECONDS: i64 = 3600;

#[derive(Debug, Default)]
pub struct LastPurge(AtomicI64);

pub(super) struct Purge<'a> {
    pub store: &'a Store,
    pub clock: &'a Clock,
    pub retention: &'a Retention,
    pub last: &'a LastPurge,
}

impl Purge<'_> {
    /// Deletes at most a page of each kind; the next sweep continues.
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let last = self.last.0.load(Ordering::Relaxed);
        if (now.timestamp() - last).abs() < PURGE_INTERVAL_SECONDS {
            return Ok(());
        }
        let keep = self.retention;
        let kept = PurgeCutoffs {
            runs: now - keep.runs,
            audit: now - keep.audit,
            findings: now - keep.findings,
            notices: now - keep.notices,
        };
        let mut tx = self.store.begin().await?;
        let dropped = tx
            .purge_ended_tokens(now - keep.gone_tokens, PAGE_SIZE)
            .await?
            + tx.purge(&kept, PAGE_SIZE).await?;
        report.purged += dropped;
        tx.commit().await?;
        if dropped >= PAGE_SIZE.unsigned_abs() {
            // There may be more; the next sweep continues.
            return Ok(());
        }
        self.last.0.store(now.timestamp(), Ordering::Relaxed);
        Ok(())
    }
}
