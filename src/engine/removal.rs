//! Removes and renames what is watched no longer, by order of an operator.

use crate::clock::Clock;
use crate::domain::Token;
use crate::notify::wording::quantity;
use crate::store::{Store, Tx};

use super::common::{Error, PAGE_SIZE, new_id};
use super::revoke::audit_subject;

/// Who gave the order, and why; for the audit trail.
#[derive(Debug, Clone, Copy)]
pub struct OperatorNote<'a> {
    pub by: &'a str,
    pub reason: Option<&'a str>,
}

/// How many tokens were removed, and how many unsent notices about them were cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub tokens: u64,
    pub cancelled: u64,
}

pub struct Removal<'a> {
    pub(super) store: &'a Store,
    pub(super) clock: &'a Clock,
}

impl Removal<'_> {
    /// Removes the tokens of a source, page by page, and then what is known of the source.
    pub async fn forget_source(
        &self,
        name: &str,
        note: OperatorNote<'_>,
    ) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.load_tokens_of_source(name, None, PAGE_SIZE).await?;
            let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
            removed.cancelled += tx.remove_tokens(&ids).await?;
            removed.tokens += ids.len() as u64;
            if ids.is_empty() {
                tx.delete_source(name).await?;
                let facts = quantity(removed.tokens, "token");
                self.audit(&mut tx, note, "source.forget", name, &facts)
                    .await?;
                tx.commit().await?;
                return Ok(removed);
            }
            tx.commit().await?;
        }
    }

    /// Gives a source a new name. The ids of its tokens and notices stay.
    pub async fn rename_source(
        &self,
        old: &str,
        new: &str,
        note: OperatorNote<'_>,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let row = tx.find_source(new).await?;
        if row.is_some_and(|row| row.renamed_to.is_none()) || tx.has_tokens_of(new).await? {
            return Err(Error::NameTaken(new.to_owned()));
        }
        tx.rename_source(old, new).await?;
        let facts = format!("to {new}");
        self.audit(&mut tx, note, "source.rename", old, &facts)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Removes one token.
    pub async fn remove_token(
        &self,
        token: &Token,
        note: OperatorNote<'_>,
    ) -> Result<Removed, Error> {
        let mut tx = self.store.begin().await?;
        // A sweep may be planning notices about it.
        let known = tx.lock_token(token.id).await?;
        let cancelled = tx.remove_tokens(&[token.id]).await?;
        let subject = audit_subject(&token.source, &token.external_id);
        self.audit(&mut tx, note, "token.remove", &subject, "")
            .await?;
        tx.commit().await?;
        Ok(Removed {
            tokens: u64::from(known.is_some()),
            cancelled,
        })
    }

    async fn audit(
        &self,
        tx: &mut Tx,
        note: OperatorNote<'_>,
        action: &str,
        subject: &str,
        facts: &str,
    ) -> Result<(), Error> {
        let parts = [Some(facts).filter(|facts| !facts.is_empty()), note.reason];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
        let reason = Some(text.as_str()).filter(|text| !text.is_empty());
        let now = self.clock.now();
        let entry = [note.by, action, subject];
        Ok(tx.insert_audit(new_id(now), now, entry, reason).await?)
    }
}
