//! The engine and its sweep, which runs every job once, in order. A job that fails or panics does not stop the others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::causes::panic_text;
use crate::clock::Clock;
use crate::domain::{Address, Issuers, Policy};
use crate::store::{Holder, RunRow, Store};
use crate::time::shift;

use super::common::{
    Error, Job, MAX_CLOCK_SKEW, MAX_SKEW_FACTOR, Report, Settings, log_not_renewed, new_id,
};
use super::deliver::{Deliver, Mailer, Recorder};
use super::directories::{Survey, SyncDirectories, UnbindOutcome};
use super::erase::Erase;
use super::judge::{Judge, MarkExpired};
use super::leased::{LeasedStore, SWEEP_LEASE, page};
use super::plan::Plan;
use super::purge::{LastPurge, Purge};
use super::removal::Removal;
use super::respond::Respond;
use super::retry::Retry;
use super::revoke::Revoke;
use super::sync::SyncSources;
use super::upstream::{SweepOptions, WatchedDirectory, WatchedSource};

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
    /// Whether delivery waits for an unreachable store without a limit.
    pub is_patient: bool,
    /// Called regularly while a sweep, or delivery, makes progress, for the watchdog.
    pub on_progress: Box<dyn Fn() + Send + Sync>,
    pub on_delivery: Box<dyn Fn() + Send + Sync>,
}

/// The jobs, each with what it uses.
impl Engine {
    fn leased_store(&self) -> LeasedStore<'_> {
        LeasedStore::new(&self.store, self.holder)
    }

    pub fn source_sync(&self) -> SyncSources<'_> {
        SyncSources {
            store: self.leased_store(),
            clock: &self.clock,
            policy: &self.policy,
            keep_tokens: self.settings.retention.gone_tokens,
            sources: &self.sources,
            on_progress: &self.on_progress,
        }
    }

    pub fn directory_sync(&self) -> SyncDirectories<'_> {
        SyncDirectories {
            store: self.leased_store(),
            clock: &self.clock,
            policy: &self.policy,
            issuers: &self.issuers,
            directories: &self.directories,
            on_progress: &self.on_progress,
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge {
            store: self.leased_store(),
            clock: &self.clock,
            policy: &self.policy,
            response: self.settings.response,
            sources: &self.sources,
            directories: &self.directories,
            sweep: &self.settings.sweep,
            summary: self.settings.summary.as_ref(),
            follow_directories: self.settings.follow_directories,
            admin_role: self.settings.admin_role.as_deref(),
            on_progress: &self.on_progress,
        }
    }

    pub fn response(&self) -> Respond<'_> {
        Respond {
            store: self.leased_store(),
            clock: &self.clock,
            policy: &self.policy,
            response: self.settings.response,
            sweep: &self.settings.sweep,
            sources: &self.sources,
            directories: &self.directories,
            on_progress: &self.on_progress,
        }
    }

    pub fn retry(&self) -> Retry<'_> {
        Retry {
            store: &self.store,
            clock: &self.clock,
            policy: &self.policy,
        }
    }

    pub fn removal(&self) -> Removal<'_> {
        Removal {
            store: self.leased_store(),
            clock: &self.clock,
        }
    }

    pub fn erasure(&self) -> Erase<'_> {
        Erase {
            store: self.leased_store(),
            clock: &self.clock,
            policy: &self.policy,
            sources: &self.sources,
            directories: &self.directories,
        }
    }

    /// For operators: it may run beside a sweep.
    pub fn revocation(&self) -> Revoke<'_> {
        let revoke = self.response().revoke();
        Revoke {
            store: revoke.store.unleased(),
            ..revoke
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            store: self.leased_store(),
            clock: &self.clock,
            policy: &self.policy,
            sweep: &self.settings.sweep,
            on_progress: &self.on_progress,
        }
    }

    fn mark_expired(&self) -> MarkExpired<'_> {
        MarkExpired {
            store: self.leased_store(),
            clock: &self.clock,
            sources: &self.sources,
            on_progress: &self.on_progress,
        }
    }

    fn purge(&self) -> Purge<'_> {
        Purge {
            store: self.leased_store(),
            clock: &self.clock,
            keep: &self.settings.retention,
            sources: &self.sources,
            last: &self.last_purge,
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
            is_patient: self.is_patient,
            on_progress: &self.on_delivery,
        }
    }
}

impl Engine {
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub async fn next_mail_at(&self) -> Result<Option<DateTime<Utc>>, Error> {
        let mut tx = self.store.begin_short_read().await?;
        Ok(tx.find_next_mail_at().await?)
    }

