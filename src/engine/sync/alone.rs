//! One source by itself: synchronised now, or looked at without a trace.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::domain::diff::{self, Pair};
use crate::domain::{Terms, Token};

use super::walk::Walk;
use super::{Look, Watched, refused};
use crate::engine::sweep::note;
use crate::engine::{Engine, Error, Report, SweepOptions};

/// What a sync would do to one token.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The token as it would be.
    pub token: Token,
    /// What about it is different.
    pub change: Change,
}

/// What about a token is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is seen for the first time.
    New,
    /// These facts are others than before.
    Changed(Vec<&'static str>),
    /// It left the listing.
    Gone,
}

/// What came of looking at one source.
#[derive(Debug, PartialEq, Eq)]
pub enum Looked {
    /// It was listed; what a sync would do is told and counted.
    Listed(Box<Report>),
    /// It says that nothing has changed since it was last listed.
    Unchanged,
    /// It wants to be left alone until then.
    Deferred(DateTime<Utc>),
}

impl Engine {
    /// Synchronises the sources that `options` name, and does nothing else. It is done under the
    /// sweep's lease, and is no sweep: nothing is planned, and no run is written down.
    pub async fn sync_alone(&self, options: &SweepOptions, stop: &CancellationToken) -> Report {
        let mut report = Report::default();
        let work = self.sync_sources(options, &mut report);
        match self.under_sweep_lease(stop, work).await {
            Ok(Some(())) => {}
            Ok(None) => report.lease_held = true,
            Err(error) => note(&mut report, None, &error),
        }
        report
    }

    /// Lists a source and tells what a sync would do to each token. Nothing is written.
    pub async fn foresee_sync(
        &self,
        watched: &Watched,
        accept_shrink: bool,
        mut tell: impl FnMut(Difference) -> Result<(), Error> + Send,
    ) -> Result<Looked, Error> {
        let mut found = match self.look_at(watched, accept_shrink).await? {
            Look::Found(found) => found,
            Look::Unchanged => return Ok(Looked::Unchanged),
            Look::Deferred(until) => return Ok(Looked::Deferred(until)),
        };
        let mut report = Report::default();
        let is_complete = found.is_complete();
        let terms = watched.terms(&self.policy, found.asked_at);
        let mut walk = Walk::new(&watched.name, found.tokens());
        while !walk.is_over() {
            let mut tx = self.store.read().await?;
            let pairs = walk.pairs(&mut tx).await?;
            drop(tx);
            let now = self.now();
            for pair in pairs {
                let Some(difference) = difference(&watched.name, pair, is_complete, terms, now)
                else {
                    continue;
                };
                match difference.change {
                    Change::New => report.tokens_new += 1,
                    Change::Changed(_) => report.tokens_changed += 1,
                    Change::Gone => report.tokens_gone += 1,
                }
                tell(difference)?;
            }
        }
        let refusals = &found.listing.refusals;
        report.rows_refused = refusals.count;
        report.problems.extend(refused(refusals));
        Ok(Looked::Listed(Box::new(report)))
    }
}

fn difference(
    source: &str,
    pair: Pair,
    is_complete: bool,
    terms: Terms<'_>,
    now: DateTime<Utc>,
) -> Option<Difference> {
    let (token, change) = match pair {
        Pair::OnlyListed(listed) => (diff::first_seen(source, listed, terms, now), Change::New),
        Pair::Both(known, listed) => {
            let token = diff::update(&known, listed, terms, now)?.token;
            let fields = diff::fields_changed(&known, &token);
            (token, Change::Changed(fields))
        }
        Pair::OnlyKnown(known) if is_complete => {
            (diff::left_listing(&known, now)?.token, Change::Gone)
        }
        Pair::OnlyKnown(_) => return None,
    };
    Some(Difference { token, change })
}
