//! Purge: drops what need not be kept, a little at a time. `docs/retention.md` lists the rules.

use crate::store::Kept;

use super::{Engine, Error, PAGE, Report};

impl Engine {
    /// Drops at most a page of each kind; the next sweep goes on.
    pub(super) async fn purge(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let keep = &self.settings;
        let kept = Kept {
            runs_from: now - keep.runs,
            audit_from: now - keep.audit,
            findings_from: now - keep.findings,
            notices_from: now - keep.notices,
        };
        let mut tx = self.store.begin().await?;
        report.purged += tx.purge_gone(now - keep.gone_tokens, PAGE).await?;
        report.purged += tx.purge(&kept, PAGE).await?;
        tx.commit().await?;
        Ok(())
    }
}
