//! Decides what the outcomes of attempts mean, and records them.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Address, Policy};
use crate::engine::common::{Delivery, Error, MAX_SKEW_FACTOR, Report, log_not_renewed, new_id};
use crate::engine::leased::retry;
use crate::engine::notices::{DEAD_ADDRESS_TTL, plan_fallback, plan_unreachable};
use crate::store::{self, ClaimedMail, Holder, MailRecord, RefusedAddress, Store, Verdict};
use crate::time::shift;

use super::refusals::Refusals;

/// Setting: how many connections the mail server takes, and when that was observed.
const CONNECTION_LIMIT: &str = "smtp.connection_limit";
const CONNECTION_LIMIT_TTL: TimeDelta = TimeDelta::days(1);

/// A mail with this many unknown outcomes fails: it may have arrived as many times.
const MAX_UNKNOWN_ATTEMPTS: u32 = 5;

impl Delivery {
    /// The verdict on a mail that was not accepted: another attempt, or failure.
    pub(super) fn verdict_if_deferred(&self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        if now - mail.first_tried_at.unwrap_or(now) >= self.give_up {
            return Verdict::Failed;
        }
        Verdict::Retry(shift(
            now,
            self.backoff.delay_after(mail.attempts + 1, mail.id),
        ))
    }

    /// The verdict on a mail that the server may have accepted.
    pub(super) fn verdict_if_unknown(&self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        let unknowns = mail.unknowns + 1;
        if unknowns >= MAX_UNKNOWN_ATTEMPTS {
            return Verdict::Failed;
        }
        Verdict::Unknown(shift(now, self.backoff.delay_after(unknowns, mail.id)))
    }
}

/// What is recorded in one transaction.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<MailRecord>,
    /// Mails whose notices go to the next recipients in the chain.
    undelivered: Vec<ClaimedMail>,
    refused: Vec<RefusedAddress>,
    /// Keys of addresses that were refused before and accept mail again.
    accepted: Vec<String>,
    /// Mails that are too large.
    oversized: Vec<Uuid>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn record(&mut self, mail: Uuid, verdict: Verdict, reason: Option<String>) {
        // A mail that ends before its start is recorded needs only its end.
        self.records.retain(|record| record.id != mail);
        self.records.push(MailRecord {
            id: mail,
            verdict,
            reason,
        });
    }

    pub fn extend(&mut self, records: Vec<MailRecord>) {
        self.records.extend(records);
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
                let reason = format!("given up: {}", reason.unwrap_or_default());
                return self.fail(mail, reason, report);
            }
            Verdict::Retry(_) => report.mails_deferred += 1,
            Verdict::Unknown(_) => report.mails_unknown += 1,
            Verdict::Sending
            | Verdict::Kept
            | Verdict::Sent
            | Verdict::Cancelled
            | Verdict::Returned => {}
        }
        self.record(mail.id, verdict, reason);
    }

    pub fn fail(&mut self, mail: ClaimedMail, reason: String, report: &mut Report) {
        log_failure(&mail, &reason);
        report.mails_failed += 1;
        self.record(mail.id, Verdict::Failed, Some(reason));
        self.undelivered.push(mail);
    }

    /// Records a refusal of the address. The next recipients in the chain are notified at once; the mail waits.
    pub fn refuse_address(&mut self, mail: ClaimedMail, refused: RefusedAddress) {
        self.undelivered.push(mail);
        self.refused.push(refused);
    }

    pub fn accept_again(&mut self, address: &Address) {
        self.accepted.push(address.key().to_owned());
    }

    pub fn split(&mut self, mail: &ClaimedMail, reason: String, now: DateTime<Utc>) {
        self.oversized.push(mail.id);
        self.record(mail.id, Verdict::Retry(now), Some(reason));
    }

    /// Whether a single statement records it.
    fn is_plain(&self) -> bool {
        let mut records = self.records.iter();
        self.undelivered.is_empty()
            && self.refused.is_empty()
            && self.accepted.is_empty()
            && self.oversized.is_empty()
            && records.all(|record| record.verdict != Verdict::Cancelled)
    }

    /// Whether the outcome of a mail would be forgotten if the batch were not recorded.
    pub fn has_outcome(&self) -> bool {
        let mut records = self.records.iter();
        records.any(|record| matches!(record.verdict, Verdict::Sent | Verdict::Unknown(_)))
    }
}

