//! Plan: decides which notices to send about the tokens that are due, and assigns them to mails: a notice that is due
//! goes into the open mail of its recipient.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{self, Address, NewNotice, Occurrence, Policy, Schedule, TokenId, Topic};
use crate::store::{OpenMail, Tx};
use crate::time::shift;

use super::common::{Error, OnProgress, PAGE_SIZE, Report, horizon, new_id};
use super::leased::{LeasedStore, OpenPage, counted_page, page, retry};
use super::notices::{Alert, Audience, Undeliverable, load_wishes, personal_policy};

/// Setting: the fingerprint of the policy by which every `due_at` was computed.
const POLICY_FINGERPRINT: &str = "plan.policy";

/// Mails of the open plan kept in memory between pages; beyond that they are read from the store again.
const MAX_CACHED_MAILS: usize = 10_000;

/// Called before the first tokens of a store are inserted: stores the policy, so that the first sweep does not
/// recompute every `due_at`.
pub(super) async fn init_settings(tx: &mut Tx, policy: &Policy) -> Result<(), Error> {
    let fingerprint = policy.fingerprint();
    Ok(tx
        .insert_setting_if_empty(POLICY_FINGERPRINT, &fingerprint)
        .await?)
}

/// A page of due tokens, already rescheduled, with the notices about them.
struct Page {
    /// Holds the locks on the tokens.
    open: OpenPage,
    tokens: u64,
    end: Option<(DateTime<Utc>, TokenId)>,
    notices: Vec<NewNotice>,
    in_accounts: Vec<NewNotice>,
    undeliverable: Vec<Undeliverable>,
}

pub(super) struct Plan<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
    pub sweep: &'a Schedule,
    pub on_progress: OnProgress<'a>,
}

