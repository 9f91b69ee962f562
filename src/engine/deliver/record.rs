//! Decides what the outcomes of attempts mean, and records them.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::Policy;
use crate::engine::common::{Delivery, Error, MAX_SKEW_FACTOR, Report};
use crate::engine::notices::plan_fallback;
use crate::store::{ClaimedMail, Holder, MailRecord, Store, Verdict};

/// How long a pass retries to record outcomes while the store is unreachable.
const STORE_RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Setting: whether the mail server refused most recipients in the last pass.
pub(super) const RELAY_PROBATION: &str = "relay.probation";

/// A mail with this many unknown outcomes fails: it may have arrived as many times.
const MAX_UNKNOWN_ATTEMPTS: u32 = 5;

/// After this many faults in a row the mail server is not used until the next sweep.
const MAX_FAULTS_IN_A_ROW: u32 = 3;
/// From this many recipients on, the share of refusals shows whether the server or the addresses are to blame.
const MIN_RECIPIENTS_TO_JUDGE: u32 = 20;

impl Delivery {
    /// The verdict on a mail that was not accepted: another attempt, or failure.
    pub(super) fn verdict_if_deferred(&self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        if now - mail.first_tried_at.unwrap_or(now) >= self.give_up {
            return Verdict::Failed;
        }
        Verdict::Retry(now + self.backoff.delay_after(mail.attempts + 1, mail.id))
    }

    /// The verdict on a mail that the server may have accepted.
    pub(super) fn verdict_if_unknown(&self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        let unknowns = mail.unknowns + 1;
        if unknowns >= MAX_UNKNOWN_ATTEMPTS {
            return Verdict::Failed;
        }
        Verdict::Unknown(now + self.backoff.delay_after(unknowns, mail.id))
    }
}

/// What one pass has learned about the mail server.
#[derive(Debug, Default)]
pub(super) struct RelayHealth {
    faults_in_a_row: u32,
    recipients: u32,
    refused: u32,
    /// The server refused most recipients in the last pass. Until it accepts one, no refusal is blamed on the address.
    pub is_on_probation: bool,
    /// The server is not used for the rest of the pass.
    pub is_down: bool,
}

impl RelayHealth {
    pub fn new(is_on_probation: bool) -> Self {
        Self {
            is_on_probation,
            ..Self::default()
        }
    }

    /// Records that the server answered for a recipient.
    pub fn record_reply(&mut self, is_refusal: bool) {
        self.faults_in_a_row = 0;
        self.recipients += 1;
        self.refused += u32::from(is_refusal);
        self.is_on_probation &= is_refusal;
        self.is_down |= self.is_refusing();
    }

    /// Records that the server failed as a whole.
    pub fn record_fault(&mut self) {
        self.faults_in_a_row += 1;
        self.is_down |= self.faults_in_a_row >= MAX_FAULTS_IN_A_ROW;
    }

    /// Whether the server failed and answered for no recipient.
    pub fn is_unusable(&self) -> bool {
        self.is_down || (self.faults_in_a_row > 0 && self.recipients == 0)
    }

    /// Whether enough is known to blame an address for a refusal.
    pub fn has_enough_replies(&self) -> bool {
        self.recipients >= MIN_RECIPIENTS_TO_JUDGE
    }

    /// Whether most of enough recipients were refused: then the server is to blame, not the addresses.
    pub fn is_refusing(&self) -> bool {
        self.is_on_probation && self.refused > 0
            || self.recipients >= MIN_RECIPIENTS_TO_JUDGE && self.refused * 2 > self.recipients
    }
}

/// A mail that may have failed for good.
pub(super) struct Suspect {
    pub mail: ClaimedMail,
    pub reason: String,
    pub is_dead: bool,
}

#[derive(Default)]
pub(super) struct Batch {
    pub records: Vec<MailRecord>,
    pub failed: Vec<Suspect>,
}

impl Batch {
    pub fn record(&mut self, mail: &ClaimedMail, verdict: Verdict, reason: Option<String>) {
        self.records.push(MailRecord {
            id: mail.id,
            verdict,
            reason,
        });
    }

    pub fn add(
        &mut self,
        mail: ClaimedMail,
        verdict: Verdict,
        reason: Option<String>,
        report: &mut Report,
    ) {
        match verdict {
            Verdict::Failed => {
                return self.failed.push(Suspect {
                    mail,
                    reason: format!("given up: {}", reason.unwrap_or_default()),
                    is_dead: false,
                });
            }
            Verdict::Retry(_) => report.mails_deferred += 1,
            Verdict::Unknown(_) => report.mails_unknown += 1,
            Verdict::Sending | Verdict::Sent | Verdict::Cancelled | Verdict::Returned => {}
        }
        self.record(&mail, verdict, reason);
    }
}

