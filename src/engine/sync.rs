//! Syncs sources: lists them concurrently, and when all have answered, merges one listing after the other into the
//! store.

mod merge;
mod preview;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};

use crate::domain::{ListedToken, MergeRules, Policy, SourceTerms, SyncAlert};
use crate::sources::file::run_blocking;
use crate::sources::owners::OwnersFile;
use crate::sources::{
    self, AccountAdmin, CheckReport, Fetched, LastListing, Listing, RefusedRows, Right, Source,
};
use crate::store::SourceRow;

use super::alert::Alert;
use super::{Engine, Error, LISTING_TIMEOUT, Report, SweepOptions};

pub(super) use merge::{Changes, Walk, rows_were};
pub(super) use preview::Fetch;
pub use preview::{Change, Difference, SourcePreview};

/// A listing that had this many tokens is not accepted when it shrinks by half.
const SHRINK_GUARD_FROM: u64 = 20;

const MAX_CONCURRENT_SOURCES: usize = 4;

pub struct WatchedSource {
    pub terms: SourceTerms,
    pub source: Arc<dyn Source>,
}

/// A listing, with the owners file of the source.
pub(super) struct FetchedTokens {
    pub listing: Listing,
    pub asked_at: DateTime<Utc>,
    owners: Option<OwnersFile>,
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

struct Answer<'a> {
    watched: &'a WatchedSource,
    row: SourceRow,
    asked_at: DateTime<Utc>,
    found: Result<Fetched<FetchedTokens>, Error>,
}

impl Engine {
    /// Synchronises every source that is due; the failure of one does not stop another.
    pub(super) async fn sync_sources(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let named = |watched: &&WatchedSource| options.includes(&watched.terms.name);
        let named: Vec<_> = self.sources.iter().filter(named).collect();
        if named.is_empty() {
            return Ok(());
        }
        let rows = self
            .store
            .begin_read()
            .await?
            .list_sources()
            .await?
            .into_iter();
        let mut rows: HashMap<_, _> = rows.map(|row| (row.name.clone(), row)).collect();
        let now = self.now();
        let mut asked = Vec::new();
        for watched in named {
            let row = rows.remove(&watched.terms.name).unwrap_or_default();
            let schedule = watched.terms.schedule.as_ref();
            if row.sync_state.is_due(now, options.by_schedule, schedule) {
                asked.push(self.list_source(watched, row));
            } else if row.sync_state.is_deferred(now) {
                report.sources_deferred += 1;
            }
        }
        let answers = stream::iter(asked).buffer_unordered(MAX_CONCURRENT_SOURCES);
        // Collected before the first is merged: an answer that waits to be read runs into its timeout.
        for answer in answers.collect::<Vec<_>>().await {
            let Answer {
                watched,
                mut row,
                asked_at,
                found,
            } = answer;
            let outcome = match found {
                Ok(Fetched::Unchanged) => {
                    // The same file still has the same refused rows.
                    Ok(row.sync_state.error.take())
                }
                Ok(Fetched::New(found)) => {
                    self.merge_listing(watched, found, &mut row, options, report)
                        .await
                }
                Err(error) => Err(error),
            };
            self.record_outcome(&mut row, asked_at, outcome, report)
                .await?;
        }
        Ok(())
    }

