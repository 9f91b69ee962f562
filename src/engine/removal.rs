//! Removes and renames what is watched no longer, by order of an operator.

use crate::clock::Clock;
use crate::domain::Token;
use crate::notify::wording::quantity;
use crate::store::Tx;

use super::common::{Error, PAGE_SIZE, new_id};
use super::leased::{LeasedStore, page};
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
    pub(super) store: LeasedStore<'a>,
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
            let facts = quantity(removed.tokens, "token");
            let (tokens, cancelled) = page!(self.store, tx => {
                let tokens = tx.load_tokens_of_source(name, None, PAGE_SIZE).await?;
                let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
                let cancelled = tx.remove_tokens(&ids).await?;
                if ids.is_empty() {
                    tx.delete_source(name).await?;
                    self.audit(tx, note, "source.forget", name, &facts).await?;
                }
                Ok((ids.len() as u64, cancelled))
            })?;
            removed.tokens += tokens;
            removed.cancelled += cancelled;
            if tokens == 0 {
                return Ok(removed);
            }
        }
    }

    /// Gives a source a new name. The ids of its tokens and notices stay.
    pub async fn rename_source(
        &self,
        old: &str,
        new: &str,
        note: OperatorNote<'_>,
    ) -> Result<(), Error> {
        page!(self.store, tx => {
            let row = tx.find_source(new).await?;
            if row.is_some_and(|row| row.renamed_to.is_none()) || tx.has_tokens_of(new).await? {
                return Err(Error::NameTaken(new.to_owned()));
            }
            tx.rename_source(old, new).await?;
            let facts = format!("to {new}");
            self.audit(tx, note, "source.rename", old, &facts).await
        })
    }

    /// Removes one token.
    pub async fn remove_token(
        &self,
        token: &Token,
        note: OperatorNote<'_>,
    ) -> Result<Removed, Error> {
        page!(self.store.unleased(), tx => {
            // A sweep may be planning notices about it.
            let known = tx.lock_token(token.id).await?;
            let cancelled = tx.remove_tokens(&[token.id]).await?;
            let subject = audit_subject(&token.source, &token.external_id);
            self.audit(tx, note, "token.remove", &subject, "").await?;
            Ok(Removed {
                tokens: u64::from(known.is_some()),
                cancelled,
            })
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
