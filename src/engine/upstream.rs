//! What sources and directories have in common: when they are synced, and what follows when they cannot be read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};

use crate::clock::Clock;
use crate::directories::Directory;
use crate::domain::{DirectoryTerms, Policy, Schedule, SourceTerms, SyncAlert, SyncState};
use crate::sources::Source;
use crate::store::{DirectoryRow, SourceRow, Tx};
use crate::time::shift;

use super::common::{Error, LISTING_TIMEOUT, Report, new_id};
use super::notices::Alert;

const MAX_CONCURRENT_LISTINGS: usize = 4;

/// A listing that had this many entries is not accepted when it shrinks by half.
pub(super) const GUARD_FROM: u64 = 20;

pub struct WatchedSource {
    pub terms: SourceTerms,
    pub source: Arc<dyn Source>,
}

pub struct WatchedDirectory {
    pub terms: DirectoryTerms,
    pub directory: Arc<dyn Directory>,
}

#[derive(Debug, Clone, Default)]
pub struct SweepOptions {
    /// Only these sources and directories are synchronised; empty means all.
    pub only: Vec<String>,
    /// Whether sources and directories wait for their schedules and back-offs.
    pub by_schedule: bool,
    /// Sources and directories whose listings may shrink by half.
    pub accept_shrink: Vec<String>,
    /// The operator, for the audit trail.
    pub actor: String,
}

impl SweepOptions {
    pub(super) fn includes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    pub(super) fn includes_any(&self, upstreams: &[impl Upstream]) -> bool {
        upstreams
            .iter()
            .any(|upstream| self.includes(upstream.terms().name))
    }

    pub(super) fn accepts_shrink(&self, name: &str) -> bool {
        self.accept_shrink.iter().any(|accepted| accepted == name)
    }
}

/// What the configurations of sources and directories have in common.
pub(super) struct Terms<'a> {
    name: &'a str,
    kind: &'static str,
    schedule: Option<&'a Schedule>,
}

/// What the rows of sources and directories have in common.
pub(super) struct Columns<'a> {
    name: &'a mut String,
    kind: &'a mut String,
    sync_state: &'a mut SyncState,
}

/// A configured upstream with its row in the store.
pub(super) trait Upstream {
    type Row: Clone + Default;

    fn terms(&self) -> Terms<'_>;
    fn columns(row: &mut Self::Row) -> Columns<'_>;
}

macro_rules! impl_upstream {
    ($watched:ty, $row:ty) => {
        impl Upstream for $watched {
            type Row = $row;

            fn terms(&self) -> Terms<'_> {
                Terms {
                    name: &self.terms.name,
                    kind: self.terms.kind,
                    schedule: self.terms.schedule.as_ref(),
                }
            }

            fn columns(row: &mut $row) -> Columns<'_> {
                Columns {
                    name: &mut row.name,
                    kind: &mut row.kind,
                    sync_state: &mut row.sync_state,
                }
            }
        }
    };
}
impl_upstream!(WatchedSource, SourceRow);
impl_upstream!(WatchedDirectory, DirectoryRow);

/// An upstream's answer to a request for a listing.
pub(super) struct Answer<'a, U: Upstream, L> {
    pub watched: &'a U,
    pub row: U::Row,
    pub asked_at: DateTime<Utc>,
    pub listing: Result<L, Error>,
}

type WithRow<'a, U> = (&'a U, <U as Upstream>::Row);

/// The upstreams to sync now with their rows, and the rows of those that wait for their schedules or back-offs.
pub(super) fn select_due<'a, U: Upstream>(
    all: &'a [U],
    rows: Vec<U::Row>,
    options: &SweepOptions,
    now: DateTime<Utc>,
    report: &mut Report,
) -> (Vec<WithRow<'a, U>>, Vec<U::Row>) {
    let mut rows_by_name = HashMap::new();
    for mut row in rows {
        rows_by_name.insert(U::columns(&mut row).name.clone(), row);
    }
    let mut due = Vec::new();
    let mut waiting = Vec::new();
    for watched in all {
        let terms = watched.terms();
        if !options.includes(terms.name) {
            continue;
        }
        let mut row = rows_by_name.remove(terms.name).unwrap_or_default();
        let columns = U::columns(&mut row);
        terms.name.clone_into(columns.name);
        terms.kind.clone_into(columns.kind);
        let sync_state = columns.sync_state;
        if sync_state.is_due(now, options.by_schedule, terms.schedule) {
            due.push((watched, row));
        } else if sync_state.is_deferred(now) {
            report.sources_deferred += 1;
        } else {
            waiting.push(row);
        }
    }
    (due, waiting)
}

