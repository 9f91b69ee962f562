//! Records delivery outcomes, and waits for an unreachable store.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{MailRecord, Verdict};

use super::super::{Error, Report};
use super::pass::{Batch, Pass, Suspect};

/// How long a pass retries to record outcomes while the store is unreachable.
const STORE_RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(500);

impl Pass<'_> {
    /// Records a batch; returns the mails that another process has taken over.
    ///
    /// A mail that was sent but not recorded would be sent again, so this waits for an unreachable store. No other
    /// process can claim the mail meanwhile, because it has the same store.
    pub(super) async fn record_batch(
        &self,
        batch: Batch,
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        let Batch {
            mut records,
            failed,
        } = batch;
        records.extend(failed.iter().map(|failed| MailRecord {
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
        let given_up_at = Instant::now() + STORE_RETRY_TIMEOUT;
        loop {
            match self.try_record(&records, &failed, report).await {
                Err(error) if error.is_transient() && Instant::now() < given_up_at => {
                    tracing::warn!("delivery outcomes cannot be recorded yet: {error}");
                    tokio::time::sleep(STORE_RETRY_INTERVAL).await;
                }
                written => return written,
            }
        }
    }

    /// One transaction, one commit.
    async fn try_record(
        &self,
        records: &[MailRecord],
        failed: &[Suspect],
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        let engine = self.engine;
        let now = engine.now();
        let holder = engine.lease_from(now);
        let needs_more =
            |record: &MailRecord| matches!(record.verdict, Verdict::Cancelled | Verdict::Failed);
        // The usual case: a single statement.
        let plain = if records.iter().any(needs_more) {
            None
        } else {
            Some(engine.store.record_mails(records, holder, now).await?)
        };
        if plain == Some(records.len() as u64) {
            return Ok(HashSet::new());
        }
        let mut tx = engine.store.begin().await?;
        let written = match plain {
            Some(written) => written,
            None => tx.record_mails(records, holder, now).await?,
        };
        let mut lost = HashSet::new();
        if written < records.len() as u64 {
            lost = tx.find_lost_mails(records, holder.id).await?;
            tracing::warn!("{} mails were taken over by another process", lost.len());
        }
        let cancelled = records
            .iter()
            .filter(|record| record.verdict == Verdict::Cancelled);
        let cancelled: Vec<_> = cancelled.map(|record| record.id).collect();
        tx.detach_unreachable_notices(&cancelled).await?;
        for Suspect {
            mail,
            reason,
            is_dead,
        } in failed
            .iter()
            .filter(|suspect| !lost.contains(&suspect.mail.id))
        {
            if *is_dead {
                tx.mark_address_dead(&mail.recipient, reason, now).await?;
            }
            engine.plan_fallback(&mut tx, mail, reason, report).await?;
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Renews the lease on claimed mails. If the store is unreachable, it is tried again before the lease lapses.
    pub(super) async fn renew_leases(&self) {
        let renewed = async {
            let mut tx = self.engine.store.begin().await?;
            tx.renew_mail_leases(self.engine.lease_from(self.engine.now()))
                .await?;
            tx.commit().await
        };
        if let Err(error) = renewed.await {
            tracing::warn!("the lease on claimed mails was not renewed: {error}");
        }
    }
}
