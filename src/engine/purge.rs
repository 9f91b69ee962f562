//! Purge: drops what need not be kept, a little at a time. `docs/retention.md` lists the rules.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::store::Kept;

use super::{Engine, Error, PAGE, Report};

/// Looking for what may be dropped reads old rows; once an hour is enough.
const EVERY_SECONDS: i64 = 3600;

/// When this process last purged.
#[derive(Debug, Default)]
pub struct LastPurge(AtomicI64);

impl Engine {
    /// Drops at most a page of each kind; the next sweep goes on.
    pub(super) async fn purge(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let last = self.last_purge.0.load(Ordering::Relaxed);
        if (now.timestamp() - last).abs() < EVERY_SECONDS {
            return Ok(());
        }
        let keep = &self.settings;
        let kept = Kept {
            runs_from: now - keep.runs,
            audit_from: now - keep.audit,
            findings_from: now - keep.findings,
            notices_from: now - keep.notices,
        };
        let mut tx = self.store.begin().await?;
        let dropped =
            tx.purge_ended(now - keep.gone_tokens, PAGE).await? + tx.purge(&kept, PAGE).await?;
        report.purged += dropped;
        tx.commit().await?;
        if dropped >= PAGE.unsigned_abs() {
            // There is more; the next sweep goes on.
            return Ok(());
        }
        self.last_purge.0.store(now.timestamp(), Ordering::Relaxed);
        Ok(())
    }
}
