//! Merges listed tokens with the known ones, and writes only the differences.
//!
//! A sync walks its listing and the store together, both in order of external id. An import is never a complete
//! listing: tokens that are not in the file stay as they are.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::domain::diff::{self, NoticeEffect, Pair, Update};
use crate::domain::{ExpiryOrigin, ListedToken, MergeRules, Policy, Status, Token, TokenId};
use crate::sources::{self, Listing};
use crate::store::{Store, Tx};

use super::common::{Error, PAGE_SIZE, Report, new_id};
use super::leased::retry;
use super::notices::personal_policy;
use super::upstream::ensure_not_renamed;
use super::{findings, plan};

#[derive(Debug, Default)]
pub(super) struct Changes {
    pub new: Vec<Token>,
    pub updates: Vec<Update>,
    /// How many of the updates are for tokens that left the listing.
    pub gone: usize,
    /// Expired tokens that left the listing.
    pub left: Vec<TokenId>,
    /// How many new tokens expired too long ago to be stored.
    pub forgotten: u64,
    /// Tokens that the listing shows as expired for the first time, by a date of the source.
    pub seen_expired: Vec<TokenId>,
}

impl Changes {
    /// Decides the changes; a missing token counts only if the listing `is_complete`.
    pub fn from_pairs(
        source: &str,
        pairs: Vec<Pair>,
        is_complete: bool,
        rules: MergeRules<'_>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut changes = Self::default();
        for pair in pairs {
            match pair {
                Pair::OnlyListed(listed) => {
                    let Some(token) = diff::new_token_to_store(source, listed, rules, now) else {
                        changes.forgotten += 1;
                        continue;
                    };
                    if is_expired_at_source(&token) {
                        changes.seen_expired.push(token.id);
                    }
                    changes.new.push(token);
                }
                Pair::Both(known, listed) => {
                    let Some(update) = diff::update(&known, listed, rules, now) else {
                        continue;
                    };
                    if is_expired_at_source(&update.token) && !is_expired_at_source(&known) {
                        changes.seen_expired.push(update.token.id);
                    }
                    changes.updates.push(update);
                }
                Pair::OnlyKnown(known) if is_complete => match diff::update_missing(&known, now) {
                    Some(update) => {
                        changes.gone += 1;
                        changes.updates.push(update);
                    }
                    None if known.unlisted_since.is_none() => changes.left.push(known.id),
                    None => {}
                },
                Pair::OnlyKnown(_) => {}
            }
        }
        changes
    }

    /// Decides the changes for a page of rows that is not a complete listing.
    pub async fn from_rows(
        tx: &mut Tx,
        source: &str,
        listed: Vec<ListedToken>,
        rules: MergeRules<'_>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let ids: Vec<_> = listed
            .iter()
            .map(|token| token.external_id.as_str())
            .collect();
        let known = tx.load_tokens_by_external_id(source, &ids).await?;
        let known = known.into_iter();
        let mut known: HashMap<_, _> = known
            .map(|token| (token.external_id.clone(), token))
            .collect();
        let pairs = listed
            .into_iter()
            .map(|listed| match known.remove(&listed.external_id) {
                Some(known) => Pair::Both(known, listed),
                None => Pair::OnlyListed(listed),
            })
            .collect();
        Ok(Self::from_pairs(source, pairs, false, rules, now))
    }

    pub fn count(&self, report: &mut Report) {
        report.tokens_new += self.new.len() as u64;
        report.tokens_changed += (self.updates.len() - self.gone) as u64;
        report.tokens_gone += self.gone as u64;
    }

