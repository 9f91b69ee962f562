//! The only layer that combines the clock, the store, the upstreams and the mail server.
//!
//! A sweep is a closed list of jobs. Each job gathers, lets `domain` decide, and acts; running it twice has the
//! same result as running it once.

mod common;
mod coverage;
mod deliver;
mod directories;
mod dry_run;
mod error;
mod findings;
mod import;
mod judge;
mod mark_expired;
mod notices;
mod plan;
mod purge;
mod report;
mod respond;
mod revoke;
mod sweep;
mod sync;
mod upstream;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Issuers, Policy};
use crate::store::Store;

use deliver::{Deliver, Recorder};
use dry_run::DryRun;
use judge::Judge;
use mark_expired::MarkExpired;
use plan::Plan;
use purge::Purge;

pub use common::{Delivery, Retention, Settings, new_id};
pub use coverage::{count_covers, issuer_covers, stale_directories};
pub use deliver::Mailer;
pub use directories::{StatusChange, Survey, SurveyOutcome, SyncDirectories, UnbindOutcome};
pub use dry_run::PlannedNotice;
pub use error::{Error, RevokeRefusal};
pub use import::{ImportCounts, ImportMode, ImportTarget, LOCAL, import};
pub(crate) use notices::DEAD_ADDRESS_TTL;
pub use purge::LastPurge;
pub use report::{Job, Report};
pub use respond::{Respond, RevocationPreview};
#[cfg(feature = "test-support")]
pub use revoke::Revocation;
pub use revoke::{RevocationOrder, Revoke};
pub use sync::{Change, Difference, SyncSources};
pub use upstream::{Preview, SweepOptions, WatchedDirectory, WatchedSource};

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

/// The jobs, each with what it uses.
impl Engine {
    #[must_use]
    pub fn source_sync(&self) -> SyncSources<'_> {
        SyncSources {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
            sources: &self.sources,
            on_progress: &self.on_progress,
        }
    }

    #[must_use]
    pub fn directory_sync(&self) -> SyncDirectories<'_> {
        SyncDirectories {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
            issuers: &self.issuers,
            directories: &self.directories,
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
            response: self.settings.response,
            sources: &self.sources,
            directories: &self.directories,
            sweep: &self.settings.sweep,
            summary: self.settings.summary.as_ref(),
            on_progress: &self.on_progress,
        }
    }

    #[must_use]
    pub fn response(&self) -> Respond<'_> {
        Respond {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
            response: self.settings.response,
            sweep: &self.settings.sweep,
            sources: &self.sources,
            directories: &self.directories,
            on_progress: &self.on_progress,
        }
    }

    /// Revokes tokens by order of an operator.
    #[must_use]
    pub fn revocation(&self) -> Revoke<'_> {
        Revoke {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
            sources: &self.sources,
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
            sweep: &self.settings.sweep,
            on_progress: &self.on_progress,
        }
    }

    fn mark_expired(&self) -> MarkExpired<'_> {
        MarkExpired {
            store: &self.store,
            clock: &self.clock,
            sources: &self.sources,
            on_progress: &self.on_progress,
        }
    }

    fn deliver(&self) -> Deliver<'_> {
        Deliver {
            recorder: Recorder {
                store: &self.store,
                clock: &self.clock,
                policy: &self.policy,
                settings: &self.settings.delivery,
                holder: self.holder,
            },
            mailer: &self.mailer,
            sources: &self.sources,
            on_progress: &self.on_progress,
        }
    }

    fn purge(&self) -> Purge<'_> {
        Purge {
            store: &self.store,
            clock: &self.clock,
            retention: &self.settings.retention,
            last: &self.last_purge,
        }
    }
}

impl Engine {
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// When the next planned mail is due.
    pub async fn next_mail_at(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(self.store.begin_read().await?.find_next_mail_at().await?)
    }

    /// Returns what a sweep would change, and passes every notice that it would plan to `on_notice`.
    pub async fn preview_sweep(
        &self,
        options: &SweepOptions,
        on_notice: impl FnMut(PlannedNotice) + Send,
    ) -> Result<Report, Error> {
        let dry_run = DryRun {
            sync: self.source_sync(),
            sweep: &self.settings.sweep,
        };
        dry_run.run(options, on_notice).await
    }
}
