//! The sweep: every job once, in order, none of which can take the others down.

use std::any::Any;
use std::error::Error as _;
use std::panic::AssertUnwindSafe;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::store::RunRow;

use super::{Engine, Error, Job, Report, SKEW};

/// The lease under which one process at a time syncs, judges and plans.
const SWEEP: &str = "sweep";

/// What a sweep is asked to do.
#[derive(Debug, Clone, Default)]
pub struct SweepOptions {
    /// Only these sources and directories are synchronised; none named is all.
    pub only: Vec<String>,
    /// Whether sources are left alone until their schedules and back-offs allow.
    pub by_schedule: bool,
    /// The listings of these may shrink by half.
    pub accept_shrink: Vec<String>,
    /// Who says so, for the audit trail.
    pub asked_by: String,
}

impl SweepOptions {
    pub(super) fn takes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    pub(super) fn accepts_shrink(&self, name: &str) -> bool {
        self.accept_shrink.iter().any(|accepted| accepted == name)
    }
}

impl Engine {
    /// One pass over everything. It never fails as a whole: what went wrong stands in the report.
    ///
    /// `stop` ends it after the mails in hand.
    pub async fn sweep(&self, options: &SweepOptions, stop: &CancellationToken) -> Report {
        let mut report = self.prepare(options, stop).await;
        if !stop.is_cancelled() && !report.store_down {
            let sent = self.send_due(stop).await;
            report.add(&sent);
        }
        report
    }

    /// The first half of a sweep: brings the store up to date and decides who is owed what. It is
    /// done under a lease; while another process holds that, there is nothing to do here.
    pub async fn prepare(&self, options: &SweepOptions, stop: &CancellationToken) -> Report {
        let started_at = self.now();
        let mut report = Report::default();
        match self.take_sweep_lease().await {
            Ok(true) => self.under_lease(options, stop, &mut report).await,
            Ok(false) => report.lease_held = true,
            Err(error) => note(&mut report, None, &error),
        }
        if !report.lease_held
            && let Err(error) = self.write_run(started_at, &mut report).await
        {
            note(&mut report, None, &error);
        }
        report
    }

    /// The second half: sends what is due, beside other processes that do the same.
    pub async fn send_due(&self, stop: &CancellationToken) -> Report {
        let started_at = self.now();
        let mut report = Report::default();
        self.perform(Job::Deliver, &SweepOptions::default(), stop, &mut report)
            .await;
        report.elapsed_ms = (self.now() - started_at).num_milliseconds().unsigned_abs();
        report
    }

    /// The jobs that one process at a time may do. Losing the lease ends them between two pages.
    async fn under_lease(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) {
        let lost = CancellationToken::new();
        let jobs = async {
            for job in [
                Job::Sync,
                Job::Judge,
                Job::Respond,
                Job::Plan,
                Job::Tell,
                Job::Purge,
            ] {
                if !stop.is_cancelled() && !report.store_down {
                    self.perform(job, options, stop, report).await;
                }
            }
        };
        tokio::select! {
            () = jobs => {}
            () = self.keep_sweep_lease() => lost.cancel(),
        }
        if lost.is_cancelled() {
            note(report, None, &Error::LeaseLost);
        }
    }

    /// Does one job; an error or a panic in it is written down and ends only this job.
    async fn perform(
        &self,
        job: Job,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) {
        let work = async {
            match job {
                Job::Sync => {
                    self.sync_sources(options, report).await?;
                    self.sync_directories(options, report).await
                }
                Job::Judge => {
                    // Before its finding closes: whom it concerns depends on that.
                    self.settle_cut_off(report).await?;
                    self.judge(report).await
                }
                Job::Respond => self.respond(options, stop, report).await,
                Job::Plan => self.plan(report).await,
                Job::Tell => self.tell_sources(options, report).await,
                Job::Deliver => self.deliver(stop, report).await,
                Job::Purge => self.purge(report).await,
            }
        };
        let outcome = AssertUnwindSafe(work).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|panic| Err(Error::Panicked(said(panic.as_ref()))));
        if let Err(error) = outcome {
            note(report, Some(job), &error);
        }
    }

    /// Does work that no sweep may do at the same time; `None` where one is at it.
    pub(super) async fn under_sweep_lease<T>(
        &self,
        stop: &CancellationToken,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        if !self.take_sweep_lease().await? {
            return Ok(None);
        }
        let done = tokio::select! {
            done = work => done.map(Some),
            () = self.keep_sweep_lease() => Err(Error::LeaseLost),
            () = stop.cancelled() => Err(Error::Stopped),
        };
        let dropped = self.drop_sweep_lease().await;
        let done = done?;
        dropped.map(|()| done)
    }

    pub(super) async fn take_sweep_lease(&self) -> Result<bool, Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let lease = self.lease_from(now);
        let far = now + self.settings.lease * SKEW;
        let taken = tx.take_lease(SWEEP, lease, now, far).await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// Renews the lease every third of it; ends when it is lost.
    pub(super) async fn keep_sweep_lease(&self) {
        let third = (self.settings.lease / 3).to_std().unwrap_or_default();
        loop {
            tokio::time::sleep(third).await;
            match self.take_sweep_lease().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!("the sweep's lease was not renewed: {}", chain(&error));
                }
            }
        }
    }

    pub(super) async fn drop_sweep_lease(&self) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        tx.drop_lease(SWEEP, self.holder).await?;
        Ok(tx.commit().await?)
    }

    /// Writes the run down and lets the lease go: in one transaction, because a sweep with nothing due has
    /// little else to write.
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
        let mut tx = self.store.begin().await?;
        tx.add_run(Self::new_id(started_at), &run, &text).await?;
        tx.drop_lease(SWEEP, self.holder).await?;
        Ok(tx.commit().await?)
    }
}

/// Takes down what went wrong.
pub(super) fn note(report: &mut Report, job: Option<Job>, error: &Error) {
    let said = chain(error);
    let said = job.map_or(said.clone(), |job| format!("{}: {said}", job.as_str()));
    report.take_down(said, error.is_transient());
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason given".to_owned())
}