/// Lists upstreams concurrently. All listings end before the first is stored: a listing that waits to be read runs into
/// its timeout.
pub(super) async fn list_all<'a, U: Upstream, L, F>(
    due: Vec<WithRow<'a, U>>,
    clock: &Clock,
    list: impl Fn(&'a U, U::Row, DateTime<Utc>) -> F,
) -> Vec<Answer<'a, U, L>>
where
    F: Future<Output = Result<L, Error>>,
{
    let list = &list;
    let answers = due.into_iter().map(|(watched, row)| async move {
        let asked_at = clock.now();
        let started_at = Instant::now();
        let listing = limit_time(list(watched, row.clone(), asked_at)).await;
        let elapsed_ms = started_at.elapsed().as_millis();
        let outcome = if listing.is_ok() { "read" } else { "not read" };
        tracing::debug!(elapsed_ms, "{}: {outcome}", watched.terms().name);
        Answer {
            watched,
            row,
            asked_at,
            listing,
        }
    });
    stream::iter(answers.collect::<Vec<_>>())
        .buffer_unordered(MAX_CONCURRENT_LISTINGS)
        .collect()
        .await
}

async fn limit_time<L>(list: impl Future<Output = Result<L, Error>>) -> Result<L, Error> {
    tokio::time::timeout(LISTING_TIMEOUT, list)
        .await
        .unwrap_or(Err(Error::TimedOut))
}

/// A name that an operator gave up is reserved: its tokens are known under the new one.
pub fn ensure_not_renamed(name: &str, row: Option<&SourceRow>) -> Result<(), Error> {
    match row.and_then(|row| row.renamed_to.clone()) {
        Some(new) => Err(Error::Renamed {
            old: name.to_owned(),
            new,
        }),
        None => Ok(()),
    }
}

/// How many entries a listing that shrank by half has now, and had before.
#[derive(Debug, Clone, Copy)]
pub struct Shrunk {
    pub found: u64,
    pub before: u64,
}

/// Returns the numbers of entries if a listing shrank by half.
pub(super) fn check_shrunk(found: u64, before: i64) -> Option<Shrunk> {
    let before = u64::try_from(before).unwrap_or(0);
    (before >= GUARD_FROM && found * 2 <= before).then_some(Shrunk { found, before })
}

/// What messages say about one kind of upstream.
pub(super) struct Wording {
    noun: &'static str,
    /// The consequence if one cannot be read.
    consequence: &'static str,
    recovered: &'static str,
}

pub(super) const SOURCE: Wording = Wording {
    noun: "source",
    consequence: "lapsed does not see changes to its tokens: warnings are based on the last good listing, and no \
                  token is marked gone",
    recovered: "Its tokens are listed again",
};

pub(super) const DIRECTORY: Wording = Wording {
    noun: "directory",
    consequence: "lapsed does not notice who loses access there. The last known status counts for some time; \
                  meanwhile no token is flagged and no finding is closed",
    recovered: "The status of its people is known again",
};

/// One sync and its outcome.
pub(super) struct SyncAttempt<'a> {
    pub name: &'a str,
    pub asked_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
    /// When the data was last read, if it is too old to count. A deferred sync is then a failure.
    pub stale_since: Option<DateTime<Utc>>,
    /// A good sync returns a problem if rows were refused.
    pub outcome: Result<Option<String>, Error>,
}

impl Wording {
    /// Records a sync, and alerts the administrators if a failure starts or ends. An error of the store is returned.
    pub async fn record(
        &self,
        tx: &mut Tx,
        policy: &Policy,
        sync_state: &mut SyncState,
        attempt: &SyncAttempt<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let noun = self.noun;
        let SyncAttempt { name, now, .. } = *attempt;
        let alert = match &attempt.outcome {
            Ok(problem) => {
                let alert = sync_state.record_success(attempt.asked_at);
                sync_state.error.clone_from(problem);
                if let Some(problem) = problem {
                    report.problems.push(format!("{noun} {name}: {problem}"));
                }
                alert
            }
            Err(error) => {
                let text = error.chain();
                let wait = error.wait();
                if let Some(wait) = wait {
                    sync_state.defer(now, wait);
                    report.sources_deferred += 1;
                    tracing::info!(upstream.name = name, "{noun} {name} deferred: {text}");
                }
                if wait.is_none() || attempt.stale_since.is_some() {
                    report.problems.push(format!("{noun} {name}: {text}"));
                }
                match (wait, attempt.stale_since) {
                    (None, _) => sync_state.record_failure(attempt.asked_at, text),
                    (Some(_), Some(since)) => sync_state.mark_unobservable(since, text),
                    (Some(_), None) => None,
                }
            }
        };
        if let Some(alert) = alert {
            let alert = self.alert(name, alert, sync_state.error.as_deref());
            alert.plan(tx, policy, now, report).await?;
        }
        Ok(())
    }

