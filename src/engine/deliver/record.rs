//! Recording: writes down what became of mails, and waits for a store that is away.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{Recorded, Verdict};

use super::super::{Error, Report};
use super::pass::{Batch, Pass, Suspect};

/// How long a pass waits for a store that is away, to record what became of mails.
const STORE_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const STORE_PAUSE: Duration = Duration::from_millis(500);

impl Pass<'_> {
    /// Writes everything that came in; gives the mails that another process has taken over.
    ///
    /// A mail that was taken and not recorded would go twice, so a store that is away for a moment
    /// is waited for. Nobody else can claim the mail meanwhile: the store is away for all.
    pub(super) async fn write(
        &self,
        batch: Batch,
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        let Batch {
            mut records,
            failed,
        } = batch;
        records.extend(failed.iter().map(|failed| Recorded {
            id: failed.mail.id,
            verdict: Verdict::Failed,
            reason: Some(failed.reason.clone()),
        }));
        if records.is_empty() {
            return Ok(HashSet::new());
        }
        for Suspect { mail, reason, .. } in &failed {
            report.mails_failed += 1;
            tracing::warn!(mail.id = %mail.id, "mail {} to {:?} failed: {reason}", mail.id, mail.recipient);
        }
        let given_up_at = Instant::now() + STORE_PATIENCE;
        loop {
            match self.write_once(&records, &failed, report).await {
                Err(error) if error.is_transient() && Instant::now() < given_up_at => {
                    tracing::warn!("what became of mails cannot be recorded yet: {error}");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                written => return written,
            }
        }
    }

    /// One transaction, one commit.
    async fn write_once(
        &self,
        records: &[Recorded],
        failed: &[Suspect],
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        let engine = self.engine;
        let now = engine.now();
        let holder = engine.lease_from(now);
        let needs_more =
            |record: &Recorded| matches!(record.verdict, Verdict::Cancelled | Verdict::Failed);
        // The rule: one statement that is a transaction of its own.
        let plain = if records.iter().any(needs_more) {
            None
        } else {
            Some(engine.store.record(records, holder, now).await?)
        };
        if plain == Some(records.len() as u64) {
            return Ok(HashSet::new());
        }
        let mut tx = engine.store.begin().await?;
        let written = match plain {
            Some(written) => written,
            None => tx.record(records, holder, now).await?,
        };
        let mut lost = HashSet::new();
        if written < records.len() as u64 {
            lost = tx.taken_over(records, holder.id).await?;
            tracing::warn!("{} mails were taken over by another process", lost.len());
        }
        let cancelled = records
            .iter()
            .filter(|record| record.verdict == Verdict::Cancelled);
        let cancelled: Vec<_> = cancelled.map(|record| record.id).collect();
        tx.release_riders(&cancelled).await?;
        for Suspect {
            mail,
            reason,
            is_dead,
        } in failed.iter().filter(|it| !lost.contains(&it.mail.id))
        {
            if *is_dead {
                tx.bury_address(&mail.recipient, reason, now).await?;
            }
            engine.pass_on(&mut tx, mail, reason, report).await?;
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Holds on to what is in hand. A store that is away is tried again before the lease lapses.
    pub(super) async fn renew(&self) {
        let renewed = async {
            let mut tx = self.engine.store.begin().await?;
            tx.renew_mails(self.engine.lease_from(self.engine.now()))
                .await?;
            tx.commit().await
        };
        if let Err(error) = renewed.await {
            tracing::warn!("the lease on mails in hand was not renewed: {error}");
        }
    }
}
