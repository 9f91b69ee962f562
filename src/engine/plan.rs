//! Plan: decides who is owed what about the tokens that are due.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{
    self, Address, Ground, NewNotice, Occurrence, Policy, Recipient, Token, TokenId, Topic,
};
use crate::store::Tx;

use super::alert::Alert;
use super::gather::Gathering;
use super::{Dead, Engine, Error, PAGE, Report};

/// The small fact that names the policy under which every `due_at` was computed.
const PLANNED_UNDER: &str = "plan.policy";

/// Takes note of the policy by which the first tokens of a store become due, before they come in:
/// else the first sweep would compute every `due_at` anew.
pub(super) async fn begin_under(tx: &mut Tx, policy: &Policy) -> Result<(), Error> {
    let fingerprint = policy.fingerprint();
    Ok(tx.put_meta_of_empty(PLANNED_UNDER, &fingerprint).await?)
}

/// A page of tokens that are due, moved on, with what is owed about them.
struct Page {
    /// Where it was read and is to be written; the tokens are locked.
    tx: Tx,
    tokens: u64,
    /// Where the next page begins.
    end: Option<(DateTime<Utc>, TokenId)>,
    notices: Vec<NewNotice>,
    /// What nobody is left to be told, with the reason.
    untold: Vec<(NewNotice, &'static str)>,
}

impl Engine {
    /// Plans everything due up to the next sweep, most of it straight into mails.
    pub(super) async fn plan(&self, report: &mut Report) -> Result<(), Error> {
        self.follow_policy().await?;
        let now = self.now();
        let horizon = self.horizon(now);
        let mut gathering = Gathering::new(now, horizon, horizon + self.policy.merge_ahead);
        let mut next = self.decide_page(horizon, None).await?;
        while let Some(page) = next {
            let (tokens, end) = (page.tokens, page.end);
            // One page is written while the next is read and decided: on PostgreSQL by two
            // connections. On SQLite the second waits for the first.
            let written = self.write_page(page, &mut gathering, report);
            let decided = self.decide_page(horizon, end);
            ((), next) = tokio::try_join!(written, decided)?;
            report.tokens_due += tokens;
            (self.on_progress)();
        }
        self.close_plan(report).await?;
        self.gather(horizon).await
    }

    /// Reads the next page of due tokens and decides what is owed; none when nothing is left.
    async fn decide_page(
        &self,
        horizon: DateTime<Utc>,
        after: Option<(DateTime<Utc>, TokenId)>,
    ) -> Result<Option<Page>, Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let due = tx.due_tokens(horizon, after, PAGE).await?;
        let Some(end) = due.last() else {
            return Ok(None);
        };
        let end = end.due_at.map(|due_at| (due_at, end.id));
        let dead = self.dead(&mut tx, now).await?;
        let ids: Vec<_> = due.iter().map(|token| token.id).collect();
        let lost = tx.lost_access(&ids).await?;
        let told = tx.told_admins(&due).await?;
        let (mut notices, mut untold) = (Vec::new(), Vec::new());
        let mut moved = Vec::with_capacity(due.len());
        for token in &due {
            let is_lost = lost.contains(&token.id);
            let recipients = self
                .policy
                .recipients(token, &told, is_lost, &|a| dead.has(a));
            let planned = domain::plan(token, &recipients, &self.policy, horizon);
            let is_newly_due = planned.planned_step != token.planned_step;
            if let Some(generation) = token.expiry.at()
                && recipients.is_empty()
                && is_newly_due
            {
                let step = planned.planned_step;
                let occurrence = Occurrence {
                    topic: Topic::Expiry,
                    generation,
                    step,
                };
                untold.push(untellable(token, occurrence, &dead, now));
            }
            // A token that waits only for its mark stays as it is: nothing to write.
            if (planned.due_at, planned.planned_step) != (token.due_at, token.planned_step) {
                moved.push((token.id, planned.due_at, planned.planned_step));
            }
            notices.extend(planned.notices);
        }
        tx.reschedule(&moved).await?;
        Ok(Some(Page {
            tx,
            tokens: due.len() as u64,
            end,
            notices,
            untold,
        }))
    }

    /// Writes what is owed about a page of tokens.
    async fn write_page(
        &self,
        mut page: Page,
        gathering: &mut Gathering,
        report: &mut Report,
    ) -> Result<(), Error> {
        let tx = &mut page.tx;
        for (notice, reason) in &page.untold {
            let is_new = tx.insert_failed(notice, reason, gathering.now).await?;
            report.notices_failed += u64::from(is_new);
        }
        if !page.notices.is_empty() {
            report.notices_planned += gathering.insert(tx, &page.notices).await?;
        }
        Ok(page.tx.commit().await?)
    }