    async fn list_source<'a>(&self, watched: &'a WatchedSource, mut row: SourceRow) -> Answer<'a> {
        row.name.clone_from(&watched.terms.name);
        watched.terms.kind.clone_into(&mut row.kind);
        let asked_at = self.now();
        let found = watched.fetch(&row, asked_at).await;
        Answer {
            watched,
            row,
            asked_at,
            found,
        }
    }

    /// Stores the outcome of a sync, and alerts the administrators if a failure starts or ends.
    async fn record_outcome(
        &self,
        row: &mut SourceRow,
        asked_at: DateTime<Utc>,
        outcome: Result<Option<String>, Error>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let name = row.name.clone();
        let alert = match outcome {
            Ok(problem) => {
                let alert = row.sync_state.record_success(asked_at);
                if let Some(problem) = &problem {
                    report.problems.push(format!("source {name}: {problem}"));
                }
                row.sync_state.error = problem;
                alert
            }
            Err(error) if let Some(wait) = error.wait() => {
                row.sync_state.defer(self.now(), wait);
                report.sources_deferred += 1;
                tracing::info!(source.name = name, "deferred: {error}");
                None
            }
            Err(error) => {
                let text = super::sweep::error_chain(&error);
                report.problems.push(format!("source {name}: {text}"));
                let alert = row.sync_state.record_failure(asked_at, text);
                // Forces a full listing in the next sweep.
                row.fingerprint = None;
                if let Error::Store(error) = error {
                    return Err(error.into());
                }
                alert
            }
        };
        let mut tx = self.store.begin().await?;
        tx.save_source(row).await?;
        if let Some(alert) = alert {
            let alert = sync_alert(&name, alert, row.sync_state.error.as_deref());
            self.alert(&mut tx, alert, report).await?;
        }
        Ok(tx.commit().await?)
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
        if let Err(error) = ensure_not_shrunk(&row.name, &found.listing, row.tokens) {
            if !options.accepts_shrink(&row.name) {
                return Err(error);
            }
            let mut tx = self.store.begin().await?;
            let entry = [&options.actor, "source.accept_shrink", &row.name];
            let now = self.now();
            let reason = format!("{} tokens instead of {}", found.listing.count, row.tokens);
            tx.insert_audit(Self::new_id(now), now, entry, Some(&reason))
                .await?;
            tx.commit().await?;
        }
        let tokens = found.tokens();
        let rules = watched.merge_rules(&self.policy, found.asked_at);
        let FetchedTokens {
            listing, owners, ..
        } = found;
        let count = listing.count;
        let touched = report.tokens_touched();
        let refusals = listing.refusals;
        for refusal in &refusals.shown {
            tracing::warn!(source.name = row.name, "row refused: {refusal}");
        }
        self.merge(&row.name, tokens, is_complete, rules, report)
            .await?;
        self.store_admins(&row.name, listing.admins).await?;
        report.rows_refused += refusals.count;
        if let Some(max_life) = listing.max_life {
            row.max_life = max_life.life.map(|life| life.num_seconds());
            row.max_life_evidence = Some(max_life.evidence);
            let mut tx = self.store.begin().await?;
            self.judge_source(&mut tx, row, report).await?;
            tx.commit().await?;
        }
        row.fingerprint = listing
            .fingerprint
            .map(|fingerprint| watched.fingerprint(&fingerprint, owners.as_ref()));
        if is_complete {
            row.tokens = i64::try_from(count).unwrap_or(i64::MAX);
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

    /// Stores the account administrators that a source reported, if they changed.
    async fn store_admins(
        &self,
        source: &str,
        admins: Option<Vec<AccountAdmin>>,
    ) -> Result<(), Error> {
        let Some(admins) = admins else { return Ok(()) };
        let mut admins: Vec<(String, String)> = admins
            .into_iter()
            .map(|admin| (admin.account, admin.address.to_string()))
            .collect();
        admins.sort_unstable();
        admins.dedup();
        let mut tx = self.store.begin_read().await?;
        let known = tx.load_source_admins(source).await?;
        drop(tx);
        if known == admins {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tx.replace_source_admins(source, &admins).await?;
        Ok(tx.commit().await?)
    }
}

pub(super) fn refused_rows_problem(refusals: &RefusedRows) -> Option<String> {
    refusals.shown.first().map(|first| {
        format!(
            "{} refused, so no token was marked gone; the first: {first}",
            rows_were(refusals.count)
        )
    })
}

/// Rejects a listing with at most half of the tokens of the last good one.
fn ensure_not_shrunk(name: &str, listing: &Listing, before: i64) -> Result<(), Error> {
    let before = u64::try_from(before).unwrap_or(0);
    let found = listing.count;
    let is_shrunk = before >= SHRINK_GUARD_FROM && found * 2 <= before;
    if !is_shrunk || listing.is_partial {
        return Ok(());
    }
    Err(match listing.refusals.shown.first() {
        Some(first) => Error::MostlyRefused {
            count: listing.refusals.count,
            first: first.to_string(),
            found,
            before,
        },
        None => Error::Shrunk {
            name: name.to_owned(),
            found,
            before,
        },
    })
}

impl WatchedSource {
    /// Checks that it can be listed, that it allows revocation if that is configured, and that its owners file can be
    /// read.
    pub async fn check(&self) -> Result<CheckReport, sources::Error> {
        let mut checked = self.source.check().await?;
        if self.terms.allow_revoke
            && let Some(missing) = self.source.missing_to_revoke()
        {
            checked.rights.push(Right {
                what: "revoke tokens, for allow_revoke".to_owned(),
                missing: Some(missing.to_owned()),
            });
        }
        if let Some(path) = self.terms.owners.clone() {
            let shown = path.display().to_string();
            let owners = run_blocking(move || OwnersFile::load(&path)).await?;
            let rows = match owners.len() {
                1 => "1 row".to_owned(),
                rows => format!("{rows} rows"),
            };
            checked.summary = format!("{}; {shown} has {rows}", checked.summary);
        }
        Ok(checked)
    }

    pub(super) fn merge_rules<'a>(
        &self,
        policy: &'a Policy,
        asked_at: DateTime<Utc>,
    ) -> MergeRules<'a> {
        MergeRules {
            policy,
            policy_ttl: self.terms.policy_ttl,
            asked_at: Some(asked_at),
        }
    }

    /// Lists the source and reads its owners file.
    pub(super) async fn fetch(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<FetchedTokens>, Error> {
        let fetch = self.fetch_with_owners(row, asked_at);
        let found = tokio::time::timeout(LISTING_TIMEOUT, fetch).await;
        found.unwrap_or(Err(Error::TimedOut))
    }

    async fn fetch_with_owners(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<FetchedTokens>, Error> {
        let owners = match self.terms.owners.clone() {
            Some(path) => Some(run_blocking(move || OwnersFile::load(&path)).await?),
            None => None,
        };
        // The source's fingerprint counts only if our part is the same.
        let ours = self.fingerprint("", owners.as_ref());
        let theirs = row.fingerprint.as_deref();
        let last = LastListing {
            fingerprint: theirs
                .and_then(|all| all.strip_suffix(&ours))
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
        let owners = owners.map_or("", |owners| owners.fingerprint.as_str());
        let ttl = self.terms.policy_ttl.map_or(0, |ttl| ttl.num_seconds());
        if owners.is_empty() && ttl == 0 {
            return listing.to_owned();
        }
        format!("{listing}|{owners}|{ttl}")
    }
}

fn sync_alert<'a>(name: &'a str, alert: SyncAlert, error: Option<&str>) -> Alert<'a> {
    match alert {
        SyncAlert::Failing { since } => Alert {
            subject: name,
            since,
            title: format!("The source {name} cannot be read"),
            text: format!(
                "Since {} every attempt to list the tokens of the source {name} has failed:\n\n    {}\n\n\
                 Until it works again, lapsed does not see changes to its tokens: warnings are based on the last \
                 good listing, and no token is marked gone.\n\n\
                 See what its credentials can do:\n\n    lapsed source check {name}",
                since.format("%Y-%m-%d %H:%M UTC"),
                error.unwrap_or("no reason given"),
            ),
        },
        SyncAlert::Recovered { since } => Alert {
            subject: name,
            // A different occurrence than the failure.
            since: since + TimeDelta::microseconds(1),
            title: format!("The source {name} can be read again"),
            text: format!(
                "Its tokens are listed again. It had failed since {}.",
                since.format("%Y-%m-%d %H:%M UTC")
            ),
        },
    }
}