    /// Writes the changes, and cancels the notices that no longer apply.
    pub async fn write(
        &mut self,
        tx: &mut Tx,
        rules: MergeRules<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let policy = rules.policy;
        if !self.new.is_empty() {
            plan::init_settings(tx, policy).await?;
            self.replace_taken_ids(tx, now).await?;
        }
        tx.insert_tokens(&self.new).await?;
        if !self.new.is_empty() {
            findings::init_settings(tx, policy, now).await?;
        }
        tx.set_unlisted_since(&self.left, now).await?;
        for update in &self.updates {
            write_update(tx, update, rules.asked_at).await?;
        }
        let needs_judging = self.updates.iter().any(|update| update.needs_judging)
            || self.new.iter().any(|token| token.issuer.is_some());
        if needs_judging {
            findings::request(tx, now).await?;
        }
        Ok(())
    }

    /// Gives a new token another id if its derived one belongs to a token of a source that was renamed.
    async fn replace_taken_ids(&mut self, tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
        let ids: Vec<_> = self.new.iter().map(|token| token.id).collect();
        let taken = tx.find_taken_ids(&ids).await?;
        for token in &mut self.new {
            if taken.contains(&token.id) {
                let id = TokenId(new_id(now));
                for seen in self
                    .seen_expired
                    .iter_mut()
                    .filter(|seen| **seen == token.id)
                {
                    *seen = id;
                }
                token.id = id;
            }
        }
        Ok(())
    }
}

/// Whether the source treats the token as expired. Past a date of our own policy, it still works there.
fn is_expired_at_source(token: &Token) -> bool {
    token.status == Status::Expired && token.expiry_origin != Some(ExpiryOrigin::Policy)
}

/// Writes one changed token and cancels the notices that no longer apply.
async fn write_update(
    tx: &mut Tx,
    update: &Update,
    asked_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let Update { token, notices, .. } = update;
    let is_written = match asked_at {
        Some(asked_at) => tx.update_token_as_of(asked_at, token).await?,
        None => tx.update_token(token).await.map(|()| true)?,
    };
    if !is_written {
        return Ok(());
    }
    if update.has_new_co_owners {
        tx.replace_co_owners(token).await?;
    }
    match notices {
        NoticeEffect::Keep => {}
        NoticeEffect::NewGeneration => {
            tx.cancel_notices(token.id, token.generation(), "the expiry changed")
                .await?;
        }
        NoticeEffect::Cancel => {
            let reason = format!("the token is {}", token.status);
            tx.cancel_notices(token.id, None, &reason).await?;
        }
    }
    Ok(())
}

/// Stores what a source reports of one token, in the transaction that changes it at the source. Returns the token if it is
/// new or changed.
pub async fn merge_record(
    tx: &mut Tx,
    policy: &Policy,
    source: &str,
    listed: ListedToken,
    now: DateTime<Utc>,
) -> Result<Option<Token>, Error> {
    Ok(merge_records(tx, policy, source, vec![listed], now)
        .await?
        .pop())
}

/// As [`merge_record`], for several tokens. Returns those that are new or changed.
///
/// Others that write tokens wait from here until the transaction ends: it is best called last.
pub async fn merge_records(
    tx: &mut Tx,
    policy: &Policy,
    source: &str,
    listed: Vec<ListedToken>,
    now: DateTime<Utc>,
) -> Result<Vec<Token>, Error> {
    let policy = personal_policy(tx, policy).await?;
    let rules = MergeRules::from(&policy);
    let mut changes = Changes::from_rows(tx, source, listed, rules, now).await?;
    changes.write(tx, rules, now).await?;
    let updated = changes.updates.into_iter().map(|update| update.token);
    Ok(changes.new.into_iter().chain(updated).collect())
}

/// Walks the known and the listed tokens together; memory holds a page of each.
pub(super) struct Walk<'a, L> {
    source: &'a str,
    listing: L,
    known: VecDeque<Token>,
    is_known_complete: bool,
    cursor: Option<String>,
    listed: VecDeque<ListedToken>,
    is_listed_complete: bool,
}