    /// Writes down a notice that nobody is left to receive, so that it is seen.
    pub(super) async fn nobody_to_tell(
        &self,
        tx: &mut Tx,
        token: &Token,
        occurrence: Occurrence,
        dead: &Dead,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let (notice, reason) = untellable(token, occurrence, dead, now);
        let is_new = tx.insert_failed(&notice, reason, now).await?;
        report.notices_failed += u64::from(is_new);
        Ok(())
    }

    /// Releases what was planned, or holds it whole when it is more than one sweep may send.
    async fn close_plan(&self, report: &mut Report) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        let held: i64 = tx
            .held_plans()
            .await?
            .iter()
            .map(|(_, _, mails)| mails)
            .sum();
        report.mails_still_held = held.unsigned_abs();
        // Asked of the store, not remembered: a sweep that died may have planned a part.
        let Some(plan) = tx.unfinished_plan().await? else {
            return Ok(());
        };
        drop(tx);
        let limit = self.policy.max_per_sweep;
        let mut tx = self.store.begin().await?;
        let mails = if limit > 0 {
            tx.planned_recipients(plan).await?
        } else {
            0
        };
        let is_flood = limit > 0 && mails.unsigned_abs() > limit;
        tx.close_plan(plan, mails, is_flood).await?;
        if is_flood {
            report.mails_held += mails.unsigned_abs();
            let alert = held_alert(self.now(), mails, limit);
            self.alert(&mut tx, alert, report).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Computes every `due_at` anew when the policy is another than the one they were computed
    /// under. An interruption leaves the old name in place, and the next sweep begins again.
    async fn follow_policy(&self) -> Result<(), Error> {
        let fingerprint = self.policy.fingerprint();
        let mut tx = self.store.read().await?;
        let planned_under = tx.meta(PLANNED_UNDER).await?;
        drop(tx);
        if planned_under.as_deref() == Some(&fingerprint) {
            return Ok(());
        }
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.tokens_with_expiry(after, PAGE).await?;
            let Some(last) = tokens.last() else {
                tx.put_meta(PLANNED_UNDER, &fingerprint).await?;
                return Ok(tx.commit().await?);
            };
            after = last.id.0;
            let moved: Vec<_> = tokens
                .iter()
                .map(|token| {
                    (
                        token.id,
                        self.policy.due_at(token),
                        token.planned_step,
                        token.due_at,
                    )
                })
                .filter(|(_, due_at, _, before)| due_at != before)
                .map(|(id, due_at, step, _)| (id, due_at, step))
                .collect();
            tx.reschedule(&moved).await?;
            tx.commit().await?;
            (self.on_progress)();
        }
    }
}

/// A notice that nobody is left to receive, and why.
fn untellable(
    token: &Token,
    occurrence: Occurrence,
    dead: &Dead,
    now: DateTime<Utc>,
) -> (NewNotice, &'static str) {
    let (address, reason) = match &token.issuer {
        Some(issuer) if dead.has(issuer) => (
            issuer.clone(),
            "the issuer's mailbox is refused and there is no administrator to tell",
        ),
        Some(issuer) => (
            issuer.clone(),
            "the issuer lost access and there is no administrator to tell",
        ),
        None => (
            nobody(),
            "the token has no issuer and there is no administrator to tell",
        ),
    };
    let recipient = Recipient {
        address,
        ground: Ground::Issuer,
    };
    let notice = NewNotice::about(token, occurrence, &recipient, now);
    (notice, reason)
}

/// A stand-in where there is no address at all; RFC 2606 §2 keeps the name from ever resolving.
fn nobody() -> Address {
    "nobody@lapsed.invalid".parse().expect("a literal address")
}

fn held_alert(now: DateTime<Utc>, mails: i64, limit: u64) -> Alert<'static> {
    Alert {
        subject: "plan",
        since: now,
        title: format!("{mails} mails are held"),
        text: format!(
            "One sweep planned {mails} mails; [notify] max_per_sweep allows {limit}. That happens on a first \
             import, after a long outage, or when something is wrong, so none of them was sent. Later sweeps \
             go on.\n\n\
             See what is held:\n\n    lapsed notice list --state planned\n\n\
             Let them go, or drop them for good:\n\n    lapsed release\n    lapsed release --discard"
        ),
    }
}