    /// Runs one sweep. It never fails as a whole: the report has the errors of the jobs.
    ///
    /// `stop` ends it after the mails that are being sent.
    pub async fn sweep(&self, options: &SweepOptions, stop: &CancellationToken) -> Report {
        let mut report = self.prepare(options, stop).await;
        if !stop.is_cancelled() && !report.store_down {
            let sent = self.send_due(stop).await;
            report.add(sent);
        }
        if !report.store_down
            && let Err(error) = self.count_waiting_mails(&mut report).await
        {
            report.record_error(None, &error);
        }
        report
    }

    pub(super) async fn count_waiting_mails(&self, report: &mut Report) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        let (count, next_at) = tx.count_waiting_mails(self.now()).await?;
        report.mails_waiting = count.unsigned_abs();
        report.next_attempt_at = next_at;
        Ok(())
    }

    /// The first half of a sweep: updates the store and plans notices. Does nothing while another process holds the
    /// sweep lease.
    pub async fn prepare(&self, options: &SweepOptions, stop: &CancellationToken) -> Report {
        let started_at = self.now();
        let mut report = Report::default();
        let acquired = async {
            let is_acquired = self.acquire_sweep_lease().await?;
            self.store.check_usable().await?;
            Ok(is_acquired)
        };
        match acquired.await {
            Ok(true) => {
                self.check_clock(&mut report).await;
                self.run_leased_jobs(options, stop, &mut report).await;
                if !report.lease_lost
                    && let Err(error) = self.write_run(started_at, &mut report).await
                {
                    report.record_error(None, &error);
                }
            }
            Ok(false) => report.lease_held = true,
            Err(error) => report.record_error(None, &error),
        }
        report
    }

    /// Reports a clock by which the last sweep is in the future, once: that sweep then counts as one of now.
    pub(super) async fn check_clock(&self, report: &mut Report) {
        match self.correct_future_runs().await {
            Ok(went_back) => report.clock_went_back = went_back,
            Err(error) => report.record_error(None, &error),
        }
    }

    async fn correct_future_runs(&self) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>, Error> {
        let now = self.now();
        let last = self.store.begin_read().await?.find_last_run(false).await?;
        let last = last.map(|run| run.ended_at.unwrap_or(run.started_at));
        let Some(last) = last.filter(|last| *last > shift(now, MAX_CLOCK_SKEW)) else {
            return Ok(None);
        };
        page!(self.leased_store(), tx => Ok(tx.end_runs_by(now).await?))?;
        Ok(Some((last, now)))
    }

    /// The second half: sends the mails that are due. Several processes can do this at the same time.
    pub async fn send_due(&self, stop: &CancellationToken) -> Report {
        let started_at = self.now();
        let mut report = Report::default();
        self.run_job(Job::Deliver, &SweepOptions::default(), stop, &mut report)
            .await;
        report.elapsed_ms = (self.now() - started_at).num_milliseconds().unsigned_abs();
        report
    }

    /// Runs the jobs that need the lease. Losing it ends them between two pages.
    async fn run_leased_jobs(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) {
        let jobs = [
            Job::Sync,
            Job::Judge,
            Job::Respond,
            Job::Plan,
            Job::MarkExpired,
            Job::Purge,
        ];
        let is_lost = tokio::select! {
            () = self.run_jobs(&jobs, options, stop, report) => false,
            () = self.keep_sweep_lease() => true,
        };
        if is_lost && !report.lease_lost {
            report.record_error(None, &Error::LeaseLost);
        }
    }

    pub(super) async fn run_jobs(
        &self,
        jobs: &[Job],
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) {
        for job in jobs {
            if !stop.is_cancelled() && !report.store_down && !report.lease_lost {
                self.run_job(*job, options, stop, report).await;
            }
        }
    }

    /// Runs one job. An error or a panic in it is reported and ends only this job.
    async fn run_job(
        &self,
        job: Job,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) {
        // Some are large.
        let work = Box::pin(async {
            match job {
                Job::Sync => {
                    let sync = Box::pin(async {
                        self.source_sync().run(options, report).await?;
                        let directories = self.directory_sync();
                        directories.run(options, report, |_| ()).await
                    });
                    let result = stop.run_until_cancelled(sync).await;
                    result.unwrap_or(Err(Error::Stopped))
                }
                Job::Judge => {
                    // Before the finding closes: the recipients depend on it.
                    self.response().settle_interrupted(report).await?;
                    self.judge().run(report).await
                }
                Job::Respond => self.response().run(options, stop, report).await,
                Job::Plan => self.plan().run(report).await,
                Job::MarkExpired => self.mark_expired().run(options, report).await,
                Job::Deliver => self.deliver().run(stop, report).await,
                Job::Purge => self.purge().run(report).await,
            }
        });
        let started_at = Instant::now();
        let result = AssertUnwindSafe(work).catch_unwind().await;
        let elapsed_ms = started_at.elapsed().as_millis();
        tracing::debug!(elapsed_ms, "{job}: ended");
        let error = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => Error::Panicked(panic_text(panic.as_ref())),
        };
        report.record_error(Some(job), &error);
    }

    /// Syncs the sources that `options` names. Nothing is planned, and no run is stored.
    pub async fn sync_sources_only(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
    ) -> Report {
        let mut report = Report::default();
        let sync = self.source_sync();
        let work = Box::pin(sync.run(options, &mut report));
        let result = self.under_sweep_lease(stop, work).await;
        report.record_leased(result);
        report
    }

    /// Syncs the directories that `options` names. No token is judged, and no run is stored.
    pub async fn sync_directories_only(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
        on_survey: impl FnMut(&Survey),
    ) -> Report {
        let mut report = Report::default();
        let sync = self.directory_sync();
        let work = Box::pin(sync.run(options, &mut report, on_survey));
        let result = self.under_sweep_lease(stop, work).await;
        report.record_leased(result);
        report
    }

    /// Binds a person to `account`, or makes the next sync bind them to the account with their address. `actor` is
    /// for the audit trail.
    pub async fn rebind_identity(
        &self,
        directory: &str,
        email: &Address,
        account: Option<&str>,
        actor: &str,
        stop: &CancellationToken,
    ) -> Result<UnbindOutcome, Error> {
        let sync = self.directory_sync();
        let work = sync.rebind(directory, email, account, actor);
        let outcome = self.under_sweep_lease(stop, work).await?;
        Ok(outcome.unwrap_or(UnbindOutcome::Busy))
    }

    /// Moves the store to another place ([`Store::move_to`]); `None` if a sweep is running.
    pub async fn move_store(
        &self,
        to: &Store,
        on_rows: &mut (impl FnMut(u64) + Send),
        stop: &CancellationToken,
    ) -> Result<Option<()>, Error> {
        let work = async { Ok(self.store.move_to(to, on_rows).await?) };
        self.under_sweep_lease(stop, work).await
    }

    /// Does work that must not run at the same time as a sweep; `None` if a sweep is running.
    pub async fn under_sweep_lease<T>(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        if !self.acquire_sweep_lease().await? {
            return Ok(None);
        }
        let result = tokio::select! {
            result = work => result,
            () = self.keep_sweep_lease() => Err(Error::LeaseLost),
            () = stop.cancelled() => Err(Error::Stopped),
        };
        let released = self.release_sweep_lease().await;
        let value = result?;
        released.map(|()| Some(value))
    }

    pub(super) async fn acquire_sweep_lease(&self) -> Result<bool, Error> {
        let acquire = || async {
            let now = self.now();
            let mut tx = self.store.begin_short().await?;
            let lease = Holder {
                id: self.holder,
                until: shift(now, self.settings.delivery.lease),
            };
            let max_until = shift(now, self.settings.delivery.lease * MAX_SKEW_FACTOR);
            let taken = tx.take_lease(SWEEP_LEASE, lease, now, max_until).await?;
            tx.commit().await?;
            Ok(taken)
        };
        self.store.retrying(acquire).await
    }

    /// Renews the lease three times per lease period; returns when it is lost.
    async fn keep_sweep_lease(&self) {
        loop {
            tokio::time::sleep(self.settings.delivery.lease_third()).await;
            match self.acquire_sweep_lease().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => log_not_renewed("the sweep", &error),
            }
        }
    }

    async fn release_sweep_lease(&self) -> Result<(), Error> {
        let mut tx = self.store.begin_short().await?;
        tx.release_lease(SWEEP_LEASE, self.holder).await?;
        Ok(tx.commit().await?)
    }

    /// Stores the run and releases the lease in one transaction: a sweep with nothing due writes little else.
    async fn write_run(&self, started_at: DateTime<Utc>, report: &mut Report) -> Result<(), Error> {
        let ended_at = self.now();
        report.elapsed_ms = (ended_at - started_at).num_milliseconds().unsigned_abs();
        let text = serde_json::to_string(report).unwrap_or_default();
        let is_good = report.errors.is_empty() && !report.store_down;
        let outcome = if is_good { "ok" } else { "failed" };
        let run = RunRow {
            started_at,
            ended_at: Some(ended_at),
            outcome: Some(outcome.to_owned()),
        };
        let id = new_id(started_at);
        page!(self.leased_store(), tx => {
            tx.insert_run(id, &run, &text).await?;
            tx.count_generation().await?;
            Ok(tx.release_lease(SWEEP_LEASE, self.holder).await?)
        })
    }
}
