//! Sync: brings the store in step with what the sources list. Only differences are written.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};

use crate::domain::diff::{self, NoticeEffect, Pair, Update};
use crate::domain::{Listed, Policy, Token, TokenId};
use crate::sources::{Fetched, Listing};
use crate::store::{SourceRow, Tx};

use super::{Engine, Error, LISTING_TIMEOUT, PAGE, Report, SweepOptions};

/// A listing of this many tokens is not believed when it has shrunk by half.
const SHRINK_GUARD_FROM: u64 = 20;

impl Engine {
    /// Synchronises every source; the failure of one does not stop another.
    pub(super) async fn sync_sources(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        for source in self
            .sources
            .iter()
            .filter(|source| options.takes(&source.name))
        {
            let mut tx = self.store.begin().await?;
            let mut row = tx.source(&source.name).await?.unwrap_or_default();
            tx.commit().await?;
            row.name.clone_from(&source.name);
            source.kind.clone_into(&mut row.kind);
            row.last_sync_at = Some(self.now());
            let fetched =
                tokio::time::timeout(LISTING_TIMEOUT, source.it.fetch(row.fingerprint.as_deref()));
            let outcome = match fetched.await {
                Err(_) => Err(Error::TimedOut),
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(Fetched::Unchanged)) => {
                    row.last_good_sync_at = Some(self.now());
                    // Rows that were refused are still refused: the file is the same.
                    let still = row.error.as_ref();
                    let still = still.map(|error| format!("source {}: {error}", row.name));
                    report.problems.extend(still);
                    Ok(())
                }
                Ok(Ok(Fetched::New(listing))) => {
                    self.take_listing(listing, &mut row, options, report).await
                }
            };
            if let Err(error) = outcome {
                let said = super::sweep::chain(&error);
                report
                    .problems
                    .push(format!("source {}: {said}", source.name));
                row.error = Some(said);
                // The next sweep reads it again.
                row.fingerprint = None;
                if let Error::Store(error) = error {
                    return Err(error.into());
                }
            }
            let mut tx = self.store.begin().await?;
            tx.put_source(&row).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn take_listing(
        &self,
        listing: Listing,
        row: &mut SourceRow,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let before = u64::try_from(row.tokens).unwrap_or(0);
        let Listing {
            tokens,
            count,
            refusals,
            fingerprint,
        } = listing;
        if before >= SHRINK_GUARD_FROM && count * 2 <= before && !options.accepts_shrink(&row.name)
        {
            return Err(Error::Shrunk {
                name: row.name.clone(),
                found: count,
                before,
            });
        }
        for refusal in &refusals.shown {
            tracing::warn!(source.name = row.name, "row refused: {refusal}");
        }
        let is_complete = refusals.count == 0;
        self.merge(&row.name, tokens, is_complete, report).await?;
        report.rows_refused += refusals.count;
        row.error = refusals.shown.first().map(|first| {
            format!(
                "{} refused, so no token was marked gone; the first: {first}",
                rows(refusals.count)
            )
        });
        row.fingerprint = Some(fingerprint);
        if is_complete {
            row.tokens = i64::try_from(count).unwrap_or(i64::MAX);
            row.last_good_sync_at = Some(self.now());
        }
        Ok(())
    }

    /// Walks both sides in order of external id and writes the differences, page by page.
    async fn merge(
        &self,
        source: &str,
        mut listed: Box<dyn Iterator<Item = Result<Listed, crate::sources::Error>> + Send>,
        is_complete: bool,
        report: &mut Report,
    ) -> Result<(), Error> {
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let (mut known, mut known_done, mut cursor) = (VecDeque::new(), false, None::<String>);
        let (mut found, mut found_done) = (VecDeque::new(), false);
        while !(known_done && known.is_empty() && found_done && found.is_empty()) {
            let mut tx = self.store.begin().await?;
            if known.is_empty() && !known_done {
                known.extend(tx.tokens_of(source, cursor.as_deref(), PAGE).await?);
                known_done = known.len() < page;
                cursor = known.back().map(|token: &Token| token.external_id.clone());
            }
            while found.len() < page && !found_done {
                match listed.next() {
                    Some(row) => found.push_back(row?),
                    None => found_done = true,
                }
            }
            let pairs = diff::pair_up(&mut known, known_done, &mut found, found_done);
            let now = self.now();
            let changes = Changes::of(source, pairs, is_complete, &self.policy, now);
            changes.write(&mut tx, now).await?;
            changes.count(report);
            tx.commit().await?;
            (self.on_progress)();
        }
        Ok(())
    }
}

/// `1 row was`, `3 rows were`.
pub(super) fn rows(count: u64) -> String {
    if count == 1 {
        "1 row was".to_owned()
    } else {
        format!("{count} rows were")
    }
}

/// What a page of a listing changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub new: Vec<Token>,
    pub updates: Vec<Update>,
    /// How many of the updates are tokens that left the listing.
    pub gone: usize,
}

impl Changes {
    /// Decides what pairs mean; what a listing lacks counts only when it `is_complete`.
    pub fn of(
        source: &str,
        pairs: Vec<Pair>,
        is_complete: bool,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Self {
        let mut changes = Self::default();
        for pair in pairs {
            match pair {
                Pair::OnlyListed(listed) => {
                    changes
                        .new
                        .push(diff::first_seen(source, listed, policy, now));
                }
                Pair::Both(known, listed) => {
                    changes
                        .updates
                        .extend(diff::update(&known, listed, policy, now));
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

    /// Decides what a page of rows means that is no whole listing.
    pub async fn of_rows(
        tx: &mut Tx,
        source: &str,
        listed: Vec<Listed>,
        policy: &Policy,
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
        Ok(Self::of(source, pairs.collect(), false, policy, now))
    }

    /// Adds the counts to a report.
    pub fn count(&self, report: &mut Report) {
        report.tokens_new += self.new.len() as u64;
        report.tokens_changed += (self.updates.len() - self.gone) as u64;
        report.tokens_gone += self.gone as u64;
    }

    /// Writes them, and tells the notices of the tokens.
    pub async fn write(&self, tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
        tx.insert_tokens(&self.new).await?;
        for update in &self.updates {
            write(tx, update, now).await?;
        }
        let needs_judging = self.updates.iter().any(|update| update.needs_judging)
            || self.new.iter().any(|token| token.issuer.is_some());
        if needs_judging {
            super::judge::ask(tx, now).await?;
        }
        Ok(())
    }
}

/// Writes one changed token, and tells its notices.
async fn write(tx: &mut Tx, update: &Update, now: DateTime<Utc>) -> Result<(), Error> {
    let Update { token, notices, .. } = update;
    tx.update_token(token, now).await?;
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
