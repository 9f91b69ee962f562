//! Decides what the outcomes of attempts mean, records them, and plans the notices to the next recipients of mails that
//! failed.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Backoff, NewNotice, Occurrence, Policy, Recipient, Token, Topic};
use crate::engine::common::{Delivery, Error, MAX_SKEW_FACTOR, PAGE_SIZE, Report};
use crate::engine::notices::DeadAddresses;
use crate::store::{ClaimedMail, Holder, MailNotice, MailRecord, Store, Tx, Verdict};
use crate::time::MAX_INSTANT;

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

#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPolicy {
    pub backoff: Backoff,
    pub give_up: TimeDelta,
}

impl RetryPolicy {
    /// When to try a mail again that was not accepted, or that it failed.
    pub fn next_attempt(self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        let first = mail.first_tried_at.unwrap_or(now);
        if now - first >= self.give_up {
            Verdict::Failed
        } else {
            Verdict::Retry(now + self.backoff.delay_after(mail.attempts + 1, mail.id))
        }
    }
}

/// The verdict on a mail that the server may have accepted.
pub(super) fn verdict_if_unknown(
    mail: &ClaimedMail,
    backoff: Backoff,
    now: DateTime<Utc>,
) -> Verdict {
    if mail.unknowns + 1 >= MAX_UNKNOWN_ATTEMPTS {
        Verdict::Failed
    } else {
        Verdict::Unknown(now + backoff.delay_after(mail.unknowns + 1, mail.id))
    }
}

/// What one pass has learned about the mail server.
#[derive(Debug, Default)]
pub(super) struct RelayHealth {
    faults_in_a_row: u32,
    recipients: u32,
    refused: u32,
    /// The server refused most recipients in the last pass. Until it accepts one, no refusal is blamed
    /// on the address.
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
    /// Mails that failed for good.
    pub failed: Vec<Suspect>,
}

impl Batch {
    /// Adds the verdict on an attempt.
    pub fn add(
        &mut self,
        mail: ClaimedMail,
        verdict: Verdict,
        reason: Option<String>,
        report: &mut Report,
    ) {
        match verdict {
            Verdict::Failed => {
                let reason = format!("given up: {}", reason.unwrap_or_default());
                self.failed.push(Suspect {
                    mail,
                    reason,
                    is_dead: false,
                });
                return;
            }
            Verdict::Retry(_) => report.mails_deferred += 1,
            Verdict::Unknown(_) => report.mails_unknown += 1,
            Verdict::Sending | Verdict::Sent | Verdict::Cancelled | Verdict::Returned => {}
        }
        self.records.push(MailRecord {
            id: mail.id,
            verdict,
            reason,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.failed.is_empty()
    }
}

/// Records outcomes.
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
        let now = self.clock.now();
        let holder = self.lease_from(now);
        let needs_more =
            |record: &MailRecord| matches!(record.verdict, Verdict::Cancelled | Verdict::Failed);
        // The usual case: a single statement.
        let plain = if records.iter().any(needs_more) {
            None
        } else {
            Some(self.store.record_mails(records, holder, now).await?)
        };
        if plain == Some(records.len() as u64) {
            return Ok(HashSet::new());
        }
        let mut tx = self.store.begin().await?;
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
            self.plan_fallback(&mut tx, mail, reason, report).await?;
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Renews the lease on claimed mails. If the store is unreachable, it is tried again before the lease lapses.
    pub async fn renew_leases(&self) {
        let renewed = async {
            let mut tx = self.store.begin().await?;
            tx.renew_mail_leases(self.lease_from(self.clock.now()))
                .await?;
            tx.commit().await
        };
        if let Err(error) = renewed.await {
            tracing::warn!("the lease on claimed mails was not renewed: {error}");
        }
    }

    /// Settles mails whose lease lapsed, from processes that are gone. Returns whether the mail server is on probation.
    pub async fn recover(&self, report: &mut Report) -> Result<bool, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let lapsed = tx
            .reclaim_lapsed_mails(now, now + self.settings.lease * MAX_SKEW_FACTOR)
            .await?;
        for mail in &lapsed {
            let reason = "the program ended while the mail was being sent";
            let verdict = verdict_if_unknown(mail, self.settings.backoff, now);
            tx.settle_lapsed_mail(mail, verdict, reason).await?;
            if verdict == Verdict::Failed {
                report.mails_failed += 1;
                self.plan_fallback(&mut tx, mail, reason, report).await?;
            } else {
                report.mails_unknown += 1;
            }
        }
        let is_on_probation = tx.find_setting(RELAY_PROBATION).await?.as_deref() == Some("yes");
        tx.commit().await?;
        Ok(is_on_probation)
    }

    /// Plans the notices of a failed mail for the next recipients in the chain. Their next mail also says that this
    /// address cannot be reached.
    async fn plan_fallback(
        &self,
        tx: &mut Tx,
        mail: &ClaimedMail,
        reason: &str,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let dead = DeadAddresses::load(tx, now).await?;
        let mut after = Uuid::nil();
        loop {
            let owed = tx.load_mail_notices(mail.id, after, PAGE_SIZE).await?;
            let Some(last) = owed.last() else {
                return Ok(());
            };
            after = last.id;
            let ids: Vec<_> = owed.iter().filter_map(|notice| notice.token_id).collect();
            let without_access = tx.find_lost_access(&ids).await?;
            let tokens = tx.load_tokens(&ids).await?;
            let admins = tx.load_account_admins(&tokens).await?;
            let mut notices = Vec::new();
            let mut next_recipients = std::collections::BTreeMap::new();
            for token in &tokens {
                let is_dead = |address: &_| dead.contains(address);
                let mut others = self.policy.recipients(
                    token,
                    &admins,
                    without_access.contains(&token.id),
                    &is_dead,
                );
                others.retain(|other| other.address != mail.recipient);
                for notice in owed
                    .iter()
                    .filter(|notice| notice.token_id == Some(token.id))
                {
                    notices.extend(
                        others
                            .iter()
                            .filter_map(|other| fallback_notice(notice, token, other, now)),
                    );
                }
                for other in others {
                    next_recipients
                        .entry(other.address.clone())
                        .or_insert(other);
                }
            }
            report.notices_planned += tx.insert_notices(&notices, None, now).await?;
            let unreachable: Vec<_> = next_recipients
                .values()
                .map(|to| unreachable_notice(mail, to, reason, now))
                .collect();
            tx.insert_notices(&unreachable, None, now).await?;
        }
    }
}

/// The same notice to another recipient. If they have it already, its key keeps it from being planned again.
fn fallback_notice(
    notice: &MailNotice,
    token: &Token,
    to: &Recipient,
    now: DateTime<Utc>,
) -> Option<NewNotice> {
    let occurrence = notice.occurrence();
    match notice.topic {
        Topic::Expiry | Topic::SsoRevoked => Some(NewNotice::for_token(token, occurrence, to, now)),
        // A revocation is sent to all recipients at once, so there is no one to fall back to.
        Topic::Unreachable | Topic::Alert | Topic::Summary | Topic::Revoked => None,
    }
}

/// A notice about the unreachable address, at most one a day. It goes along with the recipient's next mail.
fn unreachable_notice(
    mail: &ClaimedMail,
    to: &Recipient,
    reason: &str,
    now: DateTime<Utc>,
) -> NewNotice {
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let occurrence = Occurrence {
        topic: Topic::Unreachable,
        generation: day.into(),
        step: None,
    };
    NewNotice {
        detail: Some(reason.to_owned()),
        ..NewNotice::for_subject(mail.recipient.as_str(), occurrence, to, MAX_INSTANT)
    }
}
