//! The data that the pages show, and the trait that provides it.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::{FindingKind, IdentityStatus, MailCounts, NoticeState, Reason, Status, Step};

/// An error; logged with its causes, never shown to the caller.
pub type Fault = Box<dyn Error + Send + Sync>;

#[async_trait]
pub trait Health: Send + Sync + 'static {
    /// Called for every request to `/readyz`, so it must be cheap.
    async fn readiness(&self) -> Readiness;

    /// The work that hangs, such as `the delivery`.
    fn stalled_work(&self) -> Option<&'static str>;

    /// Counts everything. It reads all tokens, so it is called at most once in half a minute.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn snapshot(&self) -> Result<Snapshot, Fault>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Why the store does not answer; `None` when it does. Shown to everyone who can reach the port, so it
    /// must not contain addresses or secrets.
    pub store_fault: Option<String>,
    /// `None` before the first sweep has ended.
    pub last_sweep: Option<LastSweep>,
    /// The last sweep must have ended after this instant.
    pub fresh_since: DateTime<Utc>,
    /// Since when the mail is due that waits longest; in the future if none is due.
    pub mail_due_at: Option<DateTime<Utc>>,
    /// When this process last tried a mail, or started.
    pub mail_tried_at: DateTime<Utc>,
    /// One of the two must be after this instant.
    pub delivering_since: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastSweep {
    pub ended_at: DateTime<Utc>,
    pub succeeded: bool,
}

impl Readiness {
    /// The first reason why the daemon is not ready.
    pub fn not_ready_reason(&self) -> Option<&'static str> {
        match (&self.store_fault, self.last_sweep) {
            (Some(_), _) => Some("the store does not answer"),
            (None, None) => Some("no sweep has ended yet"),
            (None, Some(sweep)) if !sweep.succeeded => Some("the last sweep failed"),
            (None, Some(sweep)) if sweep.ended_at < self.fresh_since => {
                Some("the last sweep is too long ago")
            }
            (None, Some(_)) if self.is_delivery_late() => {
                Some("mails are due, and none was sent or tried for too long")
            }
            (None, Some(_)) => None,
        }
    }

    /// A mail that another replica takes is not due any more.
    fn is_delivery_late(&self) -> bool {
        let is_late = |at: DateTime<Utc>| at < self.delivering_since;
        self.mail_due_at.is_some_and(is_late) && is_late(self.mail_tried_at)
    }
}

/// The numbers for `/metrics`. A key missing from a map is shown as 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// By current status and source name.
    pub tokens: BTreeMap<(Status, String), u64>,
    pub findings_open: BTreeMap<FindingKind, u64>,
    /// By state and step; notices that are not about an expiry have no step.
    pub notices: BTreeMap<(NoticeState, Option<Step>), u64>,
    /// How long the oldest due, unsent notice has waited; zero if no notice waits.
    pub oldest_due_unsent: Duration,
    pub mails: MailCounts,
    /// Of this process; `None` before its first sweep.
    pub last_sweep_duration: Option<Duration>,
    /// When the last sweep of any process ended.
    pub last_sweep_at: Option<DateTime<Utc>>,
    /// When the last successful sweep of any process ended.
    pub last_success_at: Option<DateTime<Utc>>,
    pub plans_held: u64,
    /// Directories with a held mass change.
    pub directories_held: u64,
    /// Live replicas by version.
    pub replicas: BTreeMap<String, u64>,
    /// How many different configurations the live replicas have.
    pub replica_configurations: u64,
    /// Whether this process sweeps, or was the last to sweep.
    pub is_leader: bool,
    /// How often another process took the sweep's lease.
    pub lease_holder_changes: u64,
    /// By name; configured sources only.
    pub sources: BTreeMap<String, SourceHealth>,
    /// By name; configured directories only.
    pub directories: BTreeMap<String, DirectoryHealth>,
    /// People by directory, status and, if that is unknown, reason.
    pub identities: BTreeMap<(String, IdentityStatus, Option<Reason>), u64>,
    /// `None` if the token service is off.
    pub service: Option<ServiceHealth>,
}

/// Of this process, since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Verifications by outcome: `valid`, or why a token was refused.
    pub verifications: BTreeMap<&'static str, u64>,
    /// Verifications that were answered from memory.
    pub cache_hits: u64,
    /// Uses of tokens that found no room in memory, so they are not counted.
    pub lost_uses: u64,
    /// Since this process last knew what other processes changed; `None` before it knows it.
    pub feed_age: Option<Duration>,
    /// Requests by route and status.
    pub requests: BTreeMap<Box<str>, BTreeMap<u16, u64>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectoryHealth {
    /// `None` before the first good sync.
    pub last_good_sync_at: Option<DateTime<Utc>>,
    /// How many syncs in a row have failed.
    pub failures: u64,
    pub is_held: bool,
    /// Whether the last good sync is recent enough for its statements to count.
    pub is_fresh: bool,
    /// People in the last complete listing; 0 for a directory that is only asked about single people.
    pub people: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceHealth {
    /// `None` before the first sync.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// `None` before the first good sync.
    pub last_good_sync_at: Option<DateTime<Utc>>,
    pub is_failing: bool,
    /// Tokens in the last good listing, or known tokens if none was complete.
    pub tokens: u64,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::ready(None, Some((true, 0)), None)]
    #[case::at_the_limit(None, Some((true, 60)), None)]
    #[case::stale(None, Some((true, 61)), Some("the last sweep is too long ago"))]
    #[case::failed(None, Some((false, 0)), Some("the last sweep failed"))]
    #[case::new(None, None, Some("no sweep has ended yet"))]
    #[case::no_store(Some("timed out"), Some((true, 0)), Some("the store does not answer"))]
    fn ready_means_the_store_answers_and_a_recent_sweep_succeeded(
        #[case] store_fault: Option<&str>,
        #[case] sweep: Option<(bool, i64)>,
        #[case] reason: Option<&str>,
    ) {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let readiness = Readiness {
            store_fault: store_fault.map(str::to_owned),
            last_sweep: sweep.map(|(succeeded, seconds)| LastSweep {
                ended_at: now - TimeDelta::seconds(seconds),
                succeeded,
            }),
            fresh_since: now - TimeDelta::seconds(60),
            ..ready(now)
        };
        assert_eq!(readiness.not_ready_reason(), reason);
    }

    fn ready(now: DateTime<Utc>) -> Readiness {
        Readiness {
            store_fault: None,
            last_sweep: Some(LastSweep {
                ended_at: now,
                succeeded: true,
            }),
            fresh_since: now,
            mail_due_at: None,
            mail_tried_at: now,
            delivering_since: now,
        }
    }

    #[rstest]
    #[case::no_mail_waits(None, 900, true)]
    #[case::none_is_due(Some(-3600), 900, true)]
    #[case::due_for_a_short_time(Some(300), 900, true)]
    #[case::the_backlog_is_worked_off(Some(86_400), 0, true)]
    #[case::one_was_tried_a_while_ago(Some(86_400), 300, true)]
    #[case::nothing_is_tried(Some(301), 301, false)]
    fn mails_that_are_due_must_be_tried(
        #[case] due_for: Option<i64>,
        #[case] tried_ago: i64,
        #[case] is_ready: bool,
    ) {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let readiness = Readiness {
            mail_due_at: due_for.map(|seconds| now - TimeDelta::seconds(seconds)),
            mail_tried_at: now - TimeDelta::seconds(tried_ago),
            delivering_since: now - TimeDelta::seconds(300),
            ..ready(now)
        };
        assert_eq!(readiness.not_ready_reason().is_none(), is_ready);
    }
}