impl<'a, L: Iterator<Item = Result<ListedToken, sources::Error>>> Walk<'a, L> {
    pub fn new(source: &'a str, listing: L) -> Self {
        Self {
            source,
            listing,
            known: VecDeque::new(),
            is_known_complete: false,
            cursor: None,
            listed: VecDeque::new(),
            is_listed_complete: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.is_known_complete
            && self.known.is_empty()
            && self.is_listed_complete
            && self.listed.is_empty()
    }

    /// The next tokens, paired by external id.
    pub async fn next_pairs(&mut self, tx: &mut Tx) -> Result<Vec<Pair>, Error> {
        let page = usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX);
        if self.known.is_empty() && !self.is_known_complete {
            let after = self.cursor.as_deref();
            let tokens = tx
                .load_tokens_of_source(self.source, after, PAGE_SIZE)
                .await?;
            self.known.extend(tokens);
            self.is_known_complete = self.known.len() < page;
            self.cursor = self.known.back().map(|token| token.external_id.clone());
        }
        while self.listed.len() < page && !self.is_listed_complete {
            match self.listing.next() {
                Some(row) => self.listed.push_back(row?),
                None => self.is_listed_complete = true,
            }
        }
        Ok(diff::pair_up(
            &mut self.known,
            self.is_known_complete,
            &mut self.listed,
            self.is_listed_complete,
        ))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportCounts {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    Write,
    DryRun,
}

#[derive(Debug, Clone, Copy)]
pub struct ImportTarget<'a> {
    pub store: &'a Store,
    pub policy: &'a Policy,
    pub clock: &'a Clock,
    pub source: &'a str,
    pub mode: ImportMode,
}

/// Fails if the source was renamed; else records that it is filled by imports.
async fn check_import(target: ImportTarget<'_>) -> Result<(), Error> {
    let source = target.source;
    let row = target.store.begin_read().await?.find_source(source).await?;
    ensure_not_renamed(source, row.as_ref())?;
    if target.mode == ImportMode::Write {
        let mut tx = target.store.begin().await?;
        tx.mark_imported(source).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn write_import(
    target: ImportTarget<'_>,
    changes: &mut Changes,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut tx = target.store.begin().await?;
    // An operator may rename it meanwhile.
    let row = tx.find_source(target.source).await?;
    ensure_not_renamed(target.source, row.as_ref())?;
    changes.write(&mut tx, rules, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Imports a listing. `progress` gets the number of rows done so far.
pub async fn import(
    target: ImportTarget<'_>,
    listing: Listing,
    mut progress: impl FnMut(u64) + Send,
) -> Result<ImportCounts, Error> {
    let ImportTarget {
        store,
        policy,
        clock,
        source,
        mode,
    } = target;
    let Listing {
        mut tokens,
        refusals,
        ..
    } = listing;
    check_import(target).await?;
    let policy = personal_policy(&mut store.begin_read().await?, policy).await?;
    let rules = MergeRules::from(&policy);
    let mut report = Report::default();
    let mut rows = 0;
    let page = usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX);
    loop {
        let listed: Vec<ListedToken> = tokens.by_ref().take(page).collect::<Result<_, _>>()?;
        if listed.is_empty() {
            break;
        }
        rows += listed.len() as u64;
        let now = clock.now();
        let mut tx = store.begin_read().await?;
        let mut changes = Changes::from_rows(&mut tx, source, listed, rules, now).await?;
        drop(tx);
        if mode == ImportMode::Write {
            retry!(write_import(target, &mut changes, rules, now))?;
        }
        changes.count(&mut report);
        progress(rows);
    }
    if mode == ImportMode::Write && report.tokens_touched() > 0 {
        let mut tx = store.begin().await?;
        findings::judge_expiries(&mut tx, source, clock.now(), &mut report).await?;
        tx.commit().await?;
    }
    Ok(ImportCounts {
        new: report.tokens_new,
        changed: report.tokens_changed,
        unchanged: rows - report.tokens_new - report.tokens_changed,
        refused: refusals.count,
    })
}