impl Plan<'_> {
    /// Plans all notices that are due up to the next sweep, and assigns them to mails.
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        let policy = personal_policy(&mut tx, self.policy).await?;
        drop(tx);
        let plan = Plan {
            policy: &policy,
            store: self.store,
            ..*self
        };
        plan.run_personal(report).await
    }

    async fn run_personal(&self, report: &mut Report) -> Result<(), Error> {
        self.follow_policy().await?;
        let now = self.clock.now();
        let horizon = horizon(self.sweep, now);
        let soon = shift(horizon, self.policy.merge_ahead);
        // Begins again with the tokens that are not planned yet.
        retry!(self.plan_pages(now, horizon, soon, report))?;
        self.close_plan(report).await?;
        assign_mails(self.store, now, horizon, soon).await
    }

    async fn plan_pages(
        &self,
        now: DateTime<Utc>,
        horizon: DateTime<Utc>,
        soon: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut assigner = MailAssigner {
            now,
            horizon,
            soon,
            ..MailAssigner::default()
        };
        let mut next = self.decide_page(horizon, None).await?;
        while let Some(page) = next {
            let tokens = page.tokens;
            let end = page.end;
            // One page is written while the next is read and decided. On PostgreSQL two connections do
            // this; on SQLite the second waits for the first.
            let write = self.write_page(page, &mut assigner, report);
            let decide_next = self.decide_page(horizon, end);
            ((), next) = tokio::try_join!(write, decide_next)?;
            report.tokens_due += tokens;
            (self.on_progress)();
        }
        Ok(())
    }

    /// Reads the next page of due tokens and decides which notices to send; `None` after the last page.
    async fn decide_page(
        &self,
        horizon: DateTime<Utc>,
        after: Option<(DateTime<Utc>, TokenId)>,
    ) -> Result<Option<Page>, Error> {
        let now = self.clock.now();
        let mut open = self.store.begin().await?;
        let tx = open.tx();
        let due = tx.lock_due_tokens(horizon, after, PAGE_SIZE).await?;
        let Some(last) = due.last() else {
            return Ok(None);
        };
        let end = last.due_at.map(|due_at| (due_at, last.id));
        let audience = Audience::load(tx, &due, now).await?;
        let recipients = due
            .iter()
            .map(|token| audience.recipients(self.policy, token));
        let recipients: Vec<_> = recipients.collect();
        let wishes = load_wishes(tx, self.policy, &due, &recipients).await?;
        let (mut notices, mut in_accounts) = (Vec::new(), Vec::new());
        let mut undeliverable = Vec::new();
        let mut rescheduled = Vec::with_capacity(due.len());
        for (token, recipients) in due.iter().zip(&recipients) {
            let planned = domain::plan(token, recipients, &wishes, self.policy, horizon);
            let is_newly_due = planned.planned_step != token.planned_step;
            if let Some(generation) = token.generation()
                && recipients.is_empty()
                && is_newly_due
                && !audience.is_silent(token)
            {
                let occurrence = Occurrence {
                    topic: Topic::Expiry,
                    generation,
                    step: planned.planned_step,
                };
                undeliverable.push(Undeliverable::new(token, occurrence, now));
            }
            // A token that waits only for its expiry mark needs no write.
            if (planned.due_at, planned.planned_step) != (token.due_at, token.planned_step) {
                rescheduled.push((token.id, planned.due_at, planned.planned_step));
            }
            notices.extend(planned.notices);
            in_accounts.extend(planned.in_accounts);
        }
        tx.reschedule_tokens(&rescheduled).await?;
        Ok(Some(Page {
            open,
            tokens: due.len() as u64,
            end,
            notices,
            in_accounts,
            undeliverable,
        }))
    }

    async fn write_page(
        &self,
        mut page: Page,
        assigner: &mut MailAssigner,
        report: &mut Report,
    ) -> Result<(), Error> {
        let tx = page.open.tx();
        let mut counted = Report::default();
        for undeliverable in &page.undeliverable {
            undeliverable.record(tx, assigner.now, &mut counted).await?;
        }
        if !page.notices.is_empty() {
            counted.notices_planned += assigner.insert(tx, &page.notices).await?;
        }
        tx.insert_account_notices(&page.in_accounts, assigner.now)
            .await?;
        self.store.commit(page.open).await?;
        report.add(counted);
        Ok(())
    }

    /// Releases the plan, or holds all of it if it has more mails than one sweep may send.
    async fn close_plan(&self, report: &mut Report) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        let held = tx.list_held_plans().await?;
        let mails: i64 = held.iter().map(|(_, _, mails)| mails).sum();
        report.mails_still_held = mails.unsigned_abs();
        // Read from the store, because an interrupted sweep may have planned a part.
        let Some(plan) = tx.find_unfinished_plan().await? else {
            return Ok(());
        };
        drop(tx);
        let limit = self.policy.max_per_sweep;
        counted_page!(self.store, report, tx => {
            let mails = if limit > 0 {
                tx.count_planned_recipients(plan).await?
            } else {
                0
            };
            let is_flood = limit > 0 && mails.unsigned_abs() > limit;
            tx.close_plan(plan, mails, is_flood).await?;
            if is_flood {
                report.mails_held += mails.unsigned_abs();
                let now = self.clock.now();
                let alert = held_alert(now, mails, limit);
                alert.plan(tx, self.policy, now, report).await?;
            }
            Ok(())
        })
    }

    /// Recomputes every `due_at` if the policy changed. After an interruption the old fingerprint is still stored, and
    /// the next sweep begins again.
    async fn follow_policy(&self) -> Result<(), Error> {
        let fingerprint = self.policy.fingerprint();
        let mut tx = self.store.begin_read().await?;
        let planned_under = tx.find_setting(POLICY_FINGERPRINT).await?;
        drop(tx);
        if planned_under.as_deref() == Some(&fingerprint) {
            return Ok(());
        }
        let mut after = Uuid::nil();
        loop {
            let Some(last) = page!(self.store, tx => {
                let tokens = tx.lock_tokens_with_expiry(after, PAGE_SIZE).await?;
                if tokens.is_empty() {
                    tx.set_setting(POLICY_FINGERPRINT, &fingerprint).await?;
                }
                let mut rescheduled = Vec::new();
                for token in &tokens {
                    let due_at = self.policy.due_at(token);
                    if due_at != token.due_at {
                        rescheduled.push((token.id, due_at, token.planned_step));
                    }
                }
                tx.reschedule_tokens(&rescheduled).await?;
                Ok(tokens.last().map(|token| token.id.0))
            })?
            else {
                return Ok(());
            };
            after = last;
            (self.on_progress)();
        }
    }
}

/// Assigns the notices of one plan to mails.
///
/// A notice is inserted with its mail: a second write to each notice would cost as much as the first. Mails of an
/// open plan are never claimed, so they stay open from page to page.
#[derive(Default)]
struct MailAssigner {
    now: DateTime<Utc>,
    horizon: DateTime<Utc>,
    /// Up to this instant, notices are merged into a mail that is due.
    soon: DateTime<Utc>,
    plan: Option<Uuid>,
    /// Open mails of the plan by address key.
    mails: HashMap<String, Uuid>,
    /// Whether stored notices wait to be merged into a mail.
    is_waiting: bool,
}

