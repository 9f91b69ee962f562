//! Syncs sources: lists them concurrently, and when all have answered, merges one listing after the other into the
//! store.

mod doubt;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;
use crate::domain::diff::{self, Pair};
use crate::domain::{ListedToken, MergeRules, Policy, Token, account_key};
use crate::sources::file::run_blocking;
use crate::sources::owners::OwnersFile;
use crate::sources::{
    self, AccountAdmin, CheckReport, Fetched, LastListing, Listing, RefusedRows, Right,
};
use crate::store::SourceRow;
use crate::time::shift;

use super::common::{Error, OnProgress, Report, rows_were};
use super::findings::{judge_expiries, judge_source};
use super::leased::{LeasedStore, counted_page, page};
use super::merge::{Changes, Walk};
use super::notices::personal_policy;
use super::upstream::{
    self, Answer, Preview, SOURCE, SweepOptions, SyncAttempt, WatchedSource, ensure_not_renamed,
    list_all, select_due, sources_that_mark_expired,
};
use doubt::Doubt;

/// What a sync would change about one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The token as it would be after the sync.
    pub token: Token,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    New,
    Changed(Vec<&'static str>),
    Gone,
}

pub struct SyncSources<'a> {
    pub(super) store: LeasedStore<'a>,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
    /// Tokens that expired longer ago than this are not added.
    pub(super) keep_tokens: TimeDelta,
    pub(super) sources: &'a [WatchedSource],
    pub(super) on_progress: OnProgress<'a>,
}

