//! What the pages show, as plain values, and the one trait that brings it.

use std::{collections::BTreeMap, error::Error, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::{FindingKind, IdentityStatus, NoticeState, Reason, Status, Step};

/// Why something could not be told; logged with its causes, never shown to the caller.
pub type Fault = Box<dyn Error + Send + Sync>;

/// Somebody who knows how the daemon does.
#[async_trait]
pub trait Health: Send + Sync + 'static {
    /// How things stand now. Asked at every request for `/readyz`, so it must be cheap.
    async fn readiness(&self) -> Readiness;

    /// Counts everything. It costs a pass over all tokens, so it is asked at most once in
    /// half a minute.
    ///
    /// # Errors
    /// When the store could not be counted.
    async fn snapshot(&self) -> Result<Snapshot, Fault>;
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Why the store does not answer; `None` when it does. Anybody who can reach the port reads
    /// it: no addresses, no secrets.
    pub store_fault: Option<String>,
    /// The last sweep that ended; `None` before the first.
    pub last_sweep: Option<LastSweep>,
    /// A sweep that ended before this instant is too long ago.
    pub fresh_since: DateTime<Utc>,
}

/// The last sweep that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastSweep {
    /// When.
    pub ended_at: DateTime<Utc>,
    /// Whether all of it succeeded.
    pub succeeded: bool,
}

impl Readiness {
    /// The first thing that is not as it should be.
    #[must_use]
    pub fn obstacle(&self) -> Option<&'static str> {
        match (&self.store_fault, self.last_sweep) {
            (Some(_), _) => Some("the store does not answer"),
            (None, None) => Some("no sweep has ended yet"),
            (None, Some(sweep)) if !sweep.succeeded => Some("the last sweep failed"),
            (None, Some(sweep)) if sweep.ended_at < self.fresh_since => {
                Some("the last sweep is too long ago")
            }
            (None, Some(_)) => None,
        }
    }
}

/// Every number that `/metrics` shows. What is missing from a map is shown as 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Tokens by status, swept or not, and name of source.
    pub tokens: BTreeMap<(Status, String), u64>,
    /// Open findings by kind.
    pub findings_open: BTreeMap<FindingKind, u64>,
    /// Notices by state and step; those that are not about an expiry have no step.
    pub notices: BTreeMap<(NoticeState, Option<Step>), u64>,
    /// How long the oldest due notice that is still unsent has waited; zero when there is none.
    pub oldest_due_unsent: Duration,
    /// What has become of the mails since the process started.
    pub mails: Mails,
    /// How long the last sweep took; `None` before the first of this process.
    pub last_sweep_took: Option<Duration>,
    /// When the last sweep ended, in whichever process.
    pub last_sweep_at: Option<DateTime<Utc>>,
    /// When the last sweep that succeeded ended, in whichever process.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Plans that wait for a release.
    pub plans_held: u64,
    /// Directory runs that wait for a release.
    pub directories_held: u64,
    /// How it stands with each configured source, by name.
    pub sources: BTreeMap<String, SourceHealth>,
    /// How it stands with each configured directory, by name.
    pub directories: BTreeMap<String, DirectoryHealth>,
    /// People by directory, status and, where that is unknown, reason.
    pub identities: BTreeMap<(String, IdentityStatus, Option<Reason>), u64>,
}

/// How it stands with a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectoryHealth {
    /// When it was last read well; `None` before the first time.
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// Readings that failed in a row.
    pub failures: u64,
    /// Whether a mass change waits for an operator.
    pub is_held: bool,
    /// Whether its word holds.
    pub is_fresh: bool,
    /// How many people it last told of; 0 where it tells only of those asked for.
    pub people: u64,
}

/// How it stands with a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceHealth {
    /// When it was last asked; `None` before the first time.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// When it was last listed well; `None` before the first time.
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// Whether the last sync failed.
    pub is_failing: bool,
    /// How many tokens the last good listing held, or are known where none was whole.
    pub tokens: u64,
}

/// What has become of the mails since the process started; each number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mails {
    /// The server took them.
    pub sent: u64,
    /// Put off: 4xx, or the connection broke.
    pub deferred: u64,
    /// Refused for good, by recipient or content.
    pub refused: u64,
    /// Perhaps taken: the server did not say.
    pub unknown: u64,
    /// Not tried further because the server turned everybody away.
    pub server_fault: u64,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::well(None, Some((true, 0)), None)]
    #[case::at_the_limit(None, Some((true, 60)), None)]
    #[case::stale(None, Some((true, 61)), Some("the last sweep is too long ago"))]
    #[case::failed(None, Some((false, 0)), Some("the last sweep failed"))]
    #[case::new(None, None, Some("no sweep has ended yet"))]
    #[case::no_store(Some("timed out"), Some((true, 0)), Some("the store does not answer"))]
    fn it_is_ready_when_the_store_answers_and_a_recent_sweep_succeeded(
        #[case] store_fault: Option<&str>,
        #[case] sweep: Option<(bool, i64)>,
        #[case] obstacle: Option<&str>,
    ) {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let readiness = Readiness {
            store_fault: store_fault.map(str::to_owned),
            last_sweep: sweep.map(|(succeeded, seconds)| LastSweep {
                ended_at: now - TimeDelta::seconds(seconds),
                succeeded,
            }),
            fresh_since: now - TimeDelta::seconds(60),
        };
        assert_eq!(readiness.obstacle(), obstacle);
    }
}
