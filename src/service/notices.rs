//! The notices in the account of a person, as far as their credential may see them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::TokenId;
use crate::domain::service::{Access, Actor, Operation, Problem};
use crate::store::{AccountNotice, Tx};

use super::watching::{MAX_SCANS, SCAN, Scanned};
use super::{Error, Service};

/// Notices that one transaction marks.
const MARKED: usize = 500;

/// Where a page ends.
type Place = (DateTime<Utc>, Uuid);

impl Service {
    /// Notices to the caller, newest first. A credential that belongs to an account has those about the tokens that it
    /// sees, unless its person is nowhere else.
    ///
    /// # Errors
    /// If the caller may not.
    pub async fn list_notices(
        &self,
        caller: &Arc<Access>,
        is_unread: bool,
        mut before: Option<Place>,
        limit: usize,
    ) -> Result<Scanned<AccountNotice, Place>, Error> {
        let actor = Actor::Caller(Arc::clone(caller));
        actor.may(Operation::ReadNotices)?;
        let mut rows = Vec::new();
        for _ in 0..MAX_SCANS {
            let mut tx = self.store.begin_short_read().await?;
            let page = tx
                .list_account_notices(&caller.person.key, is_unread, before, SCAN)
                .await?;
            let is_last = page.len() < usize::try_from(SCAN).unwrap_or(usize::MAX);
            let ids: Vec<TokenId> = page.iter().filter_map(|notice| notice.token_id).collect();
            let visible = self.visible_in(&mut tx, &actor, &ids).await?;
            drop(tx);
            for notice in page {
                if rows.len() == limit {
                    return Ok(Scanned { rows, next: before });
                }
                before = Some((notice.planned_at, notice.id));
                let is_visible = notice.token_id.is_some_and(|id| visible.contains_key(&id));
                if is_visible || caller.speaks_for_person() {
                    rows.push(notice);
                }
            }
            if is_last {
                return Ok(Scanned { rows, next: None });
            }
        }
        Ok(Scanned { rows, next: before })
    }

    /// Marks a notice of the caller as read.
    ///
    /// # Errors
    /// If there is none that the caller's credential sees.
    pub async fn read_notice(&self, caller: &Arc<Access>, id: Uuid) -> Result<(), Error> {
        let work = || self.try_read_notice(caller, id);
        self.store.retrying(work).await
    }

    /// Marks all notices to the caller until `until` as read, as far as their credential sees them.
    ///
    /// # Errors
    /// If the caller may not.
    pub async fn read_notices(
        &self,
        caller: &Arc<Access>,
        until: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut before = None;
        loop {
            let found = self.list_notices(caller, true, before, MARKED).await?;
            let now = self.clock.now();
            let mut tx = self.store.begin_short().await?;
            for notice in found.rows.iter().filter(|it| it.planned_at <= until) {
                tx.mark_notice_read(&caller.person.key, notice.id, now)
                    .await?;
            }
            tx.commit().await?;
            before = found.next;
            if before.is_none() {
                return Ok(());
            }
        }
    }

    async fn try_read_notice(&self, caller: &Arc<Access>, id: Uuid) -> Result<(), Error> {
        let actor = Actor::Caller(Arc::clone(caller));
        let (mut tx, actor) = self.begin_for(&actor, Operation::ReadNotices).await?;
        let marked = tx
            .mark_notice_read(&caller.person.key, id, self.clock.now())
            .await?;
        let token = marked.ok_or_else(Problem::unknown)?;
        if !self.may_read(&mut tx, &actor, token).await? {
            return Err(Problem::unknown().into());
        }
        Ok(tx.commit().await?)
    }

    async fn may_read(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        token: Option<TokenId>,
    ) -> Result<bool, Error> {
        if actor.speaks_for_person() {
            return Ok(true);
        }
        let visible = self.visible_in(tx, actor, token.as_slice()).await?;
        Ok(!visible.is_empty())
    }
}
