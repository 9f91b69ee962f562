//! Claims due mails under a lease, and renders them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::{Backoff, Topic};
use crate::notify::letter::SummaryEntry;
use crate::notify::message::Rendered;
use crate::store::{ClaimedMail, Holder, MailRecord, Store, Verdict};

use super::super::{Engine, Error, MAX_SKEW_FACTOR, Report};
use super::compose::{Composer, summary_entry};
use super::{Mailer, verdict};

/// Tokens listed in one mail; the others are only counted.
const MAX_LISTED_TOKENS: i64 = 100;
/// Mails whose contents are in memory at a time; a mail lists up to a hundred tokens.
const RENDER_CHUNK: usize = 32;

/// A claimed and rendered mail.
pub(super) struct Ready {
    pub mail: ClaimedMail,
    pub message: Arc<Rendered>,
}

pub(super) struct Claimed {
    pub ready: Vec<Ready>,
    /// Mails whose notices no longer apply, or that could not be rendered.
    pub settled: Vec<MailRecord>,
    /// The limit was reached, so there may be more.
    pub is_full: bool,
}

/// Claims mails in a task of its own, concurrently with the sending.
#[derive(Clone)]
pub(super) struct Claimer {
    pub store: Store,
    pub mailer: Arc<Mailer>,
    pub composer: Arc<Composer>,
    pub backoff: Backoff,
}

impl Claimer {
    /// Claims and renders up to `limit` mails.
    pub async fn claim(
        self,
        holder: Holder,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Claimed, Error> {
        let mut tx = self.store.begin().await?;
        let mails = tx
            .claim_mails(holder, now, now + self.backoff.max * MAX_SKEW_FACTOR, limit)
            .await?;
        let ids: Vec<_> = mails.iter().map(|mail| mail.id).collect();
        if ids.is_empty() {
            return Ok(Claimed {
                ready: Vec::new(),
                settled: Vec::new(),
                is_full: false,
            });
        }
        tx.settle_claimed(&ids, now).await?;
        tx.commit().await?;
        let is_full = i64::try_from(mails.len()).is_ok_and(|count| count == limit);
        let mut claimed = Claimed {
            ready: Vec::with_capacity(mails.len()),
            settled: Vec::new(),
            is_full,
        };
        for mails in mails.chunks(RENDER_CHUNK) {
            self.render(mails, now, &mut claimed).await?;
        }
        Ok(claimed)
    }

    /// Renders claimed mails. Their contents are read outside the claiming transaction: the set of notices is frozen, and
    /// those cancelled meanwhile should be left out.
    async fn render(
        &self,
        mails: &[ClaimedMail],
        now: DateTime<Utc>,
        claimed: &mut Claimed,
    ) -> Result<(), Error> {
        let ids: Vec<_> = mails.iter().map(|mail| mail.id).collect();
        let mut tx = self.store.begin_read().await?;
        let contents = tx.load_mail_contents(&ids, MAX_LISTED_TOKENS).await?;
        let mut rows = contents.iter().flat_map(|content| &content.rows);
        let open = if rows.any(|row| row.topic == Topic::Summary) {
            let sources = &self.composer.sources;
            let is_known = |name: &str| sources.contains_key(name);
            let removed = tx.list_unknown_sources(is_known).await?;
            let findings = tx
                .list_urgent_findings(now, &removed, MAX_LISTED_TOKENS)
                .await?;
            summary_entry(tx.count_open_findings(now, &removed).await?, findings)?
        } else {
            SummaryEntry::default()
        };
        drop(tx);
        let templates = self.mailer.templates();
        for (mail, content) in mails.iter().zip(contents) {
            let record = |verdict, reason| MailRecord {
                id: mail.id,
                verdict,
                reason: Some(reason),
            };
            let Some(letter) = self.composer.compose(mail, content, &open, now) else {
                let reason = "none of its notices applies any more".to_owned();
                claimed.settled.push(record(Verdict::Cancelled, reason));
                continue;
            };
            match self.mailer.writer.write(&letter, &templates) {
                Ok(message) => {
                    let (mail, message) = (mail.clone(), Arc::new(message));
                    claimed.ready.push(Ready { mail, message });
                }
                Err(error) => {
                    // A template that fails on real data can be fixed, so the mail waits.
                    tracing::error!(mail.id = %mail.id, "a mail cannot be rendered: {error}");
                    let next_at = now + self.backoff.delay_after(mail.attempts + 1, mail.id);
                    claimed
                        .settled
                        .push(record(Verdict::Retry(next_at), error.to_string()));
                }
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Settles mails whose lease lapsed, from processes that are gone. Returns whether the mail server is on probation.
    pub(super) async fn recover(&self, report: &mut Report) -> Result<bool, Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let lapsed = tx
            .reclaim_lapsed_mails(now, now + self.settings.lease * MAX_SKEW_FACTOR)
            .await?;
        for mail in &lapsed {
            let reason = "the program ended while the mail was being sent";
            let verdict = verdict::verdict_if_unknown(mail, self.settings.backoff, now);
            tx.settle_lapsed_mail(mail, verdict, reason).await?;
            if verdict == Verdict::Failed {
                report.mails_failed += 1;
                self.plan_fallback(&mut tx, mail, reason, report).await?;
            } else {
                report.mails_unknown += 1;
            }
        }
        let is_on_probation = tx
            .find_setting(super::pass::RELAY_PROBATION)
            .await?
            .as_deref()
            == Some("yes");
        tx.commit().await?;
        Ok(is_on_probation)
    }
}
