//! The only place where time, the store and the outside meet.
//!
//! A sweep is a closed list of jobs, each of which gathers, lets `domain` decide, and acts. Each can
//! be run twice with the result of once.

mod alert;
mod coverage;
mod defects;
mod deliver;
mod directories;
mod dry_run;
mod gather;
mod import;
mod judge;
mod plan;
mod purge;
mod report;
mod respond;
mod revoke;
mod summary;
mod sweep;
mod sync;
mod tell;
pub mod ticker;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Address, Backoff, Issuers, Policy, Response, Schedule};
use crate::sources;
use crate::store::{self, Holder, Store, Tx};

pub use coverage::{counted, covers};
pub use deliver::{Outcomes, Post};
pub use directories::{
    Doubt, HeldTurn, Outcome, Survey, SyncedDirectory, Turn, Unbound, WatchedDirectory,
};
pub use dry_run::Foreseen;
pub use import::{ImportCounts, Into, LOCAL, Mode, import};
pub use purge::LastPurge;
pub use report::{Job, Report};
pub use respond::Prospect;
pub use revoke::{Order, Refused, Revoked};
pub use sweep::SweepOptions;
pub use sync::{Change, Difference, Looked, Watched};

/// Everything a sweep needs.
pub struct Engine {
    /// The store.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// When and whom to warn.
    pub policy: Policy,
    /// How to work.
    pub settings: Settings,
    /// What writes and sends mails.
    pub post: Arc<Post>,
    /// Where tokens live.
    pub sources: Vec<Watched>,
    /// Who knows whether people have access.
    pub directories: Vec<WatchedDirectory>,
    /// Which issuers they cover, and by which address.
    pub issuers: Issuers,
    /// This process, as the holder of leases.
    pub holder: Uuid,
    /// When this process last dropped what need not be kept.
    pub last_purge: LastPurge,
    /// Called now and then while work goes on, so that a watchdog sees it.
    pub on_progress: Box<dyn Fn() + Send + Sync>,
}

/// How to work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When sweeps are due.
    pub sweep: Schedule,
    /// When administrators are told of what is open; `None` is never.
    pub summary: Option<Schedule>,
    /// How long a claim lasts unless renewed.
    pub lease: TimeDelta,
    /// Between attempts.
    pub backoff: Backoff,
    /// After this long without success a mail is given up.
    pub give_up: TimeDelta,
    /// Connections to the relay at a time.
    pub connections: usize,
    /// Mails to a connection; 0 is no limit.
    pub messages_per_connection: u32,
    /// Mails in a second over all connections.
    pub mails_per_second: Option<f64>,
    /// How long tokens that are gone are kept.
    pub gone_tokens: TimeDelta,
    /// How long notices are kept that are about no token.
    pub notices: TimeDelta,
    /// How long resolved findings are kept.
    pub findings: TimeDelta,
    /// How long runs are kept.
    pub runs: TimeDelta,
    /// How long the audit trail is kept.
    pub audit: TimeDelta,
    /// What is done about tokens that outlive their issuers' access; `None` only flags them.
    pub response: Option<Response>,
}

/// A listing from outside must come in this time.
const LISTING_TIMEOUT: Duration = Duration::from_mins(10);
/// A lease or a back-off that ends this many times its length from now was set by a clock that jumped.
/// One that ends a little late was set by a process that looked at its clock a little later than we
/// did, or whose clock is a little ahead: to take that for lapsed sends a mail twice.
const SKEW: i32 = 2;
/// Rows to a transaction: long enough to be fast, short enough to let others write.
const PAGE: i64 = 1000;
/// A dead mailbox is tried again after this long.
pub(crate) const DEAD_FOR: TimeDelta = TimeDelta::days(30);
/// A sweep starts a moment after its tick and takes a while; what is due within that time of the
/// next tick goes with this one, so that "at least 7 days" holds to the second.
const HEADROOM: TimeDelta = TimeDelta::seconds(10);

/// Why a job could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A source or directory.
    #[error(transparent)]
    Listing(#[from] sources::Error),
    /// A source or directory did not answer in time.
    #[error("no whole listing within {} minutes", LISTING_TIMEOUT.as_secs() / 60)]
    TimedOut,
    /// A source did not say in time what became of an order.
    #[error("no answer within {} minutes; what became of it is not known", LISTING_TIMEOUT.as_secs() / 60)]
    NoAnswer,
    /// A token may not be ended by lapsed.
    #[error(transparent)]
    Revoke(#[from] Refused),
    /// A listing is too short to be believed.
    #[error(
        "the listing holds {found} entries where the last good one held {before}; if that is right, \
         let it pass once with `lapsed sweep --accept-shrink {name}`"
    )]
    Shrunk {
        /// Its source or directory.
        name: String,
        /// Rows now.
        found: u64,
        /// Rows before.
        before: u64,
    },
    /// So many rows were refused that what is left is too short to be believed.
    #[error(
        "{} refused, which leaves {found} of the {before} tokens that were there, so nothing was \
         changed; the first: {first}", sync::rows(*count)
    )]
    MostlyRefused {
        /// How many.
        count: u64,
        /// Place and reason of the first.
        first: String,
        /// Tokens that are left.
        found: u64,
        /// Tokens before.
        before: u64,
    },
    /// Rows of a listing that changes nothing unless it is whole.
    #[error("{} refused, so nothing was changed; the first: {first}", sync::rows(*count))]
    Refused {
        /// How many.
        count: u64,
        /// Place and reason of the first.
        first: String,
    },
    /// What a directory says cannot be right.
    #[error(transparent)]
    Doubted(#[from] Doubt),
    /// The lease was lost to another process.
    #[error("another sweep took over")]
    LeaseLost,
    /// Somebody asked to stop.
    #[error("stopped before it was done; what was taken in stays")]
    Stopped,
    /// A job panicked.
    #[error("the program has a fault here: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether the store is away and may be back later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// How long a source or directory wants to be left alone; that is no failure.
    fn wait(&self) -> Option<TimeDelta> {
        match self {
            Self::Listing(error) => TimeDelta::from_std(error.wait()?).ok(),
            _ => None,
        }
    }
}

impl Engine {
    /// The current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Up to when things are due now: the next tick of the schedule, because what falls due before
    /// it would otherwise come late.
    #[must_use]
    pub fn horizon(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.settings
            .sweep
            .next_after(now)
            .map_or(now, |next| next + HEADROOM)
    }

    /// This process as a holder from `now`.
    fn lease_from(&self, now: DateTime<Utc>) -> Holder {
        Holder {
            id: self.holder,
            until: now + self.settings.lease,
        }
    }

    /// An id for something that happens `now`, in order of time.
    fn new_id(now: DateTime<Utc>) -> Uuid {
        new_id(now)
    }

    /// The mailboxes that are taken for dead.
    async fn dead(&self, tx: &mut Tx, now: DateTime<Utc>) -> Result<Dead, store::Error> {
        Ok(Dead(
            tx.dead_addresses(now - DEAD_FOR)
                .await?
                .into_iter()
                .collect(),
        ))
    }
}

/// A UUID version 7 (RFC 9562 §5.7) of this time.
#[must_use]
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

/// Mailboxes that are taken for dead, and what was said of them.
struct Dead(std::collections::HashMap<String, String>);

impl Dead {
    fn has(&self, address: &Address) -> bool {
        self.0.contains_key(address.key())
    }
}
