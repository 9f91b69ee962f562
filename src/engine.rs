//! The only layer that combines the clock, the store, the upstreams and the mail server.
//!
//! A sweep is a closed list of jobs. Each job gathers, lets `domain` decide, and acts; running it twice has the
//! same result as running it once.

mod alert;
mod assign;
mod coverage;
mod deliver;
mod directories;
mod dry_run;
mod findings;
mod import;
mod judge;
mod mark_expired;
mod plan;
mod purge;
mod report;
mod respond;
mod revoke;
mod summary;
mod sweep;
mod sync;
pub mod ticker;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Address, Backoff, Issuers, Policy, RevocationPolicy, Schedule};
use crate::sources;
use crate::store::{self, Holder, Store, Tx};

pub use coverage::{count_covers, issuer_covers, stale_directories};
pub use deliver::{Mailer, Outcomes};
pub use directories::{
    DirectoryPreview, HeldStatusChange, Implausible, StatusChange, Survey, SurveyOutcome,
    SyncedDirectory, UnbindOutcome, WatchedDirectory,
};
pub use dry_run::PlannedNotice;
pub use import::{ImportCounts, ImportMode, ImportTarget, LOCAL, import};
pub use purge::LastPurge;
pub use report::{Job, Report};
pub use respond::RevocationPreview;
pub use revoke::{Revocation, RevocationOrder, RevokeRefusal};
pub use sweep::SweepOptions;
pub use sync::{Change, Difference, SourcePreview, WatchedSource};

pub struct Engine {
    pub store: Store,
    pub clock: Clock,
    pub policy: Policy,
    pub settings: Settings,
    pub mailer: Arc<Mailer>,
    pub sources: Vec<WatchedSource>,
    pub directories: Vec<WatchedDirectory>,
    pub issuers: Issuers,
    /// Identifies this process as a holder of leases.
    pub holder: Uuid,
    pub last_purge: LastPurge,
    /// Called regularly while a job makes progress, for the watchdog.
    pub on_progress: Box<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub sweep: Schedule,
    /// When administrators get a summary of open findings; `None` means never.
    pub summary: Option<Schedule>,
    /// How long a sweep or a claimed mail belongs to one process unless it renews the lease.
    pub lease: TimeDelta,
    pub backoff: Backoff,
    /// A mail that could not be delivered for this long fails.
    pub give_up: TimeDelta,
    pub connections: usize,
    /// 0 means no limit.
    pub messages_per_connection: u32,
    /// Over all connections.
    pub mails_per_second: Option<f64>,
    /// Retention of tokens that are gone.
    pub gone_tokens: TimeDelta,
    /// Retention of notices that are not about a token.
    pub notices: TimeDelta,
    /// Retention of resolved findings.
    pub findings: TimeDelta,
    pub runs: TimeDelta,
    pub audit: TimeDelta,
    /// How tokens of people without access are revoked; `None` only flags them.
    pub response: Option<RevocationPolicy>,
}

/// Time limit for one listing, and for one revocation at a source.
const LISTING_TIMEOUT: Duration = Duration::from_mins(10);
/// A lease or a back-off that ends more than this many times its length from now was set by a clock that jumped.
/// One that ends only a little late was set by a process whose clock is slightly ahead; to treat that one as expired
/// would send a mail twice.
const MAX_SKEW_FACTOR: i32 = 2;
/// Rows per transaction: large enough to be fast, small enough to let other processes write.
const PAGE_SIZE: i64 = 1000;
/// An address that was refused is tried again after this time.
pub(crate) const DEAD_ADDRESS_TTL: TimeDelta = TimeDelta::days(30);
/// A sweep starts shortly after its tick and takes some time. Whatever falls due in that time after the next tick
/// is handled by this sweep, so that "at least 7 days" is exact to the second.
const HORIZON_MARGIN: TimeDelta = TimeDelta::seconds(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Listing(#[from] sources::Error),
    #[error("no complete listing within {} minutes", LISTING_TIMEOUT.as_secs() / 60)]
    TimedOut,
    #[error("no answer within {} minutes, so the outcome is unknown", LISTING_TIMEOUT.as_secs() / 60)]
    NoAnswer,
    #[error(transparent)]
    Revoke(#[from] RevokeRefusal),
    #[error(
        "the listing has only {found} entries, the last good one had {before}; if that is right, \
         accept it once with `lapsed sweep --accept-shrink {name}`"
    )]
    Shrunk {
        name: String,
        found: u64,
        before: u64,
    },
    /// After leaving out the refused rows, the listing is too short to be plausible.
    #[error(
        "{} refused, which leaves only {found} of {before} tokens, so nothing was changed; the first: {first}",
        sync::rows_were(*count)
    )]
    MostlyRefused {
        count: u64,
        /// Place and reason of the first refused row.
        first: String,
        found: u64,
        before: u64,
    },
    /// A directory's listing with refused rows changes nothing.
    #[error("{} refused, so nothing was changed; the first: {first}", sync::rows_were(*count))]
    Refused {
        count: u64,
        /// Place and reason of the first refused row.
        first: String,
    },
    #[error(transparent)]
    Implausible(#[from] Implausible),
    #[error("another sweep took over")]
    LeaseLost,
    #[error("stopped before it was done; what was stored until then is kept")]
    Stopped,
    #[error("a bug in lapsed: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether the store is unreachable and may come back.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// How long a source or directory asked us to wait. That is not a failure.
    fn wait(&self) -> Option<TimeDelta> {
        match self {
            Self::Listing(error) => TimeDelta::from_std(error.wait()?).ok(),
            _ => None,
        }
    }
}

impl Engine {
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// What falls due before this instant is handled now: the next sweep would be late for it.
    #[must_use]
    pub fn horizon(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.settings
            .sweep
            .next_after(now)
            .map_or(now, |next| next + HORIZON_MARGIN)
    }

    fn lease_from(&self, now: DateTime<Utc>) -> Holder {
        Holder {
            id: self.holder,
            until: now + self.settings.lease,
        }
    }

    fn new_id(now: DateTime<Utc>) -> Uuid {
        new_id(now)
    }

    async fn load_dead_addresses(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
    ) -> Result<DeadAddresses, store::Error> {
        Ok(DeadAddresses(
            tx.load_dead_addresses(now - DEAD_ADDRESS_TTL)
                .await?
                .into_iter()
                .collect(),
        ))
    }
}

/// A UUID version 7 (RFC 9562 §5.7), so that ids sort by time.
#[must_use]
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

/// Addresses that a mail server refused lately, with its reply.
struct DeadAddresses(std::collections::HashMap<String, String>);

impl DeadAddresses {
    fn contains(&self, address: &Address) -> bool {
        self.0.contains_key(address.key())
    }
}