pub(in crate::engine) struct Recorder<'a> {
    pub store: &'a Store,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
    pub settings: &'a Delivery,
    /// Identifies this process as a holder of leases.
    pub holder: Uuid,
}

impl Recorder<'_> {
    /// The lease on mails that are claimed or renewed now.
    pub fn lease_from(&self, now: DateTime<Utc>) -> Holder {
        Holder {
            id: self.holder,
            until: now + self.settings.lease,
        }
    }

    /// Records a batch; returns the mails that another process has taken over.
    ///
    /// A mail that was sent but not recorded would be sent again, so this waits for an unreachable store. No other
    /// process can claim the mail meanwhile, because it has the same store.
    pub(super) async fn record_batch(
        &self,
        mut batch: Batch,
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        let failed = std::mem::take(&mut batch.failed);
        for Suspect { mail, reason, .. } in &failed {
            batch.record(mail, Verdict::Failed, Some(reason.clone()));
            report.mails_failed += 1;
            tracing::warn!(mail.id = %mail.id, "mail {} to {:?} failed: {reason}", mail.id, mail.recipient);
        }
        if batch.records.is_empty() {
            return Ok(HashSet::new());
        }
        let give_up_at = Instant::now() + STORE_RETRY_TIMEOUT;
        loop {
            match self.try_record(&batch.records, &failed, report).await {
                Err(error) if error.is_transient() && Instant::now() < give_up_at => {
                    tracing::warn!("delivery outcomes cannot be recorded yet: {error}");
                    tokio::time::sleep(STORE_RETRY_INTERVAL).await;
                }
                result => return result,
            }
        }
    }

    async fn try_record(
        &self,
        records: &[MailRecord],
        failed: &[Suspect],
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        let now = self.clock.now();
        let holder = self.lease_from(now);
        let cancelled: Vec<_> = records
            .iter()
            .filter(|record| record.verdict == Verdict::Cancelled)
            .map(|record| record.id)
            .collect();
        let mut recorded_count = None;
        if cancelled.is_empty() && failed.is_empty() {
            // The usual case: a single statement.
            let count = self.store.record_mails(records, holder, now).await?;
            if count == records.len() as u64 {
                return Ok(HashSet::new());
            }
            recorded_count = Some(count);
        }
        let mut tx = self.store.begin().await?;
        let recorded_count = match recorded_count {
            Some(count) => count,
            None => tx.record_mails(records, holder, now).await?,
        };
        let mut lost = HashSet::new();
        if recorded_count < records.len() as u64 {
            lost = tx.find_lost_mails(records, holder.id).await?;
            tracing::warn!("{} mails were taken over by another process", lost.len());
        }
        tx.detach_unreachable_notices(&cancelled).await?;
        for Suspect {
            mail,
            reason,
            is_dead,
        } in failed
        {
            if lost.contains(&mail.id) {
                continue;
            }
            if *is_dead {
                tx.mark_address_dead(&mail.recipient, reason, now).await?;
            }
            plan_fallback(&mut tx, self.policy, mail, reason, now, report).await?;
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Renews the lease on claimed mails. If the store is unreachable, it is tried again before the lease lapses.
    pub async fn renew_leases(&self) {
        let lease = self.lease_from(self.clock.now());
        let renew = async {
            let mut tx = self.store.begin().await?;
            tx.renew_mail_leases(lease).await?;
            tx.commit().await
        };
        if let Err(error) = renew.await {
            tracing::warn!("the lease on claimed mails was not renewed: {error}");
        }
    }

    /// Settles the mails of processes that are gone, whose leases have lapsed. Returns whether the mail server is on probation.
    pub async fn recover(&self, report: &mut Report) -> Result<bool, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let lapsed = tx
            .reclaim_lapsed_mails(now, now + self.settings.lease * MAX_SKEW_FACTOR)
            .await?;
        for mail in &lapsed {
            let reason = "the program ended while the mail was being sent";
            let verdict = self.settings.verdict_if_unknown(mail, now);
            tx.settle_lapsed_mail(mail, verdict, reason).await?;
            if verdict == Verdict::Failed {
                report.mails_failed += 1;
                plan_fallback(&mut tx, self.policy, mail, reason, now, report).await?;
            } else {
                report.mails_unknown += 1;
            }
        }
        let is_on_probation = tx.find_setting(RELAY_PROBATION).await?.as_deref() == Some("yes");
        tx.commit().await?;
        Ok(is_on_probation)
    }
}
