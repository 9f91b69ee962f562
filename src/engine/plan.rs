//! Plan: decides who is owed what about the tokens that are due, and gathers it into mails.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{self, Address, Ground, NewNotice, Occurrence, Recipient, Token, Topic};
use crate::store::Tx;

use super::alert::Alert;
use super::{Dead, Engine, Error, PAGE, Report};

/// The small fact that names the policy under which every `due_at` was computed.
const PLANNED_UNDER: &str = "plan.policy";

impl Engine {
    /// Plans everything due up to the next sweep, then fills the mails.
    pub(super) async fn plan(&self, report: &mut Report) -> Result<(), Error> {
        self.follow_policy().await?;
        let now = self.now();
        let horizon = self.horizon(now);
        let mut plan = None;
        let mut after = None;
        loop {
            let mut tx = self.store.begin().await?;
            let due = tx.due_tokens(horizon, after, PAGE).await?;
            let Some(last) = due.last() else { break };
            after = last.due_at.map(|due_at| (due_at, last.id));
            self.plan_page(&mut tx, &due, horizon, &mut plan, report)
                .await?;
            tx.commit().await?;
            report.tokens_due += due.len() as u64;
            (self.on_progress)();
        }
        self.close_plan(report).await?;
        if report.notices_planned >= PAGE.unsigned_abs() {
            let mut tx = self.store.begin().await?;
            tx.renew_statistics().await?;
            tx.commit().await?;
        }
        self.gather(horizon).await
    }

    async fn plan_page(
        &self,
        tx: &mut Tx,
        due: &[Token],
        horizon: DateTime<Utc>,
        plan: &mut Option<Uuid>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let dead = self.dead(tx, now).await?;
        let ids: Vec<_> = due.iter().map(|token| token.id).collect();
        let lost = tx.lost_access(&ids).await?;
        let told = tx.told_admins(due).await?;
        let (mut notices, mut moved) = (Vec::new(), Vec::with_capacity(due.len()));
        for token in due {
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
                self.nobody_to_tell(tx, token, occurrence, &dead, report)
                    .await?;
            }
            // A token that waits only for its mark stays as it is: nothing to write.
            if (planned.due_at, planned.planned_step) != (token.due_at, token.planned_step) {
                moved.push((token.id, planned.due_at, planned.planned_step));
            }
            notices.extend(planned.notices);
        }
        tx.reschedule(&moved).await?;
        if !notices.is_empty() {
            let plan = match *plan {
                Some(plan) => plan,
                None => *plan.insert(tx.open_plan(Self::new_id(now), now).await?),
            };
            report.notices_planned += tx.insert_notices(&notices, Some(plan), now).await?;
        }
        Ok(())
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
        let notice = NewNotice::about(token, occurrence, &recipient, self.now());
        let is_new = tx.insert_failed(&notice, reason, self.now()).await?;
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

    /// Puts what is due into mails, one to a recipient. Merging moves notices forward: a mail takes
    /// along what is due to its recipient within `merge_ahead`.
    async fn gather(&self, horizon: DateTime<Utc>) -> Result<(), Error> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin().await?;
            let recipients = tx.due_recipients(horizon, PAGE).await?;
            if recipients.is_empty() {
                return Ok(());
            }
            let mails: Vec<_> = recipients
                .into_iter()
                .map(|to| (Self::new_id(now), to))
                .collect();
            let open = tx.open_mails(&mails, now).await?;
            let filled = tx
                .fill_mails(&open, horizon + self.policy.merge_ahead)
                .await?;
            if filled == 0 {
                return Ok(());
            }
            tx.commit().await?;
        }
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
