//! Gathering: what is due finds the open mail of its recipient, most of it as it is planned.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{Address, NewNotice};
use crate::store::{OpenMail, Tx};

use super::{Engine, Error, PAGE, new_id};

/// Mails of the open plan that are remembered between pages; beyond that the store is asked again.
const REMEMBERED: usize = 10_000;

/// Where the notices of one planning go.
///
/// What is due is inserted into its mail: a second write to each notice would cost as much as the
/// first. Nobody claims a mail of an open plan, so its mails stay open from page to page.
pub(super) struct Gathering {
    pub now: DateTime<Utc>,
    /// What is to go up to here is due.
    pub horizon: DateTime<Utc>,
    /// What is to go up to here is taken along.
    pub soon: DateTime<Utc>,
    plan: Option<Uuid>,
    /// The open mails of the plan by their recipient's key.
    mails: HashMap<String, Uuid>,
    /// Something waits for a mail that it can go with.
    is_waiting: bool,
}

impl Gathering {
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

    /// Inserts notices into the open plan, those that are due into their mails; tells how many are
    /// new.
    pub async fn insert(&mut self, tx: &mut Tx, notices: &[NewNotice]) -> Result<u64, Error> {
        let plan = tx.open_plan(new_id(self.now), self.now).await?;
        let is_first = self.plan != Some(plan);
        if is_first {
            self.plan = Some(plan);
            self.mails.clear();
            self.is_waiting = tx.is_anything_waiting(self.soon).await?;
        }
        if self.mails.len() > REMEMBERED {
            self.mails.clear();
        }
        let opened = self.open_mails(tx, plan, notices).await?;
        let mails: Vec<_> = notices.iter().map(|notice| self.mail_of(notice)).collect();
        let mut pairs = notices.iter().zip(&mails);
        self.is_waiting |=
            pairs.any(|(notice, mail)| mail.is_none() && notice.send_at <= self.soon);
        let new = tx
            .insert_into_mails(notices, &mails, Some(plan), self.now)
            .await?;
        if is_first && new >= PAGE.unsigned_abs() {
            tx.renew_statistics(new).await?;
        }
        if self.is_waiting {
            tx.fill_mails(&opened, self.soon).await?;
        }
        if new < notices.len() as u64 {
            for recipient in tx.drop_empty_mails(&opened).await? {
                self.mails.remove(&recipient);
            }
        }
        Ok(new)
    }

    /// Opens mails for those who are due something, and finds those of others who are due something
    /// soon. A mail that was open before becomes one of the plan's.
    async fn open_mails(
        &mut self,
        tx: &mut Tx,
        plan: Uuid,
        notices: &[NewNotice],
    ) -> Result<Vec<OpenMail>, Error> {
        let unknown = || {
            let is_unknown = |to: &Address| !self.mails.contains_key(to.key());
            notices.iter().filter(move |it| is_unknown(&it.recipient))
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
        let found = tx.mails_of_plan(plan, &soon).await?;
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

    fn mail_of(&self, notice: &NewNotice) -> Option<Uuid> {
        let goes = notice.send_at <= self.soon;
        goes.then(|| self.mails.get(notice.recipient.key()).copied())
            .flatten()
    }
}

impl Engine {
    /// Puts what is due and has no mail yet into mails, one to a recipient. Merging moves notices
    /// forward: a mail takes along what is due to its recipient within `merge_ahead`.
    pub(super) async fn gather(&self, horizon: DateTime<Utc>) -> Result<(), Error> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin().await?;
            let recipients = tx.due_recipients(horizon, PAGE).await?;
            if recipients.is_empty() {
                return Ok(());
            }
            let mails: Vec<_> = recipients.into_iter().map(|to| (new_id(now), to)).collect();
            let open = tx.open_mails(&mails, None, now).await?;
            let filled = tx
                .fill_mails(&open, horizon + self.policy.merge_ahead)
                .await?;
            if filled == 0 {
                return Ok(());
            }
            tx.commit().await?;
        }
    }
}
