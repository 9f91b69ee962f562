//! Claiming: takes mails whose time has come under a lease, and renders them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::{Backoff, Topic};
use crate::notify::letter::SummaryEntry;
use crate::notify::message::Rendered;
use crate::store::{ClaimedMail, Holder, Recorded, Store, Verdict};

use super::super::{Engine, Error, Report, SKEW};
use super::compose::{Composer, summary_of};
use super::{Post, verdict};

/// The most tokens that a digest lists.
const LISTED: i64 = 100;
/// Mails whose contents are in memory at a time; a digest holds a hundred tokens.
const AT_ONCE: usize = 32;

/// A mail in hand, ready to go.
pub(super) struct Ready {
    pub mail: ClaimedMail,
    pub message: Arc<Rendered>,
}

/// What a claim brought.
pub(super) struct Claimed {
    pub ready: Vec<Ready>,
    /// Mails that have nothing left to say, or that no template can say.
    pub settled: Vec<Recorded>,
    /// There may be more.
    pub is_full: bool,
}

/// Claims mails; knows all it needs, so that it can run beside the sending.
#[derive(Clone)]
pub(super) struct Claimer {
    pub store: Store,
    pub post: Arc<Post>,
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
            .claim_mails(holder, now, now + self.backoff.max * SKEW, limit)
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
        for mails in mails.chunks(AT_ONCE) {
            self.render(mails, now, &mut claimed).await?;
        }
        Ok(claimed)
    }

    /// Renders claimed mails. Their contents are read beside those who write: the set of notices is
    /// frozen, and what is cancelled meanwhile is better left out.
    async fn render(
        &self,
        mails: &[ClaimedMail],
        now: DateTime<Utc>,
        claimed: &mut Claimed,
    ) -> Result<(), Error> {
        let ids: Vec<_> = mails.iter().map(|mail| mail.id).collect();
        let mut tx = self.store.read().await?;
        let contents = tx.contents(&ids, LISTED).await?;
        let mut rows = contents.iter().flat_map(|content| &content.rows);
        let open = if rows.any(|row| row.topic == Topic::Summary) {
            let sources = &self.composer.sources;
            let left = tx.sources_other_than(|name| sources.contains_key(name));
            let left = left.await?;
            let findings = tx.urgent_findings(now, &left, LISTED).await?;
            summary_of(tx.open_counts(now, &left).await?, findings)?
        } else {
            SummaryEntry::default()
        };
        drop(tx);
        let templates = self.post.templates();
        for (mail, content) in mails.iter().zip(contents) {
            let settled = |verdict, reason| Recorded {
                id: mail.id,
                verdict,
                reason: Some(reason),
            };
            let Some(letter) = self.composer.letter(mail, content, &open, now) else {
                let reason = "nothing is left to say".to_owned();
                claimed.settled.push(settled(Verdict::Cancelled, reason));
                continue;
            };
            match self.post.writer.write(&letter, &templates) {
                Ok(message) => {
                    let (mail, message) = (mail.clone(), Arc::new(message));
                    claimed.ready.push(Ready { mail, message });
                }
                Err(error) => {
                    // A template that fails on real data: people can mend it, so the mail waits.
                    tracing::error!(mail.id = %mail.id, "a mail cannot be written: {error}");
                    let next_at = now + self.backoff.after(mail.attempts + 1, mail.id);
                    claimed
                        .settled
                        .push(settled(Verdict::Again(next_at), error.to_string()));
                }
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Takes mails over from processes that are no more.
    ///
    /// Tells whether the relay is on probation since it was last tried.
    pub(super) async fn recover(&self, report: &mut Report) -> Result<bool, Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let lapsed = tx
            .lapsed_mails(now, now + self.settings.lease * SKEW)
            .await?;
        for mail in &lapsed {
            let reason = "the program ended while the mail was being sent";
            let verdict = verdict::in_doubt(mail, self.settings.backoff, now);
            tx.doubt(mail, verdict, reason).await?;
            if verdict == Verdict::Failed {
                report.mails_failed += 1;
                self.pass_on(&mut tx, mail, reason, report).await?;
            } else {
                report.mails_unknown += 1;
            }
        }
        let is_on_probation = tx.meta(super::pass::PROBATION).await?.as_deref() == Some("yes");
        tx.commit().await?;
        Ok(is_on_probation)
    }
}
