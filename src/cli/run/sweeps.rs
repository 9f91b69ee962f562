//! The two loops of the daemon: sweeps by the schedule, deliveries whenever something may be due.
//!
//! They are two so that a long delivery holds up no mark: the sweep of the next minute runs beside
//! it. Neither is ever started twice: each is one task.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Report, SweepOptions};
use crate::lifecycle::{Fault, Heartbeat, ServiceManager};
use crate::store;

/// Prepares on schedule.
pub(super) struct Sweeps {
    pub engine: Arc<Engine>,
    /// Told whenever something may be due.
    pub due: Arc<Notify>,
    pub heartbeat: Heartbeat,
    pub manager: ServiceManager,
}

impl Sweeps {
    /// Sweeps at each tick of the schedule, and at once for those missed while nobody ran.
    pub async fn run(
        self,
        mut ticks: mpsc::Receiver<()>,
        stopping: CancellationToken,
    ) -> Result<(), Fault> {
        let mut last = self.last_sweep().await.unwrap_or(DateTime::UNIX_EPOCH);
        loop {
            self.heartbeat.touch();
            let now = self.engine.now();
            // A clock that was set back must not silence the daemon until it has caught up.
            last = last.min(now);
            if self.engine.settings.sweep.missed_since(last, now) {
                last = now;
                self.sweep(&stopping).await;
            }
            // Mails in back-off come due between sweeps.
            self.due.notify_one();
            tokio::select! {
                tick = ticks.recv() => if tick.is_none() { return Ok(()) },
                () = stopping.cancelled() => return Ok(()),
            }
        }
    }

    async fn last_sweep(&self) -> Result<DateTime<Utc>, store::Error> {
        let mut tx = self.engine.store.read().await?;
        let last = tx.last_run(false).await?;
        Ok(last.map_or(DateTime::UNIX_EPOCH, |run| run.started_at))
    }

    async fn sweep(&self, stopping: &CancellationToken) {
        let options = SweepOptions {
            by_schedule: true,
            ..SweepOptions::default()
        };
        let report = self.engine.prepare(&options, stopping).await;
        log("sweep", &report);
        let at = self.engine.now().format("%H:%M:%S UTC");
        let state = if report.errors.is_empty() && report.problems.is_empty() {
            "fine"
        } else {
            "with errors, see the log"
        };
        self.manager.status(&format!("last sweep at {at}: {state}"));
    }
}

/// Delivers whenever it is told that something may be due.
pub(super) struct Deliveries {
    pub engine: Arc<Engine>,
    pub due: Arc<Notify>,
}

impl Deliveries {
    /// Delivers until asked to stop; the mails in hand are finished.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), Fault> {
        loop {
            tokio::select! {
                () = self.due.notified() => {}
                () = self.next_attempt() => {}
                () = stopping.cancelled() => return Ok(()),
            }
            let report = self.engine.send_due(&stopping).await;
            log("delivery", &report);
        }
    }

    /// Waits until a mail that was put off is due again; never shorter than the shortest back-off,
    /// because mails that a broken relay left untouched are due at once.
    async fn next_attempt(&self) {
        let pause = self.engine.settings.backoff.min;
        let wait = match self.engine.next_mail_at().await {
            Ok(Some(next_at)) => pause.max(next_at - self.engine.now()),
            Ok(None) => return std::future::pending().await,
            // The store is away for a moment; the pass finds out.
            Err(_) => pause,
        };
        tokio::time::sleep(wait.to_std().unwrap_or_default()).await;
    }
}

/// One line for each thing that went wrong and one for what was done; a quiet pass is for those who
/// debug.
fn log(what: &'static str, report: &Report) {
    for error in &report.errors {
        tracing::error!("{what}: {error}");
    }
    for trouble in report.problems.iter().chain(&report.waits) {
        tracing::warn!("{what}: {trouble}");
    }
    let told = super::super::sweep::told(report);
    let counts: Vec<String> = told
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let counts = counts.join("; ");
    let elapsed_ms = report.elapsed_ms;
    if report.is_quiet() {
        tracing::debug!(elapsed_ms, "{what}: nothing was due");
    } else if !counts.is_empty() && (report.is_failure() || report.is_deferral()) {
        tracing::warn!(elapsed_ms, "{what}: {counts}");
    } else if !counts.is_empty() {
        tracing::info!(elapsed_ms, "{what}: {counts}");
    }
}