fn log_failure(mail: &ClaimedMail, reason: &str) {
    tracing::warn!(mail.id = %mail.id, "mail {} to {:?} failed: {reason}", mail.id, mail.recipient);
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
            until: shift(now, self.settings.lease),
        }
    }

    /// When a lease that is taken now ends, on [`Clock::uptime`].
    pub fn lease_end(&self) -> Duration {
        self.clock.uptime() + self.settings.lease.to_std().unwrap_or_default()
    }

    /// Records a batch; returns the mails that another process has taken over. Again for the same batch if the commit
    /// of the last time is in doubt.
    pub(super) async fn record_batch(
        &self,
        batch: &Batch,
        pass_start: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<HashSet<Uuid>, Error> {
        if batch.is_empty() {
            return Ok(HashSet::new());
        }
        self.store.check_file()?;
        let now = self.clock.now();
        let holder = self.lease_from(now);
        let records = &batch.records;
        let mut recorded_count = None;
        if batch.is_plain() {
            let count = self.store.record_mails(records, holder, now).await?;
            if count == records.len() as u64 {
                return Ok(HashSet::new());
            }
            recorded_count = Some(count);
        }
        let mut tx = self.store.begin_short().await?;
        let recorded_count = match recorded_count {
            Some(count) => count,
            None => tx.record_mails(records, holder, now).await?,
        };
        let mut lost = HashSet::new();
        if recorded_count < records.len() as u64 {
            lost = tx.find_lost_mails(records, holder.id).await?;
            if !lost.is_empty() {
                tracing::warn!("{} mails were taken over by another process", lost.len());
            }
        }
        let cancelled: Vec<_> = records
            .iter()
            .filter(|record| record.verdict == Verdict::Cancelled)
            .map(|record| record.id)
            .collect();
        tx.detach_unreachable_notices(&cancelled).await?;
        for id in batch.oversized.iter().filter(|id| !lost.contains(id)) {
            tx.split_mail(*id, new_id(now), now).await?;
        }
        for refused in &batch.refused {
            tx.record_address_refusal(refused, pass_start, shift(now, -DEAD_ADDRESS_TTL), now)
                .await?;
        }
        tx.clear_addresses(&batch.accepted).await?;
        let mut planned = Report::default();
        for mail in &batch.undelivered {
            if !lost.contains(&mail.id) {
                plan_fallback(&mut tx, self.policy, mail, now, &mut planned).await?;
            }
        }
        tx.commit().await?;
        report.add(planned);
        Ok(lost)
    }

    /// Decides about the addresses that were refused in a pass. Mails to those that are dead now fail.
    pub(super) async fn judge_addresses(
        &self,
        refusals: &Refusals,
        pass_start: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let sound_domains = refusals.sound_domains();
        let judged = retry!(self.try_judge_addresses(&sound_domains, pass_start))?;
        // The mail that was refused in this pass is counted as deferred.
        report.mails_deferred = report.mails_deferred.saturating_sub(judged.dead);
        report.add(judged.counted);
        Ok(())
    }

    async fn try_judge_addresses(
        &self,
        sound_domains: &[&str],
        pass_start: DateTime<Utc>,
    ) -> Result<Judged, Error> {
        let now = self.clock.now();
        let mut judged = Judged::default();
        let counted = &mut judged.counted;
        let mut tx = self.store.begin().await?;
        for dead in tx
            .mark_dead_addresses(sound_domains, pass_start, now)
            .await?
        {
            let failed = tx.fail_waiting_mails(&dead.key, &dead.reason).await?;
            judged.dead += u64::from(!failed.is_empty());
            for mail in failed {
                log_failure(&mail, &dead.reason);
                counted.mails_failed += 1;
                plan_fallback(&mut tx, self.policy, &mail, now, counted).await?;
                plan_unreachable(&mut tx, self.policy, &mail, &dead.reason, now).await?;
            }
        }
        tx.commit().await?;
        Ok(judged)
    }

    /// Renews the lease on claimed mails and returns them. If the store is unreachable, it is tried again before the
    /// lease lapses.
    pub async fn renew_leases(&self) -> HashSet<Uuid> {
        let lease = self.lease_from(self.clock.now());
        let renew = || async {
            let mut tx = self.store.begin_short().await?;
            let renewed = tx.renew_mail_leases(lease).await?;
            tx.commit().await?;
            Ok::<_, store::Error>(renewed)
        };
        match self.store.retrying(renew).await {
            Ok(renewed) => renewed.into_iter().collect(),
            Err(error) => {
                log_not_renewed("claimed mails", &error.into());
                HashSet::new()
            }
        }
    }

    /// Settles the mails of processes that are gone, whose leases have lapsed. Returns how many connections the mail
    /// server takes, and what is known about addresses.
    pub(super) async fn recover(&self, report: &mut Report) -> Result<(usize, Refusals), Error> {
        let (limit, refusals, counted) = retry!(self.try_recover())?;
        report.add(counted);
        let connections = self.settings.connections;
        let connections = limit.map_or(connections, |limit| limit.min(connections));
        Ok((connections, refusals))
    }

    async fn try_recover(&self) -> Result<(Option<usize>, Refusals, Report), Error> {
        let now = self.clock.now();
        let mut counted = Report::default();
        let mut tx = self.store.begin_short().await?;
        let lapsed = tx
            .reclaim_lapsed_mails(now, shift(now, self.settings.lease * MAX_SKEW_FACTOR))
            .await?;
        for mail in &lapsed {
            let reason = "the program ended while the mail was being sent";
            let verdict = self.settings.verdict_if_unknown(mail, now);
            tx.settle_lapsed_mail(mail, verdict, reason).await?;
            if verdict == Verdict::Failed {
                counted.mails_failed += 1;
                plan_fallback(&mut tx, self.policy, mail, now, &mut counted).await?;
            } else {
                counted.mails_unknown += 1;
            }
        }
        let limit = tx.find_setting(CONNECTION_LIMIT).await?;
        let limit = limit.and_then(|limit| parse_connection_limit(&limit, now));
        let refusals = Refusals::load(&mut tx, now).await?;
        tx.commit().await?;
        Ok((limit, refusals, counted))
    }

    /// Remembers for a day how many connections the mail server takes.
    pub async fn record_connection_limit(&self, limit: usize) -> Result<(), Error> {
        tracing::warn!(
            "the mail server takes {limit} connections at a time; set [smtp] connections = {limit}"
        );
        let mut tx = self.store.begin().await?;
        let value = format!("{limit} {}", self.clock.now().to_rfc3339());
        tx.set_setting(CONNECTION_LIMIT, &value).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What became of the addresses that were refused in a pass.
#[derive(Default)]
struct Judged {
    /// Those that are dead now and had mails that waited.
    dead: u64,
    counted: Report,
}

/// The limit, unless it was observed more than a day ago.
fn parse_connection_limit(value: &str, now: DateTime<Utc>) -> Option<usize> {
    let (limit, observed_at) = value.split_once(' ')?;
    let age = now - DateTime::parse_from_rfc3339(observed_at).ok()?.to_utc();
    (age.abs() < CONNECTION_LIMIT_TTL).then_some(limit.parse().ok()?)
}
