//! Assigns notices to mails: a notice that is due goes into the open mail of its recipient.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{Address, NewNotice};
use crate::store::{OpenMail, Store, Tx};

use super::common::{PAGE_SIZE, new_id};
use super::error::Error;

/// Mails of the open plan kept in memory between pages; beyond that they are read from the store again.
const MAX_CACHED_MAILS: usize = 10_000;

/// Assigns the notices of one plan to mails.
///
/// A notice is inserted with its mail: a second write to each notice would cost as much as the first. Mails of an
/// open plan are never claimed, so they stay open from page to page.
pub(super) struct MailAssigner {
    pub now: DateTime<Utc>,
    pub horizon: DateTime<Utc>,
    /// Up to this instant, notices are merged into a mail that is due.
    pub soon: DateTime<Utc>,
    plan: Option<Uuid>,
    /// Open mails of the plan by address key.
    mails: HashMap<String, Uuid>,
    /// Whether stored notices wait to be merged into a mail.
    is_waiting: bool,
}

impl MailAssigner {
    pub fn new(now: DateTime<Utc>, horizon: DateTime<Utc>, soon: DateTime<Utc>) -> Self {
        Self {
            now,
            horizon,
            soon,
            plan: None,
            mails: HashMap::new(),
            is_waiting: false,
        }
    }

    /// Inserts notices into the open plan, those that are due into their mails. Returns how many are new.
    pub async fn insert(&mut self, tx: &mut Tx, notices: &[NewNotice]) -> Result<u64, Error> {
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
        let unknown = || {
            let is_unknown = |to: &Address| !self.mails.contains_key(to.key());
            notices
                .iter()
                .filter(move |notice| is_unknown(&notice.recipient))
        };
        // In order, so that two processes that open the same mails do not wait for each other.
        let due: BTreeMap<&str, &Address> = unknown()
            .filter(|notice| notice.send_at <= self.horizon)
            .map(|notice| (notice.recipient.key(), &notice.recipient))
            .collect();
        let soon: HashSet<&str> = unknown()
            .filter(|notice| notice.send_at <= self.soon)
            .map(|notice| notice.recipient.key())
            .filter(|key| !due.contains_key(key))
            .collect();
        let soon: Vec<_> = soon.into_iter().collect();
        let found = tx.find_open_mails_of_plan(plan, &soon).await?;
        let mails: Vec<_> = due
            .into_values()
            .map(|to| (new_id(self.now), to.clone()))
            .collect();
        let opened = tx.open_mails(&mails, Some(plan), self.now).await?;
        let known = opened.iter().chain(&found);
        self.mails
            .extend(known.map(|mail| (mail.recipient_key.clone(), mail.id)));
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
pub(super) async fn assign_mails(
    store: &Store,
    now: DateTime<Utc>,
    horizon: DateTime<Utc>,
    soon: DateTime<Utc>,
) -> Result<(), Error> {
    loop {
        let mut tx = store.begin().await?;
        let recipients = tx.find_due_recipients(horizon, PAGE_SIZE).await?;
        if recipients.is_empty() {
            return Ok(());
        }
        let mails: Vec<_> = recipients.into_iter().map(|to| (new_id(now), to)).collect();
        let open = tx.open_mails(&mails, None, now).await?;
        if tx.fill_mails(&open, soon).await? == 0 {
            return Ok(());
        }
        tx.commit().await?;
    }
}
