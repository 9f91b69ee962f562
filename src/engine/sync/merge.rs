//! A listing laid beside what is known, both in order of external id. Only differences are written.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::diff::{self, NoticeEffect, Pair, Update};
use crate::domain::{ExpiryOrigin, Listed, Status, Terms, Token, TokenId};
use crate::store::Tx;

use crate::engine::{Engine, Error, Report, judge, plan};

use super::walk::Walk;

impl Engine {
    /// Walks both sides in order of external id and writes the differences, page by page.
    pub(super) async fn merge(
        &self,
        source: &str,
        listed: impl Iterator<Item = Result<Listed, crate::sources::Error>> + Send,
        is_complete: bool,
        terms: Terms<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut walk = Walk::new(source, listed);
        while !walk.is_over() {
            let mut tx = self.store.begin().await?;
            let pairs = walk.pairs(&mut tx).await?;
            let now = self.now();
            let changes = Changes::of(source, pairs, is_complete, terms, now);
            changes.write(&mut tx, terms, now).await?;
            if self.telling().contains(&source) {
                tx.tell_at(&changes.seen_expired, Some(now)).await?;
            }
            changes.count(report);
            tx.commit().await?;
            (self.on_progress)();
        }
        Ok(())
    }
}

/// `1 row was`, `3 rows were`.
pub(in crate::engine) fn rows(count: u64) -> String {
    if count == 1 {
        "1 row was".to_owned()
    } else {
        format!("{count} rows were")
    }
}

/// What a page of a listing changes.
#[derive(Debug, Default)]
pub(in crate::engine) struct Changes {
    pub new: Vec<Token>,
    pub updates: Vec<Update>,
    /// How many of the updates are tokens that left the listing.
    pub gone: usize,
    /// Those that were marked expired, by a date that is not ours, as soon as they were seen.
    pub seen_expired: Vec<TokenId>,
}

impl Changes {
    /// Decides what pairs mean; what a listing lacks counts only when it `is_complete`.
    pub fn of(
        source: &str,
        pairs: Vec<Pair>,
        is_complete: bool,
        terms: Terms<'_>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut changes = Self::default();
        for pair in pairs {
            match pair {
                Pair::OnlyListed(listed) => {
                    let token = diff::first_seen(source, listed, terms, now);
                    changes.note_expired(false, &token);
                    changes.new.push(token);
                }
                Pair::Both(known, listed) => {
                    let update = diff::update(&known, listed, terms, now);
                    if let Some(update) = &update {
                        changes.note_expired(has_ended(&known), &update.token);
                    }
                    changes.updates.extend(update);
                }
                Pair::OnlyKnown(known) if is_complete => {
                    let left = diff::left_listing(&known, now);
                    changes.gone += left.iter().count();
                    changes.updates.extend(left);
                }
                Pair::OnlyKnown(_) => {}
            }
        }
        changes
    }

    fn note_expired(&mut self, had_ended: bool, token: &Token) {
        if has_ended(token) && !had_ended {
            self.seen_expired.push(token.id);
        }
    }

    /// Decides what a page of rows means that is no whole listing.
    pub async fn of_rows(
        tx: &mut Tx,
        source: &str,
        listed: Vec<Listed>,
        terms: Terms<'_>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let id = |row: &Listed| TokenId::of(source, &row.external_id);
        let ids: Vec<_> = listed.iter().map(id).collect();
        let known = tx.tokens_by_id(&ids).await?;
        let mut known: HashMap<_, _> = known.into_iter().map(|token| (token.id, token)).collect();
        let pairs = listed
            .into_iter()
            .map(|listed| match known.remove(&id(&listed)) {
                Some(known) => Pair::Both(known, listed),
                None => Pair::OnlyListed(listed),
            });
        Ok(Self::of(source, pairs.collect(), false, terms, now))
    }

    /// Adds the counts to a report.
    pub fn count(&self, report: &mut Report) {
        report.tokens_new += self.new.len() as u64;
        report.tokens_changed += (self.updates.len() - self.gone) as u64;
        report.tokens_gone += self.gone as u64;
    }

    /// Writes what was decided by `terms`, and tells the notices of the tokens.
    pub async fn write(
        &self,
        tx: &mut Tx,
        terms: Terms<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let policy = terms.policy;
        if !self.new.is_empty() {
            plan::begin_under(tx, policy).await?;
        }
        tx.insert_tokens(&self.new).await?;
        if !self.new.is_empty() {
            judge::begin(tx, policy, now).await?;
        }
        for update in &self.updates {
            write(tx, update, terms.asked_at, now).await?;
        }
        let needs_judging = self.updates.iter().any(|update| update.needs_judging)
            || self.new.iter().any(|token| token.issuer.is_some());
        if needs_judging {
            judge::ask(tx, now).await?;
        }
        Ok(())
    }
}

/// Whether a token has expired where it lives. One that is past a date of our own works on there.
fn has_ended(token: &Token) -> bool {
    token.status == Status::Expired && token.expiry_origin != Some(ExpiryOrigin::Policy)
}

/// Writes one changed token, and tells its notices.
async fn write(
    tx: &mut Tx,
    update: &Update,
    asked_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let Update { token, notices, .. } = update;
    let is_written = match asked_at {
        Some(asked_at) => tx.update_token_as_of(asked_at, token, now).await?,
        None => tx.update_token(token, now).await.map(|()| true)?,
    };
    if !is_written {
        return Ok(());
    }
    match notices {
        NoticeEffect::Keep => {}
        NoticeEffect::NewGeneration => {
            tx.cancel_notices(token.id, token.expiry.at(), "the expiry changed")
                .await?;
        }
        NoticeEffect::Cancel => {
            let reason = format!("the token is {}", token.status);
            tx.cancel_notices(token.id, None, &reason).await?;
        }
    }
    Ok(())
}