impl MailAssigner {
    /// Inserts notices into the open plan, those that are due into their mails. Returns how many are new.
    async fn insert(&mut self, tx: &mut Tx, notices: &[NewNotice]) -> Result<u64, Error> {
        let plan = tx.open_plan(new_id(self.now), self.now).await?;
        let is_first = self.plan != Some(plan);
        if is_first {
            self.plan = Some(plan);
            self.mails.clear();
            self.is_waiting = tx.has_waiting_notices(self.soon).await?;
        }
        if self.mails.len() > MAX_CACHED_MAILS {
            self.mails.clear();
        }
        let opened = self.open_mails(tx, plan, notices).await?;
        let mails: Vec<_> = notices
            .iter()
            .map(|notice| self.find_mail(notice))
            .collect();
        let mut pairs = notices.iter().zip(&mails);
        self.is_waiting |=
            pairs.any(|(notice, mail)| mail.is_none() && notice.send_at <= self.soon);
        let new = tx
            .insert_notices_into_mails(notices, &mails, Some(plan), self.now)
            .await?;
        if is_first && new >= PAGE_SIZE.unsigned_abs() {
            tx.analyze_notices(new).await?;
        }
        if self.is_waiting {
            tx.fill_mails(&opened, self.soon).await?;
        }
        if new < notices.len() as u64 {
            for recipient in tx.delete_empty_mails(&opened).await? {
                self.mails.remove(&recipient);
            }
        }
        Ok(new)
    }

    /// Opens mails for the recipients of due notices, and finds the open mails of recipients whose notices can be
    /// merged. A mail that was open before joins the plan.
    async fn open_mails(
        &mut self,
        tx: &mut Tx,
        plan: Uuid,
        notices: &[NewNotice],
    ) -> Result<Vec<OpenMail>, Error> {
        // In order, so that two processes that open the same mails do not wait for each other.
        let mut due: BTreeMap<&str, &Address> = BTreeMap::new();
        let mut soon: HashSet<&str> = HashSet::new();
        for NewNotice {
            recipient, send_at, ..
        } in notices
        {
            let key = recipient.key();
            if self.mails.contains_key(key) {
                continue;
            }
            if *send_at <= self.horizon {
                due.insert(key, recipient);
            } else if *send_at <= self.soon {
                soon.insert(key);
            }
        }
        let soon: Vec<_> = soon
            .into_iter()
            .filter(|key| !due.contains_key(key))
            .collect();
        let merged_into = tx.find_open_mails_of_plan(plan, &soon).await?;
        let mails: Vec<_> = due
            .into_values()
            .map(|to| (new_id(self.now), to.clone()))
            .collect();
        let opened = tx.open_mails(&mails, Some(plan), self.now).await?;
        for mail in opened.iter().chain(&merged_into) {
            self.mails.insert(mail.recipient_key.clone(), mail.id);
        }
        Ok(opened)
    }

    fn find_mail(&self, notice: &NewNotice) -> Option<Uuid> {
        if notice.send_at > self.soon {
            return None;
        }
        self.mails.get(notice.recipient.key()).copied()
    }
}

/// Puts due notices without a mail into mails, one per recipient. A mail takes along the notices to its recipient
/// that are due until `soon`.
async fn assign_mails(
    store: LeasedStore<'_>,
    now: DateTime<Utc>,
    horizon: DateTime<Utc>,
    soon: DateTime<Utc>,
) -> Result<(), Error> {
    while page!(store, tx => {
        let recipients = tx.find_due_recipients(horizon, PAGE_SIZE).await?;
        let mails: Vec<_> = recipients.into_iter().map(|to| (new_id(now), to)).collect();
        let open = tx.open_mails(&mails, None, now).await?;
        let filled = tx.fill_mails(&open, soon).await?;
        if filled == 0 {
            tx.delete_empty_mails(&open).await?;
        }
        Ok(filled)
    })? > 0
    {}
    Ok(())
}

fn held_alert(now: DateTime<Utc>, mails: i64, limit: u64) -> Alert<'static> {
    Alert {
        subject: "plan",
        since: now,
        title: format!("{mails} mails are held"),
        text: format!(
            "One sweep planned {mails} mails; [notify] max_per_sweep allows {limit}. That happens on a first \
             import, after a long outage, or when something is wrong, so none of them was sent. Later sweeps \
             send their own mails.\n\n\
             See what is held:\n\n    lapsed notice list --state planned\n\n\
             Send them, or discard them for good:\n\n    lapsed release\n    lapsed release --discard"
        ),
    }
}