impl SyncSources<'_> {
    /// Synchronises every source that is due; the failure of one does not stop another.
    pub(super) async fn run(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        if !options.includes_any(self.sources) {
            return Ok(());
        }
        let mut tx = self.store.begin_read().await?;
        let policy = personal_policy(&mut tx, self.policy).await?;
        drop(tx);
        let sync = SyncSources {
            policy: &policy,
            store: self.store,
            ..*self
        };
        sync.run_personal(options, report).await
    }

    async fn run_personal(&self, options: &SweepOptions, report: &mut Report) -> Result<(), Error> {
        let rows = self.store.begin_read().await?.list_sources().await?;
        let (due, _) = select_due(self.sources, rows, options, self.clock.now(), report);
        let listings = list_all(due, self.clock, |watched, row, asked_at| async move {
            watched.fetch(&row, asked_at).await
        });
        for answer in listings.await {
            self.store_answer(answer, options, report).await?;
        }
        Ok(())
    }

    async fn store_answer(
        &self,
        answer: Answer<'_, WatchedSource, Fetched<FetchedTokens>>,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mut row = answer.row;
        let mut outcome = match answer.listing {
            // The same file still has the same refused rows.
            Ok(Fetched::Unchanged) => Ok(row.sync_state.error.take()),
            Ok(Fetched::New(found)) => {
                self.merge_listing(answer.watched, found, &mut row, options, report)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            if error.ends_job() {
                return Err(error);
            }
            if error.wait().is_none() {
                // Forces a full listing in the next sweep.
                row.fingerprint = None;
            }
            outcome = Err(error);
        }
        let attempt = SyncAttempt {
            name: &row.name,
            asked_at: answer.asked_at,
            now: self.clock.now(),
            stale_since: None,
            outcome,
        };
        counted_page!(self.store, report, tx => {
            let mut row = row.clone();
            let state = &mut row.sync_state;
            SOURCE.record(tx, self.policy, state, &attempt, report).await?;
            Ok(tx.save_source(&row).await?)
        })
    }

    /// Merges a listing into the store. Returns the problem if rows were refused.
    async fn merge_listing(
        &self,
        watched: &WatchedSource,
        mut found: FetchedTokens,
        row: &mut SourceRow,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<Option<String>, Error> {
        let is_complete = found.is_complete();
        if let Some(doubt) = Doubt::about(&found.listing, row) {
            if !options.accepts_shrink(&row.name) {
                return Err(doubt.into_error(&row.name, &found.listing));
            }
            let (accepted, now) = (doubt.to_string(), self.clock.now());
            page!(self.store, tx => {
                SOURCE
                    .record_shrink(tx, &row.name, &options.actor, &accepted, now)
                    .await
            })?;
        }
        let tokens = found.tokens();
        let rules = self.merge_rules(watched, found.asked_at);
        let FetchedTokens {
            listing, owners, ..
        } = found;
        let count = listing.count;
        let columns = listing.columns;
        let touched = report.tokens_touched();
        let refusals = listing.refusals;
        for refusal in &refusals.shown {
            tracing::warn!(source.name = row.name, "row refused: {refusal}");
        }
        let forgotten = self
            .merge(&row.name, tokens, is_complete, rules, report)
            .await?;
        self.store_admins(&row.name, listing.admins).await?;
        report.rows_refused += refusals.count;
        if report.tokens_touched() > touched {
            let (name, now) = (&row.name, self.clock.now());
            counted_page!(self.store, report, tx => judge_expiries(tx, name, now, report).await)?;
        }
        row.readable_columns = Some(serde_json::to_string(&columns.readable()).unwrap_or_default());
        if let Some(max_life) = listing.max_life {
            row.max_life = max_life.life.map(|life| life.num_seconds());
            row.max_life_evidence = Some(max_life.evidence);
            let (row, now) = (&*row, self.clock.now());
            counted_page!(self.store, report, tx => {
                judge_source(tx, &self.policy.rules, row, now, report).await
            })?;
        }
        row.fingerprint = listing
            .fingerprint
            .map(|fingerprint| watched.fingerprint(&fingerprint, owners.as_ref()));
        if is_complete {
            let to_i64 = |count| i64::try_from(count).unwrap_or(i64::MAX);
            row.tokens = to_i64(count - forgotten);
            row.listed = to_i64(count);
        } else if report.tokens_touched() > touched || (row.tokens == 0 && count > 0) {
            row.tokens = self
                .store
                .begin_read()
                .await?
                .count_present_tokens(&row.name)
                .await?;
        }
        Ok(refused_rows_problem(&refusals))
    }

    /// Returns how many tokens were not stored, because they expired too long ago.
    async fn merge(
        &self,
        source: &str,
        listed: impl Iterator<Item = Result<ListedToken, sources::Error>> + Send,
        is_complete: bool,
        rules: MergeRules<'_>,
        report: &mut Report,
    ) -> Result<u64, Error> {
        let mut forgotten = 0;
        let mut walk = Walk::new(source, listed);
        while !walk.is_done() {
            let mut tx = self.store.begin_read().await?;
            let pairs = walk.next_pairs(&mut tx).await?;
            drop(tx);
            let now = self.clock.now();
            let mut changes = Changes::from_pairs(source, pairs, is_complete, rules, now);
            page!(self.store, tx => {
                changes.write(tx, rules, now).await?;
                if sources_that_mark_expired(self.sources).contains(&source) {
                    tx.set_mark_expired_at(&changes.seen_expired, Some(now))
                        .await?;
                }
                Ok(())
            })?;
            changes.count(report);
            forgotten += changes.forgotten;
            (self.on_progress)();
        }
        Ok(forgotten)
    }

    /// A source that marks expired tokens has all of them stored, so that each is reported once.
    fn merge_rules(&self, watched: &WatchedSource, asked_at: DateTime<Utc>) -> MergeRules<'_> {
        let forgets = !watched.source.marks_expired();
        MergeRules {
            policy: self.policy,
            policy_ttl: watched.terms.policy_ttl,
            asked_at: Some(asked_at),
            forget_before: forgets.then(|| shift(asked_at, -self.keep_tokens)),
        }
    }

    /// Stores the account administrators that a source reported, if they changed.
    async fn store_admins(
        &self,
        source: &str,
        admins: Option<Vec<AccountAdmin>>,
    ) -> Result<(), Error> {
        let Some(admins) = admins else { return Ok(()) };
        let mut admins: Vec<(String, String)> = admins
            .into_iter()
            .map(|admin| (account_key(&admin.account), admin.address.to_string()))
            .collect();
        admins.sort_unstable();
        admins.dedup();
        let mut tx = self.store.begin_read().await?;
        let known = tx.load_source_admins(source).await?;
        drop(tx);
        if known == admins {
            return Ok(());
        }
        page!(self.store, tx => Ok(tx.replace_source_admins(source, &admins).await?))
    }

    /// Lists a source and passes on what a sync would change. Returns the counts of a sync, or `None` if nothing has
    /// changed since the last listing. Writes nothing.
    pub async fn preview(
        &self,
        watched: &WatchedSource,
        accept_shrink: bool,
        mut on_difference: impl FnMut(Difference) -> Result<(), Error> + Send,
    ) -> Result<Preview<Option<Report>>, Error> {
        let mut found = match self.fetch_for_preview(watched, accept_shrink).await? {
            Preview::Listed(Fetched::New(found)) => found,
            Preview::Listed(Fetched::Unchanged) => return Ok(Preview::Listed(None)),
            Preview::Deferred(until) => return Ok(Preview::Deferred(until)),
        };
        let mut report = Report::default();
        let is_complete = found.is_complete();
        let rules = self.merge_rules(watched, found.asked_at);
        let mut walk = Walk::new(&watched.terms.name, found.tokens());
        while !walk.is_done() {
            let mut tx = self.store.begin_read().await?;
            let pairs = walk.next_pairs(&mut tx).await?;
            drop(tx);
            let now = self.clock.now();
            for pair in pairs {
                let Some(difference) =
                    difference(&watched.terms.name, pair, is_complete, rules, now)
                else {
                    continue;
                };
                match difference.change {
                    Change::New => report.tokens_new += 1,
                    Change::Changed(_) => report.tokens_changed += 1,
                    Change::Gone => report.tokens_gone += 1,
                }
                on_difference(difference)?;
            }
        }
        let refusals = &found.listing.refusals;
        report.rows_refused = refusals.count;
        report.problems.extend(refused_rows_problem(refusals));
        Ok(Preview::Listed(Some(report)))
    }

    /// Lists a source without writing.
    pub(super) async fn fetch_for_preview(
        &self,
        watched: &WatchedSource,
        accept_shrink: bool,
    ) -> Result<Preview<Fetched<FetchedTokens>>, Error> {
        let mut tx = self.store.begin_read().await?;
        let row = tx
            .find_source(&watched.terms.name)
            .await?
            .unwrap_or_default();
        drop(tx);
        let fetch = watched.fetch(&row, self.clock.now());
        let preview = upstream::preview(&row.sync_state, self.clock, fetch).await?;
        if let Preview::Listed(Fetched::New(found)) = &preview
            && !accept_shrink
            && let Some(doubt) = Doubt::about(&found.listing, &row)
        {
            return Err(doubt.into_error(&watched.terms.name, &found.listing));
        }
        Ok(preview)
    }
}

