//! Syncs sources outside a sweep, and previews a sync without writing.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::domain::diff::{self, Pair};
use crate::domain::{MergeRules, Token};

use super::merge::Walk;
use super::{FetchedTokens, WatchedSource, ensure_not_shrunk, refused_rows_problem};
use crate::engine::sweep::record_error;
use crate::engine::{Engine, Error, Report, SweepOptions};
use crate::sources::Fetched;

/// What a sync would change about one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// As it would be after the sync.
    pub token: Token,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    New,
    /// With the names of the fields.
    Changed(Vec<&'static str>),
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
pub enum SourcePreview {
    /// With the counts of a sync.
    Listed(Box<Report>),
    /// Nothing has changed since the last listing.
    Unchanged,
    /// It asked us to wait until then.
    Deferred(DateTime<Utc>),
}

impl Engine {
    /// Syncs the sources that `options` names, under the sweep lease. Nothing is planned, and no run is stored.
    pub async fn sync_sources_only(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
    ) -> Report {
        let mut report = Report::default();
        let work = self.sync_sources(options, &mut report);
        match self.under_sweep_lease(stop, work).await {
            Ok(Some(())) => {}
            Ok(None) => report.lease_held = true,
            Err(error) => record_error(&mut report, None, &error),
        }
        report
    }

    /// Lists a source and passes on what a sync would change. Writes nothing.
    pub async fn preview_source(
        &self,
        watched: &WatchedSource,
        accept_shrink: bool,
        mut on_difference: impl FnMut(Difference) -> Result<(), Error> + Send,
    ) -> Result<SourcePreview, Error> {
        let mut found = match self.fetch_for_preview(watched, accept_shrink).await? {
            Fetch::Listing(found) => found,
            Fetch::Unchanged => return Ok(SourcePreview::Unchanged),
            Fetch::Deferred(until) => return Ok(SourcePreview::Deferred(until)),
        };
        let mut report = Report::default();
        let is_complete = found.is_complete();
        let rules = watched.merge_rules(&self.policy, found.asked_at);
        let mut walk = Walk::new(&watched.terms.name, found.tokens());
        while !walk.is_done() {
            let mut tx = self.store.begin_read().await?;
            let pairs = walk.next_pairs(&mut tx).await?;
            drop(tx);
            let now = self.now();
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
        Ok(SourcePreview::Listed(Box::new(report)))
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
        Pair::OnlyListed(listed) => (diff::new_token(source, listed, rules, now), Change::New),
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

pub(in crate::engine) enum Fetch {
    /// A listing that a sync would accept.
    Listing(Box<FetchedTokens>),
    /// Nothing has changed since the last listing.
    Unchanged,
    /// It asked us to wait until then.
    Deferred(DateTime<Utc>),
}

impl Engine {
    /// Lists a source without writing.
    pub(in crate::engine) async fn fetch_for_preview(
        &self,
        watched: &WatchedSource,
        accept_shrink: bool,
    ) -> Result<Fetch, Error> {
        let mut tx = self.store.begin_read().await?;
        let row = tx
            .find_source(&watched.terms.name)
            .await?
            .unwrap_or_default();
        drop(tx);
        let asked_at = self.now();
        if let Some(until) = row
            .sync_state
            .deferred_until
            .filter(|until| asked_at < *until)
        {
            return Ok(Fetch::Deferred(until));
        }
        match watched.fetch(&row, asked_at).await {
            Ok(Fetched::Unchanged) => Ok(Fetch::Unchanged),
            Ok(Fetched::New(found)) => {
                if !accept_shrink {
                    ensure_not_shrunk(&watched.terms.name, &found.listing, row.tokens)?;
                }
                Ok(Fetch::Listing(Box::new(found)))
            }
            Err(error) => match error.wait() {
                Some(wait) => Ok(Fetch::Deferred(self.now() + wait)),
                None => Err(error),
            },
        }
    }
}
