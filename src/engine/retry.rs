//! Owes notices again that failed or left an address out, when an operator asks for it.

use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{self, Address, Policy, Token, TokenId};
use crate::store::{RetriedNotices, Store};

use super::common::{Error, PAGE_SIZE, new_id};
use super::notices::{Audience, personal_policy};

pub struct Retry<'a> {
    pub(super) store: &'a Store,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
}

impl Retry<'_> {
    /// Owes failed notices again: these, or all. Those that no longer apply are skipped.
    pub async fn notices(
        &self,
        ids: Option<&[Uuid]>,
        actor: &str,
    ) -> Result<RetriedNotices, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let retried = tx.retry_failed_notices(ids, now).await?;
        if retried.owed > 0 {
            let entry = [actor, "notice.retry", "failed notices"];
            let reason = format!("{} owed again, {} skipped", retried.owed, retried.skipped);
            tx.insert_audit(new_id(now), now, entry, Some(&reason))
                .await?;
        }
        tx.commit().await?;
        Ok(retried)
    }

    /// Forgets that an address was refused, and plans the warnings that it was left out of: of each token, the
    /// tightest step that is due. Returns their number, or `None` if the address was never refused.
    pub async fn clear_address(
        &self,
        address: &Address,
        actor: &str,
    ) -> Result<Option<u64>, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if tx.clear_addresses(&[address.key().to_owned()]).await? == 0 {
            return Ok(None);
        }
        let policy = personal_policy(&mut tx, self.policy).await?;
        let entry = [actor, "address.clear", address.as_str()];
        tx.insert_audit(new_id(now), now, entry, None).await?;
        tx.commit().await?;
        let mut planned = 0;
        let mut after = TokenId(Uuid::nil());
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.lock_all_tokens(after.0, PAGE_SIZE).await?;
            let Some(last) = tokens.last() else {
                return Ok(Some(planned));
            };
            after = last.id;
            let audience = Audience::load(&mut tx, &tokens, now).await?;
            let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
            let wishes = tx.load_wishes(&[address.key()], &ids).await?;
            let mut notices = Vec::new();
            for token in tokens
                .into_iter()
                .filter(|token| token.planned_step.is_some())
            {
                let mut recipients = audience.recipients(&policy, &token);
                recipients.retain(|recipient| recipient.address == *address);
                let unplanned = Token {
                    planned_step: None,
                    ..token
                };
                notices
                    .extend(domain::plan(&unplanned, &recipients, &wishes, &policy, now).notices);
            }
            planned += tx.insert_notices(&notices, None, now).await?;
            tx.commit().await?;
        }
    }
}