fn difference(
    source: &str,
    pair: Pair,
    is_complete: bool,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Option<Difference> {
    let (token, change) = match pair {
        Pair::OnlyListed(listed) => {
            let token = diff::new_token_to_store(source, listed, rules, now)?;
            (token, Change::New)
        }
        Pair::Both(known, listed) => {
            let token = diff::update(&known, listed, rules, now)?.token;
            let fields = diff::changed_fields(&known, &token);
            (token, Change::Changed(fields))
        }
        Pair::OnlyKnown(known) if is_complete => {
            (diff::update_missing(&known, now)?.token, Change::Gone)
        }
        Pair::OnlyKnown(_) => return None,
    };
    Some(Difference { token, change })
}

pub(super) fn refused_rows_problem(refusals: &RefusedRows) -> Option<String> {
    refusals.shown.first().map(|first| {
        format!(
            "{} refused, so no token was marked gone; the first: {first}",
            rows_were(refusals.count)
        )
    })
}

/// A listing, with the owners file of the source.
pub(super) struct FetchedTokens {
    pub listing: Listing,
    pub asked_at: DateTime<Utc>,
    pub owners: Option<OwnersFile>,
}

impl FetchedTokens {
    /// Whether a token that it lacks is gone.
    pub fn is_complete(&self) -> bool {
        self.listing.refusals.count == 0 && !self.listing.is_partial
    }

    /// Takes the tokens out, with the owners applied.
    pub fn tokens(
        &mut self,
    ) -> impl Iterator<Item = Result<ListedToken, sources::Error>> + Send + use<> {
        let owners = self.owners.clone();
        let tokens = std::mem::take(&mut self.listing.tokens);
        tokens.map(move |token| {
            token.map(|mut token| {
                if let Some(owners) = &owners {
                    owners.assign_owner(&mut token);
                }
                token
            })
        })
    }
}

impl WatchedSource {
    /// Checks that it can be listed, that it allows revocation if that is configured, and that its owners file can be
    /// read.
    pub async fn check(&self) -> Result<CheckReport, sources::Error> {
        let mut report = self.source.check().await?;
        if self.terms.allow_revoke
            && let Some(missing) = self.source.missing_to_revoke()
        {
            report
                .rights
                .push(Right::missing("revoke tokens, for allow_revoke", missing));
        }
        if let Some(path) = self.terms.owners.clone() {
            let name = path.display().to_string();
            let owners = run_blocking(move || OwnersFile::load(&path)).await?;
            let rows = match owners.count_rows() {
                1 => "1 row".to_owned(),
                rows => format!("{rows} rows"),
            };
            report.summary = format!("{}; {name} has {rows}", report.summary);
        }
        Ok(report)
    }

    /// Lists the source and reads its owners file.
    pub(super) async fn fetch(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<FetchedTokens>, Error> {
        ensure_not_renamed(&self.terms.name, Some(row))?;
        let owners = match self.terms.owners.clone() {
            Some(path) => Some(run_blocking(move || OwnersFile::load(&path)).await?),
            None => None,
        };
        // The source's fingerprint counts only if our part is the same.
        let ours = self.fingerprint("", owners.as_ref());
        let stored = row.fingerprint.as_deref();
        let last = LastListing {
            fingerprint: stored
                .and_then(|stored| stored.strip_suffix(&ours))
                .map(str::to_owned),
            asked_at: row.sync_state.last_good_sync_at,
        };
        Ok(match self.source.fetch(&last).await? {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::New(listing) => Fetched::New(FetchedTokens {
                listing,
                asked_at,
                owners,
            }),
        })
    }

    /// The fingerprint of a listing, the owners file and the policy life.
    fn fingerprint(&self, listing: &str, owners: Option<&OwnersFile>) -> String {
        let owners_fingerprint = owners.map_or("", |owners| owners.fingerprint.as_str());
        let ttl = self.terms.policy_ttl.map_or(0, |ttl| ttl.num_seconds());
        if owners_fingerprint.is_empty() && ttl == 0 {
            return listing.to_owned();
        }
        format!("{listing}|{owners_fingerprint}|{ttl}")
    }
}