    /// Records that an operator accepted a listing that is rejected otherwise, and what they accepted.
    pub async fn record_shrink(
        &self,
        tx: &mut Tx,
        name: &str,
        actor: &str,
        accepted: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let action = format!("{}.accept_shrink", self.noun);
        Ok(tx
            .insert_audit(new_id(now), now, [actor, &action, name], Some(accepted))
            .await?)
    }

    /// The mail about an upstream that cannot be read, or that can be read again.
    fn alert<'a>(&self, name: &'a str, alert: SyncAlert, error: Option<&str>) -> Alert<'a> {
        let noun = self.noun;
        let format_time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC");
        match alert {
            SyncAlert::Failing { since } => Alert {
                subject: name,
                since,
                title: format!("The {noun} {name} cannot be read"),
                text: format!(
                    "Since {} every attempt to read the {noun} {name} has failed:\n\n    {}\n\n\
                     Until it works again, {}.\n\n\
                     See what its credentials can do:\n\n    lapsed {noun} check {name}",
                    format_time(since),
                    error.unwrap_or("no reason given"),
                    self.consequence,
                ),
            },
            SyncAlert::Recovered { since } => Alert {
                subject: name,
                // A different occurrence than the failure.
                since: shift(since, TimeDelta::microseconds(1)),
                title: format!("The {noun} {name} can be read again"),
                text: format!(
                    "{}. It had failed since {}.",
                    self.recovered,
                    format_time(since)
                ),
            },
        }
    }
}

/// A listing that changes nothing.
#[derive(Debug)]
pub enum Preview<L> {
    Listed(L),
    /// The upstream asked us to wait until then.
    Deferred(DateTime<Utc>),
}

/// Awaits `list` unless the upstream asked us to wait.
pub(super) async fn preview<L>(
    sync_state: &SyncState,
    clock: &Clock,
    list: impl Future<Output = Result<L, Error>>,
) -> Result<Preview<L>, Error> {
    if let Some(until) = sync_state.deferred_until
        && sync_state.is_deferred(clock.now())
    {
        return Ok(Preview::Deferred(until));
    }
    match limit_time(list).await {
        Ok(listing) => Ok(Preview::Listed(listing)),
        Err(error) => match error.wait() {
            Some(wait) => Ok(Preview::Deferred(shift(clock.now(), wait))),
            None => Err(error),
        },
    }
}

/// The sources to which expired tokens are reported.
pub(super) fn sources_that_mark_expired(sources: &[WatchedSource]) -> Vec<&str> {
    sources
        .iter()
        .filter(|watched| watched.source.marks_expired())
        .map(|watched| watched.terms.name.as_str())
        .collect()
}

/// The names of the directories whose data is fresh enough to count.
pub(super) fn fresh_directories(
    directories: &[WatchedDirectory],
    rows: &[DirectoryRow],
    now: DateTime<Utc>,
) -> Vec<String> {
    let terms: Vec<_> = directories.iter().map(|watched| &watched.terms).collect();
    rows.iter()
        .filter(|row| is_fresh(&terms, row, now))
        .map(|row| row.name.clone())
        .collect()
}

/// The names of the directories in the store whose data is too old to count, or that are not configured.
pub fn stale_directories(
    configured: &[&DirectoryTerms],
    rows: &[DirectoryRow],
    now: DateTime<Utc>,
) -> Vec<String> {
    rows.iter()
        .filter(|row| !is_fresh(configured, row, now))
        .map(|row| row.name.clone())
        .collect()
}

fn is_fresh(configured: &[&DirectoryTerms], row: &DirectoryRow, now: DateTime<Utc>) -> bool {
    configured.iter().any(|terms| {
        terms.name == row.name && terms.is_fresh(row.sync_state.last_good_sync_at, now)
    })
}
