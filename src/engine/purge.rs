//! Purge: deletes what is older than it must be kept. `docs/retention.md` has the rules.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::TimeDelta;

use crate::clock::Clock;
use crate::store::PurgeCutoffs;
use crate::time::shift;

use super::common::{Error, PAGE_SIZE, Report, Retention};
use super::leased::{LeasedStore, page};
use super::upstream::{WatchedSource, sources_that_mark_expired};

/// Searching for old rows costs reads; once an hour is enough.
const INTERVAL_SECONDS: i64 = 3600;

/// Replicas are kept for this long after they were last seen.
const REPLICA_TTL: TimeDelta = TimeDelta::days(1);

#[derive(Debug, Default)]
pub struct LastPurge(pub(super) AtomicI64);

pub(super) struct Purge<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub keep: &'a Retention,
    pub sources: &'a [WatchedSource],
    pub last: &'a LastPurge,
}

impl Purge<'_> {
    /// Deletes at most a page of old rows of each kind; the next sweep continues.
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let last = self.last.0.load(Ordering::Relaxed);
        if (now.timestamp() - last).abs() < INTERVAL_SECONDS {
            return Ok(());
        }
        let keep = self.keep;
        let cutoffs = PurgeCutoffs {
            runs: shift(now, -keep.runs),
            audit: shift(now, -keep.audit),
            findings: shift(now, -keep.findings),
            notices: shift(now, -keep.notices),
        };
        let ended_before = shift(now, -keep.gone_tokens);
        let sources = self.sources.iter();
        let listing: Vec<&str> = sources.map(|watched| watched.terms.name.as_str()).collect();
        let marking = sources_that_mark_expired(self.sources);
        let deleted = page!(self.store, tx => {
            let tokens = tx
                .purge_ended_tokens(ended_before, &listing, &marking, PAGE_SIZE)
                .await?;
            let (from, until) = (shift(now, -REPLICA_TTL), shift(now, REPLICA_TTL));
            let replicas = tx.purge_replicas(from, until).await?;
            let of_service = tx.purge_service(now, PAGE_SIZE).await?;
            Ok(tokens + replicas + of_service + tx.purge(&cutoffs, PAGE_SIZE).await?)
        })?;
        report.purged += deleted;
        if deleted < PAGE_SIZE.unsigned_abs() {
            self.last.0.store(now.timestamp(), Ordering::Relaxed);
        }
        Ok(())
    }
}
